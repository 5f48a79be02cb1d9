"""What else could have been done: simple models of activity, fitted to one session at a time.

    predictor = BaselinePredictor("poisson_regression", ds, split, region)
    for held, rates in predictor.held_out("co_smoothing"):
        ...

Every baseline is fitted to the training trials, chooses its hyper-parameters by bits/spike on the
validation trials, is fitted to both, and predicts the test trials' held-out entries from what the
task shows.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from sklearn.linear_model import PoissonRegressor

from ibl_mtm.evaluation.baseline_data import BaselineData
from ibl_mtm.evaluation.decoding import Features
from ibl_mtm.evaluation.poisson import (
    PoissonFit,
    fit_poisson,
    fit_reduced_rank,
    highest_log_rate,
    log_mean_count,
)
from ibl_mtm.evaluation.tasks import ACTIVITY_TASKS, ActivityTask, HeldOut, held_out

__all__ = ["BASELINES", "Baseline", "BaselinePredictor"]

Array = NDArray[np.float32]
Predict = Callable[[BaselineData, ActivityTask], Array]

WIDTHS = (1.5, 3.0, 5.0, 8.0)
"""Standard deviations of the smoothing of counts, bins."""
PENALTIES = (100.0, 30.0, 10.0, 3.0, 1.0, 0.3, 0.1)
"""Of squared weights; the largest first."""
RANKS = (2, 4, 8, 16)
COMPONENTS = (3, 6, 12)
PRIOR_TRIALS = (1.0, 5.0, 20.0, 100.0)
"""Trials of the average over all conditions that a condition's PSTH is mixed with."""
DECAYS = (0.0, 0.8, 0.96)
"""Of the filters through which the autoregressive model sees the past; the first: the last bin."""
TIME_BUMPS = 10
"""Gaussians over the time in a trial, which let the autoregressive model know the mean response."""


@dataclass(frozen=True)
class Baseline:
    """A baseline: what it is, the tasks it can do, and how it predicts the test trials.

    `predict` gives expected counts (trial, bin that the task asks for, unit).
    """

    title: str
    tasks: tuple[ActivityTask, ...]
    predict: Predict


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

    def cannot(self, task: ActivityTask) -> str | None:
        """Some baselines are made for some tasks only."""
        if task not in self.baseline.tasks:
            return f"{self.baseline.title} does not predict this"
        return None

    def held_out(self, task: ActivityTask) -> Iterator[tuple[HeldOut, np.ndarray]]:
        """See `Predictor`."""
        bins = self.data.bins(task)
        rates = np.zeros(self.data.counts["test"].shape, np.float32)
        rates[:, bins] = self.baseline.predict(self.data, task)
        for held in held_out(task, self.region, self.data.n_time):
            yield held, rates[..., held.outputs]

    def region_pairs(self) -> Iterator[tuple[HeldOut, np.ndarray]]:
        """No baseline is fitted to pairs of regions."""
        return iter(())

    def features(self) -> Mapping[str, Features]:
        """None: behaviour is decoded from the raw spikes."""
        return {}


def _unit_mean(data: BaselineData, task: ActivityTask) -> Array:
    counts = data.counts["test"][:, data.bins(task)]
    return np.broadcast_to(np.exp(log_mean_count(data.counts["fit"])), counts.shape)


def _psth(data: BaselineData, task: ActivityTask) -> Array:
    """Smoothed average of the training trials of the same condition."""
    bins = data.bins(task)

    def predict(width: float, prior: float, known: str, split: str) -> Array:
        smooth = _smooth(data.counts[known], width)
        floor = np.exp(log_mean_count(data.counts[known]))
        # A tenth of a trial of the unit's mean keeps rates above zero.
        overall = (smooth.sum(0) + 0.1 * floor) / (len(smooth) + 0.1)
        rates = np.empty_like(data.counts[split])
        for condition in np.unique(data.condition[split]):
            own = smooth[data.condition[known] == condition]
            mixed = (own.sum(0) + prior * overall) / (len(own) + prior)
            rates[data.condition[split] == condition] = mixed
        return rates[:, bins]

    grid = [(width, prior) for width in WIDTHS for prior in PRIOR_TRIALS]
    width, prior = max(
        grid, key=lambda at: data.score(predict(at[0], at[1], "train", "val"), "val", task)
    )
    return predict(width, prior, "fit", "test")


def _smooth(counts: Array, width: float) -> Array:
    time = np.arange(counts.shape[1])
    kernel = np.exp(-(((time[:, None] - time) / width) ** 2) / 2)
    smooth: Array = (kernel / kernel.sum(1, keepdims=True)).astype(np.float32) @ counts
    return smooth


def _fit_poisson(
    data: BaselineData,
    task: ActivityTask,
    known: str,
    width: float,
    penalty: float,
    start: PoissonFit | None = None,
) -> PoissonFit:
    x, y = data.to_fit(known, width, task)
    return fit_poisson(x, y, penalty, data.allowed(task), start)


def _choose_poisson(data: BaselineData, task: ActivityTask) -> tuple[float, float]:
    """The width that does best under a middle penalty, then the penalty."""

    def score(width: float, fit: PoissonFit) -> float:
        return data.score(fit.rates(data.to_predict("val", width, task)), "val", task)

    middle = {width: _fit_poisson(data, task, "train", width, 1.0) for width in WIDTHS}
    width = max(middle, key=lambda w: score(w, middle[w]))
    fit, scores = middle[width], {}
    for penalty in PENALTIES:
        fit = _fit_poisson(data, task, "train", width, penalty, fit)
        scores[penalty] = score(width, fit)
    return width, max(scores, key=lambda penalty: scores[penalty])


def _poisson_regression(data: BaselineData, task: ActivityTask) -> Array:
    """Poisson regression with an L2 penalty on the smoothed counts of what the task shows."""
    width, penalty = _choose_poisson(data, task)
    fit = _fit_poisson(data, task, "fit", width, penalty)
    return fit.rates(data.to_predict("test", width, task))


def _reduced_rank(data: BaselineData, task: ActivityTask) -> Array:
    """The same with weights of low rank."""
    width, penalty = _choose_poisson(data, task)
    allowed = data.allowed(task)

    def fit(known: str, rank: int, share: float) -> PoissonFit:
        x, y = data.to_fit(known, width, task)
        full = _fit_poisson(data, task, known, width, penalty)
        return fit_reduced_rank(x, y, penalty * share, rank, full, allowed)

    val = data.to_predict("val", width, task)
    # A low rank already restrains the weights: a smaller penalty may do better.
    grid = [(rank, share) for rank in RANKS if rank < len(data.region) for share in (1.0, 0.3)]
    best = max(grid, key=lambda at: data.score(fit("train", *at).rates(val), "val", task))
    return fit("fit", *best).rates(data.to_predict("test", width, task))


def _pca_poisson(data: BaselineData, task: ActivityTask) -> Array:
    """Poisson regression on the principal components that the shown units tell.

    The components are of all units in the training trials; their scores are inferred from the
    shown units alone, as in probabilistic PCA (Tipping & Bishop, 1999).
    """
    allowed, targets = data.allowed(task), data.targets(task)

    def predict(width: float, n_components: int, known: str, split: str) -> Array:
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

    grid = [(w, k) for w in WIDTHS[1:3] for k in COMPONENTS if k < len(data.region)]
    width, k = max(
        grid, key=lambda at: data.score(predict(at[0], at[1], "train", "val"), "val", task)
    )
    return predict(width, k, "fit", "test")


def _autoregressive(data: BaselineData, task: ActivityTask) -> Array:
    """Poisson regression of a bin on filters of the past and on the time in the trial.

    Beyond what is seen, expected counts are fed back.
    """
    bins, n_time = data.bins(task), data.n_time
    centres = np.linspace(0, n_time, TIME_BUMPS)
    distance = (np.arange(n_time)[:, None] - centres) / (n_time / TIME_BUMPS)
    bumps = np.exp(-(distance**2) / 2).astype(np.float32)

    def past(counts: Array) -> Array:
        """What the filters hold before each bin, (trial, time, filter x unit)."""
        states = np.zeros((len(DECAYS), *counts.shape), np.float32)
        for t in range(1, n_time):
            for at, decay in enumerate(DECAYS):
                states[at, :, t] = decay * states[at, :, t - 1] + (1 - decay) * counts[:, t - 1]
        return np.concatenate(list(states), axis=-1)

    seen = past(data.counts["fit"])
    mean, spread = seen.mean((0, 1)), seen.std((0, 1))
    spread = np.where(spread > 0, spread, 1)
    # No unit fires faster than its smoothed counts ever did, or feeding rates back could explode.
    highest = np.split(seen, len(DECAYS), axis=-1)[1].max((0, 1)) + 0.01

    def features(state: Array, time: slice) -> Array:
        """(trial, bin, filter x unit) to (trial, bin, feature)."""
        when = np.broadcast_to(bumps[time], (*state.shape[:2], TIME_BUMPS))
        return np.concatenate([(state - mean) / spread, when], axis=-1)

    def fit(known: str, penalty: float, start: PoissonFit | None = None) -> PoissonFit:
        x = features(past(data.counts[known]), slice(0, n_time))
        return fit_poisson(_flat(x), _flat(data.counts[known]), penalty, start=start)

    def predict(fitted: PoissonFit, split: str) -> Array:
        """Feed expected counts back, bin by bin."""
        counts = data.counts[split]
        state = past(counts)[:, bins.start]
        rates = np.empty_like(counts[:, bins])
        decays = np.repeat(np.array(DECAYS, np.float32), counts.shape[2])
        for at in range(rates.shape[1]):
            time = slice(bins.start + at, bins.start + at + 1)
            rate = fitted.rates(features(state[:, None], time))[:, 0]
            rates[:, at] = np.minimum(rate, highest)
            state = decays * state + (1 - decays) * np.tile(rates[:, at], len(DECAYS))
        return rates

    fitted, scores = None, {}
    for penalty in PENALTIES:
        fitted = fit("train", penalty, fitted)
        scores[penalty] = data.score(predict(fitted, "val"), "val", task)
    return predict(fit("fit", max(scores, key=lambda penalty: scores[penalty])), "test")


def _flat(values: Array) -> Array:
    """(trial, time, unit) to (sample, unit)."""
    return np.ascontiguousarray(values.reshape(-1, values.shape[-1]))


_SPACE: tuple[ActivityTask, ...] = ("co_smoothing", "intra_region", "inter_region")
_TIME: tuple[ActivityTask, ...] = ("forward_prediction",)

BASELINES = {
    "unit_mean": Baseline("the mean count", ACTIVITY_TASKS, _unit_mean),
    "psth": Baseline("the PSTH", ACTIVITY_TASKS, _psth),
    "pca_poisson": Baseline("PCA with Poisson regression", ACTIVITY_TASKS, _pca_poisson),
    "poisson_regression": Baseline("Poisson regression", ACTIVITY_TASKS, _poisson_regression),
    "reduced_rank": Baseline("reduced-rank Poisson regression", _SPACE, _reduced_rank),
    "autoregressive": Baseline("the autoregressive model", _TIME, _autoregressive),
}
"""By name."""
