"""What can be read out of activity linearly: a class of trials, a trace of behaviour.

    features = Features(log_rates)                   # (trial, time, unit)
    score = decode_class(features, ds.choice, fit=ds.split != "test", test=ds.split == "test")
    score.accuracy, score.balanced_accuracy, score.majority

A session has tens of thousands of features (bins x units) and a few hundred trials. Under an L2
penalty the best weights lie in the span of the fitted trials, so everything follows from the inner
products between trials: the same decoders as scikit-learn's, cross-validation included, in as many
dimensions as there are trials.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.model_selection import KFold, StratifiedKFold

from ibl_mtm.evaluation.behaviour.decodable_trials import (
    FOLDS,
    Undecodable,
    class_trials,
    trace_trials,
)
from ibl_mtm.evaluation.behaviour.decoding_scores import (
    ClassScore,
    TraceScore,
    score_class,
    score_trace,
)
from ibl_mtm.evaluation.behaviour.kernel_decoders import (
    Array,
    LogisticFit,
    fit_logistic,
    ridge_predictions,
)

__all__ = [
    "ALPHAS",
    "INVERSE_PENALTIES",
    "Features",
    "choose_inverse_penalty",
    "decode_class",
    "decode_trace",
]

INVERSE_PENALTIES = np.logspace(-4, 4, 9)
"""C of the logistic regression."""
ALPHAS = np.logspace(0, 10, 21)
"""Penalties of the ridge regression. They weigh against squared singular values of standardised
features, which reach trials x bins x units: some 1e7."""


Fold = tuple[NDArray[np.int64], NDArray[np.int64], Callable[[Array, float], Array]]


class Features:
    """Features of trials, standardised by the trials that a decoder is fitted to.

    Variables that are known of the same trials share one matrix of inner products.

    Parameters
    ----------
    values
        (trial, time, unit), of any number type.
    """

    def __init__(self, values: ArrayLike) -> None:
        self.values = np.asarray(values)
        self._kernels: dict[bytes, tuple[Array, Array]] = {}

    def kernel(self, fit: NDArray[np.int64], test: NDArray[np.int64]) -> tuple[Array, Array]:
        """Inner products of standardised features, (n_fit, n_fit) and (n_test, n_fit).

        Raises
        ------
        Undecodable
            If no feature differs between the fitted trials.
        """
        key = fit.tobytes() + b"|" + test.tobytes()
        if key not in self._kernels:
            trials = np.concatenate([fit, test])
            gram = np.zeros((len(trials), len(fit)))
            for bin_ in range(self.values.shape[1]):  # no float64 copy of all features
                block = self.values[trials, bin_].astype(np.float64)
                mean, spread = block[: len(fit)].mean(axis=0), block[: len(fit)].std(axis=0)
                block = (block - mean) / np.where(spread > 0, spread, 1)
                gram += block @ block[: len(fit)].T
            self._kernels[key] = gram[: len(fit)], gram[len(fit) :]
        kernel = self._kernels[key]
        if not kernel[0].any():
            raise Undecodable("no feature differs between the trials to fit")
        return kernel


def decode_class(
    features: Features,
    label: ArrayLike,
    fit: ArrayLike,
    test: ArrayLike,
    seed: int = 0,
    shuffles: int = 0,
    surrogates: Sequence[ArrayLike] = (),
) -> ClassScore:
    """Decode one of two classes by logistic regression with an L2 penalty.

    C is chosen among `INVERSE_PENALTIES` by the accuracy of a stratified cross-validation of the
    fitted trials.

    Parameters
    ----------
    features
        Of all trials.
    label
        (trial,), -1 or +1; trials with 0 or -128 have no class and are left out.
    fit, test
        (trial,) booleans: the trials to fit to, and those to score.
    seed
        Of the folds, of the shuffles and of the resampling that gives intervals.
    shuffles
        How often to fit to shuffled classes, with the same penalty, for the level of chance.
    surrogates
        Instead of shuffling: labels (trial,) that might have been, each fitted and scored as the
        true ones are, on the same trials.

    Raises
    ------
    Undecodable
        If a class has too few trials to fit or the test trials hold a single class.
    """
    y, fit_at, test_at = class_trials(label, fit, test)
    kernel, kernel_test = features.kernel(fit_at, test_at)
    sign = y[fit_at].astype(np.float64)
    best = choose_inverse_penalty(
        kernel, sign, sign[None], lambda logit: np.where(logit[:, 0] > 0, 1, -1), seed
    )
    logit = fit_logistic(kernel, sign, best).logit(kernel_test)
    rng = np.random.default_rng(seed)
    if not len(surrogates):
        chance = [
            (y[test_at], fit_logistic(kernel, rng.permutation(sign), best).logit(kernel_test))
            for _ in range(shuffles)
        ]
        return score_class(y, fit_at, test_at, logit, {"C": best}, chance, seed)
    chance = []
    for other in map(np.asarray, surrogates):
        known, asked = other[fit_at] != 0, other[test_at] != 0
        if len(np.unique(other[fit_at][known])) < 2 or len(np.unique(other[test_at][asked])) < 2:
            continue  # of one class: nothing to decode
        fitted = fit_logistic(kernel[np.ix_(known, known)], other[fit_at][known] * 1.0, best)
        decoded = fitted.logit(kernel_test[np.ix_(asked, known)])
        chance.append((other[test_at][asked], decoded))
    return score_class(y, fit_at, test_at, logit, {"C": best}, chance, seed, "pseudo-sessions")


def decode_trace(
    features: Features,
    trace: ArrayLike,
    fit: ArrayLike,
    test: ArrayLike,
    seed: int = 0,
    shuffles: int = 0,
    surrogates: Sequence[ArrayLike] = (),
) -> TraceScore:
    """Decode a trace of behaviour by ridge regression from all of a trial to each of its bins.

    The penalty, one for all bins, is chosen among `ALPHAS` by the squared error of a
    cross-validation of the fitted trials.

    Parameters
    ----------
    features
        Of all trials.
    trace
        (trial, time), in any unit; trials with a NaN are left out.
    fit, test
        (trial,) booleans: the trials to fit to, and those to score.
    seed
        Of the folds, of the shuffles and of the resampling that gives intervals.
    shuffles
        How often to fit to shuffled trials, penalty and all, for the level of chance.
    surrogates
        Instead of shuffling: traces (trial, time) that might have been, each fitted and scored as
        the true one is, on the same trials but for those where it has a NaN.

    Raises
    ------
    Undecodable
        If there are too few trials with a complete trace, or the trace never changes.
    """
    y, fit_at, test_at = trace_trials(trace, fit, test)
    kernel, kernel_test = features.kernel(fit_at, test_at)
    folds, predict = _folds(kernel, seed), ridge_predictions(kernel, kernel_test)
    best = _choose_alpha(folds, y[fit_at])
    predicted = predict(y[fit_at], best)
    if not len(surrogates):
        rng = np.random.default_rng(seed)
        permuted = (rng.permutation(y[fit_at]) for _ in range(shuffles))
        chance = [(y[test_at], predict(other, _choose_alpha(folds, other))) for other in permuted]
        return score_trace(y, fit_at, test_at, predicted, {"alpha": best}, chance, seed)
    chance = []
    for other in (np.asarray(trace, np.float64) for trace in surrogates):
        known, asked = (~np.isnan(other[at]).any(axis=1) for at in (fit_at, test_at))
        target, truth = other[fit_at][known], other[test_at][asked]
        if len(target) < FOLDS or not len(truth) or not np.ptp(target) or not np.ptp(truth):
            continue  # nothing to decode
        if known.all():
            chance.append((truth, predict(target, _choose_alpha(folds, target))[asked]))
            continue
        inner = kernel[np.ix_(known, known)]
        alpha = _choose_alpha(_folds(inner, seed), target)
        answers = ridge_predictions(inner, kernel_test[np.ix_(asked, known)])(target, alpha)
        chance.append((truth, answers))
    return score_trace(y, fit_at, test_at, predicted, {"alpha": best}, chance, seed, "imposters")


def choose_inverse_penalty(
    kernel: Array,
    y: NDArray[Any],
    signs: Array,
    decode: Callable[[Array], NDArray[np.integer]],
    seed: int,
) -> float:
    """C of logistic regressions, one for all of them, by the accuracy of a cross-validation.

    Parameters
    ----------
    kernel
        Inner products among the n fitted trials (n, n).
    y
        (n,), their classes.
    signs
        (K, n), -1 or +1: what each regression tells apart.
    decode
        From log odds (trial, K) the class of each trial.
    seed
        Of the folds, which are stratified by class.
    """
    accuracy = np.zeros((FOLDS, len(INVERSE_PENALTIES)))
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    for fold, (inner, left) in enumerate(folds.split(y, y)):
        known, asked = kernel[np.ix_(inner, inner)], kernel[np.ix_(left, inner)]
        starts: Sequence[LogisticFit | None] = [None] * len(signs)
        for at, penalty in enumerate(INVERSE_PENALTIES):
            starts = fits = [
                fit_logistic(known, sign[inner], penalty, start)
                for sign, start in zip(signs, starts, strict=True)
            ]
            logit = np.stack([fit.logit(asked) for fit in fits], axis=1)
            accuracy[fold, at] = np.mean(decode(logit) == y[left])
    return float(INVERSE_PENALTIES[accuracy.mean(axis=0).argmax()])


def _folds(kernel: Array, seed: int) -> list[Fold]:
    """Each fold's trials to fit and to predict, and its ridge regression."""
    splits = KFold(FOLDS, shuffle=True, random_state=seed).split(kernel)
    return [
        (inner, left, ridge_predictions(kernel[np.ix_(inner, inner)], kernel[np.ix_(left, inner)]))
        for inner, left in splits
    ]


def _choose_alpha(folds: list[Fold], target: Array) -> float:
    error = np.zeros((len(folds), len(ALPHAS)))
    for fold, (inner, left, predict) in enumerate(folds):
        for at, alpha in enumerate(ALPHAS):
            error[fold, at] = np.mean((target[left] - predict(target[inner], alpha)) ** 2)
    return float(ALPHAS[error.mean(axis=0).argmin()])
