"""The behaviours that are decoded: where each comes from, what to call it, how it is scored.

behaviour = BEHAVIOURS["choice"]
behaviour.target(ds)          # (trial,) -1, +1 or 0 for none; a trace: (trial, time)
behaviours_of(ds)["tone"]     # what the session itself declares, of two or more classes
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from ibl_mtm.sessions.behaviours import BEHAVIOURS, Behaviour, Undecodable, Values
from ibl_mtm.sessions.schema import KEPT, MISSING, SIGNALS, to_decode
from ibl_mtm.sessions.text import as_text

__all__ = [
    "BEHAVIOURS",
    "BEHAVIOUR_TASKS",
    "DEFAULT_BEHAVIOURS",
    "MOST_CLASSES",
    "Behaviour",
    "behaviours_in",
    "behaviours_of",
    "own_behaviour",
]


MOST_CLASSES = 20
"""Of a column: one with more values is a measurement, and no class."""


def _known(values: Values) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Values of a column as NumPy compares them, and which of them are not missing."""
    plain: NDArray[Any] = as_text(values) if values.dtype.kind in "OTU" else values
    if plain.dtype.kind == "U":
        return plain, plain != ""
    return plain, np.isfinite(plain.astype(np.float64)) & (plain != MISSING)


def _two_classes(values: Values, _: float) -> Values:
    """-1 for the first of two values in their order, +1 for the second; 0 where one is missing."""
    plain, known = _known(values)
    label = np.zeros(len(values), np.int8)
    for kind, sign in zip(np.unique(plain[known]), (-1, 1), strict=False):
        label[known & (plain == kind)] = sign
    return label


def _levels(values: Values, _: float, kinds: NDArray[Any]) -> Values:
    """The place of each value among others, in their order; -1 where one is missing.

    Raises
    ------
    Undecodable
        If there are too many for each to be a class.
    """
    if len(kinds) > MOST_CLASSES:
        shown = ", ".join(map(_name, kinds[:3]))
        raise Undecodable(
            f"it has {len(kinds)} values ({shown}, …), and at most {MOST_CLASSES} classes are "
            "decoded; keep a column that has fewer"
        )
    plain, known = _known(values)
    place = np.searchsorted(kinds, np.where(known, plain, kinds[0]))
    return np.where(known, place, -1).astype(np.int16)


def _name(kind: Any) -> str:
    """What to call a class by its value."""
    return f"{kind:.15g}" if isinstance(kind, float) else str(kind)


def own_behaviour(name: str, kind: str, values: Values | None = None) -> Behaviour:
    """What a session's own task declares (`decode:` in the catalog): a class, or a trace.

    Parameters
    ----------
    name, kind
        Of the variable; ``class`` or ``trace``.
    values
        All values of a class, whose order numbers them where there are three or more.
    """
    title = BEHAVIOURS[name].title if name in BEHAVIOURS else name.replace("_", " ").capitalize()
    if kind != "class":
        return Behaviour(title, name, None)
    if values is not None:
        plain, known = _known(values)
        kinds = np.unique(plain[known])
        if len(kinds) > 2:
            names = tuple(map(_name, kinds))
            return Behaviour(title, name, names, convert=partial(_levels, kinds=kinds))
    return Behaviour(title, name, ("the first value", "the second"), convert=_two_classes)


def behaviours_of(ds: xr.Dataset) -> dict[str, Behaviour]:
    """What can be decoded of a session, by task: what is built in, and what it declares."""
    own = {*ds.attrs.get(KEPT, ()), *ds.attrs.get(SIGNALS, ())}
    found = dict(BEHAVIOURS)
    for name, kind in to_decode(ds.attrs).items():
        if name in own or name not in BEHAVIOURS:
            is_column = name in ds.variables and ds[name].dims == ("trial",)
            found[name] = own_behaviour(name, kind, ds[name].values if is_column else None)
    return found


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
            if task in BEHAVIOURS or not score:
                continue
            if levels := score.get("levels"):
                found[task] = replace(own_behaviour(task, "class"), classes=tuple(levels))
            elif task not in found and (kind := _KINDS & score.keys()):
                found[task] = own_behaviour(task, "class" if kind == {"accuracy"} else "trace")
    return found


_KINDS = {"accuracy", "r2"}

BEHAVIOUR_TASKS = tuple(BEHAVIOURS)
DEFAULT_BEHAVIOURS = ("choice", "whisker_motion_energy")
"""Those that are decoded unless more are asked for."""
