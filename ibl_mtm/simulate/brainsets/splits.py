"""How BrainWideBench splits a session: by the time of trials, and into chunks.

    causal(trials, (0.0, 1500.0), (0.4, 0.2, 0.4))     # train, val, test: one interval each
    chunked(trials, (0.0, 1500.0))                     # train, val, test: several each
    held_out(unit_ids, "ts2_co_smoothing_test")        # a tenth of the units, by hash

`trials` are intervals of shape (n, 2) in order and apart from each other. No trial is split;
between splits there are 20 s of nothing.
"""

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ibl_mtm.brainsets.intervals import intersect

__all__ = ["causal", "chunked", "held_out"]

Intervals = NDArray[np.float64]

GAP = 20.0  # s
CHUNK = 300.0  # s
# Chunks by turns, in fives.
_TRAIN, _VAL, _TEST = (0, 2), (3,), (1, 4)


def causal(
    trials: Intervals, extent: tuple[float, float], fractions: Sequence[float]
) -> list[Intervals]:
    """Cut a session so that trials before a cut take their share of all trials' time."""
    trials = intersect(trials, np.array([extent]))
    cuts = [_cut(trials, share) for share in np.cumsum(fractions)[:-1]]
    starts = [extent[0], *(_after_gap(trials, cut) for cut in cuts)]
    ends = [*cuts, extent[1]]
    return [np.array([[start, end]]) for start, end in zip(starts, ends, strict=True)]


def _cut(trials: Intervals, share: float) -> float:
    """The edge of a trial that is nearest to a share of the time in trials."""
    length = trials[:, 1] - trials[:, 0]
    until = np.cumsum(length)
    wanted = until[-1] * share
    trial = min(int(np.searchsorted(until, wanted)), len(trials) - 1)
    nearer_start = wanted - (until[trial] - length[trial]) <= until[trial] - wanted
    return float(trials[trial, 0] if nearer_start else trials[trial, 1])


def _after_gap(trials: Intervals, cut: float) -> float:
    """Where the next split may begin: 20 s later, or at the next edge if that is in a trial."""
    start = cut + GAP
    if ((trials[:, 0] < start) & (start < trials[:, 1])).any():
        edges = np.sort(trials.ravel())
        return float(edges[edges >= start][0])
    return start + 1e-12


def chunked(trials: Intervals, extent: tuple[float, float]) -> list[Intervals]:
    """Deal chunks of 300 s out to train, val and test by turns."""
    first, last = extent
    edges = np.append(np.arange(first, last, CHUNK), last)
    start, end = edges[:-1].copy(), edges[1:].copy()
    for begin, stop in trials:  # one across a border goes to the chunk that holds more of it
        touched = np.flatnonzero((start <= stop) & (end >= begin))
        if begin - 1e-6 <= last <= stop + 1e-6 or len(touched) < 2:
            continue
        a, b = touched[:2]
        in_a = min(stop, end[a]) - max(begin, start[a])
        in_b = min(stop, end[b]) - max(begin, start[b])
        end[a] = start[b] = stop if in_a >= in_b else begin
    for chunk in range(1, len(start)):
        later = trials[trials[:, 0] >= end[chunk - 1] + GAP, 0]
        start[chunk] = min(later[0], end[chunk]) if len(later) else end[chunk]
    turn = np.arange(len(start)) % 5
    whole = np.stack([start, end], axis=1)
    return [whole[np.isin(turn, turns) & (start < end)] for turns in (_TRAIN, _VAL, _TEST)]


def held_out(unit_ids: Sequence[str], salt: str) -> NDArray[np.bool_]:
    """A tenth of the units, at least one: those of the smallest SHA-256 of `SALT:UNIT`."""
    n = max(1, round(0.1 * len(unit_ids)))
    digests = [hashlib.sha256(f"{salt}:{unit}".encode()).hexdigest() for unit in unit_ids]
    chosen: NDArray[np.bool_] = np.isin(np.arange(len(unit_ids)), np.argsort(digests)[:n])
    return chosen
