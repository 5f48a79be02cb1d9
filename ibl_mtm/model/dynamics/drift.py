"""How units' rates wander over a session: a slow gain of each, known from the training trials.

posterior = fit_drift(spikes, expected, times, spread)      # of the trials that were seen
drift = Drift.of(posterior, times, spread)                  # at knots, for trials at any time
mean, variance = drift.at(times, len(times))

A unit's log rate has a gain g_n(s) that moves with the session's clock s, independently of other
units (drifts that units share are the components'): an Ornstein-Uhlenbeck process of variance v_n
that forgets within `TIME_CONSTANT`. Counts of a trial are Poisson about exp(g_n) times what is
expected without, and each trial has a small gain of its own besides.
The posterior is Laplace's approximation, found by Newton's method with a tridiagonal solver for all
units at once. How much each unit drifts is learned, drawn to what all units of the session do.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["KNOTS", "Drift", "DriftPosterior", "fit_drift", "learn_spread", "own_gain"]

#: Seconds within which a gain is forgotten.
TIME_CONSTANT = 100.0
#: Variance of gains at the start, of a unit; and of the gain that belongs to one trial alone.
START_SPREAD = 0.1
PRIVATE = 0.02
#: As so many trials, what all units do weighs where a unit's own spread is learned.
PRIOR_TRIALS = 20
#: … and as so much information (of nats) where that is corrected by a factor, which lies in these.
PRIOR_INFORMATION = 20.0
FACTORS = 0.7, 1.4
#: Of any unit: a unit that was lost or found would otherwise be expected anywhere.
MOST_SPREAD = 1.0
#: Times at which a fitted drift is kept, evenly over the session.
KNOTS = 64
#: No Newton step moves a log rate by more, and the mode is found where none moves by as much.
LONGEST_STEP = 1.5
TOLERANCE = 1e-2
_NEARLY_ALWAYS = 1 - 1e-4  # two trials at one time would leave nothing to move by


@dataclass(frozen=True)
class DriftPosterior:
    """Gains in J trials.

    Attributes
    ----------
    mean, variance : Tensor (J, N)
    between : Tensor (J - 1, N)
        Covariance of each trial's with the next one's.
    """

    mean: Tensor
    variance: Tensor
    between: Tensor


@dataclass(frozen=True)
class Drift:
    """Gains of N units over one session.

    Attributes
    ----------
    mean, variance : Tensor (N, KNOTS)
        At times evenly over `span`.
    spread : Tensor (N,)
        Variance where nothing is known of the time.
    span : Tensor (2,), float64
        First and last knot, s on the session's clock.
    """

    mean: Tensor
    variance: Tensor
    spread: Tensor
    span: Tensor

    @classmethod
    def of(cls, posterior: DriftPosterior, times: Tensor, spread: Tensor) -> "Drift":
        """From the posterior at the trials' times (J,), in order."""
        span = times[[0, -1]]
        knots = torch.linspace(
            float(span[0]), float(span[1]), KNOTS, dtype=torch.float64, device=times.device
        )
        mean, variance = _bridge(posterior, times, spread, knots)
        return cls(mean.T.contiguous(), variance.T.contiguous(), spread, span)

    def at(self, times: Tensor | None, n: int) -> tuple[Tensor, Tensor]:
        """Mean and variance of the gains at n times, (n, N) each.

        Parameters
        ----------
        times : Tensor (n,), optional
            s on the session's clock. Without: of any trial, nothing but the spread is known.
        n
            How many.
        """
        if times is None:
            nothing = self.spread.new_zeros(n, len(self.spread))
            return nothing, self.spread.expand(n, -1)
        first, last = self.span
        place = (times.double() - first) / (last - first).clamp(min=1e-9) * (KNOTS - 1)
        # Beyond the ends what is known there is forgotten.
        step = (last - first) / (KNOTS - 1)
        beyond = (place - place.clamp(0, KNOTS - 1)).abs() * step
        place = place.clamp(0, KNOTS - 1)
        left = place.floor().long().clamp(max=KNOTS - 2)
        part = (place - left).to(self.mean.dtype)
        keep = torch.exp(-beyond / TIME_CONSTANT).to(self.mean.dtype)[:, None]
        mean = torch.lerp(self.mean[:, left], self.mean[:, left + 1], part).T
        variance = torch.lerp(self.variance[:, left], self.variance[:, left + 1], part).T
        return keep * mean, keep**2 * variance + (1 - keep**2) * self.spread


def fit_drift(
    spikes: Tensor,
    expected: Tensor,
    times: Tensor,
    spread: Tensor,
    begin: Tensor | None = None,
    steps: int = 4,
) -> DriftPosterior:
    """Posterior of units' gains in trials.

    Parameters
    ----------
    spikes : Tensor (J, N)
        Each unit's spikes in each trial.
    expected : Tensor (J, N)
        How many are expected without a gain.
    times : Tensor (J,), float64
        When the trials were, in order, s.
    spread : Tensor (N,)
        Variance of each unit's gain.
    begin : Tensor (J, N), optional
        Where to look for the mode first.
    steps
        Newton steps at most.
    """
    gain = torch.zeros_like(expected) if begin is None else begin.clone()
    keep = _kept(times[1:] - times[:-1]).to(gain.dtype)[:, None]
    given = 1 / (spread * (1 - keep**2))  # precision of a step, (J - 1, N)
    diagonal = torch.zeros_like(gain)
    diagonal[0] = 1 / spread
    diagonal[1:] += given
    diagonal[:-1] += keep**2 * given
    beside = -keep * given
    for _ in range(steps):
        own, _ = own_gain(spikes, expected * gain.exp(), PRIVATE)
        rates = expected * (gain + own).exp()
        slope = spikes - rates - diagonal * gain
        slope[1:] -= beside * gain[:-1]
        slope[:-1] -= beside * gain[1:]
        # The trial's own gain yields: it takes a part of what this one explains.
        ratios, pivots = _eliminate(diagonal + rates / (1 + PRIVATE * rates), beside)
        step = _solve(ratios, pivots, beside, slope).clamp(-LONGEST_STEP, LONGEST_STEP)
        gain = gain + step
        if step.abs().amax() < TOLERANCE:
            break
    variance = [1 / pivots[-1]]
    between: list[Tensor] = []
    for ratio, pivot in zip(ratios[::-1], pivots[-2::-1], strict=True):
        between.append(-ratio * variance[-1])
        variance.append(1 / pivot + ratio**2 * variance[-1])
    nothing = gain[:0]
    return DriftPosterior(
        gain,
        torch.stack(variance[::-1]),
        torch.stack(between[::-1]) if between else nothing,
    )


def own_gain(spikes: Tensor, expected: Tensor, variance: float) -> tuple[Tensor, Tensor]:
    """The gain that belongs to a trial alone: spikes ~ Poisson(expected e^g). Mode, variance."""
    gain = torch.zeros_like(expected)
    for _ in range(15):
        rates = expected * gain.exp()
        step = (spikes - rates - gain / variance) / (rates + 1 / variance)
        gain = gain + step.clamp(-LONGEST_STEP, LONGEST_STEP)
        if step.abs().amax() < TOLERANCE / 10:
            break
    return gain, 1 / (expected * gain.exp() + 1 / variance)


def learn_spread(
    posterior: DriftPosterior, spikes: Tensor, expected: Tensor, times: Tensor, spread: Tensor
) -> Tensor:
    """The variance of each unit's gain that explains a posterior of it, (N,).

    The M-step in closed form (the mean over trials of squared innovations, each by its share of the
    variance), drawn to the mean over units as `PRIOR_TRIALS` trials would; then, since single steps
    are told from spikes too vaguely for that to get far, the factor by which all of a unit's gains
    should be longer: one Newton step on the expected log-likelihood of its spikes, drawn to the one
    of all units (parameter-expanded EM: Liu, Rubin & Wu, Biometrika 85, 755-770, 1998).

    Parameters
    ----------
    posterior
        Of J trials.
    spikes, expected, times, spread
        As for `fit_drift`.
    """
    keep = _kept(times[1:] - times[:-1]).to(spread.dtype)[:, None]
    mean, variance = posterior.mean, posterior.variance
    moved = (mean[1:] - keep * mean[:-1]) ** 2 + variance[1:] + keep**2 * variance[:-1]
    moved = (moved - 2 * keep * posterior.between) / (1 - keep**2)
    n = len(mean)
    own = (mean[0] ** 2 + variance[0] + moved.sum(0)) / n
    own = (n * own + PRIOR_TRIALS * own.mean()) / (n + PRIOR_TRIALS)
    return (own * _lengthened(posterior, spikes, expected) ** 2).clamp(max=MOST_SPREAD)


def _lengthened(posterior: DriftPosterior, spikes: Tensor, expected: Tensor) -> Tensor:
    """By what factor (N,) a unit's gains explain its spikes better."""
    mean, variance = posterior.mean, posterior.variance
    slow = mean + variance / 2
    alone, spread = own_gain(spikes, expected * slow.exp(), PRIVATE)
    rates = expected * (slow + alone + spread / 2).exp()
    slope = (spikes * mean - rates * (mean + variance)).sum(0)
    information = (rates * ((mean + variance) ** 2 + variance)).sum(0)
    of_all = slope.sum() / information.sum().clamp(min=1e-9)
    factor = 1 + (slope + PRIOR_INFORMATION * of_all) / (information + PRIOR_INFORMATION)
    return factor.clamp(*FACTORS)


def _kept(seconds: Tensor) -> Tensor:
    return torch.exp(-seconds / TIME_CONSTANT).clamp(max=_NEARLY_ALWAYS)


def _eliminate(diagonal: Tensor, beside: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    pivots, ratios = [diagonal[0]], []
    for own, side in zip(diagonal[1:], beside, strict=True):
        ratios.append(side / pivots[-1])
        pivots.append(own - side * ratios[-1])
    return ratios, pivots


def _solve(ratios: list[Tensor], pivots: list[Tensor], beside: Tensor, right: Tensor) -> Tensor:
    alone = [right[0] / pivots[0]]
    for given, side, pivot in zip(right[1:], beside, pivots[1:], strict=True):
        alone.append((given - side * alone[-1]) / pivot)
    solution = [alone[-1]]
    for own, ratio in zip(alone[-2::-1], ratios[::-1], strict=True):
        solution.append(own - ratio * solution[-1])
    return torch.stack(solution[::-1])


def _bridge(
    posterior: DriftPosterior, times: Tensor, spread: Tensor, at: Tensor
) -> tuple[Tensor, Tensor]:
    """Mean and variance (A, N) at times (A,) among those of the trials."""
    if len(times) == 1:
        return posterior.mean.expand(len(at), -1), posterior.variance.expand(len(at), -1)
    right = torch.searchsorted(times, at).clamp(1, len(times) - 1)
    left, kind = right - 1, spread.dtype
    before = _kept((at - times[left]).clamp(min=0)).to(kind)[:, None]
    after = _kept((times[right] - at).clamp(min=0)).to(kind)[:, None]
    whole = 1 - (before * after) ** 2
    from_left, from_right = before * (1 - after**2) / whole, after * (1 - before**2) / whole
    mean = from_left * posterior.mean[left] + from_right * posterior.mean[right]
    variance = (
        from_left**2 * posterior.variance[left]
        + from_right**2 * posterior.variance[right]
        + 2 * from_left * from_right * posterior.between[left]
        + spread * (1 - before**2) * (1 - after**2) / whole
    )
    return mean, variance
