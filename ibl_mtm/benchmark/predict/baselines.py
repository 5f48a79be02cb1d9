"""What needs no network, scored by the same code: baselines for TS2, above all ``linear``.

    fitted = fit_activity(recording, TASKS["ts2-forecasting"], "linear")
    for part, log_rates in predict_activity(fitted, truth):
        ...

``linear`` is Poisson regression. Co-smoothing: a unit from the components of all visible units
around each bin. Forecasting: a unit from its own trailing means and those of the components.
Penalties are chosen on val by D²; for TS1 it decodes spikes alone, and for TS3 it reads when units
fire. The others are in `ibl_mtm.benchmark.predict.activity_baselines`.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d
from sklearn.linear_model import PoissonRegressor

from ibl_mtm.benchmark.predict.activity_baselines import (
    LOWEST,
    ActivityModel,
    KnownWindows,
    poisson_lds,
    population_coupling,
    reduced_rank,
    trailing_mean,
)
from ibl_mtm.benchmark.predict.features import Reduced
from ibl_mtm.benchmark.tasks import N_BINS, N_FORECAST, Task
from ibl_mtm.benchmark.truth import NeuralTruth
from ibl_mtm.brainsets.recording import Recording

__all__ = ["LinearActivity", "fit_activity", "linear", "predict_activity"]

_PENALTIES = (1e-3, 1e-1)
_COMPONENTS = 30
_TRAILING = (3, 10, 45)  # bins before the forecast
_MOST = 40_000  # bins to fit to

Array = NDArray[np.float64]


@dataclass
class LinearActivity:
    """Poisson regressions of one session.

    Attributes
    ----------
    visible : ndarray
        Rows of the units that are seen.
    columns : ndarray
        Rows of those that are predicted.
    weights, offset : ndarray (feature, n), (n,)
        Of log rates.
    """

    task: Task
    visible: NDArray[np.int64]
    columns: NDArray[np.int64]
    reduced: Reduced
    weights: Array
    offset: Array

    def log_rates(self, counts: np.ndarray, starts: Array | None = None) -> Array:
        """See `ActivityModel`."""
        if self.task.n_steps != N_FORECAST:
            x = _around(counts, self.visible, self.reduced)
            found: Array = (x @ self.weights + self.offset).clip(LOWEST, 3.0)
            return found
        own, shared = _trailing(counts, self.reduced)
        n_own = len(_TRAILING)
        rates = np.einsum("wlu,lu->wu", own, self.weights[:n_own]) + self.offset
        rates = (rates + shared @ self.weights[n_own:]).clip(LOWEST, 3.0)
        return np.repeat(rates[:, None], N_FORECAST, axis=1)


def predict_activity(
    fitted: ActivityModel, truth: NeuralTruth
) -> Iterator[tuple[slice, NDArray[np.float32]]]:
    """Every window of a split (see `ibl_mtm.benchmark.predict.neural.predict_windows`)."""
    for part, counts in truth.windows():
        yield part, fitted.log_rates(counts, truth.starts[part]).astype(np.float32)


def fit_activity(recording: Recording, task: Task, baseline: str = "linear") -> ActivityModel:
    """Fit a baseline of TS2 to the train and val domains.

    Parameters
    ----------
    baseline
        One of `BASELINES` that predicts the task.

    Raises
    ------
    SessionError
        If nothing fits.
    """
    try:
        return _FITS[baseline](KnownWindows.of(recording, task))
    except ArithmeticError as error:
        raise recording.wrong(f"{baseline} does not fit it ({error})") from error


def linear(known: KnownWindows) -> LinearActivity:
    """Poisson regression on components; the penalty is chosen on val."""
    train = known.counts["train"]
    smooth = _smooth(train, known.visible)
    reduced = Reduced(smooth.reshape(-1, len(known.visible)), _COMPONENTS)
    return known.best(
        _fit(known.task, train, known.visible, known.columns, reduced, penalty)
        for penalty in _PENALTIES
    )


_FITS: dict[str, Callable[[KnownWindows], ActivityModel]] = {
    "linear": linear,
    "reduced_rank": reduced_rank,
    "poisson_lds": poisson_lds,
    "poisson_lds_drift": partial(poisson_lds, drift=True),
    "trailing_mean": trailing_mean,
    "population_coupling": population_coupling,
}


def _fit(
    task: Task,
    counts: np.ndarray,
    seen: NDArray[np.int64],
    columns: NDArray[np.int64],
    reduced: Reduced,
    penalty: float,
) -> LinearActivity:
    if task.n_steps == N_FORECAST:
        own, shared = _trailing(counts, reduced)
        y = counts[:, -N_FORECAST:].mean(1)
        designs = (np.concatenate([own[:, :, u], shared], axis=1) for u in columns)
    else:
        x = _around(counts, seen, reduced).reshape(-1, reduced.n_components)
        thin = slice(None, None, max(1, len(x) // _MOST))
        y = counts.reshape(-1, counts.shape[-1])[thin][:, columns]
        designs = (x[thin] for _ in columns)
    n_bins = len(y) * (N_FORECAST if task.n_steps == N_FORECAST else 1)
    weights, offset = [], []
    for at, design in enumerate(designs):
        target = y[:, at]
        if not target.any():
            weights.append(np.zeros(design.shape[1]))
            offset.append(np.log(0.5 / n_bins))
            continue
        model = PoissonRegressor(alpha=penalty * target.mean(), max_iter=200).fit(design, target)
        weights.append(model.coef_)
        offset.append(model.intercept_)
    return LinearActivity(task, seen, columns, reduced, np.stack(weights, 1), np.array(offset))


def _smooth(counts: np.ndarray, units: NDArray[np.int64]) -> NDArray[np.float32]:
    roots = np.sqrt(counts[..., units], dtype=np.float32)
    smooth: NDArray[np.float32] = gaussian_filter1d(roots, 2.5, axis=1)
    return smooth


def _around(counts: np.ndarray, units: NDArray[np.int64], reduced: Reduced) -> Array:
    smooth = _smooth(counts, units)
    return reduced(smooth.reshape(-1, len(units))).reshape(len(counts), N_BINS, -1)


def _trailing(counts: np.ndarray, reduced: Reduced) -> tuple[Array, Array]:
    """Trailing means of visible bins: of each unit (w, 3, unit), of the components (w, ...)."""
    seen = np.sqrt(counts[:, :-N_FORECAST], dtype=np.float32)
    own = np.stack([seen[:, -n:].mean(1) for n in _TRAILING], axis=1).astype(np.float64)
    shared = [reduced(own[:, at]) for at in range(len(_TRAILING))]
    return own, np.concatenate(shared, axis=1)
