"""Words and numbers around a table of results: captions, verdicts, how it was made, rows."""

import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scored_runs import write_scored

from ibl_mtm.errors import UserError
from ibl_mtm.experiments.findings import Finding, _better, _each, _minus
from ibl_mtm.experiments.kinds import kind_of, row_of
from ibl_mtm.experiments.page import _how
from ibl_mtm.experiments.read import Replicate, _animals, read_replicates
from ibl_mtm.experiments.result_table import (
    caption,
    difference_table,
    markdown_table,
    other_table,
)
from ibl_mtm.experiments.results import make_results, to_json
from ibl_mtm.experiments.summary import average_scores, paired_difference


@pytest.mark.parametrize(
    ("n_runs", "told"), [([1], "1 run of"), ([3, 3], "3 runs of"), ([1, 3], "1 to 3 runs of")]
)
@pytest.mark.parametrize(("n", "sessions"), [(1, "1 session"), (2, "2 sessions")])
def test_a_caption_counts_runs_and_sessions(n_runs, told, n, sessions):
    # References have no runs, and do not count.
    summary = pd.DataFrame({"n_runs": [*n_runs, 0], "reference": [False] * len(n_runs) + [True]})
    made = {"n_sessions": n, "credit": None}
    found = caption(SimpleNamespace(made=made, simulated=False, summary=summary))
    assert found.startswith(f"Test trials of {sessions}, {told} each row and session. Mean over")
    made["credit"] = "Someone 2019"
    found = caption(SimpleNamespace(made=made, simulated=True, summary=summary))
    assert found.startswith("Simulated data. Someone 2019. Test trials of")


@pytest.mark.parametrize(
    ("seen", "tasks", "verdict"),
    [
        (True, None, "Seen"),
        (True, [2, 2], "Seen"),
        (False, None, "Not seen"),
        (False, [0, 2], "Not seen"),
        (False, [1, 2], "Seen on 1 of 2 tasks"),
    ],
)
def test_verdicts(seen, tasks, verdict):
    assert Finding("it is so", seen, "0.1", tasks).verdict == verdict


def test_better_is_more_than_nothing_on_every_task_that_both_have():
    scores = {"co_smoothing": 0.25, "inter_region": 0.5, "choice": 0.75}
    equal = _better("a", scores, scores)
    assert (equal.seen, equal.tasks) == (False, [0, 3])
    assert equal.numbers == (
        "difference: co-smoothing +0.000, inter-region +0.000 and choice +0.000"
    )
    more = _better("a", scores, {"choice": 0.5, "co_smoothing": 0.125, "lick_rate": 1.0})
    assert (more.seen, more.tasks) == (True, [2, 2])
    assert _minus(scores, {"choice": 1.0, "co_smoothing": 0.5}) == {
        "co_smoothing": -0.25,
        "choice": -0.25,
    }
    none = _better("a", scores, {"lick_rate": 1.0})
    assert (none.seen, none.tasks) == (False, [0, 0])
    assert none.numbers == "difference: no task that both have"
    assert _each({"choice": -0.25}, "+") == "choice -0.250"


def make(**more):
    made = {
        "command": "make it", "dataset": "d", "splits": ["random", "blocks"], "seeds": [1, 2],
        "n_trainings": 3, "training_seconds": 3660.0, "n_runs": 4, "evaluation_seconds": 1860.0,
        "threads": [1], "commits": ["abc", "def"], "date": "2026-01-01",
    }  # fmt: skip
    return SimpleNamespace(made=made | more, simulated=more.get("simulated", False))


def test_how_results_were_made():
    assert _how(make()).splitlines() == [
        "- Command: `make it`",
        "- Data: dataset `d`; trials split random; blocks",
        "- Seeds: 1, 2",
        "- Time: 3 trainings took 61 min in all, each on 1 thread; 4 evaluations 31 min",
        "- Commit: `abc`, `def`",
        "- Date: 2026-01-01",
    ]
    found = _how(make(threads=[1, 4], command=None, seeds=[], simulated=True))
    assert "each on 1, 4 threads; " in found
    assert "dataset `d`, simulated; " in found
    assert "Command" not in found
    assert "Seeds" not in found
    assert "in all; 4 evaluations" in _how(make(threads=[]))


def replicate(series="MtM", baseline=False, pretrained=False, animals=0, **run):
    scores = {"provenance": {"split": "s"}, "baseline": "lds" if baseline else None}
    own = SimpleNamespace(scores=scores, settings=run.get("settings", {}))
    return Replicate(own, series, run.get("outcome", {}), pretrained, animals)


def test_rows_are_named_by_what_a_model_started_from():
    for kind in ("generalization", "scaling"):
        assert row_of(kind_of(kind), replicate()) == "MtM, from scratch"
        one = replicate(pretrained=True, animals=1)
        assert row_of(kind_of(kind), one) == "MtM, pre-trained on 1 animal"
        ten = replicate(pretrained=True, animals=10)
        assert row_of(kind_of(kind), ten) == "MtM, pre-trained on 10 animals"
        assert row_of(kind_of(kind), replicate("lds", baseline=True)) == "lds"
    assert row_of(kind_of("sessions"), replicate(pretrained=True, animals=1)) == "MtM"
    with pytest.raises(UserError, match=r"'x'; known: sessions, ablation"):
        kind_of("x")


def test_a_run_tells_of_itself():
    settings = {"masks": {"schemes": {"neuron": 1, "causal": 0.0, "all": 0.5}}, "model": {}}
    told = replicate(settings=settings, outcome={"seed": "7"})
    assert (told.seed, told.split, told.schemes) == (7, "s", ["neuron", "all"])
    assert (told.prompted, told.is_baseline, told.source) == (False, False, None)
    bare = replicate(settings={"masks": None, "model": None})
    assert (bare.seed, bare.schemes, bare.prompted) == (0, [], False)
    assert replicate(settings={"model": {"prompt": True}}).prompted
    assert _animals({"n_animals": 3}, {"matched": 5, "left_out": 2}) == 3
    assert _animals({}, {"matched": 5, "left_out": 2}) == 7
    with pytest.raises(UserError, match="name at least one"):
        read_replicates([])


def test_what_a_run_does_not_tell_counts_as_nothing(tmp_path):
    runs = [
        write_scored(tmp_path / str(seed), "MtM", {"s": {"co_smoothing": 0.1}}, seed=seed)
        for seed in (0, 1)
    ]
    path = runs[0] / "metrics.json"
    metrics = json.loads(path.read_text())
    del metrics["seconds"], metrics["commit"]
    path.write_text(json.dumps(metrics))
    results = make_results("ablation", runs)
    assert results.made["evaluation_seconds"] == 6
    assert (results.made["n_sessions"], results.made["n_runs"]) == (1, 2)
    assert other_table(results) == ""
    told = json.loads(to_json(results))
    assert told["summary"][0]["pooled_bits_per_spike"] is None
    path.write_text(json.dumps(metrics | {"sessions": {"s": {"co_smoothing": None}}}))
    with pytest.raises(UserError, match="none of the 1 runs has a score"):
        make_results("ablation", runs[:1])


def test_rows_stand_in_the_order_in_which_runs_are_named(tmp_path):
    runs = [
        write_scored(
            tmp_path / name,
            name,
            {"s": {"co_smoothing": {"bits_per_spike": score, "pooled_bits_per_spike": score}}},
        )
        for name, score in {"m": 0.5, "z": 0.25, "a": 0.125}.items()
    ]
    results = make_results("sessions", runs)

    def named(table):
        return [line.split(" | ")[0].removeprefix("| ") for line in table.splitlines()[2:]]

    assert named(markdown_table(results)) == ["m", "z", "a"]
    assert named(other_table(results)) == ["m", "z", "a"]
    assert named(difference_table(results)) == ["z − m", "a − m"]


def lines(*rows):
    columns = ["row", "replicate", "eid", "task", "score", "reference"]
    return pd.DataFrame(rows, columns=columns)


def test_means_and_differences_by_hand():
    table = lines(
        ("A", "1", "x", "choice", 0.5, False),
        ("A", "2", "x", "choice", 0.7, False),
        ("A", "1", "y", "choice", 1.0, False),
        ("B", "1", "x", "choice", 0.4, False),
        ("B", "1", "y", "choice", 0.7, False),
        ("true latents", "1", "x", "choice", 1.0, True),
        ("true latents", "2", "x", "choice", 1.0, True),
    )
    found = average_scores(table).set_index("row")
    assert found["mean"].tolist() == pytest.approx([0.8, 0.55, 1.0])
    assert found["sem"].tolist()[:2] == pytest.approx([0.2, 0.15])
    assert found["n_runs"].tolist() == [2, 1, 0]
    assert found["n_sessions"].tolist() == [2, 2, 1]
    assert found["best"].tolist() == [True, False, False]
    (pair,) = paired_difference(table, "A", "B").to_dict("records")
    assert pair["difference"] == pytest.approx((0.1 + 0.3) / 2)
    assert pair["sem"] == pytest.approx(0.1)
    assert (pair["n_pairs"], pair["n_sessions"]) == (2, 2)
    # Of one session, over its pairs; of one pair there is no error.
    own = table[table["eid"] == "x"]
    more = pd.concat([own, lines(("B", "2", "x", "choice", 0.2, False))])
    (pair,) = paired_difference(more, "A", "B").to_dict("records")
    assert (pair["difference"], pair["n_pairs"]) == (pytest.approx(0.3), 2)
    assert pair["sem"] == pytest.approx(0.2)
    (pair,) = paired_difference(own, "A", "B").to_dict("records")
    assert np.isnan(pair["sem"])
