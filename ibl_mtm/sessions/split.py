"""Which trials train, validate and test a model.

split_trials(eid, trial, (0.7, 0.1, 0.2), "random", 42, window_start, 2.0)
# array(['train', 'test', 'train', ...])
"""

import hashlib
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["N_BLOCKS", "SPLITS", "split_trials"]

SPLITS = ("train", "val", "test")

N_BLOCKS = 20
"""Into how many consecutive pieces `kind="blocks"` cuts a session.

Twenty leaves each piece of a typical session (600 trials) as long as a block of the task's
prior, so that drift and block structure are seldom shared, and still meets fractions to 2.5 %.
"""

# Windows that follow each other without a gap may seem to overlap by rounding; a microsecond is
# far below the sampling period of a recording.
_TOUCHING = 1e-6


def split_trials(
    eid: str,
    trial: ArrayLike,
    fractions: Sequence[float],
    kind: Literal["random", "blocks"],
    seed: int,
    window_start: ArrayLike,
    window_length: float,
) -> NDArray[np.str_]:
    """Deal a session's trials out to train, val and test.

    Trials whose windows overlap, directly or through others, stay together. Their order of
    drawing is given by a hash of (seed, eid, trial number), so that it depends on nothing else:
    not on the other sessions, nor on the order in which trials are listed.

    Parameters
    ----------
    eid
        The session.
    trial
        Trial numbers, without repeats, shape (n_trials,).
    fractions
        Of train, val and test; met as nearly as groups of overlapping trials allow.
    kind
        `random` deals out single trials (or groups of overlapping ones), `blocks` consecutive
        pieces of the session, `N_BLOCKS` in number.
    seed
        Of the drawing.
    window_start
        Start of each trial's window (s), shape (n_trials,).
    window_length
        Length of a window (s).

    Returns
    -------
    Array of "train", "val" and "test", shape (n_trials,). None of the three is empty where there
    are at least three groups.
    """
    trial = np.asarray(trial, dtype=np.int64)
    start = np.asarray(window_start, dtype=np.float64)
    if trial.shape != start.shape or trial.ndim != 1:
        raise ValueError(f"{trial.shape} trials but {start.shape} window starts")
    if trial.size == 0:
        return np.empty(0, dtype="<U5")
    order = np.lexsort((trial, start))
    apart = np.diff(start[order]) >= window_length - _TOUCHING
    group = np.concatenate([[0], np.cumsum(apart)])
    if kind == "blocks":
        group = _consecutive_pieces(group)
    first_of_group = trial[order][np.unique(group, return_index=True)[1]]
    dealt = _deal(np.bincount(group), _hash_order(eid, seed, first_of_group), fractions)
    split = np.empty(trial.size, dtype="<U5")
    split[order] = np.array(SPLITS)[dealt[group]]
    return split


def _consecutive_pieces(group: NDArray[Any]) -> NDArray[Any]:
    """Join neighbouring groups into at most `N_BLOCKS` pieces of about equally many trials."""
    size = np.bincount(group)
    middle = np.cumsum(size) - size / 2
    piece = np.unique((middle / size.sum() * N_BLOCKS).astype(int), return_inverse=True)[1]
    # One giant group can swallow most of the session: then the groups are the pieces.
    return group if piece[-1] + 1 < len(SPLITS) else piece[group]


def _hash_order(eid: str, seed: int, trial: NDArray[Any]) -> NDArray[Any]:
    digests = [hashlib.sha256(f"{seed}/{eid}/{number}".encode()).digest() for number in trial]
    return np.array(sorted(range(len(digests)), key=digests.__getitem__))


def _deal(size: NDArray[Any], order: NDArray[Any], fractions: Sequence[float]) -> NDArray[Any]:
    """Give each group, large ones first, to the split that lacks most."""
    lack = np.asarray(fractions, dtype=float) * size.sum()
    dealt = np.full(size.size, -1)
    order = order[np.argsort(-size[order], kind="stable")]
    for position, group in enumerate(order):
        empty = np.setdiff1d(np.arange(len(SPLITS)), dealt)
        # The last groups go to splits that would otherwise stay empty.
        candidates = empty if len(order) - position <= len(empty) else np.arange(len(SPLITS))
        chosen = candidates[np.argmax(lack[candidates])]
        dealt[group] = chosen
        lack[chosen] -= size[group]
    return dealt
