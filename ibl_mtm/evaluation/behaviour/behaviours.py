"""The behaviours that are decoded: where each comes from, what to call it, how it is scored.

behaviour = BEHAVIOURS["choice"]
behaviour.target(ds)          # (trial,) -1, +1 or 0 for none; a trace: (trial, time)
"""

from collections.abc import Iterable, Mapping
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
    "Behaviour",
    "behaviours_in",
    "behaviours_of",
    "own_behaviour",
]


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
