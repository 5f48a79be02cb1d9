"""Poisson regression of many units on the same features, each unit by an L-BFGS of its own.

regression = PoissonRegression(x, counts, allowed=~np.eye(n_units, dtype=bool))
fit = regression.fit(penalty=1.0)
fit.rates(x_test)                                  # (sample, unit)

Units share every matrix product, and nothing else: each has its own directions, step lengths and
end (Nocedal & Wright, Numerical Optimization, 2006, chapter 7.2). One L-BFGS for all units takes
five times as long, since the hardest of them sets the pace and their curvatures mix.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

__all__ = ["PoissonFit", "PoissonRegression", "bounded_exp", "highest_log_rate", "log_mean_count"]

Array = NDArray[np.float32]

#: Pairs of steps and changes of slope that tell the curvature.
_MEMORY = 10
#: A step must gain this part of what the slope promises.
_ENOUGH = 1e-4
#: Of a sum in single precision, relative.
_ROUNDING = 1e-7


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


def highest_log_rate(counts: NDArray[np.generic]) -> float:
    """A log rate just beyond any count that was seen."""
    return float(np.log(counts.max() + 2.0))


def bounded_exp(log_rate: torch.Tensor, highest: float) -> torch.Tensor:
    """Exponential that goes on as a straight line: a step too far is not infinitely bad."""
    return torch.exp(log_rate.clamp(max=highest)) * (1 + (log_rate - highest).clamp(min=0))


class PoissonRegression:
    """Units' counts and the features that they share, to be fitted under one penalty or several.

    Minimised for each unit is ``mean(exp(f) - y f) / mean(y) + penalty / 2 |w|²`` with
    ``f = x w + b``: in units of its mean count, so that one penalty suits quiet and busy ones.

    Parameters
    ----------
    x : ndarray (sample, feature), float32
        About standardised.
    counts : ndarray (sample, unit), float32
        Spikes per bin.
    allowed : ndarray (feature, unit), bool, optional
        The weights that may differ from zero; by default all.
    """

    def __init__(self, x: Array, counts: Array, allowed: NDArray[np.bool_] | None = None) -> None:
        self._n_features = x.shape[1]
        used = np.ones(len(x.T), bool) if allowed is None else allowed.any(axis=1)
        # A feature that no unit may use takes no part.
        self._used = used
        self._x = torch.from_numpy(np.ascontiguousarray(x[:, used]))
        self._y = torch.from_numpy(counts)
        self._mask = None
        if allowed is not None and not allowed[used].all():
            self._mask = torch.from_numpy(allowed[used].astype(np.float32))
        self._highest = highest_log_rate(counts)
        self._base = torch.from_numpy(log_mean_count(counts))
        covariance = (self._x.T @ self._x).double() / len(x)
        self._squares, self._basis = torch.linalg.eigh(covariance)

    @torch.no_grad()
    def fit(
        self,
        penalty: float,
        start: PoissonFit | None = None,
        tolerance: float = 1e-4,
        steps: int = 200,
    ) -> PoissonFit:
        """Fit all units.

        Parameters
        ----------
        penalty
            Of squared weights.
        start
            Where to start, such as the fit under another penalty.
        tolerance
            A unit is done where the norm of its slope is below this, in coordinates in which the
            curvature is about one.
        steps
            The most iterations.
        """
        # The Hessian of a unit is near the features' covariance, which all units share.
        root = (self._basis / (self._squares.clamp(min=0) + penalty).sqrt()).float()
        n_units = len(self._base)
        weights = torch.zeros(len(root), n_units)
        intercept = self._base.clone()
        if start is not None:
            weights = torch.from_numpy(start.weights[self._used])
            weights = weights * (1 if self._mask is None else self._mask)
            intercept = torch.from_numpy(start.intercept).clone()
        at = _Units(
            weights, intercept, self._x @ weights + intercept, self._y,
            1 / (self._base.exp() * len(self._y)), self._mask,
        )  # fmt: skip
        weights = weights.clone()
        live = torch.arange(n_units)
        gradient, history = self._gradient(at, root, penalty), list[_Pair]()
        for _ in range(steps):
            direction = -_times_curvature(gradient, history)
            new, step, stuck = self._step(at, root, penalty, gradient, direction)
            slope = self._gradient(new, root, penalty)
            history = [*history[1 - _MEMORY :], _Pair.of(step, slope - gradient)]
            at, gradient = new, slope
            weights[:, live], intercept[live] = at.weights, at.intercept
            going = (gradient.norm(dim=0) > tolerance) & ~stuck
            if not going.any():
                break
            if going.sum() < 0.8 * len(live):  # to copy takes time, too
                live, gradient, at = live[going], gradient[:, going], at.only(going)
                history = [pair.only(going) for pair in history]
        whole = torch.zeros(self._n_features, n_units)
        whole[torch.from_numpy(self._used)] = weights
        return PoissonFit(whole.numpy(), intercept.numpy(), self._highest)

    def _value(self, at: "_Units", penalty: float) -> torch.Tensor:
        losses = bounded_exp(at.log_rate, self._highest) - at.counts * at.log_rate
        return losses.sum(0).double() * at.scale + penalty / 2 * (at.weights.double() ** 2).sum(0)

    def _gradient(self, at: "_Units", root: torch.Tensor, penalty: float) -> torch.Tensor:
        """(coordinate and one for the intercept, unit)."""
        # The derivative of `bounded_exp` is the exponential up to the bound.
        error = (torch.exp(at.log_rate.clamp(max=self._highest)) - at.counts) * at.scale
        to_weights = self._x.T @ error + penalty * at.weights
        if at.mask is not None:
            to_weights *= at.mask
        return torch.cat([root.T @ to_weights, error.sum(0)[None]])

    def _step(
        self,
        at: "_Units",
        root: torch.Tensor,
        penalty: float,
        gradient: torch.Tensor,
        direction: torch.Tensor,
    ) -> tuple["_Units", torch.Tensor, torch.Tensor]:
        """Where units are after a step, the step in coordinates, and those that cannot gain."""
        slope = (gradient * direction).sum(0)
        if (up := slope >= 0).any():
            direction[:, up] = -gradient[:, up]
            slope = (gradient * direction).sum(0)
        move = root @ direction[:-1]
        if at.mask is not None:
            move *= at.mask
        change = self._x @ move + direction[-1]
        rate = torch.exp(at.log_rate.clamp(max=self._highest))
        curvature = (rate * change**2).sum(0) * at.scale + penalty * (move**2).sum(0)
        length = -slope / curvature.clamp(min=1e-30)  # Newton's along the direction
        before = self._value(at, penalty)
        rounding = _ROUNDING * before.abs()
        new = at.moved(length, move, direction[-1], change)
        after = self._value(new, penalty)
        for _ in range(20):
            worse = ~(after <= before + _ENOUGH * length * slope + rounding)
            if not worse.any():
                break
            length[worse] /= 2
            tried = at.only(worse).moved(
                length[worse], move[:, worse], direction[-1, worse], change[:, worse]
            )
            new.put(worse, tried)
            after[worse] = self._value(tried, penalty)
        length[worse] = 0
        new.put(worse, at.only(worse))
        return new, length * direction, worse


@dataclass
class _Units:
    """Units that are being fitted: where they are, and what they are fitted to."""

    weights: torch.Tensor
    intercept: torch.Tensor
    log_rate: torch.Tensor
    counts: torch.Tensor
    scale: torch.Tensor
    mask: torch.Tensor | None

    def only(self, units: torch.Tensor) -> "_Units":
        return _Units(
            self.weights[:, units],
            self.intercept[units],
            self.log_rate[:, units],
            self.counts[:, units],
            self.scale[units],
            None if self.mask is None else self.mask[:, units],
        )

    def moved(
        self, length: torch.Tensor, move: torch.Tensor, shift: torch.Tensor, change: torch.Tensor
    ) -> "_Units":
        return replace(
            self,
            weights=self.weights + length * move,
            intercept=self.intercept + length * shift,
            log_rate=self.log_rate + length * change,
        )

    def put(self, units: torch.Tensor, other: "_Units") -> None:
        self.weights[:, units] = other.weights
        self.intercept[units] = other.intercept
        self.log_rate[:, units] = other.log_rate


@dataclass(frozen=True)
class _Pair:
    """A step (coordinate, unit), the change of the slope by it, and one over their product."""

    step: torch.Tensor
    change: torch.Tensor
    inverse: torch.Tensor

    @classmethod
    def of(cls, step: torch.Tensor, change: torch.Tensor) -> "_Pair":
        product = (step * change).sum(0)
        known = product > 1e-12  # otherwise rounding
        return cls(step, change, torch.where(known, 1 / product, 0))

    def only(self, units: torch.Tensor) -> "_Pair":
        return _Pair(self.step[:, units], self.change[:, units], self.inverse[units])


def _times_curvature(gradient: torch.Tensor, history: Sequence[_Pair]) -> torch.Tensor:
    """The slope times the inverse curvature that the pairs tell, by two loops, for each unit."""
    q, shares = gradient.clone(), []
    for pair in reversed(history):
        share = pair.inverse * (pair.step * q).sum(0)
        q -= share * pair.change
        shares.append(share)
    for pair, share in zip(history, reversed(shares), strict=True):
        q += pair.step * (share - pair.inverse * (pair.change * q).sum(0))
    return q
