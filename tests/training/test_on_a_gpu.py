"""A GPU does what the CPU does: training, held counts, compiled layers, predictions, scores."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from training_runs import read_logs, tiny_settings

from ibl_mtm.cache.cache import Cache
from ibl_mtm.errors import StoppedError
from ibl_mtm.evaluation.activity.predict import population_of, predict_held_out, select_known
from ibl_mtm.evaluation.evaluate import evaluate
from ibl_mtm.training.checkpoint.pretrained import load_model
from ibl_mtm.training.loop.module import Training
from ibl_mtm.training.run import train

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")

SCORES = "val/bits_per_spike"


def settings(device: str, **changes):
    trainer = {"accelerator": device} | changes.pop("trainer", {})
    # What dropout draws differs from device to device, so there is none here.
    model = tiny_settings().model.model_dump() | {
        "dropout": 0.0,
        "input_dropout": 0.0,
        "attention_dropout": 0.0,
        "dynamics": 3,
        "drift": True,
    }
    return tiny_settings(trainer=trainer, model=model | changes.pop("model", {}), **changes)


def train_on(device: str, cache: Cache, run: Path, **changes) -> np.ndarray:
    """Validation scores of a training."""
    train(settings(device, **changes), cache, run, progress=False)
    return read_logs(run, SCORES).to_numpy()


@pytest.fixture(scope="module")
def run(cache: Cache, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trained on the CPU."""
    run = tmp_path_factory.mktemp("gpu") / "run"
    train_on("cpu", cache, run)
    return run


def test_training_takes_the_same_way(cache, run, tmp_path):
    found = train_on("gpu", cache, tmp_path / "gpu")
    np.testing.assert_allclose(found, read_logs(run, SCORES), atol=2e-3)


@pytest.mark.parametrize("held", ["on", "off"])
def test_where_counts_are_held_changes_nothing(cache, tmp_path, held):
    first = train_on("gpu", cache, tmp_path / "auto", data={"min_units_per_region": 2})
    data = {"min_units_per_region": 2, "device_cache": held}
    np.testing.assert_allclose(train_on("gpu", cache, tmp_path / held, data=data), first, atol=1e-4)


@pytest.mark.parametrize("trainer", [{"precision": "bf16-mixed"}, {"compile": True}])
def test_faster_ways_come_near_to_it(cache, run, tmp_path, trainer):
    found = train_on("gpu", cache, tmp_path / "gpu", trainer=trainer)
    np.testing.assert_allclose(found, read_logs(run, SCORES), atol=2e-2)


def test_a_training_goes_on_where_it_was_ended(cache, tmp_path, monkeypatch):
    whole = train_on("gpu", cache, tmp_path / "whole")
    real = Training.training_step

    def stop_at_step_10(self, batch, batch_idx):
        if self.global_step == 10:
            raise KeyboardInterrupt
        return real(self, batch, batch_idx)

    monkeypatch.setattr(Training, "training_step", stop_at_step_10)
    with pytest.raises(StoppedError):
        train_on("gpu", cache, tmp_path / "part")
    monkeypatch.undo()
    train(settings("gpu"), cache, tmp_path / "part", progress=False, resume=True)
    np.testing.assert_allclose(read_logs(tmp_path / "part", SCORES), whole, atol=1e-4)


@pytest.mark.parametrize(
    "task", ["co_smoothing", "forward_prediction", "intra_region", "inter_region"]
)
def test_predictions_are_those_of_the_cpu(cache, run, task):
    eid = next(iter(cache))
    found = []
    for device in ("cpu", "cuda"):
        model = load_model(run, device)
        population = population_of(model, select_known(model, cache[eid].load()))
        found.append([rates for _, rates in predict_held_out(population, task)])
    for cpu, gpu in zip(*found, strict=True):
        np.testing.assert_allclose(np.log(gpu), np.log(cpu), atol=2e-3)


def test_what_is_hidden_reaches_no_prediction(cache, run):
    model = load_model(run, "cuda")
    ds = select_known(model, cache[next(iter(cache))].load())
    other = ds.copy(deep=True)
    other["spikes"] = ds.spikes.where(ds.unit != ds.unit[0], 7).astype(ds.spikes.dtype)
    (_, rates), (_, changed) = (
        next(iter(predict_held_out(population_of(model, d), "co_smoothing"))) for d in (ds, other)
    )
    # Not to the bit: items that share a call take other numbers of steps, and a GPU's matrix
    # products round otherwise where other numbers of rows are left.
    np.testing.assert_allclose(changed[..., 0], rates[..., 0], rtol=1e-5)


def test_scores_are_those_of_the_cpu(cache, run):
    tasks = ["co_smoothing", "forward_prediction", "inter_region", "choice"]
    found = []
    for device in ("cpu", "cuda"):
        found.append(evaluate(run, cache, tasks=tasks, device=device).metrics["sessions"])
    for eid, tasks_of_it in found[0].items():
        for task, scores in tasks_of_it.items():
            for name, value in (scores or {}).items():
                if isinstance(value, float) and not math.isnan(value):
                    assert found[1][eid][task][name] == pytest.approx(value, abs=2e-3)
