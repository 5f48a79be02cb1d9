"""Which of three or more classes a trial is of, read out of activity linearly.

score = decode_levels(Features(log_rates), level, fit, test, names=("4 kHz", "8 kHz", "16 kHz"))
decode = linear_decoder(behaviour)                  # this, or the decoder of two classes or a trace
"""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from numpy.typing import ArrayLike

from ibl_mtm.evaluation.behaviour.decoding_scores import ClassScore, TraceScore
from ibl_mtm.evaluation.behaviour.kernel_decoders import Array, fit_logistic
from ibl_mtm.evaluation.behaviour.level_scores import LevelScore, level_trials, score_levels
from ibl_mtm.evaluation.behaviour.linear_decoders import (
    Features,
    choose_inverse_penalty,
    decode_class,
    decode_trace,
)
from ibl_mtm.sessions.behaviours import Behaviour

__all__ = ["decode_levels", "linear_decoder"]


def linear_decoder(behaviour: Behaviour) -> Callable[..., ClassScore | LevelScore | TraceScore]:
    """Which of these decoders reads a behaviour out of features, its target, fit and test."""
    if behaviour.classes is None:
        return decode_trace
    if behaviour.levels:
        return partial(decode_levels, names=behaviour.levels)
    return decode_class


def decode_levels(
    features: Features,
    level: ArrayLike,
    fit: ArrayLike,
    test: ArrayLike,
    names: Sequence[str],
    seed: int = 0,
    shuffles: int = 0,
) -> LevelScore:
    """Decode one of several classes by a logistic regression of each against all others.

    The class of the highest log odds is decoded. C, one for all of them so that their log odds
    compare, is chosen by the accuracy of a stratified cross-validation of the fitted trials.

    Parameters
    ----------
    features, fit, test, seed, shuffles
        As for `decode_class`.
    level
        (trial,), the place of a trial's class in `names`; trials with -1 have none and are left
        out, and so are those of classes with fewer trials to fit than there are folds.
    names
        Of the classes.

    Raises
    ------
    Undecodable
        If fewer than two classes have enough trials to fit, or are among the test trials.
    """
    trials = level_trials(level, names, fit, test)
    kernel, kernel_test = features.kernel(trials.fit_at, trials.test_at)
    y, levels = trials.y[trials.fit_at], np.arange(len(trials.levels))
    signs = np.where(y == levels[:, None], 1.0, -1.0)
    best = choose_inverse_penalty(kernel, y, signs, lambda logit: logit.argmax(axis=1), seed)

    def each_level(signs: Array) -> Array:
        fits = [fit_logistic(kernel, sign, best) for sign in signs]
        return np.stack([fit.logit(kernel_test) for fit in fits], axis=1)

    rng = np.random.default_rng(seed)
    shuffled = [signs[:, rng.permutation(len(y))] for _ in range(shuffles)]
    chance = [each_level(other) for other in shuffled]
    return score_levels(trials, each_level(signs), {"C": best}, chance, seed)
