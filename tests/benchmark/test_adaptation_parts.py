"""A recording as a session of windows, by hand: which windows, which spikes, what of units."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from ibl_mtm.benchmark.predict import adaptation
from ibl_mtm.benchmark.predict.adaptation import (
    WINDOWS,
    adaptation_data,
    bins_before,
    windows_to_adapt,
)
from ibl_mtm.brainsets.recording import Spikes
from ibl_mtm.errors import SessionError, UserError
from ibl_mtm.sessions.trial_format import TrialFormat

DOMAINS = {
    "ts1_train": [[0.0, 20.0]], "ts1_val": [[20.0, 40.0]],
    "ts2_train": [[0.0, 30.0]], "ts2_val": [[30.0, 60.0]],
}  # fmt: skip


def recording(trials: list[list[float]], times: np.ndarray | None = None, **units: Any) -> Any:
    """Of two units; times of spikes, of the first and the second unit in turn."""
    times = np.arange(0, 60, 0.5) if times is None else times
    table = pd.DataFrame({"id": ["u", "v"]} | units)
    return SimpleNamespace(
        eid="e", subject="m", lab="l", date="2025-01-02", version="0.1.7", build="all_units",
        regime="eval", unit_ids=np.array(["u", "v"]), units=table,
        trial_domains=np.array(trials), domain=lambda name: np.array(DOMAINS[name]),
        spikes=lambda: Spikes(times, np.arange(len(times), dtype=np.int32) % 2),
        wrong=lambda what: SessionError("e", what),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("format_", "n_before"),
    [
        (WINDOWS, 0),
        (TrialFormat(51, 0.02, "contiguous", 0.0), 1),
        (TrialFormat(49, 0.02, "contiguous", 0.0), None),
        (TrialFormat(50, 0.01, "contiguous", 0.0), None),
        (TrialFormat(100, 0.04, "contiguous", 0.0), None),
    ],
)
def test_a_model_sees_the_second_that_is_scored_and_what_is_before(
    format_: TrialFormat, n_before: int | None
) -> None:
    if n_before is None:
        with pytest.raises(UserError, match=r"needs 50 or more of 0\.02 s: pre-train on such"):
            bins_before(format_)
    else:
        assert bins_before(format_) == n_before


def test_windows_to_train_on_overlap_by_half_and_others_do_not() -> None:
    """Each within a trial, and with what is before it within the domain."""
    trials = [[0.4, 2.0], [5.0, 5.9], [10.0, 11.0], [29.0, 31.6], [50.0, 53.0], [58.5, 61.0]]
    of = recording(trials)
    train, val = (windows_to_adapt(of, "ts2", split) for split in ("train", "val"))
    np.testing.assert_allclose(train, [0.4, 0.9, 10.0, 29.0])
    np.testing.assert_allclose(val, [30.0, 50.0, 51.0, 52.0, 58.5])
    np.testing.assert_allclose(windows_to_adapt(of, "ts2", "train", 25), [0.9, 10.0, 29.0])
    np.testing.assert_allclose(windows_to_adapt(of, "ts2", "val", 1), [50, 51, 52, 58.5])
    assert len(windows_to_adapt(recording([[5.0, 5.5]]), "ts2", "train")) == 0


def test_the_session_that_is_made() -> None:
    """Windows of two seconds, of which the first is context; in order of time."""
    long = TrialFormat(100, 0.02, "contiguous", -1.0)
    times = np.array([3.0, 3.5, 4.0, 4.5, 5.0, 39.0, 40.0])
    ds, regions = adaptation_data(recording([[33.0, 34.0], [4.0, 5.0]], times), "ts3", long)
    assert ds.sizes == {"trial": 2, "time": 100, "unit": 2}
    assert ds.trial.values.tolist() == [0, 1]
    np.testing.assert_allclose(ds.window_start, [3.0, 32.0])
    np.testing.assert_allclose(ds.time, -1 + 0.02 * np.arange(100))
    assert ds.split.values.tolist() == ["train", "val"]
    first = ds.spikes.values[0]
    assert first.sum() == 4
    assert [np.flatnonzero(first[:, unit]).tolist() for unit in (0, 1)] == [[0, 50], [25, 75]]
    assert not ds.spikes.values[1].any()
    np.testing.assert_allclose(ds.firing_rate, [2 / 4, 2 / 4])
    assert (ds.attrs["window"], ds.attrs["number"]) == ([-1.0, 1.0], 1)
    assert ds.attrs["dataset"] == "BrainWideBench ts2"  # regions have no domains of their own
    assert ds.attrs["brainset"] == {
        "derived_version": "0.1.7", "build": "all_units", "regime": "eval",
    }  # fmt: skip
    assert len(ds.attrs["definition_hash"]) == 16
    assert regions["acronym"].tolist() == ["unknown"]
    other, _ = adaptation_data(recording([[33.0, 34.0], [4.0, 5.0]], times), "ts2")
    assert other.attrs["definition_hash"] != ds.attrs["definition_hash"]


def test_a_domain_without_a_window_is_told() -> None:
    with pytest.raises(SessionError, match="no whole window of a trial in ts1_val_domain"):
        adaptation_data(recording([[1.0, 3.0]]), "ts1")


def test_spikes_beyond_the_windows_are_left_out() -> None:
    """Those of what is before a window stay; one at its end is not in it."""
    times = np.array([0.5, 0.75, 1.0, 1.99, 2.0, 2.5, 3.5, 3.9, 4.0])
    spikes = Spikes(times, np.arange(9, dtype=np.int32))
    kept = adaptation._within(spikes, np.array([1.0, 1.5, 3.0]), 0)
    assert kept.times.tolist() == [1.0, 1.99, 2.0, 3.5, 3.9]
    assert kept.units.tolist() == [2, 3, 4, 6, 7]
    before = adaptation._within(spikes, np.array([1.0]), 13)
    assert before.times.tolist() == [0.75, 1.0, 1.99]


def test_what_a_file_does_not_tell_of_units() -> None:
    counts = np.zeros((3, 50, 2), np.uint8)
    bare = adaptation._units(pd.DataFrame({"id": ["u", "v"]}), counts)
    assert bare["unit"][1].tolist() == ["u", "v"]
    for name in ("region", "beryl", "cosmos"):
        assert bare[name][1].tolist() == ["unknown"] * 2
    assert bare["probe"][1].tolist() == ["probe"] * 2
    assert bare["pid"][1].tolist() == ["", ""]
    assert (bare["cluster_id"][1].tolist(), bare["channel"][1].tolist()) == ([0, 0], [-1, -1])
    for name in ("depth", "x", "y", "z", "label"):
        assert np.isnan(bare[name][1]).all()
        assert bare[name][1].dtype == np.float32
    told = pd.DataFrame(
        {"id": ["u", "v"], "region_allen": ["CA1", "DG-mo"], "region_beryl": ["CA1", "DG"],
         "region_cosmos": "HPF", "probe_id": ["p", "q"], "cluster_id": [7, 8], "channels": [3, 0],
         "depths": [20.0, 40], "label": [1.0, 0.5], "x": 1.0, "y": 2.0, "z": 3.0}
    )  # fmt: skip
    full = adaptation._units(told, counts)
    columns = {
        "region": "region_allen", "beryl": "region_beryl", "cosmos": "region_cosmos",
        "pid": "probe_id", "probe": "probe_id", "depth": "depths", "channel": "channels",
        "cluster_id": "cluster_id", "x": "x",
    }  # fmt: skip
    for name, column in columns.items():
        assert full[name][1].tolist() == told[column].tolist()
