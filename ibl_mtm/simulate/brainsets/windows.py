"""A trials table in BrainWideBench's codes, and the windows of its tasks.

table = encode(trials, extra, onset)                   # choice 0 right, 1 left, 2 none; …
windows = task_windows(table)                          # name -> (bounds, columns)
trial_domains(windows)                                 # one interval for each valid trial
"""

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

__all__ = ["TIMES", "TaskWindow", "encode", "task_windows", "trial_domains"]

TIMES = (
    "stim_on_time",
    "feedback_time",
    "go_cue_trigger_time",
    "go_cue_time",
    "stim_off_time",
    "response_time",
    "movement_onset_time",
)
"""Columns of the table that are times, beside start and end."""

_LONGEST_REACTION = 10.0  # s
_CONTRASTS = (0.0, 0.0625, 0.125, 0.25, 1.0)


class TaskWindow(NamedTuple):
    """Windows of one task: bounds of shape (n, 2), and columns."""

    bounds: NDArray[np.float64]
    columns: dict[str, NDArray[Any]]


def encode(
    table: pd.DataFrame, extra: dict[str, NDArray[np.float64]], onset: NDArray[np.float64]
) -> pd.DataFrame:
    """The IBL's trials table in the benchmark's names and codes.

    Parameters
    ----------
    table, extra
        As the IBL keeps them.
    onset
        Onset of movement (s), which may be missing or before the stimulus: such trials are
        invalid.
    """
    choice = table["choice"].to_numpy()
    is_left = np.isfinite(table["contrastLeft"].to_numpy())
    contrast = np.where(is_left, table["contrastLeft"], table["contrastRight"])
    prior = table["probabilityLeft"].to_numpy()
    reward = (table["feedbackType"].to_numpy() == 1).astype(np.int64)
    stim_on = table["stimOn_times"].to_numpy()
    reaction = onset - stim_on
    # A comparison with a missing time is false.
    valid = (reaction >= 0) & (reaction <= _LONGEST_REACTION) & (choice != 0)
    return pd.DataFrame(
        {
            "start": table["intervals_0"].to_numpy(),
            "end": table["intervals_1"].to_numpy(),
            "stim_on_time": stim_on,
            "feedback_time": table["feedback_times"].to_numpy(),
            "go_cue_trigger_time": extra["goCueTrigger_times"],
            "go_cue_time": table["goCue_times"].to_numpy(),
            "stim_off_time": extra["stimOff_times"],
            "response_time": table["response_times"].to_numpy(),
            "movement_onset_time": onset,
            "choice": np.select([choice == -1, choice == 1], [0, 1], 2),
            "feedback_type": table["feedbackType"].to_numpy().astype(np.float64),
            "reward": reward,
            "reward_volume": table["rewardVolume"].to_numpy(),
            "probability_left": prior,
            "block_prior": np.select([np.isclose(prior, 0.2), np.isclose(prior, 0.8)], [0, 1], -1),
            "contrast_left": table["contrastLeft"].to_numpy(),
            "contrast_right": table["contrastRight"].to_numpy(),
            "stimulus_side": is_left.astype(np.int64),
            "stimulus_contrast": np.searchsorted(_CONTRASTS, contrast),
            "is_valid": valid,
            "trial_index": np.arange(len(table)),
        }
    )


def task_windows(table: pd.DataFrame) -> dict[str, TaskWindow]:
    """Windows of the valid trials, by task, without the counts of certain samples of paws."""
    valid = table[table["is_valid"]]
    stim_on, move, feedback = (
        valid[f"{name}_time"].to_numpy() for name in ("stim_on", "movement_onset", "feedback")
    )
    bounds = {
        "stimulus_side": (stim_on - 0.9, stim_on + 0.1),
        "stimulus_contrast": (stim_on - 0.9, stim_on + 0.1),
        "choice": (move - 1.0, move),
        "reward": (feedback, feedback + 1.0),
        "movement_window": (move, move + 1.0),
        "licking_window": (feedback, feedback + 1.0),
        "block_prior": (stim_on - 1.0, stim_on),
    }
    windows = {}
    for name, (start, end) in bounds.items():
        kept = np.ones(len(valid), dtype=bool)
        columns = {"trial_index": valid["trial_index"].to_numpy()}
        if name in valid:
            columns[name] = valid[name].to_numpy()
        if name == "block_prior":
            kept = columns[name] != -1
        columns = {key: values[kept] for key, values in columns.items()}
        windows[name] = TaskWindow(np.stack([start, end], axis=1)[kept], columns)
    return windows


def trial_domains(windows: dict[str, TaskWindow]) -> NDArray[np.float64]:
    """From the earliest start to the latest end of each trial's windows, shape (n, 2)."""
    trial = np.concatenate([window.columns["trial_index"] for window in windows.values()])
    bounds = np.concatenate([window.bounds for window in windows.values()])
    table = pd.DataFrame({"trial": trial, "start": bounds[:, 0], "end": bounds[:, 1]})
    by_trial = table.groupby("trial")
    return np.stack([by_trial["start"].min(), by_trial["end"].max()], axis=1)
