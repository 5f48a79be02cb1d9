"""Which units, sessions and trials stand for all: chosen by rule, the same in every report.

for rank, (eid, unit, bits) in representative_units(run.units).items():
    psth(run.session(eid), unit, rank)
"""

import pandas as pd
import xarray as xr

from ibl_mtm.evaluation.scored_run import ScoredRun

__all__ = [
    "ENOUGH_SPIKES",
    "MOST_RASTER_UNITS",
    "busiest_units",
    "median_session",
    "representative_units",
]

ENOUGH_SPIKES = 100
"""Of a unit in the scored entries, for its PSTH to be worth a look."""

MOST_RASTER_UNITS = 120
"""Rows of a raster that can still be told apart."""


def representative_units(units: pd.DataFrame) -> dict[str, tuple[str, str, float]]:
    """The best, the median and the worst unit of co-smoothing, as (eid, unit, bits/spike).

    Ranked are the units with at least 100 spikes in the scored entries; where those are fewer
    than three, all units with a score.
    """
    own = units[(units["task"] == "co_smoothing") & units["bits_per_spike"].notna()]
    enough = own[own["n_spikes"] >= ENOUGH_SPIKES]
    ranked = (enough if len(enough) >= 3 else own).sort_values(
        ["bits_per_spike", "eid", "unit"], ascending=False
    )
    if ranked.empty:
        return {}
    picked = {"best": 0, "median": len(ranked) // 2, "worst": len(ranked) - 1}
    rows = ranked[["eid", "unit", "bits_per_spike"]]
    return {rank: tuple(rows.iloc[at]) for rank, at in picked.items()}


def median_session(run: ScoredRun, task: str, score: str) -> str | None:
    """The stored session whose score is the median (of an even number the better one)."""
    scored = [
        (scores[task][score], eid)
        for eid, scores in run.scores.get("sessions", {}).items()
        if scores.get(task) and scores[task].get(score) is not None
    ]
    for _, eid in sorted(scored)[len(scored) // 2 :]:
        if run.session(eid) is not None:
            return eid
    return None


def busiest_units(units: pd.DataFrame, eid: str, session: xr.Dataset) -> list[str]:
    """The units of a session with most spikes in the scored entries, busiest first."""
    own = units[(units["eid"] == eid) & (units["task"] == "co_smoothing")]
    ranked = own.sort_values("n_spikes", ascending=False)["unit"]
    stored = set(session["unit"].values)
    return [unit for unit in ranked if unit in stored][:MOST_RASTER_UNITS]
