"""The behaviours that are decoded: where each comes from, what to call it, how it is scored.

behaviour = BEHAVIOURS["choice"]
behaviour.target(ds)          # (trial,) -1, +1 or 0 for none; a trace: (trial, time)
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from ibl_mtm.evaluation.behaviour.decodable_trials import Undecodable
from ibl_mtm.sessions.schema import KEPT, MISSING, SIGNALS, to_decode
from ibl_mtm.sessions.text import as_text

__all__ = [
    "BEHAVIOURS",
    "BEHAVIOUR_TASKS",
    "DEFAULT_BEHAVIOURS",
    "Behaviour",
    "behaviours_in",
    "behaviours_of",
    "own_behaviour",
]

Values = NDArray[np.floating | np.integer]


@dataclass(frozen=True)
class Behaviour:
    """Something that an animal does, or a task variable that it may know.

    Attributes
    ----------
    title
        What to call it.
    variable
        The variable of a session that it comes from.
    classes
        Names of the classes -1 and +1; None for a trace.
    measured
        What a trace is measured in; empty for a class.
    convert
        From the variable's values and the width of a bin (s) to the target.
    """

    title: str
    variable: str
    classes: tuple[str, str] | None
    measured: str = ""
    convert: Callable[[Values, float], Values] = lambda values, bin_size: values

    @property
    def score(self) -> str:
        """The key of its headline score."""
        return "r2" if self.classes is None else "accuracy"

    @property
    def unit(self) -> str:
        """What its headline score counts in."""
        return "R²" if self.classes is None else "accuracy"

    def target(self, ds: xr.Dataset) -> Values:
        """What to decode: (trial,) -1, +1, 0 for none; or (trial, time), NaN where missing.

        Raises
        ------
        Undecodable
            If the session does not have it.
        """
        if self.variable not in ds.variables:
            raise Undecodable(f"the session has no {self.variable}")
        expected = ("trial",) if self.classes is not None else ("trial", "time")
        if ds[self.variable].dims != expected:
            kind = "class" if self.classes is not None else "trace"
            raise Undecodable(f"{self.variable} has dimensions {ds[self.variable].dims}: no {kind}")
        return self.convert(ds[self.variable].values, float(ds.attrs["bin_size"]))


def _block(probability_left: Values, _: float) -> Values:
    """+1 where the left side is likelier, -1 where the right is; none while both are alike."""
    return np.sign(np.nan_to_num(probability_left - 0.5)).astype(np.int8)


def _per_second(counts: Values, bin_size: float) -> Values:
    return counts.astype(np.float64) / bin_size


BEHAVIOURS = {
    "choice": Behaviour("Choice", "choice", ("right", "left")),
    "block": Behaviour(
        "Block", "probability_left", ("right likelier", "left likelier"), convert=_block
    ),
    "feedback": Behaviour("Feedback", "feedback", ("error", "reward")),
    "contrast_side": Behaviour("Contrast side", "stimulus_side", ("left", "right")),
    "whisker_motion_energy": Behaviour(
        "Whisker motion energy", "whisker_motion_energy", None, "motion energy, a.u."
    ),
    "wheel_velocity": Behaviour("Wheel velocity", "wheel_velocity", None, "rad/s"),
    "wheel_speed": Behaviour(
        "Wheel speed", "wheel_velocity", None, "rad/s", lambda v, _: np.abs(v)
    ),
    "lick_rate": Behaviour("Lick rate", "lick_count", None, "licks/s", _per_second),
}
"""By task: those that are built in."""


def _two_classes(values: Values, _: float) -> Values:
    """-1 for the first of two values in their order, +1 for the second; 0 where one is missing.

    Raises
    ------
    Undecodable
        If there are more.
    """
    plain: NDArray[Any] = as_text(values) if values.dtype.kind in "OTU" else values
    if plain.dtype.kind == "U":
        known = plain != ""
    else:
        known = np.isfinite(plain.astype(np.float64)) & (plain != MISSING)
    kinds = np.unique(plain[known])
    if len(kinds) > 2:
        shown = ", ".join(map(str, kinds[:3]))
        raise Undecodable(
            f"it has {len(kinds)} values ({shown}, …), and classes are decoded two at a time; "
            "keep a column that has two"
        )
    label = np.zeros(len(values), np.int8)
    for kind, sign in zip(kinds, (-1, 1), strict=False):
        label[known & (plain == kind)] = sign
    return label


def own_behaviour(name: str, kind: str) -> Behaviour:
    """What a session's own task declares (`decode:` in the catalog): a class, or a trace."""
    title = BEHAVIOURS[name].title if name in BEHAVIOURS else name.replace("_", " ").capitalize()
    if kind == "class":
        return Behaviour(title, name, ("the first value", "the second"), convert=_two_classes)
    return Behaviour(title, name, None)


def behaviours_of(ds: xr.Dataset) -> dict[str, Behaviour]:
    """What can be decoded of a session, by task: what is built in, and what it declares."""
    own = {*ds.attrs.get(KEPT, ()), *ds.attrs.get(SIGNALS, ())}
    declared = to_decode(ds.attrs).items()
    return BEHAVIOURS | {
        name: own_behaviour(name, kind)
        for name, kind in declared
        if name in own or name not in BEHAVIOURS
    }


def behaviours_in(
    documents: Iterable[Mapping[str, Mapping[str, Any] | None]],
) -> dict[str, Behaviour]:
    """What was decoded, by task: what is built in, and what else has scores of behaviour.

    Parameters
    ----------
    documents
        Scores by task, of a run or a session.
    """
    found = dict(BEHAVIOURS)
    for scores in documents:
        for task, score in scores.items():
            if task not in found and score and (kind := _KINDS & score.keys()):
                found[task] = own_behaviour(task, "class" if kind == {"accuracy"} else "trace")
    return found


_KINDS = {"accuracy", "r2"}

BEHAVIOUR_TASKS = tuple(BEHAVIOURS)
DEFAULT_BEHAVIOURS = ("choice", "whisker_motion_energy")
"""Those that are decoded unless more are asked for."""
