"""A model trained for one task: what it learns, what it may not see, and when it is taken."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ibl_mtm.benchmark.data import BenchmarkData
from ibl_mtm.benchmark.metrics import score_trials
from ibl_mtm.benchmark.predict import decoded
from ibl_mtm.benchmark.predict.adaptation import WINDOWS, adaptation_data
from ibl_mtm.benchmark.predict.decoded import predict_behaviour
from ibl_mtm.benchmark.predict.end_to_end import (
    Schedule,
    TrainedForTask,
    _class_weights,
    _loss,
    _start,
    train_for_task,
)
from ibl_mtm.benchmark.predict.features import counts_of
from ibl_mtm.benchmark.predict.requests import Request, run_benchmark
from ibl_mtm.benchmark.tasks import TASKS
from ibl_mtm.benchmark.truth import trial_truth
from ibl_mtm.errors import UserError
from ibl_mtm.sessions.view import describe_session
from ibl_mtm.training.checkpoint.build import build_model
from ibl_mtm.training.settings import read_run_settings

SMALL = ("model.dynamics=0", "model.width=16", "model.mlp=16", "model.heads=2", "model.layers=1")
QUICK = Schedule(steps=60, every=10, rate=0.02, body_rate=0.01)


@pytest.fixture(scope="module")
def data(wide_map: Path) -> BenchmarkData:
    return BenchmarkData(wide_map)


@pytest.fixture(scope="module")
def recording(data):
    with data.open("ts1", data.recordings[0]) as recording:
        yield recording


def make_model(recording, format_=WINDOWS):
    settings = read_run_settings("benchmark", SMALL)
    ds, _ = adaptation_data(recording, "ts1", format_)
    torch.manual_seed(0)
    return build_model(settings, [describe_session(ds, settings.data)], format_).eval()


@pytest.fixture(scope="module")
def model(recording):
    return make_model(recording)


def truth_of(recording, task):
    return {split: trial_truth(recording, task, split) for split in ("train", "val", "test")}


def planted(recording, model, task):
    """Targets that follow from the spikes of the windows."""
    truth = truth_of(recording, task)
    total = {s: counts_of(recording, of.start, model)[:, -50:].sum(2) for s, of in truth.items()}
    if task.is_class:
        middle = np.median(total["train"].sum(1))
        values = {s: (t.sum(1) > middle)[:, None, None] for s, t in total.items()}
    else:
        scale = total["train"].std()
        values = {s: (t / scale)[..., None] for s, t in total.items()}
    return {s: replace(of, values=values[s].astype(np.float32)) for s, of in truth.items()}


@pytest.mark.parametrize(("name", "least"), [("ts1-choice", 0.8), ("ts1-wheel_speed", 0.3)])
def test_it_learns_what_follows_from_the_spikes(recording, model, name, least):
    task, before = TASKS[name], {n: t.clone() for n, t in model.state_dict().items()}
    truth = planted(recording, model, task)
    found = train_for_task(model, recording, task, truth, schedule=QUICK)
    score = score_trials(task, found.val, truth["val"].values, truth["val"].mask)[task.metric]
    assert score > least
    assert found.about["step"] % 10 == 0
    assert found.test.shape[0] == len(truth["test"].start)
    for part, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[part]), part
    assert not model.training


def test_of_longer_windows_the_last_second_is_read(recording):
    longer = make_model(recording, replace(WINDOWS, n_time=70))
    task = TASKS["ts1-wheel_speed"]
    truth = planted(recording, longer, task)
    found = train_for_task(longer, recording, task, truth, schedule=QUICK)
    assert found.val.shape == truth["val"].values.shape
    assert score_trials(task, found.val, truth["val"].values, None)[task.metric] > 0.3


def test_classes_weigh_alike_and_one_that_never_occurs_has_no_part():
    task = TASKS["ts1-choice"]
    target = torch.zeros(8, 1)
    target[:2] = 1
    weights = _class_weights(task, target)
    assert weights.tolist()[:2] == pytest.approx([8 / 12, 8 / 4])
    assert not weights[2:].any()
    said = torch.tensor([[[0.0, 0.0]], [[3.0, 0.0]]])  # unsure of the common one, wrong of the rare
    at, there = torch.tensor([[0.0], [1.0]]), torch.ones(2, 1, dtype=torch.bool)
    each = np.log(2), 3 + np.log1p(np.exp(-3))
    by_hand = (each[0] * 8 / 12 + each[1] * 2) / (8 / 12 + 2)
    assert _loss(task, said, at, there, weights).item() == pytest.approx(by_hand, rel=1e-5)


def test_a_class_that_never_occurs_is_hardly_expected_before_anything_is_learned():
    target = torch.tensor([[3.0], [3.0], [0.0], [3.0]])
    start = _start(TASKS["ts1-stimulus_contrast"], target, torch.ones(4, 1, dtype=torch.bool))
    assert start.exp().tolist() == pytest.approx([0.25, 1e-6, 1e-6, 0.75, 1e-6])


@pytest.mark.parametrize("name", ["ts1-choice", "ts1-licking_rate"])
def test_targets_of_test_windows_change_nothing_and_seeds_do(recording, model, name):
    task = TASKS[name]
    truth, few = truth_of(recording, task), Schedule(steps=4, every=2)
    other = truth | {"test": replace(truth["test"], values=truth["test"].values * 0)}
    found = train_for_task(model, recording, task, truth, 1, few)
    same = train_for_task(model, recording, task, other, 1, few)
    np.testing.assert_array_equal(found.test, same.test)
    np.testing.assert_array_equal(found.val, same.val)
    assert not np.array_equal(
        train_for_task(model, recording, task, truth, 2, few).test, found.test
    )


def test_samples_that_do_not_count_are_not_learned_from(recording, model):
    task = TASKS["ts1-left_paw_speed"]
    truth = truth_of(recording, task)
    mask = truth["train"].mask
    assert mask is not None
    assert not mask.all()
    values = np.where(mask[..., None], truth["train"].values, 1e4).astype(np.float32)
    other = truth | {"train": replace(truth["train"], values=values)}
    few = Schedule(steps=3, every=3)
    found, same = (train_for_task(model, recording, task, t, 0, few) for t in (truth, other))
    np.testing.assert_array_equal(found.test, same.test)


def test_of_one_class_there_is_nothing_to_learn(recording, model):
    task = TASKS["ts1-choice"]
    truth = truth_of(recording, task)
    one = replace(truth["train"], values=truth["train"].values * 0)
    assert train_for_task(model, recording, task, truth | {"train": one}) is None


@pytest.mark.parametrize("right", [True, False])
def test_it_is_taken_where_it_is_best_on_val(recording, model, monkeypatch, right):
    task = TASKS["ts1-choice"]
    truth = truth_of(recording, task)

    def trained(*arguments: object) -> TrainedForTask:
        val = np.eye(task.n_outputs)[truth["val"].values[:, 0, 0].astype(int)][:, None]
        test = np.full((len(truth["test"].start), 1, task.n_outputs), 7.0)
        return TrainedForTask({"features": "end to end"}, val if right else -val, test)

    monkeypatch.setattr(decoded, "train_for_task", trained)
    found = predict_behaviour(recording, task, model, end_to_end=True)
    assert (found.chosen["features"] == "end to end") == right
    assert (found.tensors["predictions"] == 7).all() == right
    without = predict_behaviour(recording, task, model)
    assert without.chosen["features"] != "end to end"


def test_requests_that_do_not_go_with_it_are_refused(data, tmp_path):
    asked = Request(data, tmp_path, "l", [1], baseline="linear", end_to_end=True)
    with pytest.raises(UserError, match="a baseline has no model to train"):
        run_benchmark(asked)
    assert list(tmp_path.iterdir()) == []


def test_a_label_is_with_it_or_without(data, tmp_path, monkeypatch):
    monkeypatch.setattr("ibl_mtm.benchmark.predict.requests._predict_recording", lambda *_: None)
    tasks = [TASKS["ts1-choice"]]
    run_benchmark(Request(data, tmp_path, "l", [1], tasks))
    run_benchmark(Request(data, tmp_path, "l", [1], tasks))
    with pytest.raises(UserError, match="begun with other end_to_end"):
        run_benchmark(Request(data, tmp_path, "l", [1], tasks, end_to_end=True))
