"""The JSON document of an evaluation: scores by task, by session, and where they come from.

document = make_document({"run": "runs/mtm"}, cache, scores, tasks, split)
document["tasks"]["co_smoothing"]["bits_per_spike"]
"""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd
import torch

from ibl_mtm._provenance import __version__
from ibl_mtm.cache.cache import Cache
from ibl_mtm.config.catalog import Split
from ibl_mtm.evaluation.behaviour.behaviours import BEHAVIOUR_TASKS
from ibl_mtm.evaluation.metrics import summarise
from ibl_mtm.evaluation.score_session import SessionScores

__all__ = ["make_document"]


def make_document(
    what: Mapping[str, str],
    cache: Cache,
    scores: Mapping[str, SessionScores],
    tasks: Sequence[str],
    split: Split | None,
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
    split
        The run's own split of trials; None for the one in the cache.
    """
    rows = cache.sessions.loc[list(scores)]
    per_unit = pd.concat([s.per_unit for s in scores.values()], ignore_index=True)
    return {
        **what,
        "tasks": _tasks(per_unit, list(scores.values()), tasks),
        "sessions": {eid: _tasks(s.per_unit, [s], tasks) for eid, s in scores.items()},
        "skipped": {eid: s.skipped for eid, s in scores.items() if s.skipped},
        "region_pairs": _region_pairs(list(scores.values())),
        "simulated": any(bool(cache[eid].attrs.get("simulated")) for eid in scores),
        "cache": str(cache.path),
        "provenance": {
            "ibl_mtm": __version__,
            "torch": torch.__version__,
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "dataset": ", ".join(sorted(set(rows.dataset))),
            "split": _describe_split(split, cache, next(iter(scores))),
            "sessions": {
                str(eid): {
                    "subject": str(row.subject),
                    "lab": str(row.lab),
                    "date": str(row.date),
                    "n_units": int(row.n_units),
                    "n_test": scores[str(eid)].n_test,
                }
                for eid, row in rows.iterrows()
            },
        },
    }


def _tasks(
    per_unit: pd.DataFrame, sessions: Sequence[SessionScores], tasks: Sequence[str]
) -> dict[str, Any]:
    """Scores by task; a task that no session has is None."""
    found: dict[str, Any] = dict.fromkeys(tasks)
    if len(per_unit):
        for task, row in summarise(per_unit).iterrows():
            if np.isfinite(row.bits_per_spike):
                # Without trials there is no mean response: said as null, its reason in `skipped`.
                found[str(task)] = {"psth_r2": None, "residual_r2": None} | _plain(row.to_dict())
    for task in BEHAVIOUR_TASKS:
        scored = [s.behaviour.scores[task] for s in sessions if task in s.behaviour.scores]
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
    """Mean over sessions of nested scores; intervals are of one session's trials: left out."""
    merged: dict[str, Any] = {}
    for key, value in scores[0].items():
        values = [s[key] for s in scores if key in s]
        if key == "intervals" or len(values) < len(scores):
            continue
        if isinstance(value, dict):
            merged[key] = _mean(values)
        elif value is None or isinstance(value, str):
            merged[key] = value
        elif key.startswith("n_"):
            merged[key] = sum(values)
        else:
            merged[key] = round(float(np.mean(values)), 6)
    return merged


def _spread(scores: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Standard error and median over sessions of the headline score."""
    values = [s["r2"] if "r2" in s else s["accuracy"] for s in scores]
    sem = round(float(np.std(values, ddof=1) / np.sqrt(len(values))), 6)
    return {
        "sem": sem,
        "median_sessions": round(float(np.median(values)), 6),
        "sem_sessions": sem,
    }


def _region_pairs(sessions: Sequence[SessionScores]) -> list[dict[str, Any]] | None:
    """Mean over sessions of each pair of regions; None if pairs are not predicted at all."""
    pairs = pd.concat([s.region_pairs for s in sessions], ignore_index=True)
    if pairs.empty:
        return None if any("region_pairs" in s.skipped for s in sessions) else []
    grouped = pairs.groupby(["source", "target"], as_index=False).agg(
        bits_per_spike=("bits_per_spike", "mean"),
        n_units=("n_units", "sum"),
        n_sessions=("eid", "nunique"),
    )
    rows: list[dict[str, Any]] = json.loads(grouped.round(6).to_json(orient="records"))
    return rows


def _describe_split(split: Split | None, cache: Cache, eid: str) -> str:
    """The run's own split, or the one that a session was ingested with."""
    if split is None:
        definition = json.loads(cache[eid].attrs["definition"])
        if "split" not in definition:
            return "as ingested"
        split = Split.model_validate(definition["split"])
    shares = "/".join(f"{100 * share:g}" for share in split.fractions)
    return f"{split.kind}, {shares} % train/val/test, seed {split.seed}"
