"""Half-open intervals [start, end) as arrays of shape (n, 2), in order and apart from each other.

intersect(recording.trial_domains, recording.domain("ts2_test"))      # pieces of trials
inside(windows, recording.domain("ts1_train"))                        # which lie within one piece
"""

import numpy as np
from numpy.typing import NDArray

__all__ = ["inside", "intersect"]

Intervals = NDArray[np.float64]


def intersect(a: Intervals, b: Intervals) -> Intervals:
    """What two sets of intervals have in common; those that only touch have nothing."""
    pieces = [
        np.stack([np.maximum(a[:, 0], start), np.minimum(a[:, 1], end)], axis=1) for start, end in b
    ]
    found = np.concatenate([np.empty((0, 2)), *pieces])
    found = found[found[:, 0] < found[:, 1]]
    common: Intervals = found[np.argsort(found[:, 0], kind="stable")]
    return common


def inside(windows: Intervals, domain: Intervals) -> NDArray[np.bool_]:
    """Which windows lie wholly within one interval of a domain."""
    if len(domain) == 0:
        return np.zeros(len(windows), dtype=bool)
    piece = np.clip(np.searchsorted(domain[:, 0], windows[:, 0], side="right") - 1, 0, None)
    first, last = domain[piece, 0], domain[piece, 1]
    within: NDArray[np.bool_] = (windows[:, 0] >= first) & (windows[:, 1] <= last)
    return within
