"""Linear dynamics: the posterior against a dense solve, the fit against what made the spikes."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

from ibl_mtm.evaluation.metrics import bits_per_spike
from ibl_mtm.model.dynamics import fit as fit_module
from ibl_mtm.model.dynamics import system as dynamics
from ibl_mtm.model.dynamics.blocks import inverse_of
from ibl_mtm.model.dynamics.fit import (
    fit_dynamics,
    fit_loadings,
    fit_moves,
    start_dynamics,
    whiten,
)
from ibl_mtm.model.dynamics.posterior import Posterior
from ibl_mtm.model.dynamics.system import LinearDynamics, _levelled

K, T, N = 3, 7, 6


@pytest.fixture(autouse=True)
def _no_gradients():
    with torch.no_grad():
        yield


def make_system(seed=0, n_units=N, n_time=T):
    """A system with nothing symmetric about it, in double precision."""
    g = torch.Generator().manual_seed(seed)
    draw = lambda *shape: torch.randn(*shape, generator=g, dtype=torch.float64)  # noqa: E731
    root, first = draw(K, K), draw(K, K)
    return LinearDynamics(
        loading=0.5 * draw(n_units, K),
        offset=-0.5 + 0.3 * draw(n_units),
        transition=torch.tensor([[0.8, 0.2, 0.0], [-0.1, 0.7, 0.1], [0.0, 0.3, 0.5]]).double(),
        noise=0.05 * root @ root.T + 0.1 * torch.eye(K).double(),
        first_noise=0.1 * first @ first.T + 0.5 * torch.eye(K).double(),
        course=0.3 * draw(n_time, K),
    )


def draw_spikes(system, n_trials, seed=1):
    rng = np.random.default_rng(seed)
    noise, first = (torch.linalg.cholesky(x) for x in (system.noise, system.first_noise))
    away = torch.from_numpy(rng.normal(size=(n_trials, K))) @ first.T
    states = [away]
    for _ in range(len(system.course) - 1):
        away = (
            away @ system.transition.T + torch.from_numpy(rng.normal(size=(n_trials, K))) @ noise.T
        )
        states.append(away)
    z = torch.stack(states, 1) + system.course
    rates = (system.offset + z @ system.loading.T).exp()
    return torch.from_numpy(rng.poisson(rates.numpy())), z


def dense_posterior(system, counts, visible):
    """Mode and covariance over all K x T numbers of one trial, by plain Newton steps."""
    covariance = torch.zeros(T, K, T, K).double()
    covariance[0, :, 0] = system.first_noise
    for t in range(1, T):
        for s in range(t):
            covariance[t, :, s] = system.transition @ covariance[t - 1, :, s]
            covariance[s, :, t] = covariance[t, :, s].T
        previous = covariance[t - 1, :, t - 1]
        covariance[t, :, t] = system.transition @ previous @ system.transition.T + system.noise
    prior = torch.linalg.inv(covariance.reshape(T * K, T * K))
    read = torch.block_diag(*[system.loading] * T)
    mean = system.course.flatten()
    shown = visible.double().expand(T, N).flatten()
    y, z = counts.double().flatten() * shown, mean.clone()
    for _ in range(200):
        rates = (system.offset.repeat(T) + read @ z).exp() * shown
        precision = prior + read.T @ (rates[:, None] * read)
        z = z + 0.5 * torch.linalg.solve(precision, read.T @ (y - rates) - prior @ (z - mean))
    return z.view(T, K), torch.linalg.inv(precision).view(T, K, T, K)


PARAMETERS = "loading", "offset", "transition", "noise", "first_noise", "course"
HIDDEN = {
    "nothing": torch.zeros(1, 1),
    "a unit": torch.arange(N)[None] == 2,
    "a region": torch.arange(N)[None] >= 2,
    "the last bins": torch.arange(T)[:, None] >= 5,
    "single entries": torch.rand(T, N, generator=torch.Generator().manual_seed(3)) < 0.4,
    "everything": torch.ones(1, 1),
}


@pytest.mark.parametrize("what", HIDDEN)
def test_the_posterior_is_that_of_a_dense_solve(what, monkeypatch):
    monkeypatch.setattr(dynamics, "TOLERANCE", 1e-9)
    monkeypatch.setattr(dynamics, "STALE", 0.0)
    system = make_system()
    counts, _ = draw_spikes(system, 4)
    visible = ~HIDDEN[what].bool()
    found = system.infer(counts, visible[None])
    for trial in range(4):
        mode, covariance = dense_posterior(system, counts[trial], visible)
        torch.testing.assert_close(found.mean[trial], mode, atol=1e-7, rtol=0)
        for t in range(T):
            torch.testing.assert_close(
                found.covariance[trial, t], covariance[t, :, t], atol=1e-7, rtol=0
            )
        for t in range(T - 1):
            torch.testing.assert_close(
                found.between[trial, t], covariance[t, :, t + 1], atol=1e-7, rtol=0
            )


def in_single(system):
    tables = {name: getattr(system, name).float() for name in PARAMETERS}
    return LinearDynamics(**tables)


def test_single_precision_and_its_tolerance_change_little():
    system = make_system()
    counts, _ = draw_spikes(system, 5)
    visible = ~HIDDEN["single entries"][None]
    single = in_single(system)
    exact, found = system.infer(counts, visible), single.infer(counts, visible)
    torch.testing.assert_close(
        system.log_rates(exact).float(), single.log_rates(found), atol=5e-3, rtol=0
    )


def test_where_single_precision_is_too_coarse_double_is_taken(monkeypatch):
    system = make_system()
    counts, _ = draw_spikes(system, 5)
    visible = ~HIDDEN["a unit"][None]
    monkeypatch.setattr(dynamics, "TOLERANCE", 1e-9)
    single = in_single(system)
    found = single.infer(counts, visible)
    assert found.mean.dtype == torch.float32
    monkeypatch.setattr(dynamics, "STALE", 0.0)
    exact = system.infer(counts, visible)
    torch.testing.assert_close(found.mean.double(), exact.mean, atol=1e-6, rtol=0)
    torch.testing.assert_close(found.covariance.double(), exact.covariance, atol=1e-5, rtol=0)
    monkeypatch.setattr(dynamics, "TOLERANCE", 0.0)
    with pytest.raises(ArithmeticError, match="still move"):
        single.infer(counts, visible)


@pytest.mark.parametrize("what", HIDDEN)
def test_a_hidden_entry_never_reaches_the_posterior(what):
    """To the bit, wherever the search for the mode begins."""
    system = make_system()
    counts, _ = draw_spikes(system, 3)
    hidden = HIDDEN[what].bool()
    other = torch.where(hidden.expand(T, N), counts + 7, counts)
    start = system.infer(counts, ~hidden[None])
    for begin in (None, start):
        before, after = (system.infer(y, ~hidden[None], begin) for y in (counts, other))
        assert torch.equal(before.mean, after.mean)
        assert torch.equal(before.covariance, after.covariance)


def test_an_answer_is_the_same_in_any_company():
    """Of its own trial alone, however long other trials take to stand still."""
    system = make_system()
    counts, _ = draw_spikes(system, 4)
    counts[1:] += 30
    visible = ~HIDDEN["single entries"][None]
    alone, among = system.infer(counts[:1], visible), system.infer(counts, visible)
    torch.testing.assert_close(alone.mean[0], among.mean[0], rtol=0, atol=1e-10)
    torch.testing.assert_close(alone.covariance[0], among.covariance[0], rtol=0, atol=1e-10)


def test_log_rates_are_those_of_the_mean_count_under_the_posterior():
    """E[exp(d + c z)] of a Gaussian z, against a million draws; and by unit and trial alike."""
    system = make_system()
    counts, _ = draw_spikes(system, 2)
    posterior = system.infer(counts, torch.ones(1, 1, 1, dtype=torch.bool))
    rates = system.log_rates(posterior).exp()
    rng = np.random.default_rng(0)
    z = rng.multivariate_normal(
        posterior.mean[1, 4].numpy(), posterior.covariance[1, 4].numpy(), 1_000_000
    )
    drawn = np.exp(system.offset.numpy() + z @ system.loading.numpy().T).mean(0)
    np.testing.assert_allclose(rates[1, 4], drawn, rtol=5e-3)
    some = system.log_rates(posterior, torch.tensor([4, 1]))
    torch.testing.assert_close(some, rates.log()[..., [4, 1]])
    each = system.log_rates(posterior, torch.tensor([[4, 1], [0, 5]]))
    torch.testing.assert_close(each[0], rates.log()[0][:, [4, 1]])
    torch.testing.assert_close(each[1], rates.log()[1][:, [0, 5]])


def test_rates_level_off_below_the_highest():
    """Each is the mean of min(e^x, two thirds of the highest), of Gaussian x: integrated here."""
    system = make_system()
    counts, _ = draw_spikes(system, 2)
    visible = torch.ones(1, counts.shape[1], 1, dtype=torch.bool)
    visible[:, 4:] = False
    posterior = system.infer(counts, visible)
    free = system.log_rates(posterior)
    highest = free.mean((0, 1))
    found = replace(system, highest=highest).log_rates(posterior)
    mean = system.offset + posterior.mean @ system.loading.T
    spread = torch.einsum("nk,btkl,nl->btn", system.loading, posterior.covariance, system.loading)
    z = torch.linspace(-9, 9, 4001, dtype=torch.float64)[:, None, None, None]
    rates = (mean + spread.sqrt() * z).exp().minimum(highest.exp() * 2 / 3)
    expected = torch.trapezoid(rates * (-(z**2) / 2).exp(), z[:, 0, 0, 0], dim=0)
    expected = (expected / np.sqrt(2 * np.pi)).log().to(found.dtype)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
    assert (free - found).max() > 0.3
    assert (free - found).min() < 0.1
    bound = replace(system, highest=highest)
    some = bound.log_rates(posterior, torch.tensor([4, 1]))
    torch.testing.assert_close(some, expected[..., [4, 1]], atol=1e-4, rtol=0)
    each = bound.log_rates(posterior, torch.tensor([[4, 1], [0, 5]]))
    torch.testing.assert_close(each[0], expected[0][:, [4, 1]], atol=1e-4, rtol=0)
    torch.testing.assert_close(each[1], expected[1][:, [0, 5]], atol=1e-4, rtol=0)


def test_a_rate_that_is_known_levels_off_sharply():
    """No variance: the smaller of both, finite however far apart they are."""
    found = _levelled(torch.tensor([-30.0, -1, 0, 5]), torch.zeros(4), torch.tensor(0.0))
    torch.testing.assert_close(found, torch.tensor([-30.0, -1, 0, 0]), atol=1e-4, rtol=0)


def test_a_fit_keeps_what_rates_were_at_most():
    """Of all of its trials."""
    system = make_system()
    counts, _ = draw_spikes(system, 15)
    everything = torch.ones(1, 1, 1, dtype=torch.bool)
    fitted = fit_dynamics(counts, K)
    free = replace(fitted, highest=None)
    rates = free.log_rates(free.infer(counts, everything)).amax((0, 1))
    # The posterior is that of the last pass but for its maximisation.
    torch.testing.assert_close(fitted.highest, rates, atol=0.1, rtol=0)


def test_parameters_that_are_not_finite_are_an_error_not_an_answer():
    system = make_system()
    counts, _ = draw_spikes(system, 2)
    broken = replace(system, noise=torch.full_like(system.noise, torch.nan))
    with pytest.raises(ArithmeticError, match="not finite"):
        broken.infer(counts, torch.ones(1, 1, 1, dtype=torch.bool))


def expected_log_joint(system, posterior, counts, precision):
    """E[log p(y, z, c)] under a Gaussian posterior, plainly, up to constants."""
    z, V, between = posterior.mean, posterior.covariance, posterior.between
    spread = torch.einsum("nk,btkl,nl->btn", system.loading, V, system.loading)
    log_rate = system.offset + z @ system.loading.T
    total = (counts * log_rate - (log_rate + spread / 2).exp()).sum()
    total -= (precision * system.loading**2).sum() / 2
    away = z - system.course
    first = torch.linalg.inv(system.first_noise)
    moment = torch.einsum("bk,bl->kl", away[:, 0], away[:, 0]) + V[:, 0].sum(0)
    total -= (torch.trace(first @ moment) - len(z) * torch.logdet(first)) / 2
    step = away[:, 1:] - away[:, :-1] @ system.transition.T
    A = system.transition
    moment = torch.einsum("btk,btl->kl", step, step) + (
        V[:, 1:] + A @ V[:, :-1] @ A.T - A @ between - (A @ between).mT
    ).sum((0, 1))
    noise = torch.linalg.inv(system.noise)
    return total - (torch.trace(noise @ moment) - step[..., 0].numel() * torch.logdet(noise)) / 2


def test_maximisation_never_lowers_what_it_maximises(monkeypatch):
    monkeypatch.setattr("ibl_mtm.model.dynamics.fit.LEAST_NOISE", 0.0)
    monkeypatch.setattr("ibl_mtm.model.dynamics.fit.WEAK", 0.0)
    counts, _ = draw_spikes(make_system(), 60)
    counts = counts.double()
    system, precision = start_dynamics(counts, K), torch.full((K,), 10.0).double()
    visible = torch.ones(1, 1, 1, dtype=torch.bool)
    for _ in range(8):
        system, posterior = whiten(system, system.infer(counts, visible))
        before = expected_log_joint(system, posterior, counts, precision)
        moved = fit_moves(system, posterior)
        between = expected_log_joint(moved, posterior, counts, precision)
        assert between >= before - 1e-9 * abs(before)
        system, new = fit_loadings(moved, posterior, counts, precision)
        after = expected_log_joint(system, posterior, counts, precision)
        assert after >= between - 1e-9 * abs(between)
        precision = new


def test_whitening_changes_coordinates_and_nothing_else():
    system = make_system()
    counts, _ = draw_spikes(system, 40)
    visible = ~HIDDEN["single entries"][None]
    posterior = system.infer(counts, visible)
    moved, white = whiten(system, posterior)
    torch.testing.assert_close(moved.log_rates(white), system.log_rates(posterior))
    again = moved.infer(counts, visible)
    torch.testing.assert_close(
        moved.log_rates(again), system.log_rates(posterior), atol=5e-3, rtol=0
    )
    moment = torch.einsum("btk,btl->kl", white.mean, white.mean) / (40 * T)
    moment += white.covariance.mean((0, 1))
    torch.testing.assert_close(moment, torch.eye(K).double(), atol=1e-6, rtol=0)
    torch.testing.assert_close(white.mean.mean((0, 1)), torch.zeros(K).double(), atol=1e-9, rtol=0)


def test_a_fit_predicts_hidden_units_nearly_as_well_as_the_truth():
    """And of six components, of which three are real, the others are switched off."""
    system = make_system(seed=4, n_units=25, n_time=30)
    counts, _ = draw_spikes(system, 60, seed=5)
    fitted = fit_dynamics(counts, components=6)
    test, _ = draw_spikes(system, 30, seed=6)
    scores = []
    for one in (system, fitted):
        predicted = []
        for unit in range(25):
            posterior = one.infer(test, torch.arange(25)[None, None] != unit)
            predicted.append(one.log_rates(posterior, torch.tensor([unit])).exp())
        scores.append(bits_per_spike(torch.cat(predicted, -1).numpy(), test.numpy()).mean())
    assert scores[0] > 0.1
    assert 0.9 * scores[0] < scores[1] < 1.05 * scores[0]
    power = (fitted.loading**2).mean(0)  # strongest first
    assert power[3:].sum() < 0.1 * power.sum()


def test_more_components_than_units_and_silent_units_are_no_trouble():
    system = make_system()
    counts, _ = draw_spikes(system, 12)
    counts[..., 1] = 0
    fitted = fit_dynamics(counts, components=9, iterations=5)
    rates = fitted.log_rates(fitted.infer(counts, torch.ones(1, 1, 1, dtype=torch.bool))).exp()
    assert torch.isfinite(rates).all()
    assert rates[..., 1].max() < 0.05


def test_moves_by_hand():
    """One component, two trials, three bins; three more trials of persistence are added."""
    z = torch.tensor([[1.0, 0.5, 0.0], [-1.0, 1.5, 2.0]]).double()[..., None]
    variance, between = (
        torch.full((2, 3, 1, 1), 0.2).double(),
        torch.full((2, 2, 1, 1), 0.1).double(),
    )
    found = fit_moves(make_system(), Posterior(z, variance, between))
    # The course is 0, 1, 1: away from it 1, -0.5, -1 and -1, 0.5, 1.
    np.testing.assert_allclose(found.course[:, 0], [0, 1, 1])
    now, after = 1 + 1 + 0.25 + 0.25 + 4 * 0.2 + 6, 0.25 + 0.25 + 1 + 1 + 4 * 0.2 + 6
    crossed = -0.5 - 0.5 + 0.5 + 0.5 + 4 * 0.1 + 6 * 0.95
    a = crossed / (now + 10 * 1e-5)
    assert float(found.transition) == pytest.approx(a)
    noise = (after - 2 * a * crossed + a * a * now) / 10 + 1e-3
    assert float(found.noise) == pytest.approx(noise)
    assert float(found.first_noise) == pytest.approx((2 + 2 * 0.2 + 3) / 5 + 1e-3)


def test_the_start_is_principal_components_of_unit_variance():
    rng = np.random.default_rng(3)
    course = rng.normal(size=(30, 20, 2))
    counts = rng.poisson(np.exp(-1 + course @ rng.normal(size=(2, 6)) * [1, 1, 1, 1, 1, 0.1]))
    found = start_dynamics(torch.from_numpy(counts).double(), 2)
    time = np.arange(20)
    kernel = np.exp(-(((time[:, None] - time) / 3.0) ** 2) / 2)
    kernel /= kernel.sum(1, keepdims=True)
    roots = (kernel @ np.sqrt(counts)).reshape(-1, 6)
    scores = PCA(2).fit_transform(StandardScaler().fit_transform(roots))
    scores /= scores.std(0)
    relative = (kernel @ counts).reshape(-1, 6) / ((counts.sum((0, 1)) + 0.5) / 600) - 1
    expected = np.linalg.lstsq(scores, relative, rcond=None)[0].T.clip(-1, 1)
    np.testing.assert_allclose(found.loading.abs(), abs(expected), atol=2e-3)


def test_of_trials_of_one_bin_only_the_start_is_fitted():
    """Twenty trials beside three of unit variance that are added, and the least noise."""
    system, rng = make_system(n_time=1), np.random.default_rng(3)
    mean = torch.from_numpy(rng.normal(size=(20, 1, K)) * [1, 2, 3] + [0.5, 0, -1])
    covariance = torch.eye(K).double().expand(20, 1, K, K) * 0.25
    between = torch.zeros(20, 0, K, K, dtype=torch.float64)
    posterior = Posterior(mean, covariance, between)
    found = fit_moves(system, posterior)
    assert torch.allclose(found.course, mean.mean(0))
    away = (mean - mean.mean(0))[:, 0].numpy()
    expected = (away.T @ away + (20 * 0.25 + 3) * np.eye(K)) / 23 + 1e-3 * np.eye(K)
    np.testing.assert_allclose(found.first_noise, expected)
    assert torch.equal(found.transition, system.transition)
    assert torch.equal(found.noise, system.noise)


@pytest.mark.parametrize("drifts", [False, True])
def test_loadings_end_where_nothing_is_to_be_gained(monkeypatch, drifts):
    """The slopes of the expected likelihood, by hand; the offset has no prior in the end."""
    monkeypatch.setattr(fit_module, "BLOCK", 3)  # of five units
    rng = np.random.default_rng(2)
    z = rng.normal(size=(20, T, K)) * [1, 0.5, 0.7]
    own = np.array([[0.2, 0.05, 0.0], [0.05, 0.1, -0.02], [0.0, -0.02, 0.3]])
    counts, precision = rng.poisson(1.2, (20, T, 5)), np.array([2.0, 5.0, 10.0])
    gain = 0.3 * rng.normal(size=(20, 5)) if drifts else np.zeros((20, 5))
    tensors = [torch.from_numpy(x) for x in (z, own, counts.astype(float), precision, gain)]
    covariance = tensors[1].expand(20, T, K, K)
    posterior = Posterior(tensors[0], covariance, torch.zeros(20, T - 1, K, K).double())
    system = make_system(n_units=5)
    for _ in range(25):
        system, found = fit_loadings(
            system, posterior, tensors[2], tensors[3], tensors[4] if drifts else None
        )
    loading, offset = system.loading.numpy(), system.offset.numpy()
    spread = np.einsum("nk,kl,nl->n", loading, own, loading) / 2
    rates = np.exp(offset + z @ loading.T + spread + gain[:, None])
    np.testing.assert_allclose((counts - rates).sum((0, 1)), 0, atol=1e-7)
    slope = np.einsum("btn,btk->nk", counts - rates, z)
    slope -= rates.sum((0, 1))[:, None] * (loading @ own) + precision * loading
    np.testing.assert_allclose(slope, 0, atol=1e-7)
    h = np.concatenate([np.ones_like(z[..., :1]), z], 2)
    variances = []
    for unit in range(5):
        curvature = np.einsum("bt,bti,btj->ij", rates[..., unit], h, h)
        curvature[1:, 1:] += rates[..., unit].sum() * own + np.diag(precision)
        curvature[0, 0] += 1e-3
        variances.append(np.diag(np.linalg.inv(curvature))[1:])
    np.testing.assert_allclose(1 / found, (loading**2 + variances).mean(0), rtol=1e-5)


def test_an_inverse_that_does_not_exist_spoils_no_other():
    good = torch.tensor([[2.0, 0.5], [0.5, 1.0]])
    found = inverse_of(torch.stack([good, -good, 4 * good]))
    expected = torch.tensor([[1.0, -0.5], [-0.5, 2.0]]) / 1.75
    assert torch.allclose(found[0], expected)
    assert torch.allclose(found[2], expected / 4)
    assert found[1].isnan().all()
    assert torch.allclose(inverse_of(good), expected)
