"""Poisson regressions of few weights: a few features for each unit, or weights of low rank.

weights, intercepts = fit_few(x, counts, penalty=3e-3)
low = LowRank(x, counts, allowed).fit(penalty=0.3, rank=4, start=full)
"""

from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from ibl_mtm.model.poisson_regression import (
    PoissonFit,
    bounded_exp,
    highest_log_rate,
    log_mean_count,
)

__all__ = ["SILENT", "LowRank", "fit_few"]

Array = NDArray[np.float32]

#: Added to counts: a unit that is silent would have no best rate.
SILENT = 1e-6


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
        fits = (bounded_exp(f, highest) - (y + SILENT) * f).mean(1)
        return fits + (draw * w**2).sum(1) / 2, f

    best, f = value(w)
    for _ in range(steps):
        rate = torch.exp(f.clamp(max=highest))  # the derivative of `bounded_exp`
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


class LowRank:
    """Poisson regression whose weights are a matrix of low rank, where they are allowed at all.

    Minimised is what `PoissonRegression` minimises, summed over units, by L-BFGS from a full fit's
    largest singular vectors. Log rates are never computed from the full matrix.

    Parameters
    ----------
    x, counts, allowed
        As for `PoissonRegression`.
    """

    def __init__(self, x: Array, counts: Array, allowed: NDArray[np.bool_]) -> None:
        self._products = _Products(x, allowed)
        order = self._products.order
        self._y = torch.from_numpy(counts[:, order])
        self._mask = torch.from_numpy(allowed[:, order].astype(np.float32))
        self._highest = highest_log_rate(counts)
        self._scale = 1 / (torch.from_numpy(log_mean_count(self._y.numpy())).exp() * counts.size)

    def fit(self, penalty: float, rank: int, start: PoissonFit, steps: int = 60) -> PoissonFit:
        """Fit under a penalty of squared weights; `start` is a fit of full rank."""
        order = self._products.order
        u, s, v = torch.linalg.svd(torch.from_numpy(start.weights[:, order]), full_matrices=False)
        read = (u[:, :rank] * s[:rank].sqrt()).contiguous().requires_grad_()
        write = (s[:rank, None].sqrt() * v[:rank]).contiguous().requires_grad_()
        b = torch.from_numpy(start.intercept[order]).requires_grad_()
        optimizer = torch.optim.LBFGS(
            [read, write, b], max_iter=steps, history_size=10, line_search_fn="strong_wolfe",
            tolerance_grad=1e-7, tolerance_change=1e-9,
        )  # fmt: skip

        def weights() -> torch.Tensor:
            return (read @ write) * self._mask

        def loss() -> torch.Tensor:
            optimizer.zero_grad()
            f = self._products(read, write) + b
            # PyTorch gives `apply` no types.
            fits = cast(torch.Tensor, _Loss.apply(f, self._y, self._scale, self._highest))  # type: ignore[no-untyped-call]
            total = fits + penalty / 2 * (weights() ** 2).sum() / self._y.shape[1]
            total.backward()
            return total

        with torch.enable_grad():
            optimizer.step(loss)
        found = np.empty_like(start.weights), np.empty_like(start.intercept)
        found[0][:, order], found[1][order] = weights().detach().numpy(), b.detach().numpy()
        return PoissonFit(*found, self._highest)


class _Loss(torch.autograd.Function):
    """Sum of ``(exp(f) - y f) * scale``; its slope costs one pass more, not twenty."""

    @staticmethod
    def forward(
        ctx: Any, f: torch.Tensor, y: torch.Tensor, scale: torch.Tensor, highest: float
    ) -> torch.Tensor:
        rate = f.clamp(max=highest).exp_()
        ctx.save_for_backward((rate - y).mul_(scale))
        losses = rate.mul_((f - highest).clamp_(min=0).add_(1)).sub_(y * f)
        return losses.sum(0) @ scale

    @staticmethod
    def backward(ctx: Any, *up: torch.Tensor) -> tuple[torch.Tensor, None, None, None]:
        (slope,) = ctx.saved_tensors
        return slope * up[0], None, None, None


class _Products:
    """``x @ ((read @ write) * allowed)`` as a function of both, in the time of the low rank.

    Units come in the order `order`, (unit,): those that see the same others stand together.
    """

    def __init__(self, x: Array, allowed: NDArray[np.bool_]) -> None:
        # Whether a unit sees itself is put right after.
        itself = np.eye(*allowed.shape) > 0
        patterns, pattern = min(
            (np.unique(seen, axis=1, return_inverse=True) for seen in (allowed, allowed | itself)),
            key=lambda found: found[0].shape[1],
        )
        self.order = np.argsort(pattern.ravel(), kind="stable")
        self._x = torch.from_numpy(x)
        self._groups, first = [], 0
        for shown, n_units in zip(patterns.T, np.bincount(pattern.ravel()), strict=True):
            # Whichever are fewer, those that are shown or those that are not.
            hide = bool(shown.mean() > 0.5)
            features = np.flatnonzero(shown ^ hide)
            own = torch.from_numpy(x[:, features])
            units = slice(first, first + int(n_units))
            self._groups.append((units, torch.from_numpy(features), own, hide))
            first = units.stop
        wrong = (patterns[:, pattern.ravel()] ^ allowed)[:, self.order].any(axis=0)
        self._itself = torch.from_numpy(x[:, self.order] * wrong) if wrong.any() else None

    def __call__(self, read: torch.Tensor, write: torch.Tensor) -> torch.Tensor:
        of_all = self._x @ read
        parts = []
        for units, features, x, hide in self._groups:
            part = x @ read[features]
            parts.append((of_all - part if hide else part) @ write[:, units])
        f = torch.cat(parts, dim=1) if len(parts) > 1 else parts[0]
        if self._itself is None:
            return f
        return f - self._itself * (read[self.order] * write.T).sum(1)
