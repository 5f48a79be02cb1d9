"""Behaviour of the simulated map in the benchmark's codes: trials, windows, licks."""

from pathlib import Path

import numpy as np
import pandas as pd

from ibl_mtm.brainsets.layout import REGIMES, file_of, recordings_in
from ibl_mtm.brainsets.recording import open_recording
from ibl_mtm.simulate.brainsets.signals import Grid, lick_signals


def trials_of(root: Path) -> pd.DataFrame:
    tables = []
    for regime in REGIMES:
        for eid in recordings_in(root, "all_units", regime):
            with open_recording(file_of(root, "all_units", regime, eid)) as recording:
                tables.append(recording.trials.assign(eid=eid))
    return pd.concat(tables)


def test_the_side_of_the_stimulus_is_rewarded(wide_map: Path) -> None:
    """Both are 1 on the left; whoever chose that side had water, but at contrast 0 too."""
    trials = trials_of(wide_map)
    answered = trials[trials["choice"] != 2]
    assert len(answered) > 500
    right = answered["choice"] == answered["stimulus_side"]
    assert (right == (answered["reward"] == 1)).all()
    assert 0.3 < answered["choice"].mean() < 0.7


def test_times_of_a_trial_lie_within_it_also_after_the_pause(wide_map: Path) -> None:
    trials = trials_of(wide_map)
    for name in ("stim_on", "go_cue_trigger", "go_cue", "response", "feedback", "stim_off"):
        times = trials[f"{name}_time"]
        known = times.notna()
        assert known.mean() > 0.9, name
        within = (times >= trials["start"]) & (times <= trials["end"])
        assert within[known].all(), name
    gap = trials.groupby("eid")["start"].diff().groupby(trials["eid"]).max()
    assert (gap > 45).all()


def test_windows_of_the_stimulus_end_a_tenth_after_it_appears(wide_map: Path) -> None:
    eid = recordings_in(wide_map, "all_units", "eval")[0]
    with open_recording(file_of(wide_map, "all_units", "eval", eid)) as recording:
        trials = recording.trials.set_index("trial_index")
        for name, event, before in (
            ("stimulus_contrast", "stim_on", 0.9),
            ("choice", "movement_onset", 1.0),
            ("reward", "feedback", 0.0),
            ("movement_window", "movement_onset", 0.0),
            ("licking_window", "feedback", 0.0),
        ):
            windows = recording.intervals(name)
            assert windows is not None
            time = trials.loc[windows["trial_index"], f"{event}_time"].to_numpy()
            np.testing.assert_allclose(windows["start"], time - before, err_msg=name)
            np.testing.assert_allclose(windows["end"] - windows["start"], 1.0)


def test_licks_are_counted_in_the_20_ms_that_begin_with_their_sample() -> None:
    licks = np.array([9.99, 10.001, 10.019, 10.021, 10.0799, 10.11])
    found = lick_signals(licks, Grid(10.0, 5))["licking_rate"]
    assert found.tolist() == [100.0, 50.0, 0.0, 50.0, 0.0]
