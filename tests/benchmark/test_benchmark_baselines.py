"""Baselines: what they may not see, and rates of units that were silent."""

from pathlib import Path

import numpy as np
import pytest

from ibl_mtm.benchmark.data import BenchmarkData
from ibl_mtm.benchmark.predict.adaptation import windows_to_adapt
from ibl_mtm.benchmark.predict.baselines import fit_activity
from ibl_mtm.benchmark.tasks import TASKS
from ibl_mtm.benchmark.truth import NeuralTruth
from ibl_mtm.brainsets.recording import Recording, Spikes


@pytest.fixture(scope="module")
def data(wide_map: Path) -> BenchmarkData:
    return BenchmarkData(wide_map)


@pytest.mark.parametrize("name", ["ts2-co_smoothing", "ts2-forecasting"])
def test_a_baseline_does_not_see_what_it_is_asked_for(data: BenchmarkData, name: str) -> None:
    with data.open("ts2", data.recordings[0]) as recording:
        fitted = fit_activity(recording, TASKS[name])
        truth = NeuralTruth.of(recording, TASKS[name], "val")
        _, counts = next(truth.windows())
    other, seen = counts.copy(), counts.copy()
    asked = (slice(None), slice(-5, None)) if name == "ts2-forecasting" else (..., fitted.columns)
    other[asked] = np.random.default_rng(0).integers(0, 9, other[asked].shape)
    np.testing.assert_array_equal(fitted.log_rates(counts), fitted.log_rates(other))
    seen[:, 20:40, fitted.visible] += 1
    assert not np.array_equal(fitted.log_rates(counts), fitted.log_rates(seen))


@pytest.mark.parametrize("name", ["ts2-co_smoothing", "ts2-forecasting"])
def test_a_silent_unit_has_the_rate_of_half_a_spike(
    data: BenchmarkData, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Of half a spike in all bins that were looked at, which forecasting has five a window of."""
    task = TASKS[name]
    with data.open("ts2", data.recordings[0]) as recording:
        spikes = recording.spikes()
        truth = NeuralTruth.of(recording, task, "test", spikes=False)
        silent = truth.columns[-1]
        kept = spikes.units != silent
        monkeypatch.setattr(
            Recording, "spikes", lambda self: Spikes(spikes.times[kept], spikes.units[kept])
        )
        fitted = fit_activity(recording, task)
        train = windows_to_adapt(recording, "ts2", "train")
    n_bins = len(train) * task.n_steps
    assert fitted.offset[-1] == pytest.approx(np.log(0.5 / n_bins))
    assert not fitted.weights[:, -1].any()
