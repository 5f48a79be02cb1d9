"""Ridge and logistic regression from inner products between trials alone.

    predict = ridge_predictions(kernel, kernel_test)      # one decomposition
    predict(targets, alpha=10.0)                          # any targets, any penalty
    fit_logistic(kernel, sign, inverse_penalty=0.1).logit(kernel_test)

The same minimisers as scikit-learn's `Ridge(alpha)` and `LogisticRegression(C)`, intercepts (which
no penalty weighs on) included, where ``kernel = X @ X.T`` of the fitted trials' features X.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

__all__ = ["Array", "LogisticFit", "fit_logistic", "ridge_predictions"]

Array = NDArray[np.float64]

_MOST_STEPS = 100
_TOLERANCE = 1e-9  # of the dual weights, as a share of their bound


def ridge_predictions(kernel: Array, kernel_test: Array) -> Callable[[Array, float], Array]:
    """Ridge regression with an intercept, ready for any target and penalty.

    Parameters
    ----------
    kernel, kernel_test
        Inner products among the n fitted trials (n, n), and of others with them (m, n).

    Returns
    -------
    A function of targets (n, k) and alpha that returns predictions (m, k).
    """
    column_mean = kernel.mean(axis=0)
    centred = kernel - column_mean - column_mean[:, None] + kernel.mean()
    centred_test = kernel_test - kernel_test.mean(axis=1, keepdims=True)
    centred_test += kernel.mean() - column_mean
    squares, basis = np.linalg.eigh(centred)
    squares = np.maximum(squares, 0)
    rotated_test = centred_test @ basis

    def predict(target: Array, alpha: float) -> Array:
        mean = target.mean(axis=0)
        weights: Array = (basis.T @ (target - mean)) / (squares + alpha)[:, None]
        return rotated_test @ weights + mean

    return predict


@dataclass(frozen=True)
class LogisticFit:
    """A fitted logistic regression: weights of the fitted trials (n,), and the intercept."""

    weights: Array
    intercept: float

    def logit(self, kernel: Array) -> Array:
        """Log odds of +1, from inner products with the fitted trials (m, n)."""
        return kernel @ self.weights + self.intercept


def fit_logistic(
    kernel: Array, sign: Array, inverse_penalty: float, start: LogisticFit | None = None
) -> LogisticFit:
    """Minimise ``|w|² / 2 + C · Σ log(1 + exp(-sign · (X w + b)))`` by Newton's method.

    Parameters
    ----------
    kernel
        Inner products among the n fitted trials (n, n).
    sign
        (n,), -1 or +1.
    inverse_penalty
        C.
    start
        A fit of the same trials to start from, with another penalty for example.
    """
    c, n = inverse_penalty, len(sign)
    fit = start or LogisticFit(np.zeros(n), 0.0)
    inner = kernel @ fit.weights
    logit = inner + fit.intercept
    lowest = _objective(fit.weights, inner, sign * logit, c)
    for _ in range(_MOST_STEPS):
        margin = sign * logit
        wrong = _wrong(margin)
        # At the optimum each trial weighs C times its probability of the wrong class.
        error = np.abs(fit.weights - c * sign * wrong).max() + abs((sign * wrong).sum()) * c
        if error < _TOLERANCE * c * n:
            break
        # The scaling by the root of the curvature keeps the system well conditioned where
        # probabilities saturate.
        root = np.sqrt(c * wrong * (1 - wrong))
        pull = np.sqrt(c) * sign * np.exp(np.clip(-margin / 2, -50, 50))
        factor = cho_factor(np.eye(n) + root[:, None] * kernel * root, lower=True)
        solved = cho_solve(factor, np.stack([root * logit + pull, root], axis=1))
        weights, ones = (root[:, None] * solved).T
        intercept = weights.sum() / ones.sum()
        weights = weights - intercept * ones
        step = LogisticFit(weights - fit.weights, intercept - fit.intercept)
        step_inner = kernel @ step.weights
        size = 1.0
        while size > 1e-6:
            trial_inner = inner + size * step_inner
            trial = LogisticFit(
                fit.weights + size * step.weights, fit.intercept + size * step.intercept
            )
            value = _objective(
                trial.weights, trial_inner, sign * (trial_inner + trial.intercept), c
            )
            if value < lowest:
                break
            size /= 2
        else:
            break  # as low as rounding allows
        fit, inner, lowest = trial, trial_inner, value
        logit = inner + fit.intercept
    return fit


def _objective(weights: Array, inner: Array, margin: Array, c: float) -> float:
    return float(weights @ inner / 2 + c * np.logaddexp(0, -margin).sum())


def _wrong(margin: Array) -> Array:
    """Probability of the wrong class."""
    wrong: Array = np.exp(-np.logaddexp(0, margin))
    return wrong
