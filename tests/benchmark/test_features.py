"""Components that decoders read."""

import numpy as np
import pytest

from ibl_mtm.benchmark.predict.features import Reduced


def test_components_are_those_of_standardised_features_the_first_of_unit_variance():
    rng = np.random.default_rng(0)
    hidden = rng.normal(size=(200, 2)) * [3, 1]
    values = hidden @ rng.normal(size=(2, 5)) * [1, 10, 0.1, 1, 1]
    values[:, 4] = 7.0  # tells nothing
    reduced = Reduced(values.astype(np.float32), 3)
    found = reduced(values)
    assert reduced.n_components == 2  # no more than there are
    assert np.isclose(found[:, 0].std(ddof=1), 1)
    np.testing.assert_allclose(found.mean(0), 0, atol=1e-5)
    # They hold all of what varies.
    rebuilt = np.linalg.lstsq(found, values - values.mean(0), rcond=None)[0]
    np.testing.assert_allclose(found @ rebuilt, values - values.mean(0), atol=1e-3)


@pytest.mark.parametrize("shape", [(40, 12), (12, 40)])
def test_components_are_those_of_a_singular_value_decomposition(shape: tuple[int, int]) -> None:
    """Both ways to them, of the features' and of the windows' inner products."""
    rng = np.random.default_rng(2)
    values = rng.normal(size=shape) * np.arange(1, shape[1] + 1)
    standard = (values - values.mean(0)) / values.std(0)
    u, s, axes = np.linalg.svd(standard, full_matrices=False)
    reduced = Reduced(values, 5)
    found = reduced(values)
    expected = (u * s)[:, :5] / s[0] * np.sqrt(shape[0] - 1)
    signs = np.sign((found * expected).sum(0))
    np.testing.assert_allclose(found * signs, expected, atol=1e-9)
    other = (values[:3] * 1.5 - values.mean(0)) / values.std(0) @ axes[:5].T
    expected = other / s[0] * np.sqrt(shape[0] - 1)
    np.testing.assert_allclose(reduced(values[:3] * 1.5) * signs, expected, atol=1e-9)
    np.testing.assert_array_equal(Reduced(values, 5)(values), found)


def test_fewer_windows_than_features_and_windows_that_are_alike_are_no_trouble():
    rng = np.random.default_rng(1)
    values = rng.normal(size=(4, 30))
    assert Reduced(values, 40)(values).shape == (4, 3)
    alike = np.ones((6, 3))
    assert np.isfinite(Reduced(alike, 2)(alike)).all()
