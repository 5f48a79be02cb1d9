"""A session as baselines see it: counts of its splits, and what each task shows of them.

data = BaselineData.of(ds, split, region)
x = data.to_predict("val", width=3.0, task="forward_prediction")     # from the bins that are seen
data.score(rates, "val", task)                                       # mean bits/spike of the units
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from ibl_mtm.evaluation.activity.tasks import (
    ActivityTask,
    HeldOut,
    forward_bins,
    held_out,
    region_pairs,
)
from ibl_mtm.evaluation.metrics import bits_per_spike
from ibl_mtm.sessions.behaviours import BEHAVIOURS
from ibl_mtm.sessions.conditions import combine, condition_codes, conditions_of
from ibl_mtm.sessions.modalities import (
    ModalityValues,
    classes_in,
    read_modalities,
    traces_in,
)

__all__ = ["Array", "BaselineData"]

Array = NDArray[np.float32]

_ALL = tuple(BEHAVIOURS)


@dataclass(frozen=True)
class BaselineData:
    """A session.

    Attributes
    ----------
    counts
        By split (train, val, test, and `fit`, which is train and val): (trial, time, unit), spikes
        per bin.
    condition
        By split: (trial,), a number for each combination of choice and block.
    region : ndarray (unit,), str
        Regions as the tasks use them, ``""`` where one takes no part.
    source
        The only region that inter-region prediction shows, for pairs of regions; ``""``: all.
    kept
        What a baseline fits once for all tasks, under its name.
    behaviour
        By split: all behaviours that are built in.
    start
        By split: (trial,), when their windows begin, s on the session's clock.
    """

    counts: dict[str, Array]
    condition: dict[str, NDArray[np.int64]]
    region: NDArray[np.str_]
    source: str = ""
    kept: dict[str, Any] = field(default_factory=dict)
    behaviour: dict[str, ModalityValues] = field(default_factory=dict)
    start: dict[str, NDArray[np.float64]] = field(default_factory=dict)

    @classmethod
    def of(cls, ds: xr.Dataset, split: np.ndarray, region: np.ndarray) -> "BaselineData":
        """Read a session; one without what it is conditioned on has a single condition."""
        condition = np.zeros(ds.sizes["trial"], np.int64)
        found = [condition_codes(ds, name) for name in conditions_of(ds)]
        labels = [codes[0] for codes in found if codes is not None]
        if len(labels) == len(found):
            condition = combine(labels)
        spikes = ds.spikes.values
        behaviour = read_modalities(ds, _ALL)
        at = {name: split == name for name in ("train", "val", "test")}
        at["fit"] = split != "test"
        return cls(
            counts={name: spikes[rows].astype(np.float32) for name, rows in at.items()},
            condition={name: condition[rows] for name, rows in at.items()},
            behaviour={name: behaviour.take(rows) for name, rows in at.items()},
            region=region,
            start={name: ds.window_start.values[rows] for name, rows in at.items()},
        )

    @property
    def has_behaviour(self) -> bool:
        """Whether any is known of the training trials."""
        values = self.behaviour["train"]
        return bool((~np.isnan(values.traces)).any() or values.classes.any())

    @property
    def modalities(self) -> list[str]:
        """Behaviours that some training trial has."""
        values = self.behaviour["train"]
        traces, classes = ~np.isnan(values.traces), values.classes != 0
        there = np.concatenate([traces.any((0, 1)), classes.any(0)]).tolist()
        names = (*traces_in(_ALL), *classes_in(_ALL))
        return [name for name, known in zip(names, there, strict=True) if known]

    def without(self, left_out: Sequence[str]) -> "BaselineData":
        """The same with some behaviours missing."""
        values = {name: of.without(_ALL, left_out) for name, of in self.behaviour.items()}
        return replace(self, behaviour=values, kept={})

    @property
    def n_time(self) -> int:
        """Bins in a trial."""
        return self.counts["train"].shape[1]

    def items(self, task: ActivityTask) -> list[HeldOut]:
        """Everything that a task holds out."""
        if self.source:
            pairs = region_pairs(self.region, self.n_time)
            return [held for held in pairs if held.source == self.source]
        return list(held_out(task, self.region, self.n_time))

    def allowed(self, task: ActivityTask) -> NDArray[np.bool_]:
        """Which units (rows) a task shows when it asks for each unit (columns)."""
        n_units = len(self.region)
        shown = np.zeros((n_units, n_units), bool)
        for held in self.items(task):
            seen = np.broadcast_to(~held.hidden, (self.n_time, n_units)).any(axis=0)
            shown[:, held.outputs] = np.asarray(seen)[:, None]
        return shown

    def targets(self, task: ActivityTask) -> NDArray[np.int64]:
        """The units that a task asks for."""
        return np.unique(np.concatenate([held.outputs for held in self.items(task)]))

    def bins(self, task: ActivityTask) -> slice:
        """The bins that a task asks for."""
        first = self.n_time - forward_bins(self.n_time) if task == "forward_prediction" else 0
        return slice(first, self.n_time)

    def to_fit(self, split: str, width: float, task: ActivityTask) -> tuple[Array, Array]:
        """Features and counts to fit to, (sample, unit) each.

        Forward prediction is also fitted to earlier bins of a trial, as if it ended there: from
        the second half of the trial on.
        """
        bins = self.bins(task)
        length = bins.stop - bins.start
        ends = range(bins.stop, self.n_time // 2, -length) if bins.start else [bins.stop]
        parts = [slice(end - length, end) for end in ends]
        x = np.concatenate([self._smoothed(split, width, task, part) for part in parts])
        y = np.concatenate([self.counts[split][:, part] for part in parts])
        return x.reshape(-1, x.shape[-1]), y.reshape(-1, y.shape[-1])

    def to_predict(self, split: str, width: float, task: ActivityTask) -> Array:
        """Features of the bins that the task asks for, (trial, bin, unit)."""
        return self._smoothed(split, width, task, self.bins(task))

    def _smoothed(self, split: str, width: float, task: ActivityTask, bins: slice) -> Array:
        """Counts smoothed by a Gaussian of `width` bins, standardised by the training trials.

        Forward prediction sees the bins before `bins` only.
        """
        time = np.arange(self.n_time)
        exponent = -(((time[bins, None] - time) / width) ** 2) / 2
        if task == "forward_prediction":
            exponent[:, bins.start :] = -np.inf
        # Far from all that is seen, the nearest bins count: weights relative to the largest.
        weights = np.exp(exponent - exponent.max(axis=1, keepdims=True))
        kernel = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
        # Bins differ in how many they are smoothed over, trials do not: one scale for all.
        train = self.counts["train"]
        mean = train.mean((0, 1))
        spread = (kernel @ train).std((0, 1))
        # A unit whose spikes are all far from these bins hardly varies: that is no scale.
        spread = np.maximum(spread, 0.1 * train.std((0, 1)))
        x: Array = (kernel @ self.counts[split] - mean) / np.where(spread > 0, spread, 1)
        return x

    def score(self, rates: Array, split: str, task: ActivityTask) -> float:
        """Mean bits/spike over the units that a task asks for; `rates` as it asks for them."""
        targets = self.targets(task)
        counts = self.counts[split][:, self.bins(task)][..., targets]
        if not counts.any():
            return -np.inf
        return float(np.nanmean(bits_per_spike(rates[..., targets], counts)))
