"""A session's trials table in the cache's encodings, and which trials are included.

table = check_trials(eid, "trials.csv", table, "stimOn_times")
encode_trials(table)["choice"]        # int8: -1 right, +1 left, 0 no-go, -128 missing
keep_columns(table, ["frequency"])    # columns of one's own task
included(table, rules)                # bool per trial
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ibl_mtm.config.dataset import TrialRules
from ibl_mtm.errors import SessionError
from ibl_mtm.ingest.recording import numbers
from ibl_mtm.sessions.schema import MISSING, VARIABLES, is_own_name

__all__ = [
    "TRIAL_COLUMNS",
    "TRIAL_VALUES",
    "Allowed",
    "check_trials",
    "encode_trials",
    "included",
    "keep_columns",
]

_EVENTS = ("stimOn_times", "firstMovement_times", "response_times", "feedback_times")

TRIAL_COLUMNS = (
    *_EVENTS,
    "goCue_times",
    "choice",
    "feedbackType",
    "contrastLeft",
    "contrastRight",
    "probabilityLeft",
)
"""Columns of the IBL's trials table that ingestion knows."""


@dataclass(frozen=True)
class Allowed:
    """Values that a column of trials may have: these, or those from the first to the last."""

    values: tuple[float, ...]
    between: bool = False

    def holds(self, column: pd.Series) -> pd.Series:
        """Which values are allowed."""
        if self.between:
            return column.between(self.values[0], self.values[-1])
        return column.isin(self.values)

    def __str__(self) -> str:
        if self.between:
            return f"{self.values[0]:g} to {self.values[-1]:g}"
        return ", ".join(f"{value:g}" for value in self.values)


_RULES = {
    "reaction time": ("stimOn_times", "firstMovement_times"),
    "length": ("goCue_times", "feedback_times"),
    "choice": ("choice",),
    "block": ("probabilityLeft",),
    "feedback": ("feedbackType",),
}
"""What `included` asks of a trial, and from which columns."""

TRIAL_VALUES = {
    "choice": Allowed((-1, 0, 1)),
    "feedbackType": Allowed((-1, 1)),
    "contrastLeft": Allowed((0, 1), between=True),
    "contrastRight": Allowed((0, 1), between=True),
    "probabilityLeft": Allowed((0, 1), between=True),
}
"""What these columns may hold, where they are not missing."""


def check_trials(eid: str, file: str, table: pd.DataFrame, event: str) -> pd.DataFrame:
    """A session's trials table, as far as ingestion knows its columns, as numbers.

    Only the column that windows are aligned to must be there.

    Parameters
    ----------
    eid, file
        The session and its table, as messages name them.
    table
        In the IBL's names where it has them; one row per trial.
    event
        The column that windows are aligned to.

    Raises
    ------
    SessionError
        If that column is missing or out of order, or a column holds what it cannot.
    """
    if event not in table:
        there = ", ".join(map(str, table.columns)) or "none"
        raise SessionError(eid, f"{file}: no column {event} to align to; there are {there}")
    known = [name for name in dict.fromkeys((event, *TRIAL_COLUMNS)) if name in table]
    table = table.assign(**{name: numbers(eid, file, table, name) for name in known})
    events = table[event].dropna().to_numpy(np.float64)
    if (np.diff(events) < 0).any():
        raise SessionError(eid, f"{file}: {event} are not in ascending order")
    for name, allowed in TRIAL_VALUES.items():
        if name not in table:
            continue
        column = table[name]
        strange = column[column.notna() & ~allowed.holds(column)]
        if len(strange):
            raise SessionError(
                eid,
                f"{file}: {name}: {strange.iloc[0]:g} in row {strange.index[0]}, expected "
                f"{allowed}, as the IBL has it; give a column of another meaning another name",
            )
    return table


def encode_trials(table: pd.DataFrame) -> dict[str, NDArray[Any]]:
    """Translate the IBL's columns of a trials table into the variables of the cache.

    Parameters
    ----------
    table
        One row per trial; of `TRIAL_COLUMNS` it has those that its task has.

    Returns
    -------
    Name of the variable -> array of shape (n_trials,), without those whose columns are not there.
    Missing values are NaN, in integers `MISSING`. A stimulus that the table gives on both sides or
    on neither is missing.
    """
    found = {name: table[name].to_numpy(np.float64) for name in _EVENTS if name in table}
    for name, column in (("choice", "choice"), ("feedback", "feedbackType")):
        if column in table:
            found[name] = _int8(table[column].to_numpy(float))
    if "probabilityLeft" in table:
        found["probability_left"] = table["probabilityLeft"].to_numpy(np.float32)
    if "contrastLeft" in table and "contrastRight" in table:
        left, right = (table[f"contrast{side}"].to_numpy(float) for side in ("Left", "Right"))
        is_right = np.isfinite(right) & ~np.isfinite(left)
        is_left = np.isfinite(left) & ~np.isfinite(right)
        # At zero contrast the sign is lost: the side stands beside it.
        contrast = np.select([is_right, is_left], [right, -left], np.nan) + 0.0
        found["contrast"] = contrast.astype(np.float32)
        side = np.select([is_right, is_left], [1, -1], MISSING)
        found["stimulus_side"] = side.astype(np.int8)
    return found


def keep_columns(
    table: pd.DataFrame, named: Sequence[str], everything: bool = False
) -> tuple[dict[str, NDArray[Any]], list[str]]:
    """Further columns of a trials table, under their names.

    Parameters
    ----------
    table
        One row per trial.
    named
        Columns to keep; those that are variables of the cache are there anyway.
    everything
        Keep all others too that can be kept.

    Returns
    -------
    Name -> float64, int64, bool or text (n_trials,), a missing value NaN or empty; and notes on
    what was asked for and cannot be kept.
    """
    kept: dict[str, NDArray[Any]] = {}
    notes = []
    others = [str(n) for n in table.columns if str(n) not in TRIAL_COLUMNS] if everything else []
    for name in dict.fromkeys((*named, *others)):
        if name in VARIABLES and name in named and VARIABLES[name].dims == ("trial",):
            continue  # as the IBL has it
        if name == "block" and name not in table:
            continue  # follows from probabilityLeft
        if name not in table:
            notes.append(f"trials: no column {name} to keep")
        elif not is_own_name(name):
            notes.append(f"trials: {name}: not kept, as it cannot name a variable; rename it")
        elif (values := _plain(table[name])) is None:
            notes.append(f"trials: {name}: not kept, as it holds neither numbers nor text")
        else:
            kept[name] = values
    return kept, notes


def _plain(column: pd.Series) -> NDArray[Any] | None:
    """A column as the cache has it; None if it is of another kind."""
    column = column.infer_objects()  # ONE gives tables of mixed columns as objects
    kind = column.dtype.kind
    if kind == "b" and column.notna().all():
        return column.to_numpy(bool)
    if kind in "iu" and column.notna().all():
        return column.to_numpy(np.int64)
    if kind in "biuf":
        return column.to_numpy(np.float64, na_value=np.nan)
    known = column[column.notna()]
    if known.map(lambda value: isinstance(value, bool | np.bool_)).all() and len(known):
        return column.astype(object).map({True: 1.0, False: 0.0}).to_numpy(np.float64)
    if known.map(lambda value: isinstance(value, str)).all():
        return column.astype(object).where(column.notna(), "").to_numpy(str)
    return None


def included(table: pd.DataFrame, rules: TrialRules) -> tuple[NDArray[np.bool_], list[str]]:
    """Trials that pass the rules: complete, with a choice, neither rushed, slow nor long.

    The rules are those of the IBL's brain-wide map: reaction time (first movement after stimulus
    onset) and length (go cue to feedback) within limits, none of the values behind them missing,
    no-go trials left out.

    Returns
    -------
    (n_trials,) booleans, and a note on rules that are left out, as the table lacks their columns.
    """
    passed, left_out = np.ones(len(table), bool), []
    for rule, columns in _RULES.items():
        if not set(columns) <= set(table.columns):
            left_out.append(f"{rule} ({', '.join(c for c in columns if c not in table)})")
            continue
        values = table[list(columns)].to_numpy(float)
        # A comparison with a missing time is false, which leaves the trial out as it should.
        if rule == "reaction time":
            reaction = values[:, 1] - values[:, 0]
            passed &= (reaction >= rules.min_reaction) & (reaction <= rules.max_reaction)
        elif rule == "length":
            passed &= values[:, 1] - values[:, 0] <= rules.max_length
        else:
            passed &= np.isfinite(values[:, 0])
            passed &= (values[:, 0] != 0) | (rule != "choice")
    note = f"trials: rules of 'included' left out, as columns are missing: {'; '.join(left_out)}"
    return passed, [note] if left_out else []


def _int8(values: NDArray[np.float64]) -> NDArray[np.int8]:
    return np.where(np.isfinite(values), values, MISSING).astype(np.int8)
