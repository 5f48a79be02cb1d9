"""Poisson regressions of many units at once, each against scikit-learn's of what it may see.

`tests/evaluation/baselines/test_poisson.py` has more, of fits from other fits and of low rank.
"""

import numpy as np
import pytest
import torch
from sklearn.linear_model import PoissonRegressor

from ibl_mtm.model.poisson_regression import (
    PoissonFit,
    PoissonRegression,
    _Pair,
    _times_curvature,
    _Units,
    bounded_exp,
    highest_log_rate,
    log_mean_count,
)

PENALTY = 0.05


@pytest.mark.parametrize("masked", [False, True])
def test_each_unit_is_fitted_to_what_it_may_see(masked):
    rng = np.random.default_rng(4)
    x = (rng.normal(size=(250, 5)) * [1, 0.3, 2, 1, 1]).astype(np.float32)
    counts = rng.poisson(np.exp(-1 + x @ rng.normal(0, 0.3, (5, 4)))).astype(np.float32)
    allowed = np.ones((5, 4), bool)
    if masked:
        allowed[[0, 2, 4], [1, 1, 3]] = False
    fit = PoissonRegression(x, counts, allowed if masked else None).fit(PENALTY, tolerance=1e-6)
    assert not fit.weights[~allowed].any()
    for unit in range(4):
        alpha = PENALTY * (counts[:, unit].sum() + 0.5) / 250
        own = PoissonRegressor(alpha=alpha, tol=1e-6, max_iter=1000)
        own.fit(x[:, allowed[:, unit]], counts[:, unit])
        np.testing.assert_allclose(fit.weights[allowed[:, unit], unit], own.coef_, atol=2e-3)
        assert fit.intercept[unit] == pytest.approx(own.intercept_, abs=2e-3)


def problem(seed=4):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(250, 5)).astype(np.float32)
    return x, rng.poisson(np.exp(-1 + x @ rng.normal(0, 0.3, (5, 4)))).astype(np.float32)


def test_a_fit_that_starts_where_it_ends_stays_there():
    x, counts = problem()
    regression = PoissonRegression(x, counts)
    fit = regression.fit(PENALTY, tolerance=1e-6)
    again = regression.fit(PENALTY, start=fit, steps=1)
    np.testing.assert_allclose(again.weights, fit.weights, atol=1e-4)
    np.testing.assert_allclose(again.intercept, fit.intercept, atol=1e-4)


def test_of_a_start_only_what_a_unit_may_use_is_taken():
    x, counts = problem()
    allowed = np.ones((5, 4), bool)
    allowed[[0, 3, 3, 3, 3], [1, 0, 1, 2, 3]] = False
    start = PoissonRegression(x, counts).fit(PENALTY)
    regression = PoissonRegression(x, counts, allowed)
    found = regression.fit(PENALTY, start=start, tolerance=1e-6)
    assert not found.weights[~allowed].any()
    alone = regression.fit(PENALTY, tolerance=1e-6)
    np.testing.assert_allclose(found.weights, alone.weights, atol=1e-4)


@pytest.mark.parametrize("away", [-12.0, 6.0])
def test_a_fit_comes_back_from_far_away(away):
    """Where Newton's step overshoots it is shortened; too high a rate is not infinitely bad."""
    x, counts = problem()
    regression = PoissonRegression(x, counts)
    expected = regression.fit(PENALTY, tolerance=1e-5)
    far = PoissonFit(0 * expected.weights, expected.intercept + away, expected.highest)
    far.intercept[2] -= away  # the others go their own ways
    found = regression.fit(PENALTY, start=far, tolerance=1e-5)
    np.testing.assert_allclose(found.weights, expected.weights, atol=1e-3)
    np.testing.assert_allclose(found.intercept, expected.intercept, atol=1e-3)


def test_a_step_makes_no_unit_worse():
    """However far the first one would go; where units are is what their rates are at."""
    x, counts = problem()
    regression, root = PoissonRegression(x, counts), torch.eye(5)
    weights = torch.zeros(5, 4)
    intercept = torch.tensor([-14.0, -1.0, -9.0, 2.0])
    log_rate = intercept.expand(250, 4).clone()
    at = _Units(weights, intercept, log_rate, torch.from_numpy(counts), torch.ones(4) / 50, None)
    gradient = regression._gradient(at, root, PENALTY)
    before = regression._value(at, PENALTY)
    new, _, stuck = regression._step(at, root, PENALTY, gradient, -gradient)
    assert not stuck.any()
    assert (regression._value(new, PENALTY) < before).all()
    expected = torch.from_numpy(x) @ new.weights + new.intercept
    torch.testing.assert_close(new.log_rate, expected, atol=1e-3, rtol=1e-4)


def test_rates_are_bounded_just_beyond_any_count_by_a_straight_line():
    assert highest_log_rate(np.array([[0, 3], [1, 0]])) == pytest.approx(np.log(5))
    log_rate = torch.tensor([-1.0, 2.0, 2.5, 4.0], dtype=torch.float64)
    expected = np.exp([-1, 2, 2, 2]) * [1, 1, 1.5, 3]
    np.testing.assert_allclose(bounded_exp(log_rate, 2.0), expected)


def test_directions_are_those_of_the_bfgs_formula():
    """Of each unit by itself, against matrices; a pair without curvature says nothing."""
    rng = np.random.default_rng(1)
    steps, slope = rng.normal(size=(3, 6, 2)), rng.normal(size=(6, 2))
    changes = steps * rng.uniform(0.5, 3, (6, 2))  # of a curvature that is a diagonal
    changes[1, :, 1] = 0
    history = [_Pair.of(*map(torch.from_numpy, pair)) for pair in zip(steps, changes, strict=True)]
    found = _times_curvature(torch.from_numpy(slope), history).numpy()
    for unit in range(2):
        inverse = np.eye(6)
        for step, change in zip(steps[..., unit], changes[..., unit], strict=True):
            if change.any():
                rho = 1 / (step @ change)
                left = np.eye(6) - rho * np.outer(step, change)
                inverse = left @ inverse @ left.T + rho * np.outer(step, step)
        np.testing.assert_allclose(found[:, unit], inverse @ slope[:, unit])


def test_rates_by_hand_and_never_beyond_the_highest():
    fit = PoissonFit(np.array([[1.0, -2.0], [0.5, 0.0]]), np.array([0.1, -0.2]), 2.0)
    found = fit.rates(np.array([[1.0, 2.0], [0.0, 1.0]]))
    log_rates = [[2.0, -2.2], [0.6, -0.2]]  # the first is 2.1
    np.testing.assert_allclose(found, np.exp(log_rates))


def test_half_a_spike_is_added_to_a_mean():
    counts = np.array([[0, 2], [0, 1], [0, 0], [0, 4]])
    np.testing.assert_allclose(log_mean_count(counts), np.log([0.5 / 4, 7.5 / 4]))
