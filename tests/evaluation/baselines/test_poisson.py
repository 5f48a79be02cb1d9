"""Poisson fits against scikit-learn's, and against the same sums in plain float64."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from sklearn.linear_model import PoissonRegressor

from ibl_mtm.evaluation.baselines.poisson import SILENT, LowRank, fit_few
from ibl_mtm.evaluation.baselines.regression import is_past_best, scores_from
from ibl_mtm.model.poisson_regression import PoissonFit, PoissonRegression

REGION = np.array([0, 0, 1, 1, 1, 2, 0])
OTHERS = ~np.eye(7, dtype=bool)
SAME = REGION[:, None] == REGION
NONE_OF_ONE = (REGION[:, None] != REGION) & (REGION != 2) & (REGION != 2)[:, None]
PATTERNS = {
    "co_smoothing": OTHERS,
    "intra_region": SAME & OTHERS,
    "inter_region": ~SAME,
    "forward_prediction": np.ones((7, 7), bool),
    "a region takes no part": NONE_OF_ONE,
}


def objective(fit, x, counts, penalty):
    """Of each unit, as `PoissonRegression` says."""
    log_rate = x.astype(float) @ fit.weights + fit.intercept
    mean = (counts.sum(0) + 0.5) / len(counts)
    fits = (np.exp(log_rate) - counts * log_rate).mean(0) / mean
    return fits + penalty / 2 * (fit.weights.astype(float) ** 2).sum(0)


@pytest.fixture(scope="module")
def population():
    """Correlated features, of one far larger spread, and units of which one is silent."""
    rng = np.random.default_rng(8)
    x = (rng.normal(size=(300, 7)) @ rng.normal(size=(7, 7))).astype(np.float32)
    rates = np.exp(-1.5 + x @ rng.normal(0, 0.1, (7, 7)))
    counts = rng.poisson(rates).astype(np.float32)
    counts[:, 3] = 0
    return x, counts


@pytest.mark.parametrize("allowed", PATTERNS.values(), ids=PATTERNS)
def test_each_unit_ends_at_the_least_of_its_own_objective(population, allowed):
    x, counts = population
    fit = PoissonRegression(x, counts, allowed).fit(0.05)
    assert not fit.weights[~allowed].any()
    found = objective(fit, x, counts, 0.05)
    mean = (counts.sum(0) + 0.5) / len(counts)
    for unit, shown in enumerate(allowed.T):
        own = np.c_[x[:, shown], np.ones(len(x))].astype(float)

        def loss(w, own=own, unit=unit):
            f = own @ w
            fits = (np.exp(f) - counts[:, unit] * f).mean() / mean[unit]
            return fits + 0.05 / 2 * (w[:-1] ** 2).sum()

        start = np.zeros(own.shape[1])
        start[-1] = np.log(mean[unit])
        assert found[unit] == pytest.approx(minimize(loss, start).fun, abs=2e-6)


def test_a_fit_from_another_penaltys_is_the_same_fit(population):
    x, counts = population
    regression = PoissonRegression(x, counts, OTHERS)
    plain = regression.fit(0.05, tolerance=1e-5)
    again = regression.fit(0.05, regression.fit(3.0), tolerance=1e-5)
    spiking = np.arange(7) != 3  # a silent unit's weights hardly matter
    np.testing.assert_allclose(again.weights[:, spiking], plain.weights[:, spiking], atol=1e-4)


def test_a_looser_fit_is_no_better(population):
    """The tolerance is what ends a fit, and no unit is left where it gains nothing."""
    x, counts = population
    regression = PoissonRegression(x, counts, OTHERS)
    loose, close = (regression.fit(0.05, tolerance=at) for at in (0.3, 1e-4))
    gap = objective(loose, x, counts, 0.05) - objective(close, x, counts, 0.05)
    assert (gap > -1e-6).all()
    assert gap.max() > 1e-5


@pytest.mark.parametrize("allowed", PATTERNS.values(), ids=PATTERNS)
def test_weights_of_low_rank_are_of_that_rank_where_allowed(population, allowed):
    """Products that never form the matrix, against the matrix; and the fit gains by its steps."""
    x, counts = population
    full = PoissonRegression(x, counts, allowed).fit(0.05)
    low = LowRank(x, counts, allowed)
    read, write = torch.randn(7, 2), torch.randn(2, 7)
    order = low._products.order
    dense = torch.from_numpy(x) @ ((read @ write) * torch.from_numpy(allowed))
    found = low._products(read, write[:, order])
    np.testing.assert_allclose(found, dense[:, order], atol=1e-4)
    fit = low.fit(0.05, 2, full)
    assert not fit.weights[~allowed].any()
    u, s, v = np.linalg.svd(full.weights, full_matrices=False)
    start = PoissonFit(((u[:, :2] * s[:2]) @ v[:2]) * allowed, full.intercept, full.highest)
    before = objective(start, x, counts, 0.05).sum()
    after = objective(fit, x, counts, 0.05).sum()
    assert objective(full, x, counts, 0.05).sum() - 1e-4 < after < before - 1e-3


@pytest.mark.parametrize("penalty", [0.02, 0.5])
def test_weights_of_full_rank_are_those_of_the_regression(population, penalty):
    """From a fit under another penalty, of which nothing is left."""
    x, counts = population
    full = PoissonRegression(x, counts, OTHERS)
    found = LowRank(x, counts, OTHERS).fit(penalty, 7, full.fit(5.0), steps=120)
    expected = full.fit(penalty, tolerance=1e-6)
    lost = objective(found, x, counts, penalty) - objective(expected, x, counts, penalty)
    # The factors are fewer steps from it where a unit hardly fires.
    assert np.delete(lost, 3).max() < 2e-3
    spiking = np.arange(7) != 3
    np.testing.assert_allclose(found.weights[:, spiking], expected.weights[:, spiking], atol=0.02)


def test_a_path_of_penalties_ends_where_it_has_lost_twice():
    assert not is_past_best([0.1, 0.3, 0.2])
    assert not is_past_best([0.1, 0.3, 0.2, 0.4])
    assert not is_past_best([0.3, 0.2])
    assert is_past_best([0.1, 0.3, 0.2, 0.25])


def test_units_with_features_of_their_own_are_fitted_as_by_scikit_learn():
    rng = np.random.default_rng(5)
    x = rng.normal(size=(3, 400, 2)).astype(np.float32)
    rates = np.exp(-1 + x[..., 0] * [[0.5], [0.0], [-0.5]]).T
    counts = rng.poisson(rates).astype(np.float32)
    counts[:, 1] = 0  # silent
    weights, intercept = fit_few(x, counts, penalty=0.01)
    for unit in range(3):
        model = PoissonRegressor(alpha=0.01, solver="newton-cholesky", tol=1e-9)
        model.fit(x[unit], counts[:, unit] + SILENT)
        np.testing.assert_allclose(weights[unit], model.coef_, atol=1e-5)
        if unit != 1:
            np.testing.assert_allclose(intercept[unit], model.intercept_, atol=1e-5)
    assert intercept[1] < -10
    shared, _ = fit_few(x[:1], counts[:, :1].repeat(2, 1), penalty=0.01)
    np.testing.assert_allclose(shared, weights[[0, 0]], atol=1e-6)


def test_scores_of_components_are_the_posterior_mean_of_probabilistic_pca():
    """In the space of shown units: L'(LL' + noise)^-1 x, for units that others are shown for."""
    rng = np.random.default_rng(1)
    loading, allowed = rng.normal(size=(6, 2)), ~np.eye(6, dtype=bool)
    allowed[4] = False
    found = scores_from(loading, 0.3, allowed)
    x = rng.normal(size=(5, 6))
    for unit, shown in enumerate(allowed.T):
        own = loading[shown]
        expected = x[:, shown] @ np.linalg.inv(own @ own.T + 0.3 * np.eye(len(own))) @ own
        np.testing.assert_allclose(x @ found[unit], expected, rtol=1e-4, atol=1e-5)
    assert len(scores_from(loading, 0.3, np.ones((6, 3), bool))) == 1  # one for all
