"""A session's trials table in the cache's encodings, and which trials are included.

encode_trials(table)["choice"]        # int8: -1 right, +1 left, 0 no-go, -128 missing
included(table, rules)                # bool per trial
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ibl_mtm.config.dataset import TrialRules
from ibl_mtm.sessions.schema import MISSING

__all__ = ["TRIAL_COLUMNS", "TRIAL_VALUES", "Allowed", "encode_trials", "included"]

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
"""Columns of the IBL's trials table that ingestion needs."""


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


TRIAL_VALUES = {
    "choice": Allowed((-1, 0, 1)),
    "feedbackType": Allowed((-1, 1)),
    "contrastLeft": Allowed((0, 1), between=True),
    "contrastRight": Allowed((0, 1), between=True),
    "probabilityLeft": Allowed((0, 1), between=True),
}
"""What these columns may hold, where they are not missing."""


def encode_trials(table: pd.DataFrame) -> dict[str, NDArray[Any]]:
    """Translate the IBL's trials table into the variables of the cache.

    Parameters
    ----------
    table
        Has `TRIAL_COLUMNS`; one row per trial.

    Returns
    -------
    Name of the variable -> array of shape (n_trials,). Missing values are NaN, in integers
    `MISSING`. A stimulus that the table gives on both sides or on neither is missing.
    """
    left, right = (table[f"contrast{side}"].to_numpy(float) for side in ("Left", "Right"))
    is_right = np.isfinite(right) & ~np.isfinite(left)
    is_left = np.isfinite(left) & ~np.isfinite(right)
    # At zero contrast the sign is lost: the side stands beside it.
    contrast = np.select([is_right, is_left], [right, -left], np.nan) + 0.0
    return {
        **{name: table[name].to_numpy(np.float64) for name in _EVENTS},
        "choice": _int8(table["choice"].to_numpy(float)),
        "contrast": contrast.astype(np.float32),
        "stimulus_side": np.select([is_right, is_left], [1, -1], MISSING).astype(np.int8),
        "probability_left": table["probabilityLeft"].to_numpy(np.float32),
        "feedback": _int8(table["feedbackType"].to_numpy(float)),
    }


def included(table: pd.DataFrame, rules: TrialRules) -> NDArray[np.bool_]:
    """Trials that pass the rules: complete, with a choice, neither rushed, slow nor long.

    The rules are those of the IBL's brain-wide map: reaction time (first movement after stimulus
    onset) and length (go cue to feedback) within limits, none of the values behind them missing,
    no-go trials left out.
    """
    reaction = (table["firstMovement_times"] - table["stimOn_times"]).to_numpy(float)
    length = (table["feedback_times"] - table["goCue_times"]).to_numpy(float)
    complete = table[["choice", "probabilityLeft", "feedbackType"]].notna().all(axis=1).to_numpy()
    # A comparison with a missing time is false, which leaves the trial out as it should.
    in_time = (reaction >= rules.min_reaction) & (reaction <= rules.max_reaction)
    return complete & in_time & (length <= rules.max_length) & (table["choice"] != 0).to_numpy()


def _int8(values: NDArray[np.float64]) -> NDArray[np.int8]:
    return np.where(np.isfinite(values), values, MISSING).astype(np.int8)
