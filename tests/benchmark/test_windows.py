"""Windows of the benchmark, and counts in them: to the last bit, against the definitions."""

from fractions import Fraction
from math import ceil
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from ibl_mtm.benchmark.counts import count_window, window_counts
from ibl_mtm.benchmark.data import BenchmarkData
from ibl_mtm.benchmark.tasks import TASKS
from ibl_mtm.benchmark.truth import NeuralTruth, trial_truth
from ibl_mtm.benchmark.windows import neural_windows, start_of_windows, trial_windows
from ibl_mtm.brainsets.layout import file_of
from ibl_mtm.brainsets.recording import Spikes
from ibl_mtm.errors import SessionError

VECTORISED = torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512")


def by_the_rule(start: float, end: float) -> list[float]:
    """What torch.arange computes on processors with fused multiply-add, in exact arithmetic."""
    n = ceil((end - start) / 0.02)
    exact, step = Fraction(start), Fraction(0.02)
    values = []
    for i in range(n):
        if i < 8 * (n // 8):
            base = float(exact + step * (4 * (i // 4)))  # rounded once
            values.append(float(Fraction(base) + step * (i % 4)))
        else:
            values.append(start + 0.02 * i)
    return values


@pytest.mark.skipif(not VECTORISED, reason="torch.arange rounds otherwise on this processor")
@pytest.mark.parametrize(
    ("start", "end"), [(0.0, 4.0), (123.456789, 130.1), (3917.00013, 3924.9), (77.1, 79.335)]
)
def test_starts_are_those_of_the_benchmark_to_the_bit(start: float, end: float) -> None:
    expected = [t for t in by_the_rule(start, end) if t + 1.0 <= end]
    if expected[-1] + 1.0 < end:
        expected.append(end - 1.0)
    found = start_of_windows(start, end)
    assert found.dtype == np.float64
    assert found.tolist() == expected


def test_the_last_window_ends_with_the_trial() -> None:
    starts = start_of_windows(10.0, 12.013)
    assert starts[-1] == 12.013 - 1.0
    assert np.all(np.diff(starts) > 0)
    assert start_of_windows(5.0, 6.0).tolist() == [5.0]
    assert start_of_windows(0.1, 1.1).tolist() == [0.1]  # and not 1.1 - 1.0
    assert len(start_of_windows(10.0, 12.013, stride=3)) == 17 + 1


def brute(spikes: Spikes, n_units: int, start: float, n_before: int) -> np.ndarray:
    counts = np.zeros((n_before + 50, n_units), int)
    for time, unit in zip(spikes.times, spikes.units, strict=True):
        if time < start + 1.0:
            bin_ = min(int(np.floor((time - start) * 50.0)), 49) + n_before
            if bin_ >= 0:
                counts[bin_, unit] += 1
    return counts


@pytest.mark.parametrize("n_before", [0, 50])
@pytest.mark.parametrize("at_once", [7, 256])
def test_counts_of_windows_that_overlap(n_before: int, at_once: int) -> None:
    rng = np.random.default_rng(0)
    starts = start_of_windows(1234.5678, 1237.9301)
    anywhere = rng.uniform(1230, 1240, 700)
    # Spikes on edges, and a last bit before and behind them: where rounding decides.
    edges = rng.choice(starts, 60) + 0.02 * rng.integers(-2, 52, 60)
    times = np.sort(np.r_[anywhere, edges, np.nextafter(edges, 0), np.nextafter(edges, 1e9)])
    spikes = Spikes(times, rng.integers(0, 3, len(times)).astype(np.int32))
    seen = 0
    for part, counts in window_counts(spikes, 3, starts, n_before, at_once):
        for start, found in zip(starts[part], counts, strict=True):
            expected = brute(spikes, 3, start, n_before)
            np.testing.assert_array_equal(found, expected)
            np.testing.assert_array_equal(count_window(spikes, 3, start, n_before), expected)
            seen += 1
    assert seen == len(starts)


def test_many_spikes_in_a_bin() -> None:
    times = np.full(70_0, 10.011)
    spikes = Spikes(times, np.zeros(len(times), np.int32))
    ((_, counts),) = window_counts(spikes, 2, np.array([10.0]))
    assert counts[0, 0].tolist() == [700, 0]


@pytest.fixture(scope="module")
def data(wide_map: Path) -> BenchmarkData:
    return BenchmarkData(wide_map)


@pytest.mark.parametrize("name", [n for n, t in TASKS.items() if t.suite == "ts1"])
def test_windows_of_behaviour_lie_in_their_split(data: BenchmarkData, name: str) -> None:
    task, n = TASKS[name], 0
    for eid in data.recordings:
        with data.open(task, eid) as recording:
            every = recording.intervals(task.windows)
            assert every is not None
            trials: list[int] = []
            for split in ("train", "val", "test"):
                windows = trial_windows(recording, task, split)
                ((start, end),) = recording.domain(f"ts1_{split}")
                assert (windows["start"] >= start).all()
                assert (windows["end"] <= end).all()
                trials += windows["trial_index"].tolist()
            assert len(set(trials)) == len(trials)  # of one split each
            assert trials == sorted(trials)
            assert set(trials) < set(every["trial_index"])  # some lie in gaps between splits
            n += len(trials)
    assert n > 50


def test_windows_of_paws_have_a_confident_sample(data: BenchmarkData) -> None:
    task = TASKS["ts1-left_paw_speed"]
    for eid in data.recordings:
        with data.open(task, eid) as recording:
            truth = trial_truth(recording, task, "test")
            assert truth.mask is not None
            assert truth.mask.shape == (len(truth.trial_id), 50)
            assert truth.mask.any(axis=1).all()
            windows = recording.intervals("movement_window")
            assert windows is not None
            count = windows.set_index("trial_index")["num_left_paw_confident"]
            assert count[truth.trial_id].tolist() == truth.mask.sum(1).tolist()


def test_targets_are_in_the_tasks_units(data: BenchmarkData) -> None:
    eid = data.recordings[0]
    found = {}
    with data.open("ts1", eid) as recording:
        for name in ("whisker_motion_energy", "wheel_speed", "licking_rate", "choice"):
            found[name] = trial_truth(recording, TASKS[f"ts1-{name}"], "train").values
        mean, std = recording.normalisation("whisker/whisker_motion_energy") or (None, None)
        series = recording.series("whisker")
        windows = trial_windows(recording, TASKS["ts1-whisker_motion_energy"], "train")
        assert series is not None
        assert mean is not None
        start = windows["start"].iloc[3]
        rows = (series.times >= start - 1e-9) & (series.times < start + 1.0 - 1e-9)
        expected = (series.values["whisker_motion_energy"][rows] - mean) / std
    np.testing.assert_allclose(found["whisker_motion_energy"][3, :, 0], expected, rtol=1e-5)
    assert abs(found["whisker_motion_energy"].mean()) < 0.1  # z-scores of these very windows
    assert (found["wheel_speed"] >= 0).all()
    assert np.array_equal(found["licking_rate"], np.round(found["licking_rate"]))
    assert found["licking_rate"].max() <= 5  # licks in 20 ms, not per second
    assert set(np.unique(found["choice"])) == {0.0, 1.0}


def test_windows_of_activity(data: BenchmarkData) -> None:
    task = TASKS["ts2-co_smoothing"]
    for eid in data.recordings:
        with data.open(task, eid) as recording:
            truth = NeuralTruth.of(recording, task, "test")
            held = recording.held_out("test")
            assert held is not None
            assert truth.units.tolist() == [f"{eid}/{u}" for u in recording.unit_ids[held]]
            domain = recording.domain("ts2_test")
            spikes = recording.spikes()
            n_val = sum(map(len, neural_windows(recording, "val")))
        assert 0 < n_val < len(truth.starts)
        assert len(np.unique(truth.starts)) == len(truth.starts)
        for start in truth.starts:
            assert any(a <= start and start + 1.0 <= b for a, b in domain)
        at = len(truth.starts) // 2
        for part, targets in truth.targets():
            if part.start <= at < part.stop:
                expected = brute(spikes, truth.n_units, truth.starts[at], 0)[:, truth.columns]
                np.testing.assert_array_equal(targets[at - part.start], expected)


def test_a_file_of_the_wrong_build_or_without_a_group_is_refused(
    data: BenchmarkData, tmp_path: Path
) -> None:
    eid = data.recordings[0]
    source = file_of(data.root, "all_units", "eval", eid)
    target = file_of(tmp_path, "selected_units", "eval", eid)
    target.parent.mkdir(parents=True)
    target.write_bytes(source.read_bytes())
    with (
        pytest.raises(SessionError, match="holds all_units"),
        BenchmarkData(tmp_path).open("ts2", eid),
    ):
        pass
    broken = file_of(tmp_path, "all_units", "eval", eid)
    broken.parent.mkdir(parents=True)
    broken.write_bytes(source.read_bytes())
    with h5py.File(broken, "r+") as file:
        del file["wheel"]
    with (
        BenchmarkData(tmp_path).open("ts1", eid) as recording,
        pytest.raises(SessionError, match="no group wheel"),
    ):
        trial_truth(recording, TASKS["ts1-wheel_speed"], "test")
