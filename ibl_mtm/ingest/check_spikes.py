"""Whether spikes can be what they are taken for: times in s, in order, and whose each of them is.

times, clusters = check_spikes(eid, "alf/probe00/spikes", times, clusters, notes)
check_rows(eid, "alf/probe00/spikes", clusters, n_clusters, notes)
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ibl_mtm.errors import SessionError

__all__ = ["check_rows", "check_spikes"]

_FEW = 100  # spikes; so many may all be at whole seconds by chance, or in a test
_MANY_CLUSTERS = 4


def check_spikes(
    eid: str,
    what: str,
    times: NDArray[Any] | None,
    clusters: NDArray[Any] | None,
    notes: list[str],
) -> tuple[NDArray[np.float64], NDArray[np.integer]]:
    """Spike times in seconds, and the cluster of each, if they can be that.

    Parameters
    ----------
    eid, what
        The session, and what the arrays are called in messages: `WHAT.times`, `WHAT.clusters`.
    times, clusters
        Shape (n_spikes,).
    notes
        What is doubtful is added to them.

    Raises
    ------
    SessionError
        Names the array and what is wrong with it.
    """
    for name, array in (("times", times), ("clusters", clusters)):
        if array is None or array.ndim != 1:
            raise SessionError(eid, f"{what}.{name}: expected one value per spike")
    assert times is not None
    assert clusters is not None
    if len(times) != len(clusters):
        raise SessionError(eid, f"{what}: {len(times)} times but {len(clusters)} clusters")
    if len(times) == 0:
        raise SessionError(eid, f"{what}.times: no spikes")
    if times.dtype.kind != "f":
        raise SessionError(
            eid, f"{what}.times: {times.dtype}, expected seconds; are these samples?"
        )
    if not np.isfinite(times).all():
        raise SessionError(eid, f"{what}.times: not every time is a finite number")
    if (times[1:] < times[:-1]).any():
        raise SessionError(eid, f"{what}.times: not in ascending order")
    if len(times) > _FEW and _are_whole(times[:: len(times) // _FEW]) and _are_whole(times):
        raise SessionError(
            eid, f"{what}.times: whole numbers, expected seconds; are these samples or ms?"
        )
    if times.dtype.itemsize < 8:
        step = np.spacing(times[-1]) * 1000
        notes.append(f"{what}.times: {times.dtype}; at the end in steps of {step:.2g} ms")
    if clusters.dtype.kind not in "iu":
        raise SessionError(eid, f"{what}.clusters: {clusters.dtype}, expected integers")
    if clusters.min() < 0:
        raise SessionError(eid, f"{what}.clusters: negative cluster {clusters.min()}")
    return times.astype(np.float64, copy=False), clusters


def check_rows(
    eid: str, what: str, rows: NDArray[np.integer], n_clusters: int, notes: list[str]
) -> None:
    """Refuse spikes of clusters that are not there, or all of a single one of many.

    Parameters
    ----------
    eid, what, notes
        As for `check_spikes`.
    rows
        Row of each spike's cluster, shape (n_spikes,).
    n_clusters
        How many there are.

    Raises
    ------
    SessionError
        Names the array and the cluster.
    """
    if rows.size and rows.max() >= n_clusters:
        raise SessionError(
            eid, f"{what}.clusters: cluster {rows.max()} of {n_clusters} (0 to n - 1)"
        )
    if n_clusters > 1 and rows.min() == rows.max():
        doubt = f"{what}.clusters: every spike is of cluster {rows[0]}, of {n_clusters}"
        if n_clusters >= _MANY_CLUSTERS:
            raise SessionError(eid, doubt)
        notes.append(doubt)  # of two or three, all but one may well be silent


def _are_whole(times: NDArray[np.floating]) -> bool:
    return bool((times == np.round(times)).all())
