"""The JSON document of an evaluation: scores by task, by session, and where they come from.

document = make_document({"run": "runs/mtm"}, cache, scores, tasks, deals, origin)
document["tasks"]["co_smoothing"]["bits_per_spike"]
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

import numpy as np
import pandas as pd
import torch
import xarray as xr

from ibl_mtm._provenance import __version__
from ibl_mtm.cache.cache import Cache
from ibl_mtm.evaluation.activity.modality_gains import summarise_gains
from ibl_mtm.evaluation.behaviour.behaviours import behaviours_in
from ibl_mtm.evaluation.metrics import summarise
from ibl_mtm.evaluation.score_session import SessionScores
from ibl_mtm.sessions.deal import Deal
from ibl_mtm.sessions.text import as_text
from ibl_mtm.sessions.trial_format import trial_format

__all__ = ["average_pairs", "data_digest", "make_document", "stacked", "summarise_tasks"]


def stacked(tables: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """Rows of several tables; empty ones, whose columns have no type, take no part."""
    first, *others = tables
    filled = [table for table in (first, *others) if len(table)]
    return pd.concat(filled, ignore_index=True) if filled else first


def make_document(
    what: Mapping[str, Any],
    cache: Cache,
    scores: Mapping[str, SessionScores],
    tasks: Sequence[str],
    deals: Mapping[str, Deal],
    origin: Mapping[str, Any],
) -> dict[str, Any]:
    """Gather the scores of sessions.

    Parameters
    ----------
    what
        ``{"run": path}`` or ``{"baseline": name}``, and what else is worth keeping.
    cache
        Where the sessions are.
    scores
        By eid.
    tasks
        The tasks that were asked for; one that no session has is null.
    deals
        How the trials of each session were dealt out, by eid.
    origin
        What was scored and on which data: ``model``, a digest of its weights, and ``sessions``,
        ``{"data": …}`` of each by eid (see `data_digest`).
    """
    rows = cache.sessions.loc[list(scores)]
    per_unit = stacked(s.per_unit for s in scores.values())
    behaviour = {eid: session.behaviour.scores for eid, session in scores.items()}
    pairs = stacked(s.region_pairs for s in scores.values())
    return {
        **what,
        "tasks": summarise_tasks(per_unit, list(behaviour.values()), tasks),
        "sessions": {
            eid: summarise_tasks(s.per_unit, [behaviour[eid]], tasks) for eid, s in scores.items()
        },
        "skipped": {eid: s.skipped for eid, s in scores.items() if s.skipped},
        "region_pairs": average_pairs(pairs, [s.skipped for s in scores.values()]),
        "simulated": any(bool(cache[eid].attrs.get("simulated")) for eid in scores),
        "cache": str(cache.path),
        "provenance": {
            "model": origin["model"],
            "ibl_mtm": __version__,
            "torch": torch.__version__,
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "dataset": ", ".join(sorted(set(rows.dataset))),
            "split": deals[next(iter(scores))].rule,
            "trials": _in_words(cache[next(iter(scores))]),
            "sessions": {
                str(eid): {
                    "subject": str(row.subject),
                    "lab": str(row.lab),
                    "date": str(row.date),
                    "n_units": int(row.n_units),
                    "n_test": scores[str(eid)].n_test,
                    "trials": deals[str(eid)].digest,
                    "test_trials": deals[str(eid)].test_digest,
                    **origin["sessions"][str(eid)],
                }
                for eid, row in rows.iterrows()
            },
        },
    }


def _in_words(ds: xr.Dataset) -> str:
    """What the trials of a session are."""
    format_ = trial_format(ds)
    end = format_.start + format_.n_time * format_.bin_size
    return (
        f"{format_.start:g} to {end:g} s around {format_.alignment}, "
        f"{format_.n_time} bins of {1000 * format_.bin_size:g} ms"
    )


def data_digest(ds: xr.Dataset, deal: Deal) -> str:
    """A digest of the data of a session: its definition, units, trials, and what those are for.

    Scores of one model on one task and session that do not differ in it are the same scores.
    """
    parts = [str(ds.attrs["definition_hash"]), deal.digest, *as_text(ds.unit).tolist()]
    return sha256("\n".join(parts).encode()).hexdigest()[:16]


def summarise_tasks(
    per_unit: pd.DataFrame, behaviour: Sequence[Mapping[str, Any]], tasks: Sequence[str]
) -> dict[str, Any]:
    """Scores by task; a task that no session has is None.

    Parameters
    ----------
    per_unit
        Scores of activity (see `ibl_mtm.evaluation.metrics.summarise`).
    behaviour
        Of each session, its scores by task.
    tasks
        Those that were asked for.
    """
    found: dict[str, Any] = dict.fromkeys(tasks)
    if len(per_unit):
        for task, row in summarise(per_unit).iterrows():
            if np.isfinite(row.bits_per_spike):
                # Without trials there is no mean response: said as null, its reason in `skipped`.
                scores = {"psth_r2": None, "residual_r2": None} | _plain(row.to_dict())
                over = "sessions" if scores["n_sessions"] > 1 else "units"
                found[str(task)] = scores | {"sem_over": over}
                if gains := summarise_gains(per_unit[per_unit["task"] == task]):
                    found[str(task)]["adds"] = gains
    for task in behaviours_in(behaviour):
        scored = [scores[task] for scores in behaviour if task in scores]
        if len(scored) > 1:
            found[task] = {**_mean(scored), **_spread(scored), "n_sessions": len(scored)}
        elif scored:
            found[task] = {**_rounded(scored[0]), "n_sessions": 1}
    return found


def _plain(row: dict[Any, Any]) -> dict[str, Any]:
    """JSON has no NaN: leave out what is not known; counts are integers."""
    return {
        str(name): int(value) if str(name).startswith("n_") else round(float(value), 6)
        for name, value in row.items()
        if np.isfinite(value)
    }


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_rounded(inner) for inner in value]
    return round(value, 6) if isinstance(value, float) else value


def _mean(scores: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Mean over sessions of nested scores; intervals and p are of one session: left out."""
    merged: dict[str, Any] = {}
    for key, value in scores[0].items():
        values = [s[key] for s in scores if key in s]
        if key in ("intervals", "p") or len(values) < len(scores):
            continue
        if isinstance(value, list):  # of classes, which sessions may not have in common
            if len({tuple(s.get("levels", ())) for s in scores}) == 1:
                merged[key] = np.sum(values, axis=0).tolist() if key == "confusion" else value
        elif isinstance(value, dict):
            merged[key] = _mean(values)
        elif value is None or isinstance(value, str):
            merged[key] = value
        elif key.startswith("n_"):
            merged[key] = sum(values)
        else:
            merged[key] = round(float(np.mean(values)), 6)
    return merged


def _spread(scores: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Standard error and median over sessions of the headline score."""
    values = [s["r2"] if "r2" in s else s["accuracy"] for s in scores]
    sem = round(float(np.std(values, ddof=1) / np.sqrt(len(values))), 6)
    return {
        "sem": sem,
        "sem_over": "sessions",
        "median_sessions": round(float(np.median(values)), 6),
        "sem_sessions": sem,
    }


def average_pairs(
    pairs: pd.DataFrame, skipped: Sequence[Mapping[str, str]]
) -> list[dict[str, Any]] | None:
    """Mean over sessions of each pair of regions; None if pairs are not predicted at all.

    Parameters
    ----------
    pairs
        One row per session and pair.
    skipped
        Of each session, the reasons for what it lacks.
    """
    if pairs.empty:
        return None if any("region_pairs" in reasons for reasons in skipped) else []
    grouped = pairs.groupby(["source", "target"], as_index=False).agg(
        bits_per_spike=("bits_per_spike", "mean"),
        n_units=("n_units", "sum"),
        n_sessions=("eid", "nunique"),
    )
    rows: list[dict[str, Any]] = json.loads(grouped.round(6).to_json(orient="records"))
    return rows
