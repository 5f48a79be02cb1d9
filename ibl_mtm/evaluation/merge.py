"""Scores that join those which a folder holds already: by session and task.

check_joins(folder, metrics)                        # before hours of scoring, and again after
metrics, per_unit, pairs = join(folder, metrics, per_unit, pairs)

Scores stand side by side only if one model made them from one set of data: else a mean over
sessions would mix what nobody can tell apart any more.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ibl_mtm.errors import UserError
from ibl_mtm.evaluation.activity.tasks import UNIT_TASKS
from ibl_mtm.evaluation.behaviour.behaviours import behaviours_in
from ibl_mtm.evaluation.document import average_pairs, summarise_tasks

__all__ = ["METRICS", "PAIRS", "PER_UNIT", "check_joins", "join", "read_metrics"]

METRICS, PER_UNIT, PAIRS = "metrics.json", "per_unit.parquet", "region_pairs.parquet"

#: Reasons in `skipped` that belong to a task of another name.
_PART_OF = {"region_pairs": "inter_region"}


def read_metrics(folder: Path) -> dict[str, Any] | None:
    """The document of an earlier evaluation; None if the folder holds none.

    Raises
    ------
    UserError
        If the file is of something else, or damaged.
    """
    file = folder / METRICS
    if not file.is_file():
        return None
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        if isinstance(found, dict) and {"tasks", "sessions"} <= found.keys():
            return found
        reason = "no scores of `ibl-mtm eval`"
    except (OSError, ValueError) as error:
        reason = str(error)
    raise UserError(
        f"{file} holds {reason}; give the scores another folder, or replace it with --overwrite"
    )


def check_joins(folder: Path, metrics: Mapping[str, Any]) -> None:
    """Make sure that scores can stand beside those of a folder.

    Parameters
    ----------
    folder
        Of a run, or of a baseline's scores; it may hold none yet.
    metrics
        The document of the new scores, or the part of it that says what was scored.

    Raises
    ------
    UserError
        Names what differs.
    """
    before = read_metrics(folder)
    if before is None:
        return
    reason = _differs(before, metrics)
    if reason is None and not (folder / PER_UNIT).is_file():
        reason = f"{PER_UNIT} is missing there"
    if reason:
        raise UserError(
            f"{folder} holds scores that new ones cannot be added to: {reason}; --overwrite "
            "replaces them, another folder keeps both"
        )


def _differs(before: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    if before.get("baseline") != now.get("baseline"):
        names = [d.get("baseline", "of a run") for d in (before, now)]
        return f"they are {names[0]}, not {names[1]}"
    if "model" not in before.get("provenance", {}):
        return "an earlier version wrote them, without saying of which model"
    if before["provenance"]["model"] != now["provenance"]["model"]:
        return "they are of another model, or of other settings"
    if before.get("precision") != now.get("precision"):
        return f"their precision is {before.get('precision')}, not {now.get('precision')}"
    distances = [document.get("min_distance_um", 0) for document in (before, now)]
    if distances[0] != distances[1]:
        return f"neighbours were hidden up to {distances[0]:g} um, not {distances[1]:g}"
    rows = [d["provenance"]["sessions"] for d in (before, now)]
    for eid in rows[0]:
        if eid in rows[1] and rows[0][eid].get("data") != rows[1][eid]["data"]:
            return f"session {eid} had other data or another split"
    return None


def join(
    folder: Path, metrics: dict[str, Any], per_unit: pd.DataFrame, pairs: pd.DataFrame
) -> tuple[dict[str, Any], pd.DataFrame, pd.DataFrame]:
    """Scores with those that a folder holds, as if they had been asked for at once.

    New scores replace old ones of the same session and task. An old oracle, which depends on data
    alone, stays where a new score has none.

    Returns
    -------
    The document, the table of units and the table of pairs of regions.

    Raises
    ------
    UserError
        If they cannot be joined (see `check_joins`).
    """
    check_joins(folder, metrics)
    before = read_metrics(folder)
    if before is None:
        return metrics, per_unit, pairs
    eids = list(dict.fromkeys([*before["sessions"], *metrics["sessions"]]))
    asked = dict.fromkeys([*before["tasks"], *metrics["tasks"]])
    documents = [s for d in (before, metrics) for s in (d["tasks"], *d["sessions"].values())]
    decoded = behaviours_in(documents)
    tasks = [task for task in (*UNIT_TASKS, *decoded) if task in asked]
    tasks += [task for task in asked if task not in tasks]  # of one's own, and not to be had
    new = {(eid, task) for eid in metrics["sessions"] for task in metrics["tasks"]}
    units = _join_units(pd.read_parquet(folder / PER_UNIT), per_unit, new, eids)
    both = _join_pairs(folder, before, pairs, new)
    behaviour: dict[str, dict[str, Any]] = {eid: {} for eid in eids}
    kept: set[str] = set()  # behaviours of which some session's score was there before
    skipped: dict[str, dict[str, str]] = {}
    for document in (before, metrics):
        for eid, scores in document["sessions"].items():
            for task in decoded:
                if document is before and (eid, task) in new:
                    continue
                if scores.get(task):
                    behaviour[eid][task] = scores[task]
                    kept |= {task} if document is before else set()
        for eid, reasons in document["skipped"].items():
            for what, reason in reasons.items():
                if document is before and _is_told_again(eid, what, new):
                    continue
                skipped.setdefault(eid, {})[what] = reason
    failed = before.get("failed", {}) | metrics["failed"]
    rows = before["provenance"]["sessions"] | metrics["provenance"]["sessions"]
    datasets = {d["provenance"].get("dataset", "") for d in (before, metrics)} - {""}
    # Scores of sessions are rounded in a document, so that their mean is taken from them only where
    # it was not known yet.
    whole = {t: metrics["tasks"][t] for t in decoded if t in metrics["tasks"]}
    means = summarise_tasks(units, list(behaviour.values()), tasks)
    joined = {
        **metrics,
        "tasks": means | {task: score for task, score in whole.items() if task not in kept},
        "sessions": {
            eid: summarise_tasks(
                units[units["eid"] == eid] if len(units) else units,  # of behaviour alone
                [behaviour[eid]],
                _asked(eid, tasks, before, metrics),
            )
            for eid in eids
        },
        "skipped": {eid: skipped[eid] for eid in eids if eid in skipped},
        "failed": {e: r for e, r in failed.items() if e not in metrics["sessions"]},
        "region_pairs": average_pairs(both, [skipped.get(eid, {}) for eid in eids]),
        "simulated": bool(before.get("simulated") or metrics["simulated"]),
        "provenance": {
            **metrics["provenance"],
            "dataset": ", ".join(sorted({n for d in datasets for n in d.split(", ")})),
            "sessions": {eid: rows[eid] for eid in eids},
        },
    }
    return joined, units, both


def _asked(
    eid: str, tasks: list[str], before: Mapping[str, Any], now: Mapping[str, Any]
) -> list[str]:
    """The tasks that a session was asked for, by either."""
    asked = {*before["sessions"].get(eid, {}), *now["sessions"].get(eid, {})}
    return [task for task in tasks if task in asked]


def _is_told_again(eid: str, what: str, new: set[tuple[str, str]]) -> bool:
    """Whether a reason of before is one that the new scores have told again, or made void."""
    if what == "psth_r2":  # of any task of activity
        return any((eid, task) in new for task in UNIT_TASKS)
    return (eid, _PART_OF.get(what, what)) in new


def _join_units(
    before: pd.DataFrame, now: pd.DataFrame, new: set[tuple[str, str]], eids: list[str]
) -> pd.DataFrame:
    if before.empty:
        return now
    keys = ["eid", "unit", "task"]
    replaced = pd.Series(list(zip(before["eid"], before["task"], strict=True))).isin(new)
    if "oracle" in before and len(now):
        known = now[keys].merge(before[[*keys, "oracle"]], on=keys, how="left")["oracle"]
        now = now.assign(oracle=now["oracle"].fillna(pd.Series(known.to_numpy(), now.index)))
    if replaced.all():
        return now
    both = pd.concat([before[~replaced.to_numpy()], now], ignore_index=True)
    place = both["eid"].map({eid: at for at, eid in enumerate(eids)}) * len(UNIT_TASKS)
    place += both["task"].map({task: at for at, task in enumerate(UNIT_TASKS)})
    return both.iloc[np.argsort(place.to_numpy(), kind="stable")].reset_index(drop=True)


def _join_pairs(
    folder: Path, before: Mapping[str, Any], now: pd.DataFrame, new: set[tuple[str, str]]
) -> pd.DataFrame:
    file = folder / PAIRS
    if not before.get("region_pairs") or not file.is_file():
        return now
    old = pd.read_parquet(file)
    old = old[~old["eid"].isin([eid for eid, task in new if task == "inter_region"])]
    return pd.concat([old, now], ignore_index=True) if len(old) else now
