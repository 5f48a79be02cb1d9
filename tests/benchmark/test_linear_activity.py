"""The linear baseline of activity by hand: what it reads, what it weighs, what it is fitted to."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from ibl_mtm.benchmark.predict import baselines
from ibl_mtm.benchmark.predict.baselines import LinearActivity
from ibl_mtm.benchmark.tasks import TASKS

CO, FORECAST = TASKS["ts2-co_smoothing"], TASKS["ts2-forecasting"]


def halves(values: np.ndarray) -> np.ndarray:
    """Components of made-up loadings: half the first unit, and the second."""
    return values[:, :2] * [0.5, 1.0]


@pytest.fixture
def counts() -> np.ndarray:
    """Three windows of three units; what is asked for is none of what is read."""
    counts = np.random.default_rng(0).integers(0, 5, (3, 50, 3))
    counts[:, 45:] = 99
    return counts


def trailing(counts: np.ndarray, window: int, unit: int) -> list[float]:
    """Means of the roots of the last 3, 10 and 45 bins before the forecast."""
    roots = [np.sqrt(counts[window, t, unit]) for t in range(45)]
    return [sum(roots[-n:]) / n for n in (3, 10, 45)]


def test_a_forecast_is_what_a_unit_and_all_of_them_did_and_its_own_constant(
    counts: np.ndarray,
) -> None:
    weights = np.random.default_rng(1).normal(0, 0.3, (3 + 3 * 2, 3))
    offset = np.array([-1.0, 0.5, -2.0])
    reduced: Any = halves
    model = LinearActivity(FORECAST, np.arange(3), np.arange(3), reduced, weights, offset)
    found = model.log_rates(counts)
    assert found.shape == (3, 5, 3)
    for window in range(3):
        of = [trailing(counts, window, unit) for unit in range(3)]
        shared = np.ravel([[0.5 * of[0][lag], of[1][lag]] for lag in range(3)])
        for unit in range(3):
            expected = offset[unit] + weights[:3, unit] @ of[unit] + weights[3:, unit] @ shared
            np.testing.assert_allclose(found[window, :, unit], expected, rtol=1e-6)
    high = LinearActivity(FORECAST, np.arange(3), np.arange(3), reduced, weights, offset + 50)
    assert (high.log_rates(counts) == 3.0).all()
    low = LinearActivity(FORECAST, np.arange(3), np.arange(3), reduced, weights, offset - 50)
    assert (low.log_rates(counts) == -14.0).all()


def test_hidden_units_are_read_out_of_what_is_around_a_bin(counts: np.ndarray) -> None:
    counts[:] = 0
    counts[1, 20, 0] = 4  # of which the root is spread by a Gaussian of two and a half bins
    counts[..., 2] = 50  # is not visible
    weights, offset = np.array([[2.0], [7.0]]), np.array([-1.0])
    model: Any = LinearActivity(CO, np.array([0, 1]), np.array([2]), halves, weights, offset)  # type: ignore[arg-type]
    found = model.log_rates(counts)[..., 0]
    assert found.shape == (3, 50)
    assert (found[[0, 2]] == -1).all()
    away = np.arange(50) - 20
    bump = np.exp(-((away / 2.5) ** 2) / 2)
    expected = -1 + 2.0 * 0.5 * 2 * bump / bump.sum()
    np.testing.assert_allclose(found[1], expected, atol=2e-3)


@pytest.mark.parametrize("task", [CO, FORECAST], ids=lambda task: task.name)
def test_each_unit_is_fitted_to_its_own_design(
    counts: np.ndarray, monkeypatch: pytest.MonkeyPatch, task: Any
) -> None:
    """Of a forecast the mean count of its five bins; a penalty weighs as much as a unit fires."""
    fits: list[Any] = []

    class Regressor:
        def __init__(self, alpha: float, max_iter: int) -> None:
            fits.append([alpha])
            self.coef_, self.intercept_ = np.zeros(9 if task is FORECAST else 2), 0.25

        def fit(self, x: Any, y: Any) -> "Regressor":
            fits[-1] += [np.array(x), np.array(y)]
            return self

    monkeypatch.setattr(baselines, "PoissonRegressor", Regressor)
    counts[:, 45:] = np.arange(45).reshape(3, 5, 3)
    columns: Any = np.array([2, 0])
    reduced: Any = SimpleNamespace(n_components=2)
    if task is FORECAST:  # of every unit
        columns, reduced = np.arange(3), halves
    else:
        monkeypatch.setattr(baselines, "_around", lambda *a: counts[..., :2] * 1.0)
    found = baselines._fit(task, counts, np.array([0, 1]), columns, reduced, 0.5)
    assert found.offset.tolist() == [0.25] * len(columns)
    assert (found.visible.tolist(), found.columns.tolist()) == ([0, 1], columns.tolist())
    for (alpha, x, y), unit in zip(fits, columns, strict=True):
        if task is FORECAST:
            target = [counts[window, 45:, unit].mean() for window in range(3)]
            for window in range(3):
                np.testing.assert_allclose(x[window, :3], trailing(counts, window, unit), rtol=1e-6)
            assert x.shape == (3, 9)
        else:
            target = counts[..., unit].ravel()
            np.testing.assert_array_equal(x, counts[..., :2].reshape(-1, 2))
        np.testing.assert_allclose(y, target)
        assert alpha == pytest.approx(0.5 * np.mean(target))


def test_of_many_bins_so_many_are_fitted_to_evenly(
    counts: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(baselines, "_MOST", 70)
    monkeypatch.setattr(baselines, "_around", lambda *a: np.arange(300.0).reshape(3, 50, 2))
    seen: list[Any] = []

    class Regressor:
        def __init__(self, **_: Any) -> None:
            self.coef_, self.intercept_ = np.zeros(2), 0.0

        def fit(self, x: Any, y: Any) -> "Regressor":
            seen.append((x[:, 0].tolist(), y.tolist()))
            return self

    monkeypatch.setattr(baselines, "PoissonRegressor", Regressor)
    reduced: Any = SimpleNamespace(n_components=2)
    baselines._fit(CO, counts, np.array([0]), np.array([1]), reduced, 1.0)
    ((x, y),) = seen
    assert x == list(range(0, 300, 4))  # every second of 150 bins
    assert y == counts[..., 1].ravel()[::2].tolist()
