"""The windows that the benchmark asks for: one per trial (TS1), or one per time bin (TS2).

windows = trial_windows(recording, TASKS["ts1-choice"], "test")       # start, end, trial_index
for starts in neural_windows(recording, "test"):                      # one array per trial
    ...
"""

from collections.abc import Iterator

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from ibl_mtm.benchmark.tasks import BIN, WINDOW, Task
from ibl_mtm.brainsets.intervals import inside, intersect
from ibl_mtm.brainsets.recording import Recording

__all__ = ["neural_windows", "start_of_windows", "trial_windows"]

VAL_STRIDE = 3
"""Bins from one validation window of TS2 to the next, as in the benchmark."""


def trial_windows(recording: Recording, task: Task, split: str) -> pd.DataFrame:
    """Windows of a TS1 task within a split, in order of time.

    Those of paws without a single confident sample are left out, and so are windows beyond the
    recorded signal.

    Returns
    -------
    Columns start, end (s), trial_index, and the labels of the task's intervals.

    Raises
    ------
    SessionError
        If the file lacks the task's intervals or its signal.
    """
    table = recording.intervals(task.windows)
    if table is None:
        raise recording.wrong(f"no task_aligned_intervals/{task.windows}, of {task.name}")
    if task.confident:
        if (column := task.confident[1]) not in table:
            raise recording.wrong(f"no task_aligned_intervals/{task.windows}/{column}")
        table = table[table[column] > 0]
    windows = table[["start", "end"]].to_numpy(np.float64)
    keep = inside(windows, recording.domain(f"ts1_{split}"))
    if not task.is_class:
        group = task.signal.partition("/")[0]
        series = recording.series(group)
        if series is None:
            raise recording.wrong(f"no group {group}, of {task.name}")
        keep &= inside(windows, series.domain)
    return table[keep].sort_values("start", kind="stable").reset_index(drop=True)


def neural_windows(recording: Recording, split: str) -> Iterator[NDArray[np.float64]]:
    """Starts (s) of the windows of TS2 in each trial of a split, in order of time.

    Consecutive ones are a bin apart on test, three on val; the last one ends where the trial does.

    Raises
    ------
    SessionError
        If a piece of a trial is shorter than a window.
    """
    for start, end in intersect(recording.trial_domains, recording.domain(f"ts2_{split}")):
        if end - start < WINDOW:
            raise recording.wrong(
                f"the part of a trial from {start:.3f} to {end:.3f} s is shorter than {WINDOW:g} s"
            )
        yield start_of_windows(start, end, 1 if split == "test" else VAL_STRIDE)


def start_of_windows(start: float, end: float, stride: int = 1) -> NDArray[np.float64]:
    """Starts of the windows in [start, end), as the benchmark computes them, to the last bit.

    They come from `torch.arange`, whose last bits are its own: neither those of `numpy.arange`
    nor those of ``start + k * 0.02``. A submission is refused if they differ.
    """
    steps = torch.arange(start, end, stride * BIN, dtype=torch.float64).numpy()
    starts = steps[steps + WINDOW <= end]
    if not len(starts) or starts[-1] + WINDOW < end:
        starts = np.append(starts, end - WINDOW)
    return starts
