"""What else could have been done: simple models of activity, fitted to one session at a time.

    predictor = BaselinePredictor("poisson_regression", ds, split, region)
    for held, rates in predictor.held_out("co_smoothing"):
        ...

Every baseline is fitted to the training trials, chooses its hyper-parameters by bits/spike on the
validation trials, is fitted to both, and predicts the test trials' held-out entries from what the
task shows.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import xarray as xr
from sklearn.linear_model import PoissonRegressor

from ibl_mtm.evaluation import autoregressive
from ibl_mtm.evaluation.baseline_data import Array, BaselineData
from ibl_mtm.evaluation.decoding import Features
from ibl_mtm.evaluation.poisson import (
    PoissonFit,
    fit_poisson,
    fit_reduced_rank,
    highest_log_rate,
    log_mean_count,
)
from ibl_mtm.evaluation.predictors import Scored
from ibl_mtm.evaluation.tasks import ACTIVITY_TASKS, ActivityTask, HeldOut

__all__ = ["BASELINES", "Baseline", "BaselinePredictor"]

Choose = Callable[[BaselineData, ActivityTask], tuple[Any, ...]]
Predict = Callable[..., Array]

WIDTHS = (1.5, 3.0, 5.0, 8.0)
"""Standard deviations of the smoothing of counts, bins."""
PENALTIES = (100.0, 30.0, 10.0, 3.0, 1.0, 0.3, 0.1)
"""Of squared weights; the largest first."""
RANKS = (2, 4, 8, 16)
COMPONENTS = (3, 6, 12)
PRIOR_TRIALS = (1.0, 5.0, 20.0, 100.0)
"""Trials of the average over all conditions that a condition's PSTH is mixed with."""


@dataclass(frozen=True)
class Baseline:
    """A baseline: what it is, the tasks it can do, and how it predicts the test trials.

    Attributes
    ----------
    title, tasks
        What to call it, and what it predicts.
    choose
        Hyper-parameters for a task, from train and val trials.
    predict
        From data, task and what was chosen: expected counts of the test trials (trial, bin that
        the task asks for, unit).
    pairs
        Whether it predicts a region from one other region alone; it does so with what was chosen
        for inter-region prediction.
    """

    title: str
    tasks: tuple[ActivityTask, ...]
    choose: Choose
    predict: Predict
    pairs: bool = False


class BaselinePredictor:
    """A baseline on a session, as a `Predictor`.

    Parameters
    ----------
    name
        One of `BASELINES`.
    ds
        The session, in memory.
    split : ndarray (trial,), str
    region : ndarray (unit,), str
        Regions as the tasks use them.
    """

    prompt = None

    def __init__(self, name: str, ds: xr.Dataset, split: np.ndarray, region: np.ndarray) -> None:
        self.baseline, self.region = BASELINES[name], region
        self.data = BaselineData.of(ds, split, region)
        self._chosen: dict[ActivityTask, tuple[Any, ...]] = {}

    def cannot(self, what: Scored) -> str | None:
        """Some baselines are made for some tasks only."""
        if what == "region_pairs":
            known = self.baseline.pairs
            return None if known else f"{self.baseline.title} is not fitted to pairs of regions"
        if what not in self.baseline.tasks:
            return f"{self.baseline.title} does not predict this"
        return None

    def held_out(self, task: ActivityTask) -> Iterator[tuple[HeldOut, np.ndarray]]:
        """See `Predictor`."""
        return self._predict(self.data, task)

    def region_pairs(self) -> Iterator[tuple[HeldOut, np.ndarray]]:
        """See `Predictor`."""
        names = np.unique(self.region[self.region != ""])
        for source in names if len(names) > 1 else ():
            yield from self._predict(replace(self.data, source=str(source)), "inter_region")

    def _predict(
        self, data: BaselineData, task: ActivityTask
    ) -> Iterator[tuple[HeldOut, np.ndarray]]:
        if task not in self._chosen:
            self._chosen[task] = self.baseline.choose(self.data, task)
        rates = np.zeros(data.counts["test"].shape, np.float32)
        rates[:, data.bins(task)] = self.baseline.predict(data, task, *self._chosen[task])
        for held in data.items(task):
            yield held, rates[..., held.outputs]

    def features(self) -> Mapping[str, Features]:
        """None: behaviour is decoded from the raw spikes."""
        return {}


def _nothing(data: BaselineData, task: ActivityTask) -> tuple[Any, ...]:
    return ()


def _unit_mean(data: BaselineData, task: ActivityTask) -> Array:
    counts = data.counts["test"][:, data.bins(task)]
    return np.broadcast_to(np.exp(log_mean_count(data.counts["fit"])), counts.shape)


def _psth(
    data: BaselineData,
    task: ActivityTask,
    width: float,
    prior: float,
    known: str = "fit",
    split: str = "test",
) -> Array:
    """Smoothed average of the training trials of the same condition."""
    smooth = _smooth(data.counts[known], width)
    floor = np.exp(log_mean_count(data.counts[known]))
    # A tenth of a trial of the unit's mean keeps rates above zero.
    overall = (smooth.sum(0) + 0.1 * floor) / (len(smooth) + 0.1)
    rates = np.empty_like(data.counts[split])
    for condition in np.unique(data.condition[split]):
        own = smooth[data.condition[known] == condition]
        mixed = (own.sum(0) + prior * overall) / (len(own) + prior)
        rates[data.condition[split] == condition] = mixed
    return rates[:, data.bins(task)]


def _choose_psth(data: BaselineData, task: ActivityTask) -> tuple[Any, ...]:
    grid = [(width, prior) for width in WIDTHS for prior in PRIOR_TRIALS]

    def score(at: tuple[float, float]) -> float:
        return data.score(_psth(data, task, at[0], at[1], "train", "val"), "val", task)

    return max(grid, key=score)


def _smooth(counts: Array, width: float) -> Array:
    time = np.arange(counts.shape[1])
    kernel = np.exp(-(((time[:, None] - time) / width) ** 2) / 2)
    smooth: Array = (kernel / kernel.sum(1, keepdims=True)).astype(np.float32) @ counts
    return smooth


def _choose_poisson(data: BaselineData, task: ActivityTask) -> tuple[float, float]:
    """The width that does best under a middle penalty, then the penalty."""
    allowed = data.allowed(task)

    def fit_path(
        width: float, penalties: Sequence[float], fit: PoissonFit | None = None
    ) -> tuple[dict[float, float], PoissonFit | None]:
        """Score under each penalty, each fit starting from the one before; and the last fit."""
        x, y = data.to_fit("train", width, task)
        val, scores = data.to_predict("val", width, task), {}
        for penalty in penalties:
            fit = fit_poisson(x, y, penalty, allowed, fit)
            scores[penalty] = data.score(fit.rates(val), "val", task)
        return scores, fit

    middle = {width: fit_path(width, [1.0]) for width in WIDTHS}
    width = max(middle, key=lambda width: middle[width][0][1.0])
    scores, _ = fit_path(width, PENALTIES, middle[width][1])
    return width, max(scores, key=lambda penalty: scores[penalty])


def _poisson_regression(
    data: BaselineData, task: ActivityTask, width: float, penalty: float
) -> Array:
    """Poisson regression with an L2 penalty on the smoothed counts of what the task shows."""
    x, y = data.to_fit("fit", width, task)
    fit = fit_poisson(x, y, penalty, data.allowed(task))
    return fit.rates(data.to_predict("test", width, task))


def _choose_reduced_rank(data: BaselineData, task: ActivityTask) -> tuple[Any, ...]:
    width, penalty = _choose_poisson(data, task)
    fit_rank = _rank_fitter(data, task, "train", width, penalty)
    val = data.to_predict("val", width, task)
    # A low rank already restrains the weights: a smaller penalty may do better.
    ranks = [rank for rank in RANKS if rank < len(data.region)]
    grid = [(rank, share) for rank in ranks for share in (1.0, 0.3)]
    best = max(grid, key=lambda at: data.score(fit_rank(*at).rates(val), "val", task))
    return width, penalty, *best


def _reduced_rank(
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
    full = fit_poisson(x, y, penalty, allowed)
    return lambda rank, share: fit_reduced_rank(x, y, penalty * share, rank, full, allowed)


def _pca_poisson(
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
    squares, basis = np.linalg.eigh(np.cov(seen_x.T))
    loading = basis[:, -n_components:] * np.sqrt(np.maximum(squares[-n_components:], 0))
    noise = max(float(squares[:-n_components].mean()), 1e-3)
    rates = np.ones((len(asked), y.shape[1]), np.float32)
    # Units that are predicted from the same others share their scores.
    shown, group = np.unique(allowed[:, targets], axis=1, return_inverse=True)
    for at, rows in enumerate(shown.T):
        seen = loading[rows]
        infer = np.linalg.solve(seen.T @ seen + noise * np.eye(n_components), seen.T).T
        score_known, score_asked = seen_x[:, rows] @ infer, asked[:, rows] @ infer
        for unit in targets[group == at]:
            model = PoissonRegressor(alpha=1e-4, solver="newton-cholesky", max_iter=30)
            model.fit(score_known, y[:, unit] + 1e-6)  # a silent unit has no maximum
            log_rate = score_asked @ model.coef_ + model.intercept_
            rates[:, unit] = np.exp(np.minimum(log_rate, highest_log_rate(y)))
    return rates.reshape(*data.counts[split][:, data.bins(task)].shape)


def _choose_pca(data: BaselineData, task: ActivityTask) -> tuple[Any, ...]:
    grid = [(w, k) for w in WIDTHS[1:3] for k in COMPONENTS if k < len(data.region)]

    def score(at: tuple[float, int]) -> float:
        return data.score(_pca_poisson(data, task, *at, "train", "val"), "val", task)

    return max(grid, key=score)


def _flat(values: Array) -> Array:
    """(trial, time, unit) to (sample, unit)."""
    return np.ascontiguousarray(values.reshape(-1, values.shape[-1]))


_SPACE: tuple[ActivityTask, ...] = ("co_smoothing", "intra_region", "inter_region")
_TIME: tuple[ActivityTask, ...] = ("forward_prediction",)

BASELINES = {
    "unit_mean": Baseline("the mean count", ACTIVITY_TASKS, _nothing, _unit_mean),
    "psth": Baseline("the PSTH", ACTIVITY_TASKS, _choose_psth, _psth),
    "pca_poisson": Baseline(
        "PCA with Poisson regression", ACTIVITY_TASKS, _choose_pca, _pca_poisson
    ),
    "poisson_regression": Baseline(
        "Poisson regression", ACTIVITY_TASKS, _choose_poisson, _poisson_regression, pairs=True
    ),
    "reduced_rank": Baseline(
        "reduced-rank Poisson regression", _SPACE, _choose_reduced_rank, _reduced_rank, pairs=True
    ),
    "autoregressive": Baseline(
        "the autoregressive model", _TIME, autoregressive.choose, autoregressive.predict
    ),
}
"""By name."""
