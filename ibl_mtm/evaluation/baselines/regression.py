"""Each unit's counts regressed on the smoothed counts of the others, in three ways.

    width, penalty = choose_poisson(data, "co_smoothing")
    rates = poisson_regression(data, "co_smoothing", width, penalty)   # (trial, bin, unit), test

Weights may be any, of low rank, or those of principal components.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ibl_mtm.evaluation.activity.tasks import ActivityTask
from ibl_mtm.evaluation.baselines.poisson import LowRank, fit_few
from ibl_mtm.evaluation.baselines.session_data import Array, BaselineData
from ibl_mtm.model.poisson_regression import PoissonFit, PoissonRegression, highest_log_rate

__all__ = [
    "WIDTHS",
    "choose_pca",
    "choose_poisson",
    "choose_reduced_rank",
    "is_past_best",
    "pca_poisson",
    "poisson_regression",
    "reduced_rank",
    "scores_from",
]

WIDTHS = (1.5, 3.0, 5.0, 8.0)
"""Standard deviations of the smoothing of counts, bins."""
PENALTIES = (100.0, 30.0, 10.0, 3.0, 1.0, 0.3, 0.1)
"""Of squared weights; the largest first."""
RANKS = (2, 4, 8, 16)
COMPONENTS = (3, 6, 12)
PCA_PENALTY = 3e-3
"""Of squared weights of components: less overfits quiet units, more is worse for all others."""
#: Units that are fitted at a time.
_UNITS = 32


def choose_poisson(data: BaselineData, task: ActivityTask) -> tuple[float, float]:
    """The width that does best under a middle penalty, then the penalty."""
    allowed = data.allowed(task)

    def score_path(width: float, penalties: Sequence[float]) -> dict[float, float]:
        """Score under each penalty, each fit starting from the one before."""
        x, y = data.to_fit("train", width, task)
        regression = PoissonRegression(x, y, allowed)
        val, scores = data.to_predict("val", width, task), dict[float, float]()
        fit = None
        for penalty in penalties:
            fit = regression.fit(penalty, fit)
            scores[penalty] = data.score(fit.rates(val), "val", task)
            if is_past_best(list(scores.values())):
                break
        return scores

    middle = {width: score_path(width, [1.0])[1.0] for width in WIDTHS}
    width = max(middle, key=lambda width: middle[width])
    scores = score_path(width, PENALTIES)
    return width, max(scores, key=lambda penalty: scores[penalty])


def is_past_best(scores: Sequence[float]) -> bool:
    """Whether a path of penalties has been losing for two steps: less only overfits more."""
    return len(scores) > 2 and max(scores[-2:]) < max(scores[:-2])


def poisson_regression(
    data: BaselineData, task: ActivityTask, width: float, penalty: float
) -> Array:
    """Poisson regression with an L2 penalty on the smoothed counts of what the task shows."""
    x, y = data.to_fit("fit", width, task)
    fit = PoissonRegression(x, y, data.allowed(task)).fit(penalty)
    return fit.rates(data.to_predict("test", width, task))


def choose_reduced_rank(data: BaselineData, task: ActivityTask) -> tuple[Any, ...]:
    width, penalty = choose_poisson(data, task)
    fit_rank = _rank_fitter(data, task, "train", width, penalty)
    val = data.to_predict("val", width, task)
    # A low rank already restrains the weights: a smaller penalty may do better.
    ranks = [rank for rank in RANKS if rank < len(data.region)] or [1]
    grid = [(rank, share) for rank in ranks for share in (1.0, 0.3)]
    best = max(grid, key=lambda at: data.score(fit_rank(*at).rates(val), "val", task))
    return width, penalty, *best


def reduced_rank(
    data: BaselineData, task: ActivityTask, width: float, penalty: float, rank: int, share: float
) -> Array:
    """The same with weights of low rank."""
    fit = _rank_fitter(data, task, "fit", width, penalty)(rank, share)
    return fit.rates(data.to_predict("test", width, task))


def _rank_fitter(
    data: BaselineData, task: ActivityTask, known: str, width: float, penalty: float
) -> Callable[[int, float], PoissonFit]:
    """Fit full weights once; what is returned fits those of a rank under a share of the penalty."""
    x, y = data.to_fit(known, width, task)
    allowed = data.allowed(task)
    full, low = PoissonRegression(x, y, allowed).fit(penalty), LowRank(x, y, allowed)
    return lambda rank, share: low.fit(penalty * share, rank, full)


def pca_poisson(
    data: BaselineData,
    task: ActivityTask,
    width: float,
    n_components: int,
    known: str = "fit",
    split: str = "test",
) -> Array:
    """Poisson regression on the principal components that the shown units tell.

    The components are of all units in the training trials; their scores are inferred from the
    shown units alone, as in probabilistic PCA (Tipping & Bishop, 1999).
    """
    allowed, targets = data.allowed(task), data.targets(task)
    seen_x, y = data.to_fit(known, width, task)
    asked = _flat(data.to_predict(split, width, task))
    squares, basis = np.linalg.eigh(np.atleast_2d(np.cov(seen_x.T)))
    loading = basis[:, -n_components:] * np.sqrt(np.maximum(squares[-n_components:], 0))
    rest = squares[:-n_components]
    noise = max(float(rest.mean()) if len(rest) else 0.0, 1e-3)
    rates = np.ones((len(asked), y.shape[1]), np.float32)
    highest = highest_log_rate(y)
    for first in range(0, len(targets), _UNITS):
        units = targets[first : first + _UNITS]
        infer = scores_from(loading, noise, allowed[:, units])
        # One for all where units are predicted from the same others.
        weights, intercept = fit_few(seen_x @ infer, np.ascontiguousarray(y[:, units]), PCA_PENALTY)
        log_rate = ((asked @ infer) @ weights[..., None])[..., 0].T + intercept
        rates[:, units] = np.exp(np.minimum(log_rate, highest))
    return rates.reshape(*data.counts[split][:, data.bins(task)].shape)


def scores_from(loading: Array, noise: float, allowed: NDArray[np.bool_]) -> Array:
    """What shown units' activity is multiplied by, (1 or unit, feature, component)."""
    shown = allowed[:, :1] if (allowed == allowed[:, :1]).all() else allowed
    seen = loading * shown.T[..., None]
    square = seen.mT @ seen + noise * np.eye(loading.shape[1])
    infer: Array = np.linalg.solve(square, seen.mT).mT.astype(np.float32)
    return infer


def choose_pca(data: BaselineData, task: ActivityTask) -> tuple[Any, ...]:
    components = [k for k in COMPONENTS if k < len(data.region)] or [1]
    grid = [(w, k) for w in WIDTHS[1:3] for k in components]

    def score(at: tuple[float, int]) -> float:
        return data.score(pca_poisson(data, task, *at, "train", "val"), "val", task)

    return max(grid, key=score)


def _flat(values: Array) -> Array:
    """(trial, time, unit) to (sample, unit)."""
    return np.ascontiguousarray(values.reshape(-1, values.shape[-1]))
