"""Poisson regressions of many units at once, each against scikit-learn's of what it may see.

`tests/evaluation/baselines/test_poisson.py` has more, of fits from other fits and of low rank.
"""

import numpy as np
import pytest
from sklearn.linear_model import PoissonRegressor

from ibl_mtm.model.poisson_regression import PoissonFit, PoissonRegression, log_mean_count

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


def test_rates_by_hand_and_never_beyond_the_highest():
    fit = PoissonFit(np.array([[1.0, -2.0], [0.5, 0.0]]), np.array([0.1, -0.2]), 2.0)
    found = fit.rates(np.array([[1.0, 2.0], [0.0, 1.0]]))
    log_rates = [[2.0, -2.2], [0.6, -0.2]]  # the first is 2.1
    np.testing.assert_allclose(found, np.exp(log_rates))


def test_half_a_spike_is_added_to_a_mean():
    counts = np.array([[0, 2], [0, 1], [0, 0], [0, 4]])
    np.testing.assert_allclose(log_mean_count(counts), np.log([0.5 / 4, 7.5 / 4]))
