"""What else could have been done: simple models of activity, fitted to one session at a time.

    predictor = BaselinePredictor("poisson_regression", ds, split, region)
    for held, rates in predictor.held_out("co_smoothing"):
        ...

Every baseline is fitted to the training trials, chooses its hyper-parameters by bits/spike on the
validation trials, is fitted to both, and predicts the test trials' held-out entries from what the
task shows.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import xarray as xr

from ibl_mtm.evaluation.activity.tasks import ACTIVITY_TASKS, ActivityTask, HeldOut
from ibl_mtm.evaluation.baselines import autoregressive, encoding, poisson_lds, regression
from ibl_mtm.evaluation.baselines.session_data import Array, BaselineData
from ibl_mtm.evaluation.behaviour.linear_decoders import Features
from ibl_mtm.evaluation.predictors import Scored
from ibl_mtm.model.poisson_regression import log_mean_count
from ibl_mtm.sessions.modalities import variables_in

__all__ = ["BASELINES", "Baseline", "BaselinePredictor"]

Choose = Callable[[BaselineData, ActivityTask], tuple[Any, ...]]
Predict = Callable[..., Array]

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
        if what == "encoding":
            return None if self.data.has_behaviour else "the session has no behaviour"
        if len(self.region) < 2 and what != "forward_prediction":
            return "the session has a single unit, and no other one to predict it from"
        return None

    def held_out(self, task: ActivityTask) -> Iterator[tuple[HeldOut, np.ndarray]]:
        """See `Predictor`."""
        return self._predict(self.data, task)

    def region_pairs(self) -> Iterator[tuple[HeldOut, np.ndarray]]:
        """See `Predictor`."""
        names = np.unique(self.region[self.region != ""])
        for source in names if len(names) > 1 else ():
            yield from self._predict(replace(self.data, source=str(source)), "inter_region")

    def without_modality(self) -> Iterator[tuple[str, np.ndarray]]:
        """Fitted anew without it, with what was chosen for all; see `Predictor`."""
        for what, left_out in variables_in(self.data.modalities).items():
            ((_, rates),) = self._predict(self.data.without(left_out), "encoding")
            yield what, rates

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

    def answers(self) -> Mapping[str, np.ndarray]:
        """None: a baseline knows no behaviour."""
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
    grid = [(width, prior) for width in regression.WIDTHS for prior in PRIOR_TRIALS]

    def score(at: tuple[float, float]) -> float:
        return data.score(_psth(data, task, at[0], at[1], "train", "val"), "val", task)

    return max(grid, key=score)


def _smooth(counts: Array, width: float) -> Array:
    time = np.arange(counts.shape[1])
    kernel = np.exp(-(((time[:, None] - time) / width) ** 2) / 2)
    smooth: Array = (kernel / kernel.sum(1, keepdims=True)).astype(np.float32) @ counts
    return smooth


_SPACE: tuple[ActivityTask, ...] = ("co_smoothing", "intra_region", "inter_region")
_TIME: tuple[ActivityTask, ...] = ("forward_prediction",)

BASELINES = {
    "unit_mean": Baseline("the mean count", ACTIVITY_TASKS, _nothing, _unit_mean),
    "psth": Baseline("the PSTH", ACTIVITY_TASKS, _choose_psth, _psth),
    "pca_poisson": Baseline(
        "PCA with Poisson regression", ACTIVITY_TASKS, regression.choose_pca, regression.pca_poisson
    ),
    "poisson_regression": Baseline(
        "Poisson regression",
        ACTIVITY_TASKS,
        regression.choose_poisson,
        regression.poisson_regression,
        pairs=True,
    ),
    "reduced_rank": Baseline(
        "reduced-rank Poisson regression",
        _SPACE,
        regression.choose_reduced_rank,
        regression.reduced_rank,
        pairs=True,
    ),
    "poisson_lds": Baseline(
        "the Poisson linear dynamical system",
        ACTIVITY_TASKS,
        poisson_lds.choose,
        poisson_lds.predict,
        pairs=True,
    ),
    "poisson_lds_drift": Baseline(
        "the Poisson linear dynamical system with drifting units",
        ACTIVITY_TASKS,
        poisson_lds.choose,
        poisson_lds.predict_drifting,
        pairs=True,
    ),
    "autoregressive": Baseline(
        "the autoregressive model", _TIME, autoregressive.choose, autoregressive.predict
    ),
    "encoding_regression": Baseline(
        "Poisson regression on behaviour",
        ("encoding",),
        encoding.choose_regression,
        encoding.regression,
    ),
    "encoding_reduced_rank": Baseline(
        "reduced-rank regression on behaviour",
        ("encoding",),
        encoding.choose_reduced_rank,
        encoding.reduced_rank,
    ),
}
"""By name."""
