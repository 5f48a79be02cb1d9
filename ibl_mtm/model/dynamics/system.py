"""A Poisson linear dynamical system: what hidden spikes are, given any set of visible ones.

    system = fit_dynamics(counts, components=20)             # ibl_mtm.model.dynamics.fit
    posterior = system.infer(counts, visible)
    system.log_rates(posterior, units)                       # (trial, time, unit)

K components move linearly with Gaussian noise from bin to bin, about a mean course that all trials
share; each unit's log rate is a weighted sum of them, and its counts are Poisson:

    z_0 ~ N(m_0, Q_0),    z_t - m_t = A (z_{t-1} - m_{t-1}) + N(0, Q)
    y_tn ~ Poisson(exp(d_n + c_n z_t))

(Macke et al., Empirical models of spiking in neural populations, NeurIPS 2011.) What is visible
may differ from trial to trial and from bin to bin: every visible entry weighs by what it tells.
Where a system has a drift, a gain g_n of each unit in each trial is added to its log rates (see
`ibl_mtm.model.dynamics.drift`): known from the trial's time and the unit's visible spikes.
The posterior is Laplace's approximation. Its mode is found by Newton's method with a
block-tridiagonal solver (Paninski et al., 2010, doi 10.1007/s10827-009-0179-x), run until log
rates stand still.
"""

from dataclasses import dataclass, fields
from functools import cached_property
from math import log

import torch
from torch import Tensor
from torch.special import log_ndtr

from ibl_mtm.model.dynamics.blocks import Factors, inverse_of, quadratic, weighted_squares
from ibl_mtm.model.dynamics.drift import PRIVATE, Drift
from ibl_mtm.model.dynamics.posterior import Gains, Posterior, of_units

__all__ = ["HIGHEST", "LinearDynamics"]

#: The mode is found when no log rate moves by more than this in a step.
TOLERANCE = 2e-3
NEWTON_STEPS = 120
#: No step moves a log rate by more: where rates grow exponentially, whole steps overshoot.
LONGEST_STEP = 1.5
#: The curvature is computed anew where a step is no shorter than this part of the one before, and
#: for covariances where log rates have moved by more than so much since.
SLOW = 0.3
STALE = 0.5
#: … for covariances, where gains took turns with components, which stood still the sooner.
STALE_BY_TURNS = 0.1
#: Log of the largest expected count per bin: keeps single precision finite far from the mode.
HIGHEST = 10.0
#: Rates level off at this share of the largest that a unit had. Components of real spikes have
#: lighter tails than Gaussian ones, so that e^x has too large a mean where little is visible.
LEVEL = 2 / 3
SMALL = 1e-8


@dataclass(frozen=True)
class LinearDynamics:
    """The parameters of one session.

    Attributes
    ----------
    loading : Tensor (N, K)
        What each unit's log rate gains from each component.
    offset : Tensor (N,)
        Log of each unit's expected count per bin where components are zero.
    transition, noise, first_noise : Tensor (K, K)
        A, Q and Q_0.
    course : Tensor (T, K)
        Mean of the components over trials.
    drift
        Of units' gains over the session, if that is fitted.
    highest : Tensor (N,), optional
        Log of the largest expected count per bin that each unit had in the trials that the system
        was fitted to. Rates level off below it (see `LEVEL`).
    """

    loading: Tensor
    offset: Tensor
    transition: Tensor
    noise: Tensor
    first_noise: Tensor
    course: Tensor
    drift: Drift | None = None
    highest: Tensor | None = None

    @cached_property
    def _inverse_noises(self) -> tuple[Tensor, Tensor]:
        return inverse_of(self.noise), inverse_of(self.first_noise)

    @cached_property
    def _precision(self) -> tuple[Tensor, Tensor]:
        """Blocks of the prior's precision: on the diagonal (T, K, K), and right of it (K, K)."""
        noise, first = self._inverse_noises
        blocks = torch.stack([first, *[noise] * (len(self.course) - 1)])
        blocks[:-1] += self.transition.T @ noise @ self.transition
        return blocks, -self.transition.T @ noise

    def gains(self, times: Tensor | None, n: int) -> Gains | None:
        """What is known of units' gains in n trials at these times (s; None: at any time)."""
        if self.drift is None:
            return None
        mean, variance = self.drift.at(times, n)
        return Gains(mean, variance + PRIVATE)

    def infer(
        self,
        counts: Tensor,
        visible: Tensor,
        start: Posterior | None = None,
        gains: Gains | None = None,
    ) -> Posterior:
        """Posterior of the components, and of units' gains.

        Parameters
        ----------
        counts : Tensor (B, T, N)
            Spikes per bin.
        visible : Tensor, bool, broadcastable to (B, T, N)
            Entries that may be looked at.
        start
            Where to look for the mode first; by default the mean course.
        gains
            Of these trials (see `gains`); by default none.

        Raises
        ------
        ArithmeticError
            If no mode is found: a parameter is not finite, or far from any that fits.
        """
        seen = visible.to(self.loading.dtype)
        shown = counts.to(self.loading.dtype) * seen
        seen = seen.expand(len(counts), -1, -1)
        z = self.course.expand(len(counts), -1, -1) if start is None else start.mean
        z = z.clone()
        gain = None
        if gains is not None:
            begun = None if start is None or gains.variance is None else start.gain
            gain = (gains.mean if begun is None else begun).clone()
        factors = Factors.empty(z, self._precision[1])
        # Each trial is done when it stands still itself: its answer is the same in any company.
        rows = torch.arange(len(z), device=z.device)
        before = z.new_full((len(z),), torch.inf)
        drift, stale = torch.zeros_like(before), torch.ones_like(before, dtype=torch.bool)
        by_turns = gains is not None and gains.variance is not None
        for _ in range(NEWTON_STEPS):
            x, y, weight = (a if len(rows) == len(a) else a[rows] for a in (z, shown, seen))
            rates, anew = self._rates(x, gain, rows) * weight, stale[rows]
            turned = _turn(gain, gains, rows, y, rates)
            if anew.any():
                self._factorise(rates[anew], factors, rows[anew])
                drift[rows[anew]] = 0
            step = factors.solve((y - rates) @ self.loading - self._pull(x), rows)
            moved = (step @ self.loading.T).abs().amax((1, 2))
            if not moved.isfinite().all():
                raise ArithmeticError("log rates are not finite")
            z[rows] = x + step * (LONGEST_STEP / moved.clamp(min=LONGEST_STEP))[:, None, None]
            drift[rows] += moved + turned
            slow = moved > SLOW * before[rows]
            if by_turns:  # … it is slow whatever the curvature
                slow &= drift[rows] > STALE
            stale[rows] = slow | (moved > LONGEST_STEP)
            before[rows] = moved
            rows = rows[(moved >= TOLERANCE) | (turned >= TOLERANCE)]
            if not len(rows):
                break
        else:
            if z.dtype != torch.float32:
                most = float(before.amax())
                raise ArithmeticError(
                    f"log rates still move by {most:.2g} after {NEWTON_STEPS} steps"
                )
            # Single precision is too coarse for these trials.
            self._find_exactly(shown, seen, rows, z, gain, gains)
            stale[rows] = True
        limit = STALE_BY_TURNS if by_turns else STALE
        (rows,) = torch.nonzero(stale | (drift > limit), as_tuple=True)
        if len(rows):
            self._factorise(self._rates(z[rows], gain, rows) * seen[rows], factors, rows)
        return Posterior(z, *factors.covariances(), gain)

    def _find_exactly(
        self,
        shown: Tensor,
        seen: Tensor,
        rows: Tensor,
        z: Tensor,
        gain: Tensor | None,
        gains: Gains | None,
    ) -> None:
        """The mode of some trials in double precision, put into z and gain."""
        start = Posterior(z[rows].double(), z, z, None if gain is None else gain[rows].double())
        known = gains
        if gains is not None:
            variance = None if gains.variance is None else gains.variance[rows].double()
            known = Gains(gains.mean[rows].double(), variance)
        exact = self._double().infer(shown[rows], seen[rows] > 0, start, known)
        z[rows] = exact.mean.to(z.dtype)
        if gain is not None and exact.gain is not None:
            gain[rows] = exact.gain.to(z.dtype)

    def log_rates(self, posterior: Posterior, units: Tensor | None = None) -> Tensor:
        """Log expected counts per bin under a posterior.

        Parameters
        ----------
        posterior
            Of B trials.
        units : Tensor, int64, optional
            (M,) units for all trials, or (B, M) for each trial its own; by default all.

        Returns
        -------
        Tensor (B, T, N or M)
        """
        loading, offset = self.loading, self.offset
        highest = offset.new_full(offset.shape, HIGHEST) if self.highest is None else self.highest
        if units is not None:
            loading, offset, highest = loading[units], offset[units], highest[units]
        if loading.ndim == 3:
            offset, highest = offset[:, None], highest[:, None]
        mean = offset + posterior.mean @ loading.mT
        if posterior.gain is not None:
            # The median over gains: where little is known of them, their mean is all in its tail.
            mean = mean + of_units(posterior.gain, units)[:, None]
        return _levelled(mean, quadratic(posterior.covariance, loading), highest + log(LEVEL))

    def _double(self) -> "LinearDynamics":
        without = "drift", "highest"  # the mode needs neither
        tables = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in without}
        return LinearDynamics(**{name: table.double() for name, table in tables.items()})

    def _rates(self, z: Tensor, gain: Tensor | None, rows: Tensor) -> Tensor:
        log_rates = self.offset + z @ self.loading.T
        if gain is not None:
            log_rates += gain[rows][:, None]
        return log_rates.clamp(max=HIGHEST).exp()

    def _pull(self, z: Tensor) -> Tensor:
        """The prior's precision times the distance from the mean course, (B, T, K).

        By way of the innovations: they are small where their precision is large, so that little is
        lost in single precision.
        """
        away = z - self.course
        noise, first = self._inverse_noises
        weighed = (away[:, 1:] - away[:, :-1] @ self.transition.T) @ noise
        pull = torch.cat([(away[:, 0] @ first)[:, None], weighed], 1)
        pull[:, :-1] -= weighed @ self.transition
        return pull

    def _factorise(self, rates: Tensor, factors: Factors, rows: Tensor) -> None:
        """Eliminate bin after bin from the posterior's precision at these rates (B, T, N)."""
        blocks, right = self._precision
        information = weighted_squares(rates, self.loading)
        inverses: list[Tensor] = []
        for t in range(rates.shape[1]):
            block = blocks[t] + information[:, t]
            if t:
                block -= right.T @ inverses[-1] @ right
            inverses.append(inverse_of(block))
        factors.inverses[:, rows] = torch.stack(inverses)


def _turn(
    gain: Tensor | None, gains: Gains | None, rows: Tensor, spikes: Tensor, rates: Tensor
) -> Tensor:
    """A Newton step of some trials' gains, which rates (B, T, N) follow; how far it goes, (B,).

    Both are changed in place. What spikes (B, T, N) and rates leave out as hidden is zero.
    """
    if gain is None or gains is None or gains.variance is None:
        return rates.new_zeros(len(rates))
    pull = 1 / gains.variance[rows]
    expected, at = rates.sum(1), gain[rows]
    step = (spikes.sum(1) - expected - (at - gains.mean[rows]) * pull) / (expected + pull)
    step = step.clamp(-LONGEST_STEP, LONGEST_STEP)
    gain[rows] = at + step
    rates *= step.exp()[:, None]
    return step.abs().amax(1)


def _levelled(mean: Tensor, variance: Tensor, level: Tensor) -> Tensor:
    """Log of the mean of min(e^x, e^level), of Gaussian x."""
    variance = variance.clamp(min=SMALL)
    spread = variance.sqrt()
    below = mean + variance / 2 + log_ndtr((level - mean - variance) / spread)
    return torch.logaddexp(below, level + log_ndtr((mean - level) / spread))
