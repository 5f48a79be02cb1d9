"""Poisson fits against scikit-learn's."""

import numpy as np
from sklearn.linear_model import PoissonRegressor

from ibl_mtm.evaluation.baselines.poisson import SILENT, fit_few
from ibl_mtm.evaluation.baselines.regression import scores_from


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
