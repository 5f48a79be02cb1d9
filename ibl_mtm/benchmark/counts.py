"""Spike counts of many overlapping windows, exactly as if each were binned on its own.

for part, counts in window_counts(spikes, n_units, starts):
    starts[part], counts                            # (w, 50, unit)

A spike at t is in bin floor((t - start) * 50) of a window. Windows that follow one grid share its
counts; only windows with a spike within rounding of a bin's edge are counted on their own.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ibl_mtm.benchmark.tasks import BIN, N_BINS, WINDOW
from ibl_mtm.brainsets.layout import RATE
from ibl_mtm.brainsets.recording import Spikes

__all__ = ["count_window", "window_bins", "window_counts"]

#: Distance from an edge, in bins, within which rounding may decide. Times of some thousand seconds
#: are known to 1e-12 s.
_EDGE = 1e-6
#: Windows at a time.
_AT_ONCE = 256

Counts = NDArray[np.uint8] | NDArray[np.uint16]


def count_window(spikes: Spikes, n_units: int, start: float, n_before: int = 0) -> Counts:
    """Counts of one window by the definition, (n_before + 50, unit)."""
    counts = np.zeros((n_before + N_BINS, n_units), np.uint16)
    first, last = np.searchsorted(
        spikes.times, [start - (n_before + 1) * BIN, start + WINDOW]
    )  # half-open at the end; at the beginning one bin too many
    bins = np.floor((spikes.times[first:last] - start) * RATE).astype(np.int64)
    bins = np.minimum(bins, N_BINS - 1) + n_before
    np.add.at(counts, (bins[bins >= 0], spikes.units[first:last][bins >= 0]), 1)
    return counts


def window_bins(
    spikes: Spikes,
    n_units: int,
    starts: NDArray[np.float64],
    n_before: int = 0,
    at_once: int = _AT_ONCE,
) -> Iterator[tuple[slice, Counts, NDArray[np.int64]]]:
    """Bins of windows of one trial, some windows at a time: most bins are of many windows.

    Parameters
    ----------
    spikes, n_units
        Of the recording.
    starts : ndarray (window,)
        As `ibl_mtm.benchmark.windows.start_of_windows` gives them (s).
    n_before
        Bins before each window that are counted too.
    at_once
        The most windows at a time.

    Yields
    ------
    part : slice
        Which windows.
    bins : ndarray (bin, unit)
        Counts.
    which : ndarray (w, n_before + 50)
        The bins of each window.
    """
    origin, n_bins = float(starts[0]), n_before + N_BINS
    place = (starts - origin) * RATE
    on_grid = np.abs(place - np.rint(place)) < _EDGE
    offset = np.rint(place).astype(np.int64)
    lead = n_before + 1  # so that what lies just before the first bin has a place
    first, last = np.searchsorted(spikes.times, [origin - lead * BIN, float(starts[-1]) + WINDOW])
    times, units = spikes.times[first:last], spikes.units[first:last]
    position = (times - origin) * RATE
    edgy = times[np.abs(position - np.rint(position)) < _EDGE]
    grid = np.zeros((lead + int(offset.max()) + N_BINS + 1, n_units), np.uint16)
    rows = np.floor(position).astype(np.int64) + lead
    np.add.at(grid, (rows[rows >= 0], units[rows >= 0]), 1)
    begins, ends = starts - lead * BIN, starts + WINDOW + BIN
    alone = ~on_grid | (np.searchsorted(edgy, begins) < np.searchsorted(edgy, ends))
    for begin in range(0, len(starts), at_once):
        part = slice(begin, min(begin + at_once, len(starts)))
        top = int(offset[begin]) + 1
        bins = grid[top : int(offset[part][-1]) + 1 + n_bins]
        which = (offset[part] + 1 - top)[:, None] + np.arange(n_bins)
        own = np.flatnonzero(alone[part])
        which[own] = len(bins) + np.arange(len(own) * n_bins).reshape(-1, n_bins)
        counted = [count_window(spikes, n_units, starts[begin + at], n_before) for at in own]
        bins = np.concatenate([bins, *counted])
        yield part, bins.astype(np.uint8) if bins.max(initial=0) < 256 else bins, which


def window_counts(
    spikes: Spikes,
    n_units: int,
    starts: NDArray[np.float64],
    n_before: int = 0,
    at_once: int = _AT_ONCE,
) -> Iterator[tuple[slice, Counts]]:
    """Counts of windows of one trial, some at a time: (w, n_before + 50, unit).

    As `window_bins` gives them, each window's bins side by side.
    """
    for part, bins, which in window_bins(spikes, n_units, starts, n_before, at_once):
        yield part, bins[which]
