"""Behaviour decoded: which windows and samples it follows from, and which decoder is chosen."""

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h5py
import numpy as np
import pytest

from ibl_mtm.benchmark.data import BenchmarkData
from ibl_mtm.benchmark.metrics import score_trials
from ibl_mtm.benchmark.predict import decoded
from ibl_mtm.benchmark.predict.decoded import predict_behaviour
from ibl_mtm.benchmark.tasks import TASKS
from ibl_mtm.benchmark.truth import trial_truth
from ibl_mtm.brainsets.layout import file_of


@pytest.fixture(scope="module")
def data(wide_map: Path) -> BenchmarkData:
    return BenchmarkData(wide_map)


def copy_of(data: BenchmarkData, eid: str, root: Path) -> Path:
    target = file_of(root, "all_units", "eval", eid)
    target.parent.mkdir(parents=True)
    shutil.copy(file_of(data.root, "all_units", "eval", eid), target)
    return target


@pytest.mark.parametrize("name", ["ts1-choice", "ts1-wheel_speed", "ts1-left_paw_speed"])
def test_spikes_of_a_test_window_move_its_own_prediction_alone(
    data: BenchmarkData, tmp_path: Path, name: str
) -> None:
    eid = data.recordings[0]
    with data.open("ts1", eid) as recording:
        expected = predict_behaviour(recording, TASKS[name]).tensors["predictions"]
        start = trial_truth(recording, TASKS[name], "test").start
    with h5py.File(copy_of(data, eid, tmp_path), "r+") as file:
        later = file["spikes/timestamps"][()] >= start[-3]
        unit = file["spikes/unit_index"][()]
        unit[later] = np.random.default_rng(0).permutation(unit[later])
        file["spikes/unit_index"][...] = unit
    with BenchmarkData(tmp_path).open("ts1", eid) as recording:
        found = predict_behaviour(recording, TASKS[name]).tensors["predictions"]
    assert len(found) == len(start)
    np.testing.assert_array_equal(found[:-3], expected[:-3])
    assert not np.array_equal(found[-3:], expected[-3:])


@pytest.mark.parametrize("which", ["unsure", "sure"])
def test_what_a_paw_does_unseen_is_not_fitted(
    data: BenchmarkData, tmp_path: Path, which: str
) -> None:
    eid, task = data.recordings[0], TASKS["ts1-left_paw_speed"]
    with data.open("ts1", eid) as recording:
        expected = predict_behaviour(recording, task)
        ((start, end),) = recording.domain("ts1_train")
        series = recording.series("paws")
        assert series is not None
        times = series.times
    with h5py.File(copy_of(data, eid, tmp_path), "r+") as file:
        sure = file["paws/is_left_paw_confident"][()].astype(bool)
        speed = file["paws/left_paw_speed"][()]
        changed = (sure if which == "sure" else ~sure) & (times >= start) & (times < end)
        assert changed.sum() > 100
        speed[changed] = np.random.default_rng(0).permutation(speed[changed]) + 1000
        file["paws/left_paw_speed"][...] = speed
    with BenchmarkData(tmp_path).open("ts1", eid) as recording:
        found = predict_behaviour(recording, task)
    same = np.array_equal(found.tensors["predictions"], expected.tensors["predictions"])
    assert same == (which == "unsure")


@pytest.mark.parametrize("name", ["ts1-choice", "ts1-wheel_speed", "ts1-licking_rate"])
def test_the_decoder_that_is_best_on_val_is_taken(
    data: BenchmarkData, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    task, found = TASKS[name], []

    def note(*arguments: Any) -> dict[str, float]:
        scores = score_trials(*arguments)
        found.append(scores[task.metric])
        return scores

    monkeypatch.setattr(decoded, "score_trials", note)
    with data.open("ts1", data.recordings[0]) as recording:
        chosen = predict_behaviour(recording, task).chosen
    assert len(set(found)) > 2
    assert chosen[f"val {task.metric}"] == max(found)


def test_of_one_class_every_window_is_of_it() -> None:
    task = TASKS["ts1-choice"]
    train: Any = SimpleNamespace(values=np.ones((4, 1, 1)))
    features = {split: {"x": np.zeros((n, 3, 2))} for split, n in
                (("train", 4), ("val", 3), ("test", 5))}  # fmt: skip
    (found,) = decoded._fit_classes(task, features, train)
    assert found.about == {"features": "none"}
    assert found.val.shape == (3, 1, task.n_outputs)
    assert found.test.shape == (5, 1, task.n_outputs)
    for odds in (found.val, found.test):
        assert (odds == np.eye(task.n_outputs)[1]).all()
