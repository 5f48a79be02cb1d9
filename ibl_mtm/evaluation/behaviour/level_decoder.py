"""Which of three or more classes a trial is of, read out of activity linearly.

score = decode_levels(Features(log_rates), level, fit, test, names=("4 kHz", "8 kHz", "16 kHz"))
decode = linear_decoder(behaviour)                  # this, or the decoder of two classes or a trace
"""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from numpy.typing import ArrayLike
from sklearn.model_selection import StratifiedKFold

from ibl_mtm.evaluation.behaviour.decodable_trials import FOLDS, Trials
from ibl_mtm.evaluation.behaviour.decoding_scores import ClassScore, TraceScore
from ibl_mtm.evaluation.behaviour.kernel_decoders import Array, fit_logistic
from ibl_mtm.evaluation.behaviour.level_scores import LevelScore, level_trials, score_levels
from ibl_mtm.evaluation.behaviour.linear_decoders import (
    INVERSE_PENALTIES,
    Features,
    decode_class,
    decode_trace,
)
from ibl_mtm.sessions.behaviours import Behaviour

__all__ = ["decode_levels", "linear_decoder"]


def linear_decoder(behaviour: Behaviour) -> Callable[..., ClassScore | LevelScore | TraceScore]:
    """Which of these decoders reads a behaviour out of features, its target, fit and test."""
    if behaviour.classes is None:
        return decode_trace
    if behaviour.n_levels:
        return partial(decode_levels, names=behaviour.classes)
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
    y, n_levels = trials.y[trials.fit_at], len(trials.levels)
    accuracy = np.zeros((FOLDS, len(INVERSE_PENALTIES)))
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    for fold, (inner, left) in enumerate(folds.split(y, y)):
        known, asked = kernel[np.ix_(inner, inner)], kernel[np.ix_(left, inner)]
        for at, c in enumerate(INVERSE_PENALTIES):
            decoded = _each_level(known, y[inner], n_levels, c, asked).argmax(axis=1)
            accuracy[fold, at] = np.mean(decoded == y[left])
    best = float(INVERSE_PENALTIES[accuracy.mean(axis=0).argmax()])
    rng = np.random.default_rng(seed)
    logit = _each_level(kernel, y, n_levels, best, kernel_test)
    chance = [
        _each_level(kernel, rng.permutation(y), n_levels, best, kernel_test)
        for _ in range(shuffles)
    ]
    return score_levels(trials, logit, {"C": best}, chance, seed)


def _each_level(kernel: Array, y: Trials, n_levels: int, c: float, asked: Array) -> Array:
    """Log odds of each level against all others, (n_asked, n_levels)."""
    signs = np.where(y == np.arange(n_levels)[:, None], 1.0, -1.0)
    return np.stack([fit_logistic(kernel, sign, c).logit(asked) for sign in signs], axis=1)
