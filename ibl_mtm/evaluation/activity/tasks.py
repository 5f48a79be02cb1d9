"""The activity tasks: what is hidden, what is predicted, exactly.

    for held in held_out("co_smoothing", regions, n_time=100):
        held.hidden, held.outputs        # each held-out unit alone

co-smoothing: one unit at a time is hidden and predicted from all others.
forward prediction: the last tenth of the bins of all units is predicted from the bins before.
intra-region: one unit at a time is predicted from the other units of its region alone.
inter-region: one region at a time is predicted from all other units. Beside it, by pair: each
region from one other region alone.
encoding, of models with modalities: all units are predicted from behaviour alone.
Source: Zhang, Wang, et al., arXiv 2407.14668, section 4.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ibl_mtm.model.masking import Scheme
from ibl_mtm.model.masking import last_bins as forward_bins

__all__ = [
    "ACTIVITY_TASKS",
    "HELD_OUT",
    "TASK_SCHEME",
    "UNIT_TASKS",
    "ActivityTask",
    "HeldOut",
    "forward_bins",
    "from_regions",
    "held_out",
    "neighbours",
    "region_pairs",
]

ActivityTask = Literal[
    "co_smoothing", "forward_prediction", "intra_region", "inter_region", "encoding"
]
#: Those of activity alone, which every model has.
ACTIVITY_TASKS: tuple[ActivityTask, ...] = (
    "co_smoothing",
    "forward_prediction",
    "intra_region",
    "inter_region",
)
#: Those that have a score for each unit.
UNIT_TASKS: tuple[ActivityTask, ...] = (*ACTIVITY_TASKS, "encoding")

#: The training scheme, and so the prompt, that each task asks for.
TASK_SCHEME: dict[ActivityTask, Scheme] = {
    "co_smoothing": "neuron",
    "forward_prediction": "causal",
    "intra_region": "intra_region",
    "inter_region": "inter_region",
    "encoding": "encoding",
}


@dataclass(frozen=True)
class HeldOut:
    """One thing that is predicted, on every trial.

    Attributes
    ----------
    hidden : ndarray, bool, (T or 1, N or 1)
        Entries zeroed in the input.
    outputs : ndarray, int (M,)
        Units that are predicted.
    bins : slice
        Bins of them that are scored.
    region
        The region that the prompt names; ``""`` for none.
    source
        The only region that is shown, for a pair of regions, or the only ones, separated by
        commas; ``""`` otherwise.
    """

    hidden: np.ndarray
    outputs: np.ndarray
    bins: slice
    region: str
    source: str = ""


def neighbours(
    probe: np.ndarray, depth: np.ndarray, channel: np.ndarray, distance: float
) -> np.ndarray:
    """Which units lie so near to each other that they may share noise, or spikes, (N, N).

    Parameters
    ----------
    probe, depth, channel : ndarray (N,)
        Where each unit was recorded: depth in um, NaN where unknown; channel -1 where unknown.
    distance
        Units of one probe that are less than this apart (um) are neighbours, and so are those of
        one channel; 0: none are.
    """
    if distance <= 0:
        return np.zeros((len(probe), len(probe)), bool)
    with np.errstate(invalid="ignore"):
        near = np.abs(depth[:, None] - depth[None]) < distance
    near |= (channel[:, None] == channel[None]) & (channel[:, None] >= 0)
    return near & (probe[:, None] == probe[None])


def held_out(
    task: ActivityTask, region: np.ndarray, n_time: int, near: np.ndarray | None = None
) -> Iterator[HeldOut]:
    """Everything that a task holds out in a session, one after the other.

    Parameters
    ----------
    task
        One of `ACTIVITY_TASKS`.
    region : ndarray (N,), str
        Region of each unit, ``""`` where it takes part in no region task.
    n_time
        Number of time bins T.
    near : ndarray of bool (N, N), optional
        Units that are not shown where another one is predicted from single units (see
        `neighbours`).
    """
    if near is None:
        near = np.zeros((len(region), len(region)), bool)
    return HELD_OUT[task](region, n_time, near)


def _each_unit(region: np.ndarray, n_time: int, near: np.ndarray) -> Iterator[HeldOut]:
    units = np.arange(len(region))
    for unit in units:
        hidden = (units == unit) | near[unit]
        yield HeldOut(hidden[None], units[unit : unit + 1], slice(0, n_time), "")


def _last_bins(region: np.ndarray, n_time: int, near: np.ndarray) -> Iterator[HeldOut]:
    first = n_time - forward_bins(n_time)
    late = np.arange(n_time) >= first
    yield HeldOut(late[:, None], np.arange(len(region)), slice(first, n_time), "")


def _everything(region: np.ndarray, n_time: int, near: np.ndarray) -> Iterator[HeldOut]:
    yield HeldOut(np.ones((1, 1), bool), np.arange(len(region)), slice(0, n_time), "")


def _each_unit_in_its_region(
    region: np.ndarray, n_time: int, near: np.ndarray
) -> Iterator[HeldOut]:
    units = np.arange(len(region))
    for unit in units[region != ""]:
        hidden = (region != region[unit]) | (units == unit) | near[unit]
        yield HeldOut(hidden[None], units[unit : unit + 1], slice(0, n_time), str(region[unit]))


def _each_region(region: np.ndarray, n_time: int, near: np.ndarray) -> Iterator[HeldOut]:
    for name in np.unique(region[region != ""]):
        inside = region == name
        if not inside.all():
            units = np.flatnonzero(inside)
            yield HeldOut(inside[None], units, slice(0, n_time), str(name))


HELD_OUT: dict[ActivityTask, Callable[[np.ndarray, int, np.ndarray], Iterator[HeldOut]]] = {
    "co_smoothing": _each_unit,
    "forward_prediction": _last_bins,
    "intra_region": _each_unit_in_its_region,
    "inter_region": _each_region,
    "encoding": _everything,
}
"""What each task holds out (see `held_out`)."""


def region_pairs(region: np.ndarray, n_time: int) -> Iterator[HeldOut]:
    """Each region, predicted from each other region alone; parameters as for `held_out`."""
    names = np.unique(region[region != ""])
    for target in names:
        for source in names[names != target]:
            yield from from_regions(region, n_time, [source], [target])


def from_regions(
    region: np.ndarray,
    n_time: int,
    source: Sequence[str],
    targets: Sequence[str] | None = None,
) -> Iterator[HeldOut]:
    """Regions, each predicted from the units of some others alone.

    Parameters
    ----------
    region, n_time
        As for `held_out`.
    source
        The regions that are shown.
    targets
        Those that are predicted, by default all others.
    """
    shown = np.isin(region, source)
    for target in np.unique(region[(region != "") & ~shown]) if targets is None else targets:
        outputs = np.flatnonzero(region == target)
        yield HeldOut(~shown[None], outputs, slice(0, n_time), str(target), ", ".join(source))
