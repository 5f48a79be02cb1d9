"""Poisson regression of many units at once, under an L2 penalty.

    fit = fit_poisson(x, counts, penalty=1e-3, allowed=~np.eye(n_units, dtype=bool))
    rates = fit.rates(x_test)                          # (sample, unit)

The penalised likelihood of each unit, ``mean(exp(f) - y f) + penalty / 2 |w|²`` with
``f = x w + b``, in units of the unit's mean count, so that one penalty suits quiet and busy ones.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

__all__ = [
    "PoissonFit",
    "fit_few",
    "fit_poisson",
    "fit_reduced_rank",
    "highest_log_rate",
    "log_mean_count",
]

Array = NDArray[np.float32]

#: Added to counts: a unit that is silent would have no best rate.
SILENT = 1e-6


@dataclass(frozen=True)
class PoissonFit:
    """Weights (feature, unit), intercepts (unit,), and the log rate that no prediction exceeds."""

    weights: Array
    intercept: Array
    highest: float

    def rates(self, x: Array) -> Array:
        """Expected counts (sample, unit) for features (sample, feature)."""
        rates: Array = np.exp(np.minimum(x @ self.weights + self.intercept, self.highest))
        return rates


def log_mean_count(counts: NDArray[np.generic]) -> Array:
    """Log of each unit's mean (unit,), half a spike added, so that silence has a finite log."""
    y = counts.reshape(-1, counts.shape[-1])
    log_mean: Array = np.log((y.sum(0, dtype=np.float64) + 0.5) / len(y)).astype(np.float32)
    return log_mean


def fit_poisson(
    x: Array,
    counts: Array,
    penalty: float,
    allowed: NDArray[np.bool_] | None = None,
    start: PoissonFit | None = None,
    steps: int = 60,
) -> PoissonFit:
    """Fit all units together by L-BFGS.

    The weights are found in coordinates in which the curvature is about one: the Hessian of a unit
    is near its mean count times the features' covariance, which all units share.

    Parameters
    ----------
    x
        Features (sample, feature), about standardised.
    counts
        (sample, unit), spikes per bin.
    penalty
        Of squared weights, relative to each unit's mean count.
    allowed
        (feature, unit): the weights that may differ from zero; by default all.
    start
        Where to start, such as the fit under another penalty.
    steps
        The most iterations.
    """
    if allowed is not None and not allowed.any(axis=1).all():
        used = np.asarray(allowed.any(axis=1))
        begin = start and replace(start, weights=start.weights[used])
        small = fit_poisson(x[:, used], counts, penalty, allowed[used], begin, steps)
        return _among(small, used)
    features, y = torch.from_numpy(x), torch.from_numpy(counts)
    base = torch.from_numpy(log_mean_count(counts))
    scale, highest = 1 / (base.exp() * len(y) * y.shape[1]), highest_log_rate(counts)
    mask = None if allowed is None else torch.from_numpy(allowed.astype(np.float32))
    covariance = (features.T @ features).double() / len(features)
    squares, basis = torch.linalg.eigh(covariance)
    root = (basis / (squares.clamp(min=0) + penalty).sqrt()).float()
    # What another fit found is where this one starts; steps from there are what is fitted.
    n = (x.shape[1], y.shape[1])
    first = torch.from_numpy(start.weights) if start else torch.zeros(n)
    z = torch.zeros(n, requires_grad=True)
    b = (torch.from_numpy(start.intercept) if start else base).clone().requires_grad_()
    optimizer = torch.optim.LBFGS(
        [z, b], max_iter=steps, history_size=10, line_search_fn="strong_wolfe",
        tolerance_grad=1e-7, tolerance_change=1e-9,
    )  # fmt: skip

    def weights() -> torch.Tensor:
        w = first + root @ z
        return w if mask is None else w * mask

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        w = weights()
        f = features @ w + b
        fits = ((_bounded_exp(f, highest) - y * f) * scale).sum()
        total = fits + penalty / 2 * (w**2).sum() / y.shape[1]
        total.backward()
        return total

    with torch.enable_grad():
        optimizer.step(loss)
    return PoissonFit(weights().detach().numpy(), b.detach().numpy(), highest)


def fit_few(x: Array, counts: Array, penalty: float, steps: int = 30) -> tuple[Array, Array]:
    """Fit each unit to a few features of its own, all of them together by Newton's method.

    Parameters
    ----------
    x
        Features (unit, sample, feature), or (1, sample, feature) if units share them.
    counts
        (sample, unit).
    penalty
        Of squared weights: minimised is ``mean(exp(f) - y f) + penalty / 2 |w|²``, as by
        scikit-learn's ``PoissonRegressor``.
    steps
        The most iterations; a unit's step is halved until it does not lose by it.

    Returns
    -------
    weights : ndarray (unit, feature)
    intercepts : ndarray (unit,)
    """
    features = torch.from_numpy(x).double()
    features = torch.cat([torch.ones_like(features[..., :1]), features], -1)
    y = torch.from_numpy(counts).double().T  # (unit, sample)
    n_units, n = y.shape
    highest = highest_log_rate(counts)
    draw = torch.full((features.shape[-1],), penalty, dtype=torch.float64)
    draw[0] = 0
    w = torch.zeros(n_units, features.shape[-1], dtype=torch.float64)
    w[:, 0] = (y.mean(1) + SILENT).log()

    def value(w: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        f = (features @ w[..., None])[..., 0]
        fits = (_bounded_exp(f, highest) - (y + SILENT) * f).mean(1)
        return fits + (draw * w**2).sum(1) / 2, f

    best, f = value(w)
    for _ in range(steps):
        rate = torch.exp(f.clamp(max=highest))  # the derivative of `_bounded_exp`
        slope = ((rate - y - SILENT)[:, None] @ features)[:, 0] / n + draw * w
        curvature = features.mT @ (features * rate[..., None]) / n + torch.diag(draw + 1e-12)
        step = torch.linalg.solve(curvature, slope)
        length = torch.ones(n_units, 1, dtype=torch.float64)
        for _ in range(20):
            tried, at = value(w - length * step)
            worse = ~(tried <= best)
            if not worse.any():
                break
            length[worse] /= 2
        w = torch.where(worse[:, None], w, w - length * step)
        f, gain = torch.where(worse[:, None], f, at), torch.where(worse, 0, best - tried)
        best = best - gain
        if gain.amax() < 1e-12:
            break
    return w[:, 1:].float().numpy(), w[:, 0].float().numpy()


def fit_reduced_rank(
    x: Array,
    counts: Array,
    penalty: float,
    rank: int,
    start: PoissonFit,
    allowed: NDArray[np.bool_],
    steps: int = 60,
) -> PoissonFit:
    """Poisson regression whose weights are a matrix of low rank, where they are allowed at all.

    Parameters are as for `fit_poisson`; `start` is its fit, whose largest singular vectors are
    where this one starts.
    """
    used = np.asarray(allowed.any(axis=1))
    if not used.all():
        begin = replace(start, weights=start.weights[used])
        few = fit_reduced_rank(x[:, used], counts, penalty, rank, begin, allowed[used], steps)
        return _among(few, used)
    features, y = torch.from_numpy(x), torch.from_numpy(counts)
    scale = 1 / (torch.from_numpy(log_mean_count(counts)).exp() * len(y) * y.shape[1])
    highest = highest_log_rate(counts)
    mask = torch.from_numpy(allowed.astype(np.float32))
    u, s, v = torch.linalg.svd(torch.from_numpy(start.weights), full_matrices=False)
    read = (u[:, :rank] * s[:rank].sqrt()).contiguous().requires_grad_()
    write = (s[:rank, None].sqrt() * v[:rank]).contiguous().requires_grad_()
    b = torch.from_numpy(start.intercept).clone().requires_grad_()
    optimizer = torch.optim.LBFGS(
        [read, write, b], max_iter=steps, history_size=10, line_search_fn="strong_wolfe",
        tolerance_grad=1e-7, tolerance_change=1e-9,
    )  # fmt: skip

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        w = (read @ write) * mask
        f = features @ w + b
        fits = ((_bounded_exp(f, highest) - y * f) * scale).sum()
        total = fits + penalty / 2 * (w**2).sum() / y.shape[1]
        total.backward()
        return total

    with torch.enable_grad():
        optimizer.step(loss)
    return PoissonFit(((read @ write) * mask).detach().numpy(), b.detach().numpy(), highest)


def _among(fit: PoissonFit, used: NDArray[np.bool_]) -> PoissonFit:
    """A fit of some features as one of all of them: the others weigh nothing."""
    weights = np.zeros((len(used), fit.weights.shape[1]), np.float32)
    weights[used] = fit.weights
    return replace(fit, weights=weights)


def highest_log_rate(counts: NDArray[np.generic]) -> float:
    """A log rate just beyond any count that was seen."""
    return float(np.log(counts.max() + 2.0))


def _bounded_exp(f: torch.Tensor, highest: float) -> torch.Tensor:
    """Exponential that goes on as a straight line: a step too far is not infinitely bad."""
    return torch.exp(f.clamp(max=highest)) * (1 + (f - highest).clamp(min=0))
