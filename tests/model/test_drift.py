"""Drift of units over a session: against dense solves, what is learned, what is kept."""

import math
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from test_dynamics import HIDDEN, K, N, T, draw_spikes, make_system

from ibl_mtm.evaluation.metrics import bits_per_spike
from ibl_mtm.model.dynamics import drift
from ibl_mtm.model.dynamics import system as dynamics
from ibl_mtm.model.dynamics.drift import (
    KNOTS,
    PRIVATE,
    TIME_CONSTANT,
    Drift,
    DriftPosterior,
    fit_drift,
    learn_spread,
    own_gain,
)
from ibl_mtm.model.dynamics.fit import _Drifting, fit_dynamics
from ibl_mtm.model.dynamics.posterior import Gains
from ibl_mtm.model.dynamics.system import LinearDynamics


@pytest.fixture(autouse=True)
def _no_gradients():
    with torch.no_grad():
        yield


TIMES = torch.tensor([10.0, 13.0, 31.0, 90.0, 91.0, 400.0, 430.0]).double()
SPREAD = torch.tensor([0.05, 0.3, 1.2]).double()


def dense_covariance(times, spread):
    """Of an Ornstein-Uhlenbeck process at these times, (J, J)."""
    return spread * torch.exp(-(times[:, None] - times).abs() / TIME_CONSTANT)


def test_the_posterior_of_gains_is_that_of_a_dense_solve():
    """Over drift and own gains together, (2 J) numbers of each unit, by plain Newton steps."""
    rng = np.random.default_rng(0)
    expected = torch.from_numpy(rng.uniform(0.1, 9, (7, 3)))
    spikes = torch.from_numpy(rng.poisson(2 * expected)).double()
    found = fit_drift(spikes, expected, TIMES, SPREAD, steps=200)
    for unit in range(3):
        prior = torch.block_diag(
            torch.linalg.inv(dense_covariance(TIMES, SPREAD[unit])),
            torch.eye(7).double() / PRIVATE,
        )
        read = torch.cat([torch.eye(7), torch.eye(7)], 1).double()
        x = torch.zeros(14).double()
        for _ in range(200):
            rates = expected[:, unit] * (read @ x).exp()
            precision = prior + read.T @ (rates[:, None] * read)
            x += 0.5 * torch.linalg.solve(precision, read.T @ (spikes[:, unit] - rates) - prior @ x)
        covariance = torch.linalg.inv(precision)[:7, :7]
        # Newton's method ends where no step is longer than its tolerance.
        torch.testing.assert_close(found.mean[:, unit], x[:7], atol=2e-3, rtol=0)
        torch.testing.assert_close(found.variance[:, unit], covariance.diag(), atol=0, rtol=0.02)
        torch.testing.assert_close(found.between[:, unit], covariance.diag(1), atol=1e-4, rtol=0.02)
    # Spikes are twice what is expected: gains of units that drift much are near log 2.
    assert 0.3 < found.mean[:, 2].mean() < 0.9


def test_own_gains_by_hand():
    """3 spikes where 1 is expected: g = 0.02 (3 - e^g)."""
    gain, variance = own_gain(torch.tensor([[3.0, 1.0]]), torch.ones(1, 2), 0.02)
    g = 0.0
    for _ in range(50):
        g = 0.02 * (3 - math.exp(g))
    torch.testing.assert_close(gain, torch.tensor([[g, 0.0]]), atol=1e-4, rtol=0)
    torch.testing.assert_close(
        variance, 1 / (torch.tensor([[math.exp(g), 1.0]]) + 50), atol=1e-5, rtol=0
    )


def test_what_is_kept_is_the_posterior_between_trials():
    """At a knot: conditioning the process on the two trials beside it; and forgotten beyond."""
    posterior = DriftPosterior(
        torch.tensor([[0.4, -0.2], [1.0, 0.6]]).double(),
        torch.tensor([[0.02, 0.1], [0.04, 0.05]]).double(),
        torch.tensor([[0.01, 0.03]]).double(),
    )
    times, spread = torch.tensor([100.0, 163.0]).double(), torch.tensor([0.3, 0.8]).double()
    kept = Drift.of(posterior, times, spread)
    assert kept.mean.shape == kept.variance.shape == (2, KNOTS)
    for unit in range(2):
        at = 121.0  # knots are a second apart
        prior = dense_covariance(torch.tensor([100.0, at, 163.0]).double(), spread[unit])
        ends = prior[[0, 2]][:, [0, 2]]
        weights = torch.linalg.solve(ends, prior[[0, 2], 1])
        left = prior[1, 1] - prior[1, [0, 2]] @ weights
        given = torch.tensor(
            [
                [posterior.variance[0, unit], posterior.between[0, unit]],
                [posterior.between[0, unit], posterior.variance[1, unit]],
            ]
        )
        mean, variance = kept.at(torch.tensor([at, 99.0, 163.0 + TIME_CONSTANT]), 3)
        torch.testing.assert_close(mean[0, unit], weights @ posterior.mean[:, unit])
        torch.testing.assert_close(variance[0, unit], left + weights @ given @ weights)
        past = math.exp(-1 / TIME_CONSTANT)
        # (At the ends themselves nearly all is kept, not all: 1e-4 is forgotten at once.)
        torch.testing.assert_close(
            mean[[1, 2], unit],
            torch.tensor([past, math.exp(-1)]).double() * posterior.mean[:, unit],
            atol=0,
            rtol=2e-3,
        )
        end = math.exp(-2) * posterior.variance[1, unit] + (1 - math.exp(-2)) * spread[unit]
        torch.testing.assert_close(variance[2, unit], end, atol=0, rtol=2e-3)
    mean, variance = kept.at(None, 4)
    assert mean.shape == (4, 2)
    assert not mean.any()
    torch.testing.assert_close(variance, spread.expand(4, 2))


def test_a_single_trial_is_kept_as_it_is():
    posterior = DriftPosterior(torch.ones(1, 2), torch.full((1, 2), 0.1), torch.zeros(0, 2))
    mean, variance = Drift.of(posterior, TIMES[:1], torch.ones(2)).at(TIMES[:1], 1)
    torch.testing.assert_close(mean, torch.ones(1, 2))
    torch.testing.assert_close(variance, torch.full((1, 2), 0.1))


def test_spreads_by_hand(monkeypatch):
    """Two trials, one unit, in which all is known: the mean of two squares."""
    times = torch.tensor([0.0, TIME_CONSTANT * math.log(2)]).double()  # keeps a half
    posterior = DriftPosterior(
        torch.tensor([[0.6], [1.0]]), torch.tensor([[0.1], [0.2]]), torch.tensor([[0.05]])
    )
    moved = (0.7**2 + 0.2 + 0.25 * 0.1 - 2 * 0.5 * 0.05) / 0.75
    moved = (0.36 + 0.1 + moved) / 2
    # Spikes as many as are expected with these gains: longer ones explain them no better.
    rates = (posterior.mean + posterior.variance / 2).exp()
    slope = rates * (posterior.mean + posterior.variance)
    spikes = torch.full((2, 1), float(slope.sum() / posterior.mean.sum()))
    monkeypatch.setattr(drift, "PRIVATE", 1e-9)
    found = learn_spread(posterior, spikes, torch.ones(2, 1), times, torch.ones(1))
    torch.testing.assert_close(found, torch.tensor([moved]), atol=0, rtol=1e-4)
    # Three times as many: much longer ones would, by Newton's step; half as many: shorter ones.
    monkeypatch.setattr(drift, "MOST_SPREAD", 99.0)
    monkeypatch.setattr(drift, "FACTORS", (0.0, 9.0))
    monkeypatch.setattr(drift, "PRIOR_INFORMATION", 0.0)
    curvature = (rates * ((posterior.mean + posterior.variance) ** 2 + posterior.variance)).sum()
    for times_as_many in (3.0, 0.5):
        more = learn_spread(
            posterior, times_as_many * spikes, torch.ones(2, 1), times, torch.ones(1)
        )
        factor = 1 + (times_as_many - 1) * slope.sum() / curvature
        torch.testing.assert_close(more, moved * factor[None] ** 2, atol=0, rtol=1e-3)


def test_how_much_units_drift_is_learned():
    """From spikes of 60 units in 400 trials: half drift by 0.4, half hardly."""
    rng = np.random.default_rng(1)
    times = torch.from_numpy(np.sort(rng.uniform(0, 2000, 400)))
    gains = draw_gains(times, rng, 60) * np.where(np.arange(60) < 30, 0.4, 0.005) ** 0.5
    expected = torch.full((400, 60), 4.0).double()
    spikes = torch.from_numpy(rng.poisson(4 * np.exp(gains))).double()
    spread, begin = torch.full((60,), 0.1).double(), None
    for _ in range(40):
        posterior = fit_drift(spikes, expected, times, spread, begin)
        begin, spread = (
            posterior.mean,
            learn_spread(posterior, spikes, expected, times, spread),
        )
    assert 0.2 < spread[:30].mean() < 0.5
    assert spread[30:].mean() < 0.09
    found = posterior.mean[:, :30].flatten()
    assert np.corrcoef(found, gains[:, :30].flatten())[0, 1] > 0.9


def draw_gains(times, rng, n_units):
    """Of unit variance, (J, n)."""
    covariance = dense_covariance(times, 1.0).numpy() + 1e-9 * np.eye(len(times))
    return np.linalg.cholesky(covariance) @ rng.normal(size=(len(times), n_units))


def drifting_system(seed=0):
    """A system in double precision whose units have gains at 5 times."""
    rng = np.random.default_rng(seed)
    known = DriftPosterior(
        torch.from_numpy(rng.normal(0, 0.5, (7, N))),
        torch.from_numpy(rng.uniform(0.01, 0.2, (7, N))),
        torch.zeros(6, N).double(),
    )
    spread = torch.from_numpy(rng.uniform(0.1, 0.5, N))
    return replace(make_system(), drift=Drift.of(known, TIMES, spread))


@pytest.mark.parametrize("what", HIDDEN)
def test_components_and_gains_stand_still_together(what, monkeypatch):
    """Nothing that is visible moves either: the slope of their joint density, plainly, is zero."""
    monkeypatch.setattr(dynamics, "TOLERANCE", 1e-8)
    system = drifting_system()
    counts, _ = draw_spikes(system, 3)
    visible = ~HIDDEN[what].bool()
    gains = system.gains(torch.tensor([11.0, 200.0, 1000.0]), 3)
    found = system.infer(counts, visible[None], None, gains)
    seen = visible.double().expand(3, T, N)
    with torch.enable_grad():
        z, g = found.mean.clone().requires_grad_(), found.gain.clone().requires_grad_()
        log_rate = system.offset + z @ system.loading.T + g[:, None]
        density = (seen * (counts * log_rate - log_rate.exp())).sum()
        away = z - system.course
        step = away[:, 1:] - away[:, :-1] @ system.transition.T
        first, noise = torch.linalg.inv(system.first_noise), torch.linalg.inv(system.noise)
        density = density - torch.einsum("bk,kl,bl->", away[:, 0], first, away[:, 0]) / 2
        density = density - torch.einsum("btk,kl,btl->", step, noise, step) / 2
        density = density - ((g - gains.mean) ** 2 / gains.variance).sum() / 2
        slopes = torch.autograd.grad(density, [z, g])
    for slope in slopes:
        torch.testing.assert_close(slope, torch.zeros_like(slope), atol=1e-6, rtol=0)
    # What says nothing of a unit leaves its gain as it was known.
    unseen = ~visible.expand(T, N).any(0)
    torch.testing.assert_close(found.gain[:, unseen], gains.mean[:, unseen])


def test_known_gains_stay():
    system = make_system()
    counts, _ = draw_spikes(system, 2)
    known = torch.linspace(-0.5, 0.5, 2 * N).double().view(2, N)
    visible = torch.ones(1, 1, 1, dtype=torch.bool)
    found = system.infer(counts, visible, None, Gains(known))
    assert torch.equal(found.gain, known)
    one = replace(system, offset=system.offset + known[1]).infer(counts[1:], visible)
    torch.testing.assert_close(found.mean[1], one.mean[0], atol=2e-3, rtol=0)


def test_gains_are_part_of_log_rates_by_trial_and_unit():
    system = drifting_system()
    counts, _ = draw_spikes(system, 2)
    gains = system.gains(TIMES[:2], 2)
    found = system.infer(counts, torch.ones(1, 1, 1, dtype=torch.bool), None, gains)
    without = replace(found, gain=None)
    log_rates = system.log_rates(found)
    torch.testing.assert_close(log_rates, system.log_rates(without) + found.gain[:, None])
    some = torch.tensor([4, 1])
    torch.testing.assert_close(system.log_rates(found, some), log_rates[..., some])
    each = torch.tensor([[4, 1], [0, 5]])
    torch.testing.assert_close(system.log_rates(found, each)[1], log_rates[1][:, [0, 5]])
    torch.testing.assert_close(found.gain_of(each)[0], found.gain[0, [4, 1]])
    torch.testing.assert_close(found.last(3).gain, found.gain)


@pytest.mark.parametrize("what", HIDDEN)
def test_a_hidden_entry_never_reaches_a_gain(what):
    """To the bit, wherever the search for the mode begins."""
    system = drifting_system()
    counts, _ = draw_spikes(system, 3)
    hidden, gains = HIDDEN[what].bool(), system.gains(TIMES[:3], 3)
    other = torch.where(hidden.expand(T, N), counts + 7, counts)
    start = system.infer(counts, ~hidden[None], None, gains)
    for begin in (None, start):
        before, after = (
            system.log_rates(system.infer(y, ~hidden[None], begin, gains)) for y in (counts, other)
        )
        assert torch.equal(before, after)


def draw_session():
    """80 trials of a system whose units wander, each by itself: counts, times, gains."""
    system, rng = make_system(seed=4, n_units=25, n_time=30), np.random.default_rng(3)
    times = torch.from_numpy(np.sort(rng.uniform(0, 900, 80)))
    gains = 0.8 * draw_gains(times, rng, 25)
    _, z = draw_spikes(system, 80, seed=5)
    log_rates = system.offset + z @ system.loading.T + torch.from_numpy(gains)[:, None]
    counts = torch.from_numpy(rng.poisson(log_rates.exp().numpy()))
    return counts, times, gains


def test_a_fit_finds_drifts_and_predicts_better_with_them():
    counts, times, gains = draw_session()
    fit, test = np.arange(80) % 4 != 2, np.arange(80) % 4 == 2
    scores = {}
    for name, known in (("plain", None), ("drift", times[fit])):
        system = fit_dynamics(counts[fit], components=4, times=known)
        prior = system.gains(times[test], int(test.sum()))
        predicted = []
        for unit in range(25):
            visible = torch.arange(25)[None, None] != unit
            posterior = system.infer(counts[test], visible, None, prior)
            predicted.append(system.log_rates(posterior, torch.tensor([unit])).exp())
        found = torch.cat(predicted, -1).numpy()
        scores[name] = bits_per_spike(found, counts[test].numpy()).mean()
    assert scores["drift"] > scores["plain"] + 0.03
    mean, _ = system.drift.at(times[test], int(test.sum()))
    # Offsets and components take their part of gains.
    found, true = (x - x.mean(0) for x in (mean.numpy(), gains[test]))
    assert np.corrcoef(found.flatten(), true.flatten())[0, 1] > 0.5


def test_what_a_unit_gains_in_all_trials_is_its_offset():
    """By hand: the mean rate over trials, weighed by what is expected, has no gain."""
    system, times = make_system(), torch.tensor([0.0, 30.0, 60.0]).double()
    spikes, _ = draw_spikes(system, 3)
    spread = torch.full((N,), 0.3).double()
    drifting = _Drifting(spikes, times)
    drifting.spread = spread
    posterior = system.infer(spikes, torch.ones(1, 1, 1, dtype=torch.bool))
    mean = torch.tensor([0.9, 0.5, 0.1]).double()[:, None] + torch.arange(N).double() / 10
    variance = torch.full_like(mean, 0.2)
    drifting.posterior = DriftPosterior(mean, variance, variance[1:] / 2)
    found = drifting.finish(system, posterior)
    expected = system.log_rates(posterior).exp().sum(1).numpy()
    centre = np.log((expected * np.exp(mean.numpy() + 0.1)).sum(0) / expected.sum(0))
    np.testing.assert_allclose(found.offset, system.offset.numpy() + centre)
    known, _ = found.drift.at(times, 3)
    np.testing.assert_allclose(known[[0, 2]], (mean.numpy() - centre)[[0, 2]], atol=1e-3)
    assert found.drift.spread is spread
    assert torch.equal(found.loading, system.loading)


def test_gains_of_a_fit_have_a_mean_of_one():
    counts, times, _ = draw_session()
    fitted = fit_dynamics(counts + 1, 3, iterations=8, times=times)
    gains, variance = fitted.drift.at(times, 80)
    mean = (gains + variance / 2).exp().mean(0)
    torch.testing.assert_close(mean, torch.ones_like(mean), atol=0.1, rtol=0)


def test_trials_may_come_in_any_order():
    counts, times, _ = draw_session()
    order = torch.randperm(80, generator=torch.Generator().manual_seed(0))
    one = fit_dynamics(counts.double(), 3, iterations=6, times=times)
    other = fit_dynamics(counts[order].double(), 3, iterations=6, times=times[order])
    torch.testing.assert_close(one.drift.mean, other.drift.mean, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(one.drift.span, times[[0, -1]])
    assert len(one.loading.T) == K


def test_trials_at_one_time_are_no_trouble():
    counts, times, _ = draw_session()
    times[10:14] = times[10]
    fitted = fit_dynamics(counts, 3, iterations=6, times=times)
    assert fitted.drift.mean.isfinite().all()
    assert (fitted.drift.variance > 0).all()


def test_a_wild_trial_changes_no_other(monkeypatch):
    """Where single precision is too coarse for one trial, that one alone is found in double."""
    monkeypatch.setattr(dynamics, "NEWTON_STEPS", 22)
    system = drifting_system()
    tables = {f.name: getattr(system, f.name) for f in fields(system) if f.name != "drift"}
    known = {name: table.float() for name, table in tables.items() if table is not None}
    single = LinearDynamics(**known)
    counts, _ = draw_spikes(system, 3)
    gains = Gains(torch.zeros(3, N), torch.full((3, N), 0.5))
    visible = torch.ones(1, 1, 1, dtype=torch.bool)
    found = []
    exactly = LinearDynamics._find_exactly
    monkeypatch.setattr(
        LinearDynamics,
        "_find_exactly",
        lambda self, *args: (found.append(args[2]), exactly(self, *args)),
    )
    calm = single.infer(counts, visible, None, gains)
    assert not found
    wild = counts.clone()
    wild[2] += 100
    monkeypatch.setattr(LinearDynamics, "_double", lambda self: _patient(monkeypatch, system))
    among = single.infer(wild, visible, None, gains)
    assert [rows.tolist() for rows in found] == [[2]]
    torch.testing.assert_close(among.mean[:2], calm.mean[:2], atol=1e-6, rtol=0)
    torch.testing.assert_close(among.gain[:2], calm.gain[:2], atol=1e-6, rtol=0)
    exact = system.infer(wild, visible, None, Gains(gains.mean.double(), gains.variance.double()))
    torch.testing.assert_close(among.mean[2], exact.mean[2].float(), atol=5e-3, rtol=1e-3)


def _patient(monkeypatch, system):
    monkeypatch.setattr(dynamics, "NEWTON_STEPS", 500)
    return system
