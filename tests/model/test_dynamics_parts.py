"""Single steps of fitting dynamics and drifts, by hand and against plain loops."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from test_drift import TIMES, drifting_system
from test_dynamics import HIDDEN, K, N, T, draw_spikes, expected_log_joint, make_system

from ibl_mtm.model.dynamics import fit as fit_module
from ibl_mtm.model.dynamics import system as dynamics
from ibl_mtm.model.dynamics.drift import (
    KNOTS,
    PRIVATE,
    TIME_CONSTANT,
    Drift,
    DriftPosterior,
    fit_drift,
    learn_spread,
)
from ibl_mtm.model.dynamics.fit import (
    _Drifting,
    fit_dynamics,
    fit_loadings,
    fit_moves,
    start_dynamics,
    whiten,
)
from ibl_mtm.model.dynamics.posterior import Gains, Posterior

EVERYTHING = torch.ones(1, 1, 1, dtype=torch.bool)


@pytest.fixture(autouse=True)
def _no_gradients():
    with torch.no_grad():
        yield


def own_gain_of(spikes, expected):
    """The gain of one trial alone by bisection of its slope, and its variance."""
    low, high = -20.0, 20.0
    for _ in range(200):
        g = (low + high) / 2
        if spikes - expected * math.exp(g) - g / PRIVATE > 0:
            low = g
        else:
            high = g
    return g, 1 / (expected * math.exp(g) + 1 / PRIVATE)


def test_between_knots_a_drift_goes_straight():
    """Up to the last of them; the place of each is its time."""
    rng = np.random.default_rng(0)
    mean, variance = rng.normal(size=(2, 3, KNOTS)) ** [[[1]], [[2]]]
    span = torch.tensor([20.0, 335.0]).double()  # a knot every five seconds
    kept = Drift(torch.from_numpy(mean), torch.from_numpy(variance), torch.ones(3).double(), span)
    times = np.array([335.0, 20, 331.25, 334, 22.5, 161.7, 25])
    found = kept.at(torch.from_numpy(times), 7)
    knots = np.linspace(20, 335, KNOTS)
    for values, table in zip(found, (mean, variance), strict=True):
        expected = [np.interp(times, knots, row) for row in table]
        np.testing.assert_allclose(values.T, expected, atol=1e-9)


def test_a_session_of_one_trial_has_a_drift_too():
    spikes, expected = torch.tensor([[7.0, 0.0]]).double(), torch.tensor([[2.0, 3.0]]).double()
    spread = torch.tensor([0.5, 0.1]).double()
    found = fit_drift(spikes, expected, TIMES[:1], spread, steps=50)
    assert found.between.shape == (0, 2)
    for unit in range(2):
        g = float(found.mean[0, unit])
        own, _ = own_gain_of(float(spikes[0, unit]), float(expected[0, unit]) * math.exp(g))
        rate = float(expected[0, unit]) * math.exp(g + own)
        assert float(spikes[0, unit]) - rate == pytest.approx(g / float(spread[unit]), abs=0.02)
        precision = 1 / float(spread[unit]) + rate / (1 + PRIVATE * rate)
        assert float(found.variance[0, unit]) == pytest.approx(1 / precision, rel=1e-2)


def test_spreads_of_two_units_by_hand():
    """Each drawn to the mean of both, then lengthened as its spikes ask and as those of both do."""
    seconds = [0.0, 40.0, 55.0]
    mean = np.array([[0.6, -0.1], [0.9, 0.2], [0.5, 0.1]])
    variance = np.array([[0.1, 0.05], [0.2, 0.04], [0.15, 0.06]])
    between = np.array([[0.05, 0.01], [0.08, 0.02]])
    spikes = np.array([[5, 2], [9, 3], [3, 1]])
    expected = np.array([[2.0, 2.5], [2.5, 2.0], [2.2, 1.5]])
    posterior = DriftPosterior(*map(torch.from_numpy, (mean, variance, between)))
    found = learn_spread(
        posterior, torch.from_numpy(spikes).double(), torch.from_numpy(expected),
        torch.tensor(seconds).double(), torch.tensor([0.3, 0.3]).double(),
    )  # fmt: skip
    own = np.zeros(2)
    slope, information = np.zeros(2), np.zeros(2)
    for unit in range(2):
        m, v, b = mean[:, unit], variance[:, unit], between[:, unit]
        own[unit] = m[0] ** 2 + v[0]
        for j in (1, 2):
            keep = math.exp(-(seconds[j] - seconds[j - 1]) / TIME_CONSTANT)
            moved = (m[j] - keep * m[j - 1]) ** 2 + v[j] + keep**2 * v[j - 1]
            own[unit] += (moved - 2 * keep * b[j - 1]) / (1 - keep**2)
        own[unit] /= 3
        for j in range(3):
            slow = expected[j, unit] * math.exp(m[j] + v[j] / 2)
            alone, spread = own_gain_of(spikes[j, unit], slow)
            rate = slow * math.exp(alone + spread / 2)
            slope[unit] += spikes[j, unit] * m[j] - rate * (m[j] + v[j])
            information[unit] += rate * ((m[j] + v[j]) ** 2 + v[j])
    own = (3 * own + 20 * own.mean()) / 23
    of_all = slope.sum() / information.sum()
    factor = 1 + (slope + 20 * of_all) / (information + 20)
    assert ((factor > 0.7) & (factor < 1.4)).all()
    np.testing.assert_allclose(found, own * factor**2, rtol=1e-4)
    # Gains that explain nothing are shortened, and lengthened, only so far.
    for times_as_many, most in ((0, 0.7), (50, 1.4)):
        found = learn_spread(
            posterior, torch.from_numpy(times_as_many * spikes).double(),
            torch.from_numpy(expected), torch.tensor(seconds).double(), torch.ones(2).double(),
        )  # fmt: skip
        np.testing.assert_allclose(found, (own * most**2).clip(max=1), rtol=1e-4)


@pytest.mark.parametrize("learn", [False, True])
def test_gains_of_trials_are_their_drift_and_their_own(learn):
    """In the order in which trials come, whatever their times; with half of the variances."""
    system = make_system()
    spikes = draw_spikes(system, 4)[0].double()
    times = torch.tensor([60.0, 0.0, 90.0, 30.0]).double()
    posterior = system.infer(spikes, EVERYTHING)
    drifting = _Drifting(spikes, times)
    before = drifting.spread.clone()
    found = drifting.update(system, posterior, learn)
    expected = system.log_rates(posterior).exp().sum(1)
    order = [1, 3, 0, 2]
    assert torch.equal(drifting.times, times[order])
    for at, trial in enumerate(order):
        for unit in (0, 4):
            of_drift = drifting.posterior
            slow = float(of_drift.mean[at, unit] + of_drift.variance[at, unit] / 2)
            n = float(spikes[trial, :, unit].sum())
            own, variance = own_gain_of(n, float(expected[trial, unit]) * math.exp(slow))
            gain = slow + own + variance / 2
            assert float(found[trial, unit]) == pytest.approx(gain, abs=1e-3)
    assert torch.equal(drifting.spread, before) != learn
    again = drifting.update(system, posterior, learn=False)  # from where it was
    torch.testing.assert_close(again, found, atol=0.1 if learn else 0.02, rtol=0)


def test_gains_drift_after_three_passes_and_their_spread_is_learned_after_five(monkeypatch):
    learned, known = [], []

    def update(self, system, posterior, learn):
        learned.append(learn)
        return torch.full((6, N), 0.01 * len(learned)).double()

    loadings = fit_module.fit_loadings
    monkeypatch.setattr(_Drifting, "update", update)
    monkeypatch.setattr(
        fit_module, "fit_loadings", lambda *given: (known.append(given[4]), loadings(*given))[1]
    )
    counts, _ = draw_spikes(make_system(), 6)
    fit_dynamics(counts.double(), 2, iterations=7, times=torch.arange(6.0).double())
    assert learned == [False, False, True, True]
    assert [None if gain is None else round(float(gain[0, 0]), 2) for gain in known] == [
        None, None, None, 0.01, 0.02, 0.03, 0.04,
    ]  # fmt: skip
    known.clear()
    fit_dynamics(counts, 2, iterations=5)
    assert known == [None] * 5


def test_a_fit_begins_at_the_mean_with_components_that_keep_nine_tenths():
    rng = np.random.default_rng(3)
    counts = rng.poisson(0.3, (7, 9, 4))
    counts[:, :, 2] = 0
    found = start_dynamics(torch.from_numpy(counts).double(), 3)
    np.testing.assert_allclose(found.offset, np.log((counts.sum((0, 1)) + 0.5) / 63))
    identity = torch.eye(3).double()
    torch.testing.assert_close(found.transition, 0.9 * identity)
    torch.testing.assert_close(found.noise, 0.19 * identity)
    assert torch.equal(found.first_noise, identity)
    assert not found.course.any()
    assert found.course.shape == (9, 3)


def test_loadings_begin_between_minus_one_and_one():
    course = np.sin(np.arange(40) / 6)[None, :, None] * [[[3.0, -3.0, 0.1]]]
    counts = np.random.default_rng(0).poisson(np.exp(course - 1), (30, 40, 3))
    found = start_dynamics(torch.from_numpy(counts).double(), 1).loading[:, 0]
    assert sorted(found[:2].tolist()) == [-1, 1]
    assert found[2].abs() < 1


def test_components_are_turned_so_that_loadings_weighted_by_rates_are_uncorrelated():
    """The strongest first; moves and mean course are the same in other coordinates."""
    system = make_system()
    counts, _ = draw_spikes(system, 40)
    posterior = system.infer(counts, EVERYTHING)
    moved, white = whiten(system, posterior)
    weighted = moved.loading.T @ (system.offset.exp()[:, None] * moved.loading)
    strengths = weighted.diagonal()
    torch.testing.assert_close(weighted, torch.diag(strengths), atol=1e-9, rtol=0)
    assert (strengths[:-1] > strengths[1:]).all()
    for one, other in ((system, moved),):
        rates = [s.offset + s.course @ s.loading.T for s in (one, other)]
        torch.testing.assert_close(*rates)
        spread = [s.loading @ s.noise @ s.loading.T for s in (one, other)]
        torch.testing.assert_close(*spread)
        spread = [s.loading @ s.first_noise @ s.loading.T for s in (one, other)]
        torch.testing.assert_close(*spread)
        step = [s.loading @ s.transition @ torch.linalg.pinv(s.loading) for s in (one, other)]
        torch.testing.assert_close(*step)
    both = [s.loading @ p.between @ s.loading.T for s, p in ((system, posterior), (moved, white))]
    torch.testing.assert_close(*both)


def test_components_that_would_grow_are_held_back():
    """One that doubles from bin to bin: its noise is what the transition that is kept leaves."""
    z = torch.tensor([[1.0, 2, 4, 8], [-1, -2, -4, -8]]).double()[..., None]
    zeros = torch.zeros(2, 4, 1, 1).double(), torch.zeros(2, 3, 1, 1).double()
    found = fit_moves(make_system(), Posterior(z, *zeros))
    now, after = 2 * (1 + 4 + 16) + 9, 2 * (4 + 16 + 64) + 9
    crossed = 2 * (2 + 8 + 32) + 0.95 * 9
    assert crossed / now > 1
    assert float(found.transition) == pytest.approx(0.998)
    noise = (after - 2 * 0.998 * crossed + 0.998**2 * now) / 15 + 1e-3
    assert float(found.noise) == pytest.approx(noise)


def loadings_case(n_units=2):
    rng = np.random.default_rng(2)
    z = torch.from_numpy(rng.normal(size=(20, T, K)) * [1, 0.5, 0.7])
    covariance = 0.1 * torch.eye(K).double().expand(20, T, K, K)
    posterior = Posterior(z, covariance, torch.zeros(20, T - 1, K, K).double())
    counts = torch.from_numpy(rng.poisson(1.2, (20, T, n_units))).double()
    system = make_system(n_units=n_units)
    return replace(system, loading=0.1 * system.loading), posterior, counts


def test_loadings_take_two_newton_steps_at_a_time():
    system, posterior, counts = loadings_case()
    precision = torch.tensor([2.0, 5.0, 10.0]).double()
    found, _ = fit_loadings(system, posterior, counts, precision)
    h = np.concatenate([np.ones((20 * T, 1)), posterior.mean.reshape(-1, K).numpy()], 1)
    prior, own = np.array([1e-3, 2, 5, 10]), np.diag([0, 0.1, 0.1, 0.1])
    for unit in range(2):
        y = counts[..., unit].reshape(-1).numpy()
        start = w = np.array([float(system.offset[unit]), *system.loading[unit].tolist()])
        for _ in range(2):
            rates = np.exp(h @ w + w @ own @ w / 2)
            away = w - [start[0], 0, 0, 0]
            slope = h.T @ (y - rates) - rates.sum() * (own @ w) - prior * away
            curvature = (h.T * rates) @ h + rates.sum() * own + np.diag(prior)
            w = w + np.linalg.solve(curvature, slope)
        np.testing.assert_allclose(found.offset[unit], w[0], rtol=1e-6)
        np.testing.assert_allclose(found.loading[unit], w[1:], rtol=1e-5)


def test_steps_that_would_make_a_unit_worse_are_shortened():
    """From far too low a rate a whole step goes far too high; other units take theirs."""
    system, posterior, counts = loadings_case()
    offset = torch.tensor([-5.0, float(counts[..., 1].mean().log())]).double()
    system, precision = replace(system, offset=offset), torch.ones(K).double()
    found, _ = fit_loadings(system, posterior, counts, precision)
    assert -4.5 < found.offset[0] < 0.5
    for unit in range(2):
        one, other = (
            replace(s, loading=s.loading[[unit]], offset=s.offset[[unit]]) for s in (system, found)
        )
        y = counts[..., [unit]]
        before, after = (expected_log_joint(s, posterior, y, precision) for s in (one, other))
        assert after > before + 0.1


def test_known_gains_stay_wherever_the_search_begins():
    """Those of an earlier posterior are not taken for them."""
    system = make_system()
    counts, _ = draw_spikes(system, 2)
    start = system.infer(counts, EVERYTHING, None, Gains(torch.full((2, N), 0.7).double()))
    known = torch.linspace(-0.5, 0.5, 2 * N).double().view(2, N)
    found = system.infer(counts, EVERYTHING, start, Gains(known))
    assert torch.equal(found.gain, known)
    fresh = system.infer(counts, EVERYTHING, None, Gains(known))
    torch.testing.assert_close(found.mean, fresh.mean, atol=5e-3, rtol=0)


def test_trials_of_a_single_bin_are_inferred_too(monkeypatch):
    """Where nothing moves: the prior's pull is that of the spikes."""
    monkeypatch.setattr(dynamics, "TOLERANCE", 1e-9)
    monkeypatch.setattr(dynamics, "STALE", 0.0)
    system = make_system(n_time=1)
    counts = torch.arange(2 * N).view(2, 1, N) % 4
    found = system.infer(counts, EVERYTHING)
    assert found.between.shape == (2, 0, K, K)
    first = torch.linalg.inv(system.first_noise)
    for trial in range(2):
        z = found.mean[trial, 0]
        rates = (system.offset + system.loading @ z).exp()
        pull = first @ (z - system.course[0])
        torch.testing.assert_close(system.loading.T @ (counts[trial, 0] - rates), pull)
        precision = first + system.loading.T @ (rates[:, None] * system.loading)
        torch.testing.assert_close(found.covariance[trial, 0], torch.linalg.inv(precision))


@pytest.mark.parametrize("what", ["nothing", "single entries"])
def test_covariances_are_those_at_the_gains_that_were_found(what, monkeypatch):
    monkeypatch.setattr(dynamics, "TOLERANCE", 1e-8)
    monkeypatch.setattr(dynamics, "STALE_BY_TURNS", 0.0)
    system = drifting_system()
    counts, _ = draw_spikes(system, 2)
    visible = ~HIDDEN[what].bool()[None]
    found = system.infer(counts, visible, None, system.gains(TIMES[1:3], 2))
    monkeypatch.setattr(dynamics, "STALE", 0.0)
    for trial in range(2):
        offset = system.offset + found.gain[trial]
        one = replace(system, offset=offset, drift=None)
        alone = one.infer(counts[[trial]], visible)
        torch.testing.assert_close(found.mean[trial], alone.mean[0], atol=1e-6, rtol=0)
        torch.testing.assert_close(found.covariance[trial], alone.covariance[0], atol=1e-6, rtol=0)
