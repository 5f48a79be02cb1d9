"""Scores and ranks: by hand, and beside the benchmark's own scorers."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from judges import ask_judge, judge_python
from scipy import stats
from submissions import write_submission

from ibl_mtm.benchmark.data import BenchmarkData
from ibl_mtm.benchmark.entity_ids import encode_ids
from ibl_mtm.benchmark.metrics import PoissonSums, score_trials, score_units
from ibl_mtm.benchmark.ranks import competition_ranks, rank, summarise
from ibl_mtm.benchmark.score import Scores, score_submissions, write_scores
from ibl_mtm.benchmark.score_table import COLUMNS, read_scores
from ibl_mtm.benchmark.submission import Place, open_submission, write_predictions
from ibl_mtm.benchmark.tasks import TASKS, choose_tasks
from ibl_mtm.benchmark.truth import NeuralTruth
from ibl_mtm.errors import UserError


def classes(target: list[int], chosen: list[int], name: str = "ts1-choice") -> dict[str, float]:
    task = TASKS[name]
    logits = np.eye(task.n_outputs)[chosen][:, None] * 2 - 1
    return score_trials(task, logits, np.array(target, np.float32)[:, None, None])


def test_balanced_accuracy_counts_classes_that_take_part() -> None:
    assert classes([0, 0, 0, 1], [0, 0, 1, 1])["bacc"] == pytest.approx((2 / 3 + 1) / 2)
    assert classes([1, 1, 1], [1, 1, 1])["bacc"] == 1.0
    assert classes([1, 1, 1], [1, 1, 0])["bacc"] == pytest.approx(1 / 3)  # 0 for the absent one
    assert classes([0, 2, 2], [0, 2, 2], "ts1-stimulus_contrast")["bacc"] == 1.0


def test_r2_by_hand() -> None:
    task, y = TASKS["ts1-wheel_speed"], np.zeros((2, 50, 1))
    y[0] = 2.0
    p = y + 0.5
    scores = score_trials(task, p, y)
    assert scores["r2"] == pytest.approx(1 - 0.25)
    assert scores["mae"] == pytest.approx(0.5)
    assert scores["pearson"] == pytest.approx(1.0)
    assert score_trials(task, y, y)["r2"] == 1.0
    assert score_trials(task, p, y * 0)["r2"] == 0.0  # nothing to explain
    mask = np.zeros((2, 50), bool)
    mask[:, :3] = True
    p[:, 3:] = 99.0
    assert score_trials(task, p, y, mask)["r2"] == pytest.approx(1 - 0.25)
    with pytest.raises(ValueError, match="no sample"):
        score_trials(task, p, y, mask & False)


def test_deviance_by_hand() -> None:
    sums = PoissonSums(3)
    y = np.array([[0, 1, 0], [3, 1, 0]], np.uint8)
    p = np.log([[0.5, 1.0, 0.1], [2.0, 1.0, 0.1]])
    for part in (0, 1):
        sums.add(p[part, None], y[part, None])
    d2 = sums.d2()
    deviance = 3 * np.log(3.0) - 3 * np.log(1.5)
    loss = (0.5 + 2.0 - 3 * np.log(2.0)) - (3 - 3 * np.log(3.0))
    assert d2[0] == pytest.approx(1 - loss / deviance)
    assert np.isnan(d2[1:]).all()  # nothing to explain; no spike
    assert sums.scores()["poisson_d2"] == pytest.approx(d2[0])
    # Of all units that fired: units' means are the null model.
    null = 3 * (1 - np.log(1.5)) + 2 * (1 - np.log(1.0))
    mine = (0.5 + 2.0 - 3 * np.log(2.0)) + (2.0 - 0.0)
    assert sums.bits_per_spike() == pytest.approx((null - mine) / (5 * np.log(2)))
    assert np.isnan(PoissonSums(2).scores()["poisson_d2"])


def test_integers_and_real_numbers_give_the_same() -> None:
    rng = np.random.default_rng(0)
    y, p = rng.poisson(0.3, (40, 50, 7)), rng.normal(-2, 1, (40, 50, 7))
    a, b = PoissonSums(7), PoissonSums(7)
    a.add(p, y.astype(np.uint8))
    b.add(p, y.astype(np.float32))
    assert a.scores() == pytest.approx(b.scores(), rel=1e-6)


def test_a_region_that_never_occurs_counts_as_nothing() -> None:
    odds = np.eye(10)[[0, 0, 5]]
    scores = score_units(odds, np.array([0, 0, 5]))
    assert scores["CB/f1-score"] == scores["HY/f1-score"] == 1.0
    assert scores["macro/f1-score"] == pytest.approx(0.2)


def test_ranks_by_hand() -> None:
    assert competition_ranks([0.9, 0.5, 0.49, 0.1], [0.01] * 4, [3] * 4) == [1, 2, 2, 4]
    assert competition_ranks([0.1, 0.9], [np.nan, np.nan], [1, 1]) == [2, 1]
    assert competition_ranks([0.5, 0.5], [0.0, 0.0], [3, 3]) == [1, 1]
    assert competition_ranks([0.5, 0.6], [0.0, 0.0], [3, 3]) == [2, 1]


@pytest.mark.parametrize("seed", range(6))
def test_who_is_ahead_by_welch_s_test(seed: int) -> None:
    """Of Welch's statistic and his degrees of freedom, as written in textbooks."""
    rng = np.random.default_rng(seed)
    samples = [rng.normal(0.9, 0.1, 3), rng.normal(0.75, 0.02, 5)]
    (a, b), (n_a, n_b) = (s.var(ddof=1) / len(s) for s in samples), (3, 5)
    t = (samples[0].mean() - samples[1].mean()) / np.sqrt(a + b)
    freedom = (a + b) ** 2 / (a**2 / (n_a - 1) + b**2 / (n_b - 1))
    p = stats.t.sf(abs(t), freedom)
    means, sems = [s.mean() for s in samples], [np.sqrt(a), np.sqrt(b)]
    best = int(np.argmax(means))
    for alpha, expected in ((p * 1.01, 2), (p * 0.99, 1)):
        ranks = competition_ranks(means, sems, [n_a, n_b], alpha)
        assert (ranks[best], ranks[1 - best]) == (1, expected)


def table(rows: list[tuple[str, str, int, float]]) -> pd.DataFrame:
    return pd.DataFrame(
        [(label, "ts1-wheel_speed", eid, seed, "r2", score) for label, eid, seed, score in rows],
        columns=COLUMNS,
    )


def test_what_is_worse_than_nothing_counts_as_nothing() -> None:
    scores = table(
        [("a", "x", 1, 0.4), ("a", "y", 1, -5.0), ("a", "x", 2, 0.6), ("a", "y", 2, 0.2)]
    )
    (row,) = summarise(scores).itertuples()
    assert row.score == pytest.approx((0.2 + 0.4) / 2)
    assert row.sem == pytest.approx(0.1)
    assert row.sem_recordings == pytest.approx(np.std([0.5, 0.1], ddof=1) / np.sqrt(2))
    assert (row.n_seeds, row.n_recordings) == (2, 2)
    assert np.isnan(summarise(table([("a", "x", 1, np.nan), ("a", "y", 1, 1.0)]))["score"][0])


def test_ranks_are_averaged_over_recordings() -> None:
    found = rank(
        table([("a", "x", 1, 0.4), ("b", "x", 1, 0.3), ("a", "y", 1, 0.1), ("b", "y", 1, 0.6)])
    )
    assert found["ts1-wheel_speed"].to_dict() == {"a": 1.5, "b": 1.5}
    assert found["overall"].to_dict() == {"a": 1.5, "b": 1.5}


def test_scores_join_those_that_are_there(tmp_path: Path) -> None:
    write_scores(Scores(table([("a", "x", 1, 0.4), ("b", "x", 1, 0.3)])), tmp_path)
    write_scores(Scores(table([("a", "x", 1, 0.5)])), tmp_path)
    found = read_scores(tmp_path).set_index("label")["score"]
    assert found.to_dict() == {"a": 0.5, "b": 0.3}
    with pytest.raises(UserError, match=r"no scores\.csv"):
        read_scores(tmp_path / "nowhere")


def test_all_scores_of_a_file_are_replaced_together_and_rows_are_in_order(tmp_path: Path) -> None:
    rows = [("b", "x", 2, 0.1), ("b", "x", 1, 0.2), ("a", "y", 1, 0.3), ("a", "x", 1, np.nan)]
    old = pd.concat([table(rows), table(rows[:1]).assign(metric="mae")])
    write_scores(Scores(old), tmp_path)
    write_scores(Scores(table([("b", "x", 2, 0.9), ("NA", "x", 1, 0.5)])), tmp_path)
    found = read_scores(tmp_path)
    assert found[["label", "recording", "seed", "metric"]].values.tolist() == [
        ["NA", "x", 1, "r2"], ["a", "x", 1, "r2"], ["a", "y", 1, "r2"],
        ["b", "x", 1, "r2"], ["b", "x", 2, "r2"],
    ]  # fmt: skip
    assert found["score"].fillna(-1).tolist() == [0.5, -1, 0.3, 0.2, 0.9]


def test_of_seeds_without_a_score_there_is_no_error(tmp_path: Path) -> None:
    scores = table([("a", "x", 1, 0.4), ("a", "x", 2, 0.6), ("a", "x", 3, np.nan)])
    (row,) = summarise(scores).itertuples()
    assert np.isnan([row.score, row.sem, row.sem_recordings]).all()
    assert (row.n_seeds, row.n_recordings) == (3, 1)


def test_nothing_scored_leaves_the_scores_that_are_there(wide_map: Path, tmp_path: Path) -> None:
    write_submission(tmp_path, wide_map, "a", (1,), ("ts1-choice",))
    data = BenchmarkData(wide_map)
    write_scores(score_submissions(tmp_path, data), tmp_path)
    before = (tmp_path / "scores.csv").read_bytes()
    nothing = score_submissions(tmp_path, data, tasks=[TASKS["ts1-reward"]])
    assert nothing.table.empty
    write_scores(nothing, tmp_path)
    assert (tmp_path / "scores.csv").read_bytes() == before


def test_names_of_tasks() -> None:
    assert [t.name for t in choose_tasks(["ts2"])] == ["ts2-co_smoothing", "ts2-forecasting"]
    assert [t.name for t in choose_tasks(["ts1"], ["choice"])] == ["ts1-choice"]
    assert len(choose_tasks()) == 11
    for wrong in ((["ts4"], ()), ((), ["licking"])):
        with pytest.raises(UserError, match="known:"):
            choose_tasks(*wrong)


def test_units_in_another_order_score_worse(wide_map: Path, tmp_path: Path) -> None:
    """Units are matched by position, as the benchmark does."""
    data = BenchmarkData(wide_map)
    write_submission(tmp_path, wide_map, "a", (1,), ("ts2-forecasting",))
    before = score_submissions(tmp_path, data).table
    place = Place("a", "ts2-forecasting", data.recordings[0], 1)
    with open_submission(tmp_path) as submissions:
        tensors = next(e for e in submissions["a"] if e.name == place.path).tensors()
    tensors["predictions"] = tensors["predictions"][..., ::-1]
    write_predictions(tmp_path, place, tensors, {})
    after = score_submissions(tmp_path, data).table
    rows = before["recording"] == data.recordings[0]
    assert (after["score"][rows] < before["score"][rows]).all()
    assert (after["score"][~rows] == before["score"][~rows]).all()


def test_a_file_that_cannot_be_scored_is_named(wide_map: Path, tmp_path: Path) -> None:
    write_submission(tmp_path, wide_map, "a", (1, 2), ("ts1-choice",))
    file = sorted(tmp_path.rglob("seed_1.safetensors"))[0]
    file.write_bytes(file.read_bytes()[:100])
    scores = score_submissions(tmp_path, BenchmarkData(wide_map))
    assert list(scores.failed) == [file.relative_to(tmp_path).as_posix()]
    assert len(scores.table) == 3 * 3  # the other files' three metrics


def test_arrays_of_unequal_length_have_no_score(wide_map: Path, tmp_path: Path) -> None:
    data = BenchmarkData(wide_map)
    names = ("ts1-choice", "ts2-forecasting", "ts3-unit_cosmos")
    write_submission(tmp_path, wide_map, "a", (1,), names)
    with open_submission(tmp_path) as submissions:
        entries = submissions["a"]
    for entry in entries:
        tensors, place = entry.tensors(), Place.of(entry.name)
        assert place is not None
        key = "pred_proba" if place.task == "ts3-unit_cosmos" else "predictions"
        tensors[key] = tensors[key][:-3]
        write_predictions(tmp_path, place, tensors, entry.metadata())
    scores = score_submissions(tmp_path, data)
    assert set(scores.failed) == {entry.name for entry in entries}
    assert scores.table.empty


@pytest.mark.slow
def test_scores_and_ranks_are_the_official_ones(
    submission: Path, wide_map: Path, tmp_path: Path
) -> None:
    judge_python()
    folder = tmp_path / "predictions"
    for label, noise in (("near", 0.5), ("far", 2.0)):
        write_submission(folder, wide_map, label, noise=noise)
    scores = score_submissions(folder, BenchmarkData(wide_map))
    assert scores.failed == {}
    ask_judge("score_predictions.py", folder, wide_map, tmp_path)
    official = json.loads((tmp_path / "scores.json").read_text())
    n_scores = 0
    for row in scores.table.itertuples():
        key = "/".join(x for x in (row.label, row.task, row.recording, str(row.seed)) if x)
        assert row.score == pytest.approx(official["scores"][key][row.metric], abs=1e-6)
        n_scores += 1
    assert n_scores == sum(map(len, official["scores"].values()))
    for row in summarise(scores.table).itertuples():
        mean, sem, n = official["summary"][f"{row.label}/{row.task}"][row.metric]
        assert (row.score, row.sem, row.n_seeds) == pytest.approx((mean, sem, n), abs=1e-6)
    for task, ranks in rank(scores.table).drop(columns="overall").items():
        assert ranks.to_dict() == official["ranks"][str(task)]


def test_windows_are_matched_by_their_start_to_the_bit(wide_map: Path, tmp_path: Path) -> None:
    """Those that are missing, or moved by a last bit, are left out, whatever their order."""
    data, name = BenchmarkData(wide_map), "ts2-co_smoothing"
    eid = data.recordings[0]
    with data.open("ts2", eid) as recording:
        truth = NeuralTruth.of(recording, TASKS[name], "test")
        targets = np.concatenate([part for _, part in truth.targets()])
    rng = np.random.default_rng(0)
    kept = rng.permutation(len(targets))[: len(targets) // 2]
    log_rates = rng.normal(-3, 1, (len(kept), *targets.shape[1:])).astype(np.float16)
    starts = truth.starts[kept]
    starts[:7] = np.nextafter(starts[:7], np.inf)
    tensors = {
        "predictions": log_rates,
        "window_timestamps": starts,
        "unit_ids": encode_ids(truth.units),
    }
    write_predictions(tmp_path, Place("a", name, eid, 1), tensors, {})
    sums = PoissonSums(len(truth.units))
    sums.add(log_rates[7:], targets[kept[7:]])
    found = score_submissions(tmp_path, data).table.set_index("metric")["score"].to_dict()
    assert found == pytest.approx(sums.scores(), rel=1e-6)
