"""What can be read out of activity linearly: a trial's choice, a trace of behaviour.

    score = decode_choice(log_rates, ds.choice, fit=ds.split != "test", test=ds.split == "test")
    score.accuracy, score.balanced_accuracy, score.majority

A session has tens of thousands of features (bins x units) and a few hundred trials. Under an L2
penalty the best weights lie in the span of the fitted trials, so the features are first rotated
onto it: the same decoders, cross-validation included, in as many dimensions as there are trials.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.metrics import accuracy_score, balanced_accuracy_score
from sklearn.model_selection import GridSearchCV, KFold, StratifiedKFold

from ibl_mtm.evaluation.metrics import r2

__all__ = [
    "ALPHAS",
    "FOLDS",
    "INVERSE_PENALTIES",
    "ChoiceScore",
    "TraceScore",
    "Undecodable",
    "decode_choice",
    "decode_trace",
]

FOLDS = 4
INVERSE_PENALTIES = np.logspace(-4, 4, 9)
"""C of the logistic regression."""
ALPHAS = np.logspace(0, 10, 21)
"""Penalties of the ridge regression. They weigh against squared singular values of standardised
features, which reach trials x bins x units: some 1e7."""

_NO_CHOICE = (0, -128)  # no-go, missing


class Undecodable(ValueError):  # noqa: N818 - a state of the data, not a fault of the program
    """A variable that these trials cannot decode; the message says why."""


@dataclass(frozen=True)
class ChoiceScore:
    """How well choices of test trials are decoded.

    Attributes
    ----------
    accuracy, balanced_accuracy
        Share of test trials that are right, and its mean over the classes.
    majority
        Accuracy of always saying what is commonest among the fitted trials.
    classes
        The values that were told apart.
    n_fit, n_test
        Number of trials.
    inverse_penalty
        The C that cross-validation on the fitted trials chose.
    trials, predicted
        Positions of the test trials, and the choice decoded for each (n_test,).
    """

    accuracy: float
    balanced_accuracy: float
    majority: float
    classes: tuple[int, ...]
    n_fit: int
    n_test: int
    inverse_penalty: float
    trials: NDArray[np.int64]
    predicted: NDArray[np.int64]


@dataclass(frozen=True)
class TraceScore:
    """How well a trace of behaviour is decoded on test trials.

    Attributes
    ----------
    r2
        Coefficient of determination over all test entries at once.
    n_fit, n_test
        Number of trials.
    alpha
        The penalty that cross-validation on the fitted trials chose.
    trials, predicted
        Positions of the test trials, and the trace decoded for each (n_test, time).
    """

    r2: float
    n_fit: int
    n_test: int
    alpha: float
    trials: NDArray[np.int64]
    predicted: NDArray[np.float64]


def decode_choice(
    features: ArrayLike, choice: ArrayLike, fit: ArrayLike, test: ArrayLike, seed: int = 0
) -> ChoiceScore:
    """Decode choices by logistic regression with an L2 penalty.

    C is chosen among `INVERSE_PENALTIES` by the accuracy of a stratified cross-validation of the
    fitted trials. Trials without a choice (0 no-go, -128 missing) are left out.

    Parameters
    ----------
    features
        (trial, time, unit); flattened, and standardised by the fitted trials.
    choice
        (trial,), -1 or +1, 0 or -128 for none.
    fit, test
        (trial,) booleans: the trials to fit to, and those to score.
    seed
        Of the folds.

    Raises
    ------
    Undecodable
        If a class has too few trials to fit or the test trials hold a single class.
    """
    y = np.asarray(choice).astype(np.int64)
    made = ~np.isin(y, _NO_CHOICE)
    fit_at, test_at = _trials(fit, made), _trials(test, made)
    classes, counts = np.unique(y[fit_at], return_counts=True)
    if len(classes) < 2:
        raise Undecodable(f"the {len(fit_at)} trials to fit hold fewer than two choices")
    if counts.min() < FOLDS:
        raise Undecodable(
            f"only {counts.min()} trials to fit have choice {classes[counts.argmin()]}, "
            f"{FOLDS} are needed"
        )
    if len(np.unique(y[test_at])) < 2:
        raise Undecodable(f"the {len(test_at)} test trials hold fewer than two choices")
    rotated_fit, rotated_test = _rotate(np.asarray(features), fit_at, test_at)
    search = GridSearchCV(
        # The default tolerance stops well before the optimum where the penalty is weak.
        LogisticRegression(solver="newton-cholesky", tol=1e-8),
        {"C": INVERSE_PENALTIES},
        cv=StratifiedKFold(FOLDS, shuffle=True, random_state=seed),
    )
    search.fit(rotated_fit, y[fit_at])
    predicted = search.predict(rotated_test)
    return ChoiceScore(
        accuracy=float(accuracy_score(y[test_at], predicted)),
        balanced_accuracy=float(balanced_accuracy_score(y[test_at], predicted)),
        majority=float(np.mean(y[test_at] == classes[counts.argmax()])),
        classes=tuple(int(c) for c in classes),
        n_fit=len(fit_at),
        n_test=len(test_at),
        inverse_penalty=float(search.best_params_["C"]),
        trials=test_at,
        predicted=predicted,
    )


def decode_trace(
    features: ArrayLike, trace: ArrayLike, fit: ArrayLike, test: ArrayLike, seed: int = 0
) -> TraceScore:
    """Decode a trace of behaviour by ridge regression from all of a trial to each of its bins.

    The penalty, one for all bins, is chosen among `ALPHAS` by the squared error of a
    cross-validation of the fitted trials. Trials with a NaN in the trace are left out.

    Parameters
    ----------
    features
        (trial, time, unit); flattened, and standardised by the fitted trials.
    trace
        (trial, time), in any unit.
    fit, test
        (trial,) booleans: the trials to fit to, and those to score.
    seed
        Of the folds.

    Raises
    ------
    Undecodable
        If there are too few trials with a complete trace, or the trace never changes.
    """
    y = np.asarray(trace, dtype=np.float64)
    complete = ~np.isnan(y).any(axis=1)
    fit_at, test_at = _trials(fit, complete), _trials(test, complete)
    if len(fit_at) < FOLDS or len(test_at) < 1:
        raise Undecodable(
            f"{len(fit_at)} trials to fit and {len(test_at)} to test have a complete trace, "
            f"{FOLDS} and 1 are needed"
        )
    if np.ptp(y[fit_at]) == 0 or np.ptp(y[test_at]) == 0:
        raise Undecodable("the trace never changes")
    rotated_fit, rotated_test = _rotate(np.asarray(features), fit_at, test_at)
    ridge = RidgeCV(
        ALPHAS,
        scoring="neg_mean_squared_error",
        cv=KFold(FOLDS, shuffle=True, random_state=seed),
    )
    ridge.fit(rotated_fit, y[fit_at])
    predicted = ridge.predict(rotated_test)
    return TraceScore(
        r2=float(r2(y[test_at], predicted)),
        n_fit=len(fit_at),
        n_test=len(test_at),
        alpha=float(ridge.alpha_),
        trials=test_at,
        predicted=predicted,
    )


def _trials(wanted: ArrayLike, usable: ArrayLike) -> NDArray[np.int64]:
    return np.flatnonzero(np.asarray(wanted, dtype=bool) & np.asarray(usable))


def _rotate(
    features: NDArray[np.generic], fit: NDArray[np.int64], test: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Standardised features of the fitted and the test trials, in the span of the fitted ones.

    Distances and inner products among fitted trials, and between those and test trials, are kept,
    which is all that a fit with an L2 penalty and its predictions depend on.
    """
    trials = np.concatenate([fit, test])
    gram = np.zeros((len(trials), len(fit)))
    for bin_ in range(features.shape[1]):  # a bin at a time: no float64 copy of all features
        block = features[trials, bin_].astype(np.float64)
        mean, spread = block[: len(fit)].mean(axis=0), block[: len(fit)].std(axis=0)
        block = (block - mean) / np.where(spread > 0, spread, 1)
        gram += block @ block[: len(fit)].T
    # features = U S V', so gram = U S² U', and the coordinates along V are U S = gram U / S.
    squares, basis = np.linalg.eigh(gram[: len(fit)])
    spanned = squares > squares.max() * len(fit) * np.finfo(np.float64).eps
    if not spanned.any():
        raise Undecodable("no feature differs between the trials to fit")
    coordinates = gram @ (basis[:, spanned] / np.sqrt(squares[spanned]))
    return coordinates[: len(fit)], coordinates[len(fit) :]
