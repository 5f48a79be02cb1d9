"""Behaviour as a model's modalities: values of every trial, and each session's own scale of them.

values = read_modalities(ds, ["choice", "wheel_speed"])
values.traces                                # (trial, time, K), NaN where missing
values.classes                               # (trial, V), -1 or +1; 0 where missing
statistics = describe_modalities(values, train, ["choice", "wheel_speed"])

Traces come before classes, each in the order of their names. Missing are an absent variable, a
sample that is not a number, a trial without a class.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr
from scipy.special import gammaln, xlog1py, xlogy

from ibl_mtm.sessions.behaviours import BEHAVIOURS, Undecodable
from ibl_mtm.sessions.schema import KEPT, SIGNALS

__all__ = [
    "GAUSSIAN_NULL",
    "ModalityStatistics",
    "ModalityValues",
    "SessionBehaviour",
    "classes_in",
    "describe_modalities",
    "read_modalities",
    "traces_in",
    "variables_in",
]

#: Mean negative log likelihood of a trace under its own mean and variance (nats).
GAUSSIAN_NULL = 0.5 * (math.log(2 * math.pi) + 1)
#: Rare events cost their null model next to nothing: a loss in units of that would be huge.
_LEAST_NULL = 0.1


def traces_in(names: Sequence[str]) -> tuple[str, ...]:
    """Those of some modalities that have a value in every bin."""
    return tuple(name for name in names if BEHAVIOURS[name].classes is None)


def classes_in(names: Sequence[str]) -> tuple[str, ...]:
    """Those of some modalities that have one of two classes in every trial."""
    return tuple(name for name in names if BEHAVIOURS[name].classes is not None)


def variables_in(names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Modalities by the variable that they come from, which one alone would tell of the others.

    Returns
    -------
    dict
        By a name for them: their names with a ``+`` between.
    """
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(BEHAVIOURS[name].variable, []).append(name)
    return {"+".join(alike): tuple(alike) for alike in found.values()}


@dataclass(frozen=True)
class ModalityValues:
    """Values of some trials.

    Attributes
    ----------
    traces : ndarray (trial, time, K), float32
        As measured, but events per bin instead of per second; NaN where missing.
    classes : ndarray (trial, V), int8
        -1 or +1; 0 where missing.
    """

    traces: np.ndarray
    classes: np.ndarray

    def take(self, trials: np.ndarray) -> "ModalityValues":
        """Those of some trials, by position."""
        return ModalityValues(self.traces[trials], self.classes[trials])

    def without(self, names: Sequence[str], left_out: Sequence[str]) -> "ModalityValues":
        """The same with some of the modalities missing; `names` are those of all."""
        traces, classes = self.traces.copy(), self.classes.copy()
        traces[:, :, [name in left_out for name in traces_in(names)]] = np.nan
        classes[:, [name in left_out for name in classes_in(names)]] = 0
        return ModalityValues(traces, classes)


@dataclass(frozen=True)
class ModalityStatistics:
    """What a session's training trials tell of its modalities.

    Attributes
    ----------
    offset, scale : ndarray (K,), float32
        Mean and standard deviation of each trace.
    log_odds : ndarray (V,), float32
        Of the class +1.
    null : ndarray (K + V,), float32
        Mean negative log likelihood under those alone (nats), at least 0.1; 0 for a modality that
        is missing in these trials, or never changes in them.
    """

    offset: np.ndarray
    scale: np.ndarray
    log_odds: np.ndarray
    null: np.ndarray


@dataclass(frozen=True)
class SessionBehaviour:
    """A session's modalities: values of all trials that a run uses, and their statistics."""

    values: ModalityValues
    statistics: ModalityStatistics

    @property
    def is_there(self) -> bool:
        """Whether there is anything to learn from."""
        return bool((self.statistics.null > 0).any())


def read_modalities(ds: xr.Dataset, names: Sequence[str]) -> ModalityValues:
    """Values of all trials of a session; all missing where it does not have a modality."""
    n_trials, n_time = ds.sizes["trial"], ds.sizes["time"]
    # A column of a task of the session's own is another thing, whatever its name.
    own = {*ds.attrs.get(KEPT, ()), *ds.attrs.get(SIGNALS, ())}
    traces, classes = traces_in(names), classes_in(names)
    values = ModalityValues(
        np.full((n_trials, n_time, len(traces)), np.nan, np.float32),
        np.zeros((n_trials, len(classes)), np.int8),
    )
    for name in (*traces, *classes):
        behaviour = BEHAVIOURS[name]
        if behaviour.variable in own:
            continue
        try:
            target = behaviour.target(ds)
        except Undecodable:
            continue
        if name in classes:
            values.classes[:, classes.index(name)] = np.where(np.abs(target) == 1, target, 0)
        else:
            events = float(ds.attrs["bin_size"]) if behaviour.counts else 1.0
            finite = np.where(np.isfinite(target), target, np.nan)
            values.traces[:, :, traces.index(name)] = finite * events
    return values


def describe_modalities(
    values: ModalityValues, train: np.ndarray, names: Sequence[str]
) -> ModalityStatistics:
    """Statistics of the training trials, given by position."""
    traces, classes = traces_in(names), classes_in(names)
    offset, scale = np.zeros(len(traces)), np.ones(len(traces))
    log_odds, null = np.zeros(len(classes)), np.zeros(len(traces) + len(classes))
    for k, name in enumerate(traces):
        x = values.traces[train, :, k].astype(np.float64)
        x = x[~np.isnan(x)]
        if not len(x) or x.std() <= 1e-6 * np.abs(x).max():
            continue
        offset[k], scale[k] = x.mean(), x.std()
        null[k] = GAUSSIAN_NULL
        if BEHAVIOURS[name].counts:
            nll = offset[k] - xlogy(x, offset[k]) + gammaln(x + 1)
            null[k] = max(_LEAST_NULL, nll.mean())
    for v in range(len(classes)):
        label = values.classes[train, v]
        n_plus, n_minus = (label > 0).sum(), (label < 0).sum()
        if n_plus and n_minus:
            share = n_plus / (n_plus + n_minus)
            log_odds[v] = np.log(share / (1 - share))
            entropy = -xlogy(share, share) - xlog1py(1 - share, -share)
            null[len(traces) + v] = max(_LEAST_NULL, entropy)
    kinds = (offset, scale, log_odds, null)
    return ModalityStatistics(*(kind.astype(np.float32) for kind in kinds))
