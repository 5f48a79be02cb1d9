"""Blocks that an animal might have had: the null of whatever is decoded from slow signals.

    labels = pseudo_blocks(ds.trial.values, n=99, seed=0)     # (99, trial), -1, +1, 0 for none

A block lasts for tens of trials, and so do drifts of a recording: trials that are near in time are
alike in both. Shuffled trials lose that, and call any drift a code for the block. Sessions drawn
anew from the task's own rule keep it (Harris, A shift test for independence in generic time
series, 2021; International Brain Laboratory, A brain-wide map, 2023, "pseudosessions").
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["UNBIASED", "draw_blocks", "p_value", "pseudo_blocks"]

#: The rule of the IBL's task: trials without a prior, then blocks of these priors.
UNBIASED = 90
PRIORS = (0.2, 0.8)
#: Lengths of blocks: exponential with this mean, drawn again outside of these limits.
MEAN_LENGTH = 60.0
SHORTEST, LONGEST = 20, 100


def draw_blocks(
    n_trials: int, rng: np.random.Generator, unbiased: int = UNBIASED
) -> NDArray[np.float64]:
    """Probability that the stimulus is on the left, of each trial of a session, (n_trials,)."""
    prior = np.full(n_trials, 0.5)
    first, side = unbiased, int(rng.integers(2))
    while first < n_trials:
        length = 0.0
        while not SHORTEST <= length <= LONGEST:
            length = rng.exponential(MEAN_LENGTH)
        last = first + int(length)
        prior[first:last] = PRIORS[side]
        first, side = last, 1 - side
    return prior


def pseudo_blocks(
    trial: ArrayLike, n: int, seed: int, unbiased: int = UNBIASED
) -> NDArray[np.int64]:
    """Blocks of `n` pseudo-sessions at the trials of a session.

    Parameters
    ----------
    trial
        (n_trials,) numbers of the trials in the session's own table; those that were left out
        count in the lengths of blocks.
    n, seed
        How many to draw, and of what.
    unbiased
        Number of the trial that the first block begins with; fewer where a session has fewer.

    Returns
    -------
    (n, n_trials) of +1 where the left side is likelier, -1 where the right is, 0 for neither.
    """
    number, rng = np.asarray(trial, np.int64), np.random.default_rng(seed)
    drawn = np.stack([draw_blocks(int(number.max()) + 1, rng, unbiased)[number] for _ in range(n)])
    return np.sign(drawn - 0.5).astype(np.int64)


def p_value(score: float, null: ArrayLike) -> float:
    """How often a null score is no smaller, the score itself counted as one of them."""
    others = np.asarray(null)
    return float((1 + (others >= score).sum()) / (1 + len(others)))
