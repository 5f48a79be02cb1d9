"""The behaviours that are built in: where each comes from, what to call it, how it is scored.

behaviour = BEHAVIOURS["choice"]
behaviour.target(ds)          # (trial,) -1, +1 or 0 for none; a trace: (trial, time)
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray

__all__ = ["BEHAVIOURS", "Behaviour", "Undecodable", "Values"]

Values = NDArray[np.floating | np.integer]


class Undecodable(ValueError):  # noqa: N818 - a state of the data, not a fault of the program
    """A variable that these trials cannot decode; the message says why."""


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
        Names of the classes -1 and +1, or of three or more: 0, 1, 2, …; None for a trace.
    measured
        What a trace is measured in; empty for a class.
    convert
        From the variable's values and the width of a bin (s) to the target.
    counts
        A trace of events per second, of which each bin holds a number.
    """

    title: str
    variable: str
    classes: tuple[str, ...] | None
    measured: str = ""
    convert: Callable[[Values, float], Values] = lambda values, bin_size: values
    counts: bool = False

    @property
    def score(self) -> str:
        """The key of its headline score."""
        return "r2" if self.classes is None else "accuracy"

    @property
    def unit(self) -> str:
        """What its headline score counts in."""
        if self.levels:
            return f"accuracy, {len(self.levels)} classes"
        return "R²" if self.classes is None else "accuracy"

    @property
    def levels(self) -> tuple[str, ...]:
        """Names of its classes, if they are three or more."""
        return self.classes if self.classes is not None and len(self.classes) > 2 else ()

    def target(self, ds: xr.Dataset) -> Values:
        """What to decode, of each trial.

        Returns
        -------
        (trial,) -1 or +1, 0 for none; of three or more classes 0, 1, 2, …, -1 for none; of a trace
        (trial, time), NaN where missing.

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
    "lick_rate": Behaviour("Lick rate", "lick_count", None, "licks/s", _per_second, counts=True),
}
"""By task: those that are built in."""
