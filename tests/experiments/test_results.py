"""What a table says: means, standard errors, the best, references, differences, findings."""

import json
import math

import numpy as np
import pandas as pd
import pytest
from scored_runs import write_scored, write_scored_baseline

from ibl_mtm.errors import UserError
from ibl_mtm.evaluation.activity.tasks import ACTIVITY_TASKS
from ibl_mtm.experiments import findings
from ibl_mtm.experiments.read import TASK_TITLES
from ibl_mtm.experiments.result_table import (
    caption,
    csv_table,
    difference_table,
    markdown_table,
    other_table,
)
from ibl_mtm.experiments.results import make_results, read_results
from ibl_mtm.experiments.write import write_results


def cell(results, row, task):
    (found,) = results.summary.query("row == @row and task == @task").to_dict("records")
    return found


def test_over_several_sessions_the_error_is_that_of_the_sessions_means(tmp_path):
    scores = {0: {"a": 0.2, "b": 0.5}, 1: {"a": 0.4, "b": 0.9}}  # by seed and session
    runs = [
        write_scored(
            tmp_path / f"mtm-{seed}",
            "MtM",
            {eid: {"co_smoothing": value} for eid, value in own.items()},
            seed=seed,
        )
        for seed, own in scores.items()
    ]
    found = cell(make_results("ablation", runs), "MtM", "co_smoothing")
    assert found["mean"] == pytest.approx((0.3 + 0.7) / 2)
    assert found["sem"] == pytest.approx(np.std([0.3, 0.7], ddof=1) / math.sqrt(2))
    assert (found["n_sessions"], found["n_runs"]) == (2, 2)


def test_other_scores_of_activity_have_a_table_of_their_own(tmp_path):
    pooled, d2 = {"a": (0.3, 0.5), "b": (0.1, 0.2)}, {"a": (0.02, 0.04), "b": (0.06, 0.08)}
    runs = []
    for seed in (0, 1):
        scores = {
            eid: {
                "co_smoothing": {
                    "bits_per_spike": 0.1,
                    "oracle": 0.4,
                    "pooled_bits_per_spike": pooled[eid][seed],
                    "poisson_d2": d2[eid][seed],
                },
                "choice": 0.8,
            }
            for eid in "ab"[: 2 - seed]
        }
        runs.append(write_scored(tmp_path / f"mtm-{seed}", "MtM", scores, seed=seed))
    results = make_results("ablation", runs)
    # Of session a the mean of two seeds, of session b its only one.
    found = cell(results, "MtM", "co_smoothing")
    assert found["pooled_bits_per_spike"] == pytest.approx((0.4 + 0.1) / 2)
    assert found["poisson_d2"] == pytest.approx((0.03 + 0.06) / 2)
    assert other_table(results).splitlines() == [
        "| pooled bits/spike; D² | Co-smoothing |",
        "| --- | --- |",
        "| MtM | 0.250; 0.045 |",
    ]
    write_results(results, tmp_path / "out")
    assert "| MtM | 0.250; 0.045 |" in (tmp_path / "out" / "table.md").read_text()


def test_of_one_session_the_error_is_that_of_its_runs(tmp_path):
    values = [0.1, 0.2, 0.6]
    runs = [
        write_scored(tmp_path / f"mtm-{s}", "MtM", {"a": {"co_smoothing": v}}, seed=s)
        for s, v in enumerate(values)
    ]
    found = cell(make_results("ablation", runs), "MtM", "co_smoothing")
    assert found["mean"] == pytest.approx(0.3)
    assert found["sem"] == pytest.approx(np.std(values, ddof=1) / math.sqrt(3))


def test_one_run_of_one_session_has_no_error(tmp_path):
    run = write_scored(tmp_path / "mtm", "MtM", {"a": {"co_smoothing": 0.25}})
    results = make_results("ablation", [run])
    assert math.isnan(cell(results, "MtM", "co_smoothing")["sem"])
    assert markdown_table(results).splitlines()[2] == "| MtM | 0.250 |"


def test_the_best_of_each_column_is_bold_and_references_never_are(tmp_path):
    entry = {"bits_per_spike": 0.3, "oracle": 0.6}
    choice = {"accuracy": 0.8, "raw_spikes": {"accuracy": 0.9}, "oracle": {"accuracy": 1.0}}
    runs = [
        write_scored(tmp_path / "a", "A", {"s": {"co_smoothing": entry, "choice": choice}}),
        write_scored(tmp_path / "b", "B", {"s": {"co_smoothing": 0.2, "choice": 0.85}}),
    ]
    lines = markdown_table(make_results("ablation", runs)).splitlines()
    assert lines[0] == "|  | Co-smoothing (bits/spike) | Choice (accuracy) |"
    assert lines[2:] == [
        "| A | **0.300** | 0.800 |",
        "| B | 0.200 | **0.850** |",
        "| *true rates* | 0.600 |  |",
        "| *true latents* |  | 1.000 |",
        "| *decoded from raw spikes* |  | 0.900 |",
    ]


def test_what_prints_the_same_is_as_good(tmp_path):
    runs = [
        write_scored(tmp_path / name, name, {"s": {"co_smoothing": value}})
        for name, value in {"A": 0.30001, "B": 0.29999, "C": 0.298}.items()
    ]
    assert markdown_table(make_results("ablation", runs)).count("**0.300**") == 2


def test_a_score_that_is_missing_leaves_its_cell_empty(tmp_path):
    runs = [
        write_scored(tmp_path / "a", "A", {"s": {"co_smoothing": 0.3, "intra_region": None}}),
        write_scored(tmp_path / "b", "B", {"s": {"co_smoothing": 0.2, "intra_region": 0.1}}),
    ]
    lines = markdown_table(make_results("ablation", runs)).splitlines()
    assert lines[2:] == ["| A | **0.300** |  |", "| B | 0.200 | 0.100 |"]


def test_differences_are_paired_by_session_and_seed(tmp_path):
    scratch, tuned = {"a": 0.1, "b": 0.5}, {"a": 0.2, "b": 0.56}
    runs = [
        write_scored(
            tmp_path / f"{name}-{seed}",
            "MtM",
            {eid: {"co_smoothing": value + 0.1 * seed} for eid, value in own.items()},
            seed=seed,
            animals=animals,
        )
        for seed in (0, 1)
        for name, own, animals in (("tuned", tuned, 3), ("scratch", scratch, None))
    ]
    results = make_results("generalization", runs)
    (found,) = results.differences.to_dict("records")
    assert (found["row"], found["against"]) == (
        "MtM, pre-trained on 3 animals",
        "MtM, from scratch",
    )
    assert found["difference"] == pytest.approx(0.08)
    assert found["sem"] == pytest.approx(np.std([0.1, 0.06], ddof=1) / math.sqrt(2))
    assert found["n_pairs"] == 4
    assert "+0.080 ± 0.020" in difference_table(results)
    (finding,) = results.findings
    assert finding.seen


def test_sessions_of_a_mouse_count_as_one_animal_and_mice_share_a_row(tmp_path):
    """Trained on 12 sessions of three mice, or on 8 of three: both are three animals."""
    runs = [
        write_scored(tmp_path / f"t{n}", "MtM", {f"s{n}": {"co_smoothing": 0.1}}, animals=n, mice=3)
        for n in (12, 8)
    ]
    results = make_results("generalization", runs)
    assert list(results.rows) == ["MtM, pre-trained on 3 animals"]
    assert cell(results, "MtM, pre-trained on 3 animals", "co_smoothing")["n_sessions"] == 2


def test_what_is_fine_tuned_is_compared_with_baselines_too(tmp_path):
    runs = [
        write_scored(tmp_path / "tuned", "MtM", {"a": {"co_smoothing": 0.3}}, animals=3),
        write_scored(tmp_path / "scratch", "MtM", {"a": {"co_smoothing": 0.25}}),
        write_scored_baseline(tmp_path / "lds", "poisson_lds", {"a": {"co_smoothing": 0.4}}),
    ]
    results = make_results("generalization", runs)
    tuned = "MtM, pre-trained on 3 animals"
    assert list(results.rows) == [tuned, "MtM, from scratch", "poisson_lds"]
    found = {d["against"]: d["difference"] for d in results.differences.to_dict("records")}
    assert found == pytest.approx({"MtM, from scratch": 0.05, "poisson_lds": -0.1})
    assert [(finding.claim, finding.seen) for finding in results.findings] == [
        (f"{tuned}, is better than from scratch on unseen animals", True),
        (f"{tuned}, is better than poisson_lds", False),
    ]


def test_real_sessions_are_compared_with_the_first_row_and_say_whose_they_are(tmp_path):
    scores = {"MtM": (0.3, 0.5), "temporal masking": (0.2, 0.45)}
    runs = [
        write_scored(
            tmp_path / name,
            name,
            {eid: {"co_smoothing": value} for eid, value in zip("ab", own, strict=True)},
            simulated=False,
        )
        for name, own in scores.items()
    ]
    lds = {"a": {"co_smoothing": 0.1}, "b": {"co_smoothing": 0.2}}
    runs.append(write_scored_baseline(tmp_path / "lds", "poisson_lds", lds, simulated=False))
    results = make_results("sessions", runs, credit="Someone et al. 2019")
    assert results.title == "Real sessions"
    assert list(results.rows) == ["MtM", "temporal masking", "poisson_lds"]
    found = {d["row"]: d["difference"] for d in results.differences.to_dict("records")}
    assert found == pytest.approx({"temporal masking": -0.075, "poisson_lds": -0.25})
    assert all(finding.seen for finding in results.findings)
    assert caption(results).startswith("Someone et al. 2019. Test trials of 2 sessions")
    write_results(results, tmp_path / "results")
    assert caption(read_results(tmp_path / "results")) == caption(results)


def test_a_pretraining_that_many_started_from_counts_once(tmp_path):
    runs = [
        write_scored(
            tmp_path / f"t{seed}", "MtM", {"a": {"co_smoothing": 0.1}}, seed=seed, animals=3
        )
        for seed in (0, 1)
    ]
    made = make_results("scaling", runs).made
    assert (made["n_runs"], made["n_trainings"]) == (2, 3)
    assert made["training_seconds"] == 60 + 60 + 600
    assert made["evaluation_seconds"] == 12
    assert made["seeds"] == [0, 1]


def ablation_runs(tmp_path, own_task):
    """A single mask that is good at its own task, MtM with and without prompts."""
    tasks = ("co_smoothing", "forward_prediction", "intra_region", "inter_region")
    best = dict.fromkeys(tasks, 0.3)
    neuron = dict.fromkeys(tasks, 0.1) | {"co_smoothing": own_task}
    return [
        write_scored(tmp_path / "mtm", "MtM", {"s": best}),
        write_scored(tmp_path / "bare", "bare", {"s": best | {"intra_region": 0.29}}, prompt=False),
        write_scored(
            tmp_path / "neuron", "neuron", {"s": neuron}, schemes={"neuron": 1, "causal": 0}
        ),
    ]


def test_findings_tell_what_is_seen_in_an_ablation(tmp_path):
    findings = make_results("ablation", ablation_runs(tmp_path, own_task=0.31)).findings
    assert [finding.seen for finding in findings] == [True] * 4
    claims = " ".join(finding.claim for finding in findings)
    for claim in ("neuron is best", "neuron is poor", "MtM is near", "Prompts are no worse"):
        assert claim in claims


def test_findings_tell_what_is_not_seen(tmp_path):
    findings = make_results("ablation", ablation_runs(tmp_path, own_task=0.36)).findings
    seen = {finding.claim.split(",")[0]: finding.seen for finding in findings}
    assert seen["MtM is near the best on every task"] is False
    worse = make_results("ablation", ablation_runs(tmp_path / "other", own_task=0.2)).findings
    assert not next(f for f in worse if f.claim.startswith("neuron is best")).seen


def test_more_animals_are_compared_with_the_fewest(tmp_path):
    runs = [
        write_scored(tmp_path / f"n{n}", "MtM", {"s": {"co_smoothing": score}}, animals=n or None)
        for n, score in {0: 0.5, 1: 0.2, 10: 0.4}.items()
    ]
    results = make_results("scaling", runs)
    assert [row.animals for row in results.rows.values()] == [0, 1, 10]
    (finding,) = results.findings
    assert (finding.claim, finding.seen) == ("MtM: 10 animals are better than 1", True)


def test_a_claim_may_hold_on_some_tasks(tmp_path):
    runs = [
        write_scored(tmp_path / f"n{n}", "MtM", {"s": scores}, animals=n)
        for n, scores in {
            1: {"co_smoothing": 0.2, "forward_prediction": 0.1},
            10: {"co_smoothing": 0.4, "forward_prediction": 0.0},
        }.items()
    ]
    (finding,) = make_results("scaling", runs).findings
    assert not finding.seen
    assert finding.verdict == "Seen on 1 of 2 tasks"


def test_everything_is_written_and_read_back(tmp_path):
    results = make_results("ablation", ablation_runs(tmp_path, own_task=0.3), "snakemake x")
    write_results(results, tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        *("table.md", "table.csv", "figure.svg", "figure.png", "results.json")
    }
    again = read_results(tmp_path / "out")
    assert markdown_table(again) == markdown_table(results)
    assert csv_table(again) == csv_table(results)
    assert (again.findings, again.made, again.rows) == (
        results.findings,
        results.made,
        results.rows,
    )
    table = pd.read_csv(tmp_path / "out" / "table.csv")
    assert set(table["row"]) == {"MtM", "bare", "neuron"}
    assert "simulated" in (tmp_path / "out" / "table.md").read_text().splitlines()[0]
    assert "simulated" in (tmp_path / "out" / "figure.svg").read_text()
    json.loads((tmp_path / "out" / "results.json").read_text())


def test_real_data_are_not_called_simulated(tmp_path):
    scores = {"s": {"co_smoothing": 0.3}}
    runs = [
        write_scored(tmp_path / f"r{n}", "MtM", scores, simulated=False, split=f"random, seed {n}")
        for n in (1, 2)
    ]
    results = make_results("recording", runs)
    write_results(results, tmp_path / "out")
    assert "simulated" not in (tmp_path / "out" / "table.md").read_text().lower()
    assert cell(results, "MtM", "co_smoothing")["n_runs"] == 2


def test_mistakes_are_named(tmp_path):
    run = write_scored(tmp_path / "r", "MtM", {"s": {"co_smoothing": 0.3}})
    with pytest.raises(UserError, match="unknown kind of results 'ablations'"):
        make_results("ablations", [run])
    with pytest.raises(UserError, match="named twice"):
        make_results("ablation", [run, run])
    with pytest.raises(UserError, match="no run folder"):
        make_results("ablation", [tmp_path / "none"])
    with pytest.raises(UserError, match=r"no results\.json"):
        read_results(tmp_path)
    (tmp_path / "results.json").write_text("{}")
    with pytest.raises(UserError, match="damaged"):
        read_results(tmp_path)


def test_sessions_weigh_alike_however_many_runs_they_have(tmp_path):
    """Session a has three runs, b one: their means are averaged, not the four lines."""
    runs = [
        write_scored(tmp_path / f"r{seed}", "MtM", scores, seed=seed)
        for seed, scores in enumerate(
            [
                {"a": {"co_smoothing": 0.1}, "b": {"co_smoothing": 0.8}},
                {"a": {"co_smoothing": 0.2}},
                {"a": {"co_smoothing": 0.3}},
            ]
        )
    ]
    found = cell(make_results("ablation", runs), "MtM", "co_smoothing")
    assert found["mean"] == pytest.approx((0.2 + 0.8) / 2)
    assert found["sem"] == pytest.approx(0.3)  # of 0.2 and 0.8
    assert (found["n_sessions"], found["n_runs"]) == (2, 3)


def test_differences_of_sessions_weigh_alike_however_many_pairs_they_have(tmp_path):
    a = {0: {"x": 0.3, "y": 0.9}, 1: {"x": 0.5}}
    b = {0: {"x": 0.2, "y": 0.4}, 1: {"x": 0.2, "y": 0.1}}
    runs = [
        write_scored(
            tmp_path / f"{name}{seed}",
            name,
            {eid: {"co_smoothing": score} for eid, score in scores.items()},
            seed=seed,
        )
        for name, own in (("B", b), ("A", a))
        for seed, scores in own.items()
    ]
    (found,) = make_results("ablation", runs).differences.to_dict("records")
    # Of x: 0.1 and 0.3; of y: 0.5, as A lacks the other.
    assert found["difference"] == pytest.approx((0.2 + 0.5) / 2)
    assert (found["n_pairs"], found["n_sessions"]) == (3, 2)


def test_a_reference_that_prints_like_the_best_is_not_the_best(tmp_path):
    entry = {"bits_per_spike": 0.3, "oracle": 0.3}
    runs = [
        write_scored(tmp_path / name, name, {"s": {"co_smoothing": value}})
        for name, value in {"A": entry, "B": 0.1}.items()
    ]
    summary = make_results("ablation", runs).summary.set_index("row")
    assert summary["best"].to_dict() == {"A": True, "B": False, "true rates": False}
    assert summary["reference"].to_dict() == {"A": False, "B": False, "true rates": True}
    assert summary.loc["true rates", "n_runs"] == 0


def test_a_single_row_is_not_the_best_of_anything(tmp_path):
    entry = {"bits_per_spike": 0.3, "oracle": 0.6}
    run = write_scored(tmp_path / "A", "A", {"s": {"co_smoothing": entry}})
    assert not make_results("ablation", [run]).summary["best"].any()


@pytest.mark.parametrize("simulated", [(True, True), (True, False), (False, False)])
def test_one_simulated_run_makes_all_of_it_simulated(tmp_path, simulated):
    runs = [
        write_scored(tmp_path / f"r{n}", "MtM", {"s": {"co_smoothing": 0.3}}, simulated=made_up,
                     seed=n)
        for n, made_up in enumerate(simulated)
    ]  # fmt: skip
    results = make_results("recording", runs)
    assert results.simulated is any(simulated)
    assert ("(simulated data)" in results.title) is any(simulated)
    assert caption(results).startswith("Simulated data. ") is any(simulated)
    write_results(results, tmp_path / "out")
    assert read_results(tmp_path / "out").simulated is any(simulated)


def test_a_difference_in_a_task_that_a_pair_does_not_share_is_an_empty_cell(tmp_path):
    tuned = {"co_smoothing": 0.25, "intra_region": 0.125, "inter_region": 0.25}
    scratch = {"co_smoothing": 0.5, "inter_region": 0.25}
    runs = [
        write_scored(tmp_path / "tuned", "MtM", {"s": tuned}, animals=3),
        write_scored(tmp_path / "scratch", "MtM", {"s": scratch}),
    ]
    header, _, line = difference_table(make_results("generalization", runs)).splitlines()
    titles = [TASK_TITLES[task][0] for task in ("co_smoothing", "intra_region", "inter_region")]
    assert header.split(" | ")[1:] == [titles[0], titles[1], f"{titles[2]} |"]
    pair = "MtM, pre-trained on 3 animals − MtM, from scratch"
    assert line == f"| {pair} | -0.250 |  | +0.000 |"


@pytest.mark.parametrize(("away", "near"), [(0.25, True), (0.3125, False)])
def test_what_is_just_near_enough_is_near_and_not_poor(monkeypatch, away, near):
    monkeypatch.setattr(findings, "NEAR", 0.25)
    every = ("neuron", "causal", "intra_region", "inter_region")
    rows = {
        name: {"schemes": schemes, "prompted": name != "bare"}
        for name, schemes in {"MtM": every, "bare": every, "alone": ("neuron",)}.items()
    }
    best = dict.fromkeys(ACTIVITY_TASKS, 1.0)
    behind = dict.fromkeys(ACTIVITY_TASKS, 1.0 - away)
    means = {"MtM": behind, "bare": best, "alone": behind}
    found = {f.claim.partition(",")[0]: f.seen for f in findings._ablation(rows, means)}
    assert found == {
        "alone is best or near best on its own task": near,
        "alone is poor on the other tasks": not near,
        "MtM is near the best on every task": near,
        "Prompts are no worse than none": near,
    }
    means["alone"] = behind | {"intra_region": 1.0}
    (poor,) = [f for f in findings._ablation(rows, means) if "is poor" in f.claim]
    assert not poor.seen
    assert f"on {0 if near else 2} of 3" in poor.numbers


def test_no_worse_is_not_better():
    scores = {"co_smoothing": 0.5, "intra_region": 0.25}
    alike = findings._better("a", scores, scores)
    assert (alike.seen, alike.numbers) == (False, "difference: co-smoothing +0.000 and intra-region"
                                           " +0.000")  # fmt: skip
    assert findings._better("a", scores, {"choice": 1.0}).numbers.endswith("no task that both have")
    assert not findings._better("a", scores, {"choice": 1.0}).seen
    assert findings._better("a", scores, {"intra_region": 0.125}).seen
