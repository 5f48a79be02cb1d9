"""Spike counts of many overlapping windows, exactly as if each were binned on its own.

for part, counts in window_counts(spikes, n_units, starts):
    starts[part], counts                            # (w, 50, unit)

A spike at t is in bin floor((t - start) * 50) of a window. Windows that follow one grid share its
counts; only spikes within rounding of a bin's edge are looked at window by window.
"""

from collections.abc import Iterator

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from ibl_mtm.benchmark.tasks import BIN, N_BINS, WINDOW
from ibl_mtm.brainsets.layout import RATE
from ibl_mtm.brainsets.recording import Spikes

__all__ = ["count_window", "window_counts"]

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


def window_counts(
    spikes: Spikes,
    n_units: int,
    starts: NDArray[np.float64],
    n_before: int = 0,
    at_once: int = _AT_ONCE,
) -> Iterator[tuple[slice, Counts]]:
    """Counts of windows of one trial, some at a time.

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
    counts : ndarray (w, n_before + 50, unit)
    """
    origin, n_bins = float(starts[0]), n_before + N_BINS
    place = (starts - origin) * RATE
    on_grid = np.abs(place - np.rint(place)) < _EDGE
    offset = np.rint(place).astype(np.int64)
    lead = n_before + 1  # so that what lies just before the first bin has a place
    first, last = np.searchsorted(spikes.times, [origin - lead * BIN, float(starts[-1]) + WINDOW])
    times, units = spikes.times[first:last], spikes.units[first:last]
    position = (times - origin) * RATE
    edgy = np.abs(position - np.rint(position)) < _EDGE
    grid = np.zeros((lead + int(offset.max()) + N_BINS + 1, n_units), np.uint16)
    rows = np.floor(position).astype(np.int64) + lead
    clear = ~edgy & (rows >= 0)
    np.add.at(grid, (rows[clear], units[clear]), 1)
    if grid.max(initial=0) < 200:  # leaves room for spikes on edges
        grid = grid.astype(np.uint8)
    windows = sliding_window_view(grid, n_bins, axis=0)  # (row, unit, bin)
    for begin in range(0, len(starts), at_once):
        part = slice(begin, min(begin + at_once, len(starts)))
        counts = np.ascontiguousarray(windows[offset[part] + 1].swapaxes(1, 2))
        for time, unit in zip(times[edgy], units[edgy], strict=True):
            _add(counts, starts[part], float(time), int(unit), n_before)
        for at in np.flatnonzero(~on_grid[part]):
            counts[at] = count_window(spikes, n_units, starts[begin + at], n_before)
        yield part, counts


def _add(
    counts: Counts, starts: NDArray[np.float64], time: float, unit: int, n_before: int
) -> None:
    """Add a spike to each of the windows that it lies in."""
    bins = np.floor((time - starts) * RATE).astype(np.int64)
    bins = np.where(time < starts + WINDOW, np.minimum(bins, N_BINS - 1), N_BINS) + n_before
    (within,) = np.nonzero((bins >= 0) & (bins < counts.shape[1]))
    counts[within, bins[within], unit] += 1
