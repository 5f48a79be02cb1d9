"""Fit a Poisson linear dynamical system to the training trials of a session.

system = fit_dynamics(counts, components=20)

Expectation-maximisation with Laplace's approximation (Macke et al., NeurIPS 2011). What a unit
gains from a component has a Gaussian prior about 0, whose width is learned for each component from
all units (automatic relevance determination: MacKay, 1995; Bishop, 2006, section 7.2): a component
that few spikes speak for is switched off. So the number of components is an upper limit, nothing
has to be chosen on other trials, and units with few spikes keep small loadings.
"""

import logging
from dataclasses import replace

import torch
from torch import Tensor

from ibl_mtm.model.dynamics.blocks import quadratic
from ibl_mtm.model.dynamics.drift import (
    PRIVATE,
    START_SPREAD,
    Drift,
    DriftPosterior,
    fit_drift,
    learn_spread,
    own_gain,
)
from ibl_mtm.model.dynamics.posterior import Gains, Posterior
from ibl_mtm.model.dynamics.system import HIGHEST, LinearDynamics

__all__ = ["fit_dynamics"]

logger = logging.getLogger(__name__)

#: Passes of expectation-maximisation: with fewer, and with more, held-out trials score worse.
ITERATIONS = 20
#: Passes before gains drift.
SETTLED = 3
#: Width (bins) of the Gaussian that counts are smoothed by for the start.
START_WIDTH = 3.0
#: Precision of loadings at the start.
START_PRECISION = 10.0
#: What moves are drawn to: components that each keep so much of themselves from bin to bin, as much
#: as so many trials would. With tens of trials it is worth 0.02 bits/spike, with hundreds nothing.
PERSISTENCE = 0.95
PRIOR_TRIALS = 3
#: Largest eigenvalue of the transition: components forget.
STABLE = 0.998
#: Smallest noise variance of a component of variance 1: less could not be told in single precision.
LEAST_NOISE = 1e-3
#: Precision of the prior of offsets, and what keeps matrices from being singular.
WEAK = 1e-3
SMALL = 1e-5
#: Units whose loadings are fitted at a time.
BLOCK = 256


def fit_dynamics(
    counts: Tensor,
    components: int,
    iterations: int | None = None,
    times: Tensor | None = None,
) -> LinearDynamics:
    """Fit a system to trials.

    Parameters
    ----------
    counts : Tensor (B, T, N)
        Spikes per bin, any dtype; computed in single precision unless it is float64.
    components
        Number K of components at most.
    iterations
        Passes of expectation-maximisation; by default `ITERATIONS`.
    times : Tensor (B,), float64, optional
        When the trials were, s on the session's clock: units' gains that drift over the session are
        fitted too (see `ibl_mtm.model.dynamics.drift`).

    Raises
    ------
    ArithmeticError
        If the fit fails (see `LinearDynamics.infer`).
    """
    counts = counts if counts.dtype == torch.float64 else counts.float()
    system = start_dynamics(counts, components)
    precision = counts.new_full((components,), START_PRECISION)
    visible = torch.ones(1, 1, 1, dtype=torch.bool, device=counts.device)
    posterior: Posterior | None = None
    drifting = None if times is None else _Drifting(counts, times)
    gain: Tensor | None = None
    for at in range(iterations or ITERATIONS):
        gains = None if gain is None else Gains(gain)
        system, posterior = whiten(system, system.infer(counts, visible, posterior, gains))
        if drifting is not None and at >= SETTLED:
            gain = drifting.update(system, posterior, learn=at >= SETTLED + 2)
        system = fit_moves(system, posterior)
        system, precision = fit_loadings(system, posterior, counts, precision, gain)
    if posterior is None:
        return system
    system = replace(system, highest=system.log_rates(posterior).amax((0, 1)))
    return system if drifting is None else drifting.finish(system, posterior)


class _Drifting:
    """Units' gains as they are while a system is fitted, of trials in the order of their times."""

    def __init__(self, counts: Tensor, times: Tensor) -> None:
        self.order = times.argsort(stable=True)
        self.times = times[self.order].double()
        self.spread = counts.new_full(counts.shape[2:], START_SPREAD)
        self.spikes = counts.sum(1)[self.order]
        self.posterior: DriftPosterior | None = None

    def update(self, system: LinearDynamics, posterior: Posterior, learn: bool) -> Tensor:
        """Gains (B, N) that explain what the system leaves, and half of their variance."""
        expected = self.expected(system, posterior)
        begin = None if self.posterior is None else self.posterior.mean
        found = fit_drift(self.spikes, expected, self.times, self.spread, begin)
        self.posterior = found
        if learn:
            self.spread = learn_spread(found, self.spikes, expected, self.times, self.spread)
        slow = found.mean + found.variance / 2
        own, variance = own_gain(self.spikes, expected * slow.exp(), PRIVATE)
        gain = torch.empty_like(slow)
        gain[self.order] = slow + own + variance / 2
        return gain

    def finish(self, system: LinearDynamics, posterior: Posterior) -> LinearDynamics:
        """Put the drift into a system: a gain that a unit has in all trials is its offset's."""
        if self.posterior is None:
            return system
        expected = self.expected(system, posterior)
        found = self.posterior
        drifting = expected * (found.mean + found.variance / 2).exp()
        centre = (drifting.sum(0).clamp(min=SMALL) / expected.sum(0).clamp(min=SMALL)).log()
        found = replace(found, mean=found.mean - centre)
        drift = Drift.of(found, self.times, self.spread)
        return replace(system, offset=system.offset + centre, drift=drift)

    def expected(self, system: LinearDynamics, posterior: Posterior) -> Tensor:
        """Spikes (trial in order, unit) that a system without gains expects."""
        without = replace(posterior, gain=None)
        return system.log_rates(without).exp().sum(1)[self.order]


def start_dynamics(counts: Tensor, components: int) -> LinearDynamics:
    """A system to begin with: principal components of smoothed root counts.

    Each unit's smoothed relative rate is regressed on them for its loadings.
    """
    B, T, N = counts.shape
    found = min(components, N)
    time = torch.arange(T, dtype=counts.dtype, device=counts.device)
    kernel = (-(((time[:, None] - time) / START_WIDTH) ** 2) / 2).exp()
    kernel /= kernel.sum(1, keepdim=True)
    x = (kernel @ counts.sqrt()).flatten(0, 1)
    x = (x - x.mean(0)) / x.std(0).clamp(min=SMALL)
    axes = torch.linalg.eigh(x.T @ x / len(x))[1][:, -found:].flip(1)
    z = x @ axes
    z = z / z.std(0).clamp(min=SMALL)
    mean = (counts.sum((0, 1)) + 0.5) / (B * T)
    relative = ((kernel @ counts) / mean - 1).flatten(0, 1)
    identity = torch.eye(components, dtype=counts.dtype, device=counts.device)
    loading = counts.new_zeros(N, components)
    square = z.T @ z + len(z) * SMALL * identity[:found, :found]
    loading[:, :found] = torch.linalg.solve(square, z.T @ relative).T.clamp(-1, 1)
    return LinearDynamics(
        loading=loading,
        offset=mean.log(),
        transition=0.9 * identity,
        noise=(1 - 0.9**2) * identity,
        first_noise=identity,
        course=counts.new_zeros(T, components),
    )


def whiten(system: LinearDynamics, posterior: Posterior) -> tuple[LinearDynamics, Posterior]:
    """The same system in other coordinates: components of mean 0, unit variance, uncorrelated.

    They are rotated so that loadings, weighted by rates, are uncorrelated too: strongest first.
    Only in fixed units does a prior of loadings mean anything. Log rates stay as they are; the
    moves are left to `fit_moves`.
    """
    z = posterior.mean
    centre = z.mean((0, 1))
    away = (z - centre).flatten(0, 1)
    moment = away.T @ away / len(away) + posterior.covariance.mean((0, 1))
    values, axes = torch.linalg.eigh(moment)
    scale = (axes / values.clamp(min=SMALL).sqrt()).T
    loading = system.loading @ torch.linalg.inv(scale)
    rates = system.offset.exp()[:, None]
    turn = torch.linalg.eigh((loading * rates).T @ loading)[1].flip(1).T
    change = turn @ scale
    back = torch.linalg.inv(change)
    moved = replace(
        system,
        loading=system.loading @ back,
        offset=system.offset + system.loading @ centre,
        transition=change @ system.transition @ back,
        noise=change @ system.noise @ change.T,
        first_noise=change @ system.first_noise @ change.T,
        course=(system.course - centre) @ change.T,
    )
    covariance, between = (change @ x @ change.T for x in (posterior.covariance, posterior.between))
    mean = (z - centre) @ change.T
    return moved, replace(posterior, mean=mean, covariance=covariance, between=between)


def fit_moves(system: LinearDynamics, posterior: Posterior) -> LinearDynamics:
    """The best mean course, transition and noises for a posterior, in closed form.

    To what trials say of transition and noises, `PRIOR_TRIALS` are added whose components have unit
    variance, keep `PERSISTENCE` of themselves, and nothing of each other: the same in any rotation.
    """
    z = posterior.mean
    B, T, K = z.shape
    identity = torch.eye(K, dtype=z.dtype, device=z.device)
    course = z.mean(0)
    away = z - course
    now, after = away[:, :-1].flatten(0, 1), away[:, 1:].flatten(0, 1)
    first_noise = away[:, 0].T @ away[:, 0] + posterior.covariance[:, 0].sum(0)
    first_noise = (first_noise + PRIOR_TRIALS * identity) / (B + PRIOR_TRIALS)
    if T == 1:
        return replace(system, course=course, first_noise=first_noise + LEAST_NOISE * identity)
    added = PRIOR_TRIALS * (T - 1) * identity
    now_now = now.T @ now + posterior.covariance[:, :-1].sum((0, 1)) + added
    after_after = after.T @ after + posterior.covariance[:, 1:].sum((0, 1)) + added
    after_now = after.T @ now + posterior.between.sum((0, 1)).T + PERSISTENCE * added
    n = (B + PRIOR_TRIALS) * (T - 1)
    transition = torch.linalg.solve(now_now + n * SMALL * identity, after_now.T).T
    # Of so few components the CPU is the quicker.
    largest = torch.linalg.eigvals(transition.cpu()).abs().amax().to(z.device)
    transition = transition * (STABLE / largest.clamp(min=STABLE))
    crossed = transition @ after_now.T
    noise = after_after - crossed - crossed.T + transition @ now_now @ transition.T
    return replace(
        system,
        course=course,
        transition=transition,
        noise=(noise + noise.T) / (2 * n) + LEAST_NOISE * identity,
        first_noise=(first_noise + first_noise.T) / 2 + LEAST_NOISE * identity,
    )


def fit_loadings(
    system: LinearDynamics,
    posterior: Posterior,
    counts: Tensor,
    precision: Tensor,
    gain: Tensor | None = None,
) -> tuple[LinearDynamics, Tensor]:
    """Better offsets and loadings for a posterior, and the precision (K,) of loadings' prior.

    Two Newton steps on each unit's expected log-likelihood and prior, shortened where they would
    lower it; then the precision that explains loadings and their uncertainty over units.
    """
    z = posterior.mean.flatten(0, 1)
    covariance = posterior.covariance.flatten(0, 1)
    h = torch.cat([torch.ones_like(z[:, :1]), z], 1)  # a unit's weights: offset, then loadings
    squares = (h[:, :, None] * h[:, None, :]).flatten(1)
    prior = torch.cat([precision.new_tensor([WEAK]), precision])
    weights = torch.cat([system.offset[:, None], system.loading], 1)
    variances = torch.empty_like(system.loading)
    for first in range(0, len(weights), BLOCK):
        some = slice(first, first + BLOCK)
        y = counts[..., some].flatten(0, 1)
        # What a unit's gain in a trial adds to its log rates there, (trial and bin, n).
        known = None if gain is None else gain[:, some].repeat_interleave(counts.shape[1], 0)
        weights[some], variances[some] = _fit_block(
            weights[some], y, h, squares, covariance, prior, known
        )
    loading = weights[:, 1:].contiguous()
    explained = (loading**2 + variances).mean(0)
    fitted = replace(system, offset=weights[:, 0].contiguous(), loading=loading)
    return fitted, 1 / explained.clamp(min=SMALL)


def _fit_block(
    w: Tensor,
    y: Tensor,
    h: Tensor,
    squares: Tensor,
    covariance: Tensor,
    prior: Tensor,
    known: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    K1, flat = h.shape[1], covariance.flatten(1)
    spikes = y.T @ h  # (n, 1 + K)
    # The offset is drawn to where it is: only loadings have a prior that says something.
    centre = torch.zeros_like(w)
    centre[:, 0] = w[:, 0]

    def value(w: Tensor) -> tuple[Tensor, Tensor]:
        spread = quadratic(covariance[None], w[:, 1:])[0]
        log_rates = h @ w.T + spread / 2
        if known is not None:
            log_rates += known
        rates = log_rates.clamp(max=HIGHEST).exp()
        gain = (spikes * w).sum(1) - rates.sum(0) - (prior * (w - centre) ** 2).sum(1) / 2
        return gain, rates

    best, rates = value(w)
    curvature = w.new_empty(0)
    for _ in range(2):
        weighted = (rates.T @ flat).unflatten(1, (K1 - 1, K1 - 1))
        slope = spikes - rates.T @ h - prior * (w - centre)
        slope[:, 1:] -= (weighted @ w[:, 1:, None])[..., 0]
        curvature = (rates.T @ squares).unflatten(1, (K1, K1)) + torch.diag(prior)
        curvature[:, 1:, 1:] += weighted
        step = torch.linalg.solve(curvature, slope)
        length = torch.ones_like(best)[:, None]
        for _ in range(6):
            gain, tried = value(w + length * step)
            worse = ~(gain >= best)
            if not worse.any():
                break
            length = torch.where(worse[:, None], 0.3 * length, length)
        w = torch.where(worse[:, None], w, w + length * step)
        best, rates = torch.where(worse, best, gain), torch.where(worse, rates, tried)
    return w, torch.linalg.inv(curvature).diagonal(dim1=1, dim2=2)[:, 1:]
