"""What the benchmark compares predictions with, made anew from the files for evaluation.

    truth = trial_truth(recording, TASKS["ts1-licking_rate"], "test")
    truth.trial_id, truth.values, truth.mask        # (N,), (N, 50, 1), None

    neural = NeuralTruth.of(recording, TASKS["ts2-forecasting"], "test")
    for part, targets in neural.targets():          # (w, 5, unit)
        ...

The benchmark keeps its own to itself; the rules are those of its code.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ibl_mtm.benchmark.counts import window_bins
from ibl_mtm.benchmark.entity_ids import unit_names
from ibl_mtm.benchmark.tasks import COSMOS_LABELS, N_BINS, N_FORECAST, Task
from ibl_mtm.benchmark.windows import neural_windows, trial_windows
from ibl_mtm.brainsets.layout import RATE, Regime
from ibl_mtm.brainsets.recording import Recording, Spikes

__all__ = ["NeuralTruth", "TrialTruth", "scored_units", "trial_truth"]


@dataclass(frozen=True)
class TrialTruth:
    """Targets of a TS1 task.

    Attributes
    ----------
    trial_id : ndarray (N,), int64
        Numbers of the trials, invalid ones counted too.
    start : ndarray (N,)
        Starts of their windows (s, session clock).
    values : ndarray (N, 1, 1) or (N, 50, 1), float32
        Classes, or samples in the task's units: z-scores, rad/s, licks per bin.
    mask : ndarray (N, 50), bool, or None
        Which samples count.
    timestamps : ndarray (N, 50), float32, or None
        When they were taken (s after the window's start).
    """

    trial_id: NDArray[np.int64]
    start: NDArray[np.float64]
    values: NDArray[np.float32]
    mask: NDArray[np.bool_] | None = None
    timestamps: NDArray[np.float32] | None = None


def trial_truth(recording: Recording, task: Task, split: str) -> TrialTruth:
    """Targets of a TS1 task in a split (see `trial_windows`).

    Raises
    ------
    SessionError
        If the file lacks something, or a window reaches beyond the samples.
    """
    windows = trial_windows(recording, task, split)
    trial_id = windows["trial_index"].to_numpy(np.int64)
    start = windows["start"].to_numpy(np.float64)
    if task.is_class:
        values = windows[task.signal].to_numpy(np.float32)[:, None, None]
        return TrialTruth(trial_id, start, values)
    group, _, name = task.signal.partition("/")
    series = recording.series(group)
    if series is None or name not in series.values:
        raise recording.wrong(f"no {task.signal}, of {task.name}")
    rows = series.first(start)[:, None] + np.arange(N_BINS)
    if rows.size and not 0 <= rows.min() <= rows.max() < len(series):
        raise recording.wrong(f"a window of {task.name} reaches beyond the samples of {group}")
    values = series.values[name][rows].astype(np.float64)
    if name == "licking_rate":
        values = np.round(values / RATE)
    elif name != "wheel_speed":
        stored = recording.normalisation(task.signal)
        if stored is None:
            raise recording.wrong(f"no ts1_normalize/{task.signal}, of {task.name}")
        mean, std = stored
        values = (values - mean) / std
    return TrialTruth(
        trial_id,
        start,
        values.astype(np.float32)[..., None],
        series.values[task.confident[0]][rows].astype(bool) if task.confident else None,
        (series.times[rows] - start[:, None]).astype(np.float32),
    )


@dataclass(frozen=True)
class NeuralTruth:
    """Targets of a TS2 task.

    Attributes
    ----------
    pieces : list of ndarray
        Starts of the windows (s, session clock) in each trial.
    units : ndarray (n,)
        Ids of the units that are asked for, in the file's order.
    columns : ndarray (n,)
        Their rows in the file's table.
    """

    task: Task
    pieces: list[NDArray[np.float64]]
    units: NDArray[np.str_]
    columns: NDArray[np.int64]
    n_units: int
    _spikes: Spikes | None = None

    @classmethod
    def of(
        cls, recording: Recording, task: Task, split: str, *, spikes: bool = True
    ) -> "NeuralTruth":
        """Read a recording; without `spikes` there are windows and units only.

        Raises
        ------
        SessionError
            If the file lacks something, or no trial is in the split.
        """
        n_units = len(recording.unit_ids)
        columns = np.arange(n_units)
        if task.name == "ts2-co_smoothing":
            held = recording.held_out(split)
            if held is None:
                raise recording.wrong(
                    f"no units/ts2_co_smoothing_is_held_out_{split}: co-smoothing is defined on "
                    "files of selected_units for evaluation only"
                )
            columns = np.flatnonzero(held)
        pieces = list(neural_windows(recording, split))
        if not pieces:
            raise recording.wrong(f"no trial in ts2_{split}_domain")
        names = unit_names(recording.eid, recording.unit_ids[columns])
        read = recording.spikes() if spikes else None
        return cls(task, pieces, names, columns, n_units, read)

    @cached_property
    def starts(self) -> NDArray[np.float64]:
        """Starts of all windows (s, session clock)."""
        return np.concatenate(self.pieces)

    def targets(self) -> Iterator[tuple[slice, NDArray[np.uint16] | NDArray[np.uint8]]]:
        """Counts that are asked for, some windows at a time: (w, 50 or 5, n)."""
        for part, counts in self.windows():
            bins = counts[:, -N_FORECAST:] if self.task.n_steps == N_FORECAST else counts
            yield part, bins if len(self.columns) == self.n_units else bins[..., self.columns]

    def windows(
        self, n_before: int = 0
    ) -> Iterator[tuple[slice, NDArray[np.uint16] | NDArray[np.uint8]]]:
        """Counts of all units, some windows at a time: (w, n_before + 50, unit)."""
        for part, bins, which in self.bins(n_before):
            yield part, bins[which]

    def bins(
        self, n_before: int
    ) -> Iterator[tuple[slice, NDArray[np.uint16] | NDArray[np.uint8], NDArray[np.int64]]]:
        """The same, each bin once: (bin, unit), and which of them each window's are."""
        assert self._spikes is not None
        first = 0
        for starts in self.pieces:
            for part, bins, which in window_bins(self._spikes, self.n_units, starts, n_before):
                yield slice(first + part.start, first + part.stop), bins, which
            first += len(starts)


def scored_units(recording: Recording, regime: Regime) -> pd.DataFrame:
    """Units whose region counts in TS3, with their rows in the file's table as index.

    Returns
    -------
    The file's columns, `name` as in predictions, and `target`, the number of the region.
    """
    units = recording.units
    keep = units["qc_neural"] == "PASS" if regime == "eval" else units["qc_neural"] != "FAIL"
    keep &= units["qc_neural_alignment"] == "PASS"
    keep &= (units["label"] == 1.0) & (units["firing_rate"] > 1.0)
    keep &= units["region_cosmos"].isin(COSMOS_LABELS)
    number = {name: at for at, name in enumerate(COSMOS_LABELS)}
    return units[keep].assign(
        name=unit_names(recording.eid, units["id"])[keep.to_numpy()],
        target=units["region_cosmos"][keep].map(number).astype(np.int64),
    )
