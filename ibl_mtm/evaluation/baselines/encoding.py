"""Each unit's counts regressed on behaviour: what encoding by a model stands beside.

    (penalty,) = choose_regression(data, "encoding")
    rates = regression(data, "encoding", penalty)       # (trial, time, unit), test

Features are traces at lags of up to five bins either way, and, as the course of a trial, bumps over
time by themselves and for each class: a design as of Musall et al., Nature Neuroscience 2019.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ibl_mtm.evaluation.activity.tasks import ActivityTask
from ibl_mtm.evaluation.baselines.poisson import LowRank
from ibl_mtm.evaluation.baselines.regression import PENALTIES, RANKS, is_past_best
from ibl_mtm.evaluation.baselines.session_data import Array, BaselineData
from ibl_mtm.model.poisson_regression import PoissonFit, PoissonRegression
from ibl_mtm.sessions.modalities import ModalityValues

__all__ = [
    "LAGS",
    "N_BUMPS",
    "choose_reduced_rank",
    "choose_regression",
    "design",
    "reduced_rank",
    "regression",
]

LAGS = range(-5, 6)
"""Bins from a bin to those of traces that are its features."""
N_BUMPS = 10
"""Bumps over the time of a trial."""


def design(values: ModalityValues) -> Array:
    """Features of each bin, (trial, time, feature); 0 where a value is missing."""
    n_trials, n_time, _ = values.traces.shape
    traces = np.nan_to_num(values.traces, nan=0.0)
    ahead = max(abs(lag) for lag in LAGS)
    padded = np.pad(traces, ((0, 0), (ahead, ahead), (0, 0)))
    lagged = [padded[:, ahead + lag : ahead + lag + n_time] for lag in LAGS]
    n_bumps = min(N_BUMPS, n_time)
    centre = np.linspace(0, n_time - 1, n_bumps)
    width = max(1.0, (n_time - 1) / max(1, n_bumps - 1))
    bumps = np.exp(-(((np.arange(n_time)[:, None] - centre) / width) ** 2) / 2)
    course = np.broadcast_to(bumps, (n_trials, *bumps.shape))
    by_class = [sign[:, None, None] * bumps for sign in values.classes.T]
    features: Array = np.concatenate([*lagged, course, *by_class], 2).astype(np.float32)
    return features


def _features(data: BaselineData, split: str) -> Array:
    """Standardised by the training trials, in which what is missing is the mean."""
    if "encoding" not in data.kept:
        traces = data.behaviour["train"].traces
        known = ~np.isnan(traces)
        n = known.sum((0, 1)).clip(min=1)
        data.kept["encoding"] = np.where(known, traces, 0).sum((0, 1)) / n
    mean = data.kept["encoding"]
    of_split, train = (
        design(ModalityValues(data.behaviour[name].traces - mean, data.behaviour[name].classes))
        for name in (split, "train")
    )
    spread = train.std((0, 1))
    x: Array = (of_split - train.mean((0, 1))) / np.where(spread > 1e-6, spread, 1)
    return x


def _to_fit(data: BaselineData, split: str) -> tuple[Array, Array]:
    x, y = _features(data, split), data.counts[split]
    return x.reshape(-1, x.shape[-1]), y.reshape(-1, y.shape[-1])


def choose_regression(data: BaselineData, task: ActivityTask) -> tuple[Any, ...]:
    """The penalty that does best on the validation trials."""
    fitted, val = PoissonRegression(*_to_fit(data, "train")), _features(data, "val")
    fit: PoissonFit | None = None
    scores: dict[float, float] = {}
    for penalty in PENALTIES:
        fit = fitted.fit(penalty, fit)
        scores[penalty] = data.score(fit.rates(val), "val", task)
        if is_past_best(list(scores.values())):
            break
    return (max(scores, key=lambda penalty: scores[penalty]),)


def regression(data: BaselineData, task: ActivityTask, penalty: float) -> Array:
    """Poisson regression with an L2 penalty."""
    return PoissonRegression(*_to_fit(data, "fit")).fit(penalty).rates(_features(data, "test"))


def choose_reduced_rank(data: BaselineData, task: ActivityTask) -> tuple[Any, ...]:
    """The penalty of the full weights, then the rank and the share of it."""
    (penalty,) = choose_regression(data, task)
    ranks = [rank for rank in RANKS if rank < len(data.region)] or [1]
    grid = [(rank, share) for rank in ranks for share in (1.0, 0.3)]
    fits = _of_ranks(data, "train", penalty, grid)
    val = _features(data, "val")
    scores = [data.score(fit.rates(val), "val", task) for fit in fits]
    return penalty, *grid[int(np.argmax(scores))]


def reduced_rank(
    data: BaselineData, task: ActivityTask, penalty: float, rank: int, share: float
) -> Array:
    """The same with weights of low rank."""
    (fit,) = _of_ranks(data, "fit", penalty, [(rank, share)])
    return fit.rates(_features(data, "test"))


def _of_ranks(
    data: BaselineData, split: str, penalty: float, grid: Sequence[tuple[int, float]]
) -> list[PoissonFit]:
    x, y = _to_fit(data, split)
    full = PoissonRegression(x, y).fit(penalty)
    low = LowRank(x, y, np.ones((x.shape[1], y.shape[1]), bool))
    return [low.fit(penalty * share, rank, full) for rank, share in grid]
