"""Windows, bins, exact spike counts, and behaviour on the same grid. Arrays in, arrays out.

edges = bin_edges(trials["stimOn_times"], start=-0.5, bin_size=0.02, n_bins=100)
counts = count_spikes(times, clusters, n_clusters, edges)      # (trial, time, unit)
"""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

__all__ = ["bin_edges", "contiguous_starts", "count_spikes", "covered", "sample"]

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
    if len(times) != len(clusters):
        raise ValueError(f"{len(times)} times but {len(clusters)} clusters")
    # Cluster n would be counted as unit 0 of the next bin.
    if len(clusters) and not 0 <= clusters.min() <= clusters.max() < n_clusters:
        raise ValueError(f"clusters {clusters.min()} to {clusters.max()}, of {n_clusters}")
    n_trials, n_bins = len(edges), edges.shape[1] - 1
    below = np.searchsorted(times, edges)  # (trial, edge): how many spikes come before the edge
    counts: NDArray[np.uint8] | NDArray[np.uint16]
    counts = np.zeros((n_trials, n_bins, n_clusters), dtype=np.uint8)
    first_of_bin = np.arange(n_bins) * n_clusters
    for trial, before in enumerate(below):
        spikes = clusters[before[0] : before[-1]].astype(np.intp)
        spikes += np.repeat(first_of_bin, np.diff(before))
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
