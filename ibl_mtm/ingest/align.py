"""Windows, bins, exact spike counts, and behaviour on the same grid. Arrays in, arrays out.

edges = bin_edges(trials["stimOn_times"], start=-0.5, bin_size=0.02, n_bins=100)
counts = count_spikes(times, clusters, n_clusters, edges)      # (trial, time, unit)
"""

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from ibl_mtm.brainsets.series import first_row

__all__ = [
    "bin_edges",
    "contiguous_starts",
    "count_from_start",
    "count_spikes",
    "covered",
    "own_samples",
    "sample",
]

Floats = NDArray[np.float64]


def bin_edges(event: Floats, start: float, bin_size: float, n_bins: int) -> Floats:
    """Edges of every trial's bins: `event + start + k * bin_size`, in that order, in float64.

    Parameters
    ----------
    event
        Alignment events (s), shape (n_trials,).
    start
        Start of the window relative to the event (s).
    bin_size
        Length of a bin (s).
    n_bins
        Number of bins in a window.

    Returns
    -------
    Shape (n_trials, n_bins + 1), in s on the clock of the events.
    """
    starts = np.asarray(event, dtype=np.float64) + start
    edges: Floats = starts[:, None] + np.arange(n_bins + 1) * bin_size
    return edges


def contiguous_starts(first: float, last: float, length: float) -> Floats:
    """Starts of the consecutive windows of `length` s that lie between `first` and `last`."""
    n_windows = max(0, int((last - first) / length) + 1)
    starts: Floats = first + np.arange(n_windows, dtype=np.float64) * length
    return starts[starts + length <= last]


def covered(edges: Floats, extents: Iterable[tuple[float, float]]) -> NDArray[np.bool_]:
    """Which trials' windows lie within every (first, last) time, e.g. of each probe's spikes."""
    inside = np.ones(len(edges), dtype=bool)
    for first, last in extents:
        inside &= (edges[:, 0] >= first) & (edges[:, -1] <= last)
    return inside


def count_spikes(
    times: Floats, clusters: NDArray[np.integer], n_clusters: int, edges: Floats
) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """Count spikes per trial, bin and cluster.

    A spike at time t counts in bin k of a trial if and only if `edges[trial, k] <= t <
    edges[trial, k + 1]`; where windows overlap, it counts in each. Bins are found by binary
    search for the edges among the spikes, so that no division can round a spike across an edge.

    Parameters
    ----------
    times
        Spike times in ascending order (s), shape (n_spikes,).
    clusters
        Cluster of each spike, from 0 to n_clusters - 1, shape (n_spikes,).
    n_clusters
        Number of clusters, silent ones included.
    edges
        Bin edges, ascending within a trial (s), shape (n_trials, n_bins + 1).

    Returns
    -------
    Shape (n_trials, n_bins, n_clusters); uint8, or uint16 where a count passes 255.

    Raises
    ------
    ValueError
        If a count passes 65535, or a cluster is not from 0 to n_clusters - 1.
    """
    _check(times, clusters, n_clusters)
    n_bins = edges.shape[1] - 1
    below = np.searchsorted(times, edges)  # (trial, edge): how many spikes come before the edge
    first_of_bin = np.arange(n_bins) * n_clusters

    def cells() -> Iterator[NDArray[np.intp]]:
        for before in below:
            spikes = clusters[before[0] : before[-1]].astype(np.intp)
            spikes += np.repeat(first_of_bin, np.diff(before))
            yield spikes

    return _count(cells(), (len(edges), n_bins, n_clusters))


def count_from_start(
    times: Floats,
    clusters: NDArray[np.integer],
    n_clusters: int,
    starts: Floats,
    bin_size: float,
    n_bins: int,
) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """Count spikes per trial, bin and cluster, bins counted from the start of each window.

    A spike at time t with `start <= t < start + n_bins * bin_size` counts in bin
    `floor((t - start) * (1 / bin_size))`, in float64, as torch_brain's `bin_spikes` has it. That
    is `count_spikes`, but for spikes that are on an edge up to rounding.

    Parameters
    ----------
    times, clusters, n_clusters
        As for `count_spikes`.
    starts
        Starts of the windows (s), shape (n_trials,).
    bin_size, n_bins
        Length (s) and number of the bins.

    Returns
    -------
    As for `count_spikes`; so are the errors.
    """
    _check(times, clusters, n_clusters)
    rate = 1 / bin_size
    bounds = np.searchsorted(times, np.stack([starts, starts + n_bins * bin_size], axis=1))

    def cells() -> Iterator[NDArray[np.intp]]:
        for (first, last), start in zip(bounds, starts, strict=True):
            cell = np.floor((times[first:last] - start) * rate).astype(np.intp)
            np.minimum(cell, n_bins - 1, out=cell)
            cell *= n_clusters
            cell += clusters[first:last]
            yield cell

    return _count(cells(), (len(starts), n_bins, n_clusters))


def _check(times: Floats, clusters: NDArray[np.integer], n_clusters: int) -> None:
    if len(times) != len(clusters):
        raise ValueError(f"{len(times)} times but {len(clusters)} clusters")
    # Cluster n would be counted as unit 0 of the next bin.
    if len(clusters) and not 0 <= clusters.min() <= clusters.max() < n_clusters:
        raise ValueError(f"clusters {clusters.min()} to {clusters.max()}, of {n_clusters}")


def _count(
    cells: Iterable[NDArray[np.intp]], shape: tuple[int, int, int]
) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """Counts of each trial from the cells (bin, cluster) of its spikes, laid end to end."""
    _, n_bins, n_clusters = shape
    counts: NDArray[np.uint8] | NDArray[np.uint16] = np.zeros(shape, dtype=np.uint8)
    for trial, spikes in enumerate(cells):
        count = np.bincount(spikes, minlength=n_bins * n_clusters)
        highest = count.max(initial=0)
        if highest > np.iinfo(np.uint16).max:
            raise ValueError(f"{highest} spikes of one cluster in one bin")
        if highest > np.iinfo(counts.dtype).max:
            counts = counts.astype(np.uint16)
        counts[trial] = count.reshape(n_bins, n_clusters)
    return counts


def sample(
    times: Floats,
    values: Floats,
    edges: Floats,
    *,
    longest_gap: float = np.inf,
    outside: float = np.nan,
) -> NDArray[np.float32]:
    """Read a continuous signal at the bin centres, by linear interpolation.

    Parameters
    ----------
    times
        Sample times in ascending order (s), shape (n_samples,).
    values
        The signal, shape (n_samples,).
    edges
        Bin edges (s), shape (n_trials, n_bins + 1).
    longest_gap
        A bin without a sample of its own is NaN where the samples around its centre are further
        apart than this (s).
    outside
        What the signal is before its first and after its last sample.

    Returns
    -------
    Shape (n_trials, n_bins).
    """
    centre = (edges[:, :-1] + edges[:, 1:]) / 2
    if len(times) == 0:
        return np.full(centre.shape, outside, dtype=np.float32)
    sampled = np.interp(centre, times, values)
    empty = np.diff(np.searchsorted(times, edges), axis=1) == 0
    after = np.searchsorted(times, centre)
    beyond = (after == 0) | (after == len(times))
    gap = np.diff(times, prepend=np.nan, append=np.nan)[after]
    sampled[empty & ~beyond & (gap > longest_gap)] = np.nan
    sampled[empty & beyond] = outside
    return sampled.astype(np.float32)


def own_samples(times: Floats, values: Floats, rate: float, edges: Floats) -> NDArray[np.float32]:
    """Read a signal on a regular grid at the sample in each bin, as it is.

    The first bin of a window has the first sample that is not before it, the next one the next:
    bins must be as long as samples are apart. Where there is no sample, it is NaN.

    Parameters
    ----------
    times, values
        As for `sample`.
    rate
        Samples per second.
    edges
        Bin edges (s), shape (n_trials, n_bins + 1).

    Returns
    -------
    Shape (n_trials, n_bins).
    """
    first = first_row(times[0], rate, edges[:, 0])
    rows = first[:, None] + np.arange(edges.shape[1] - 1)
    there = (rows >= 0) & (rows < len(times))
    found = np.where(there, values[np.clip(rows, 0, len(times) - 1)], np.nan)
    return found.astype(np.float32)
