"""Score a run on the test trials of its sessions.

evaluation = evaluate(Path("runs/mtm"), open_cache("cache.zarr"))
evaluation.metrics["tasks"]["co_smoothing"]["bits_per_spike"]
evaluation.write(Path("runs/mtm"))
"""

import json
import logging
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import xarray as xr

import ibl_mtm
from ibl_mtm.cache.cache import Cache
from ibl_mtm.cache.groups import write_group
from ibl_mtm.catalog import Split
from ibl_mtm.errors import UserError
from ibl_mtm.evaluation.metrics import summarise
from ibl_mtm.evaluation.session import (
    BEHAVIOUR_TASKS,
    TASKS,
    SessionScores,
    score_session,
)
from ibl_mtm.settings import read_settings
from ibl_mtm.simulate.truth import open_truth
from ibl_mtm.training.pretrained import load_model
from ibl_mtm.training.settings import RunSettings

__all__ = ["Evaluation", "evaluate"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Evaluation:
    """Scores of a run.

    Attributes
    ----------
    metrics
        The JSON document of `ibl-mtm eval`.
    per_unit
        One row per session, unit and activity task.
    examples
        Predictions to look at, a dataset per session.
    """

    metrics: dict[str, Any]
    per_unit: pd.DataFrame
    examples: dict[str, xr.Dataset]

    def write(self, run: Path) -> None:
        """Write ``metrics.json``, ``per_unit.parquet`` and ``evaluation.zarr`` to a run."""
        aside = run / f".evaluation.{os.getpid()}.zarr"
        aside.mkdir()
        for eid, examples in self.examples.items():
            write_group(aside / eid, examples)
        shutil.rmtree(run / "evaluation.zarr", ignore_errors=True)
        aside.rename(run / "evaluation.zarr")
        self.per_unit.to_parquet(run / "per_unit.parquet")
        (run / "metrics.json").write_text(json.dumps(self.metrics, indent=1), encoding="utf-8")


def evaluate(
    run: Path,
    cache: Cache,
    *,
    tasks: Sequence[str] = TASKS,
    sessions: Sequence[str] | None = None,
    oracle: Path | None = None,
    device: str | torch.device = "cpu",
    say: Callable[[str], None] | None = None,
) -> Evaluation:
    """Score a run.

    Parameters
    ----------
    run
        A run folder with a model.
    cache
        Where its sessions are.
    tasks
        Some of `TASKS`.
    sessions
        Session ids; by default every session that the model was trained on.
    oracle
        The folder of a simulated experiment, for the scores of its true rates.
    device
        Where the model runs.
    say
        Called with a line of text as each session begins.

    Raises
    ------
    UserError
        If a task or session is unknown, or the cache does not fit the model.
    """
    for task in tasks:
        if task not in TASKS:
            raise UserError(f"unknown task '{task}'; known: {', '.join(TASKS)}")
    model = load_model(run, device)
    settings = read_settings(run / "config.yaml", RunSettings)
    wanted = (
        list(dict.fromkeys(sessions)) if sessions else _sessions_of(model.scope.sessions, cache)
    )
    for eid in wanted:
        if eid not in cache:
            cache.open(eid)  # which names the sessions that there are
    scores: dict[str, SessionScores] = {}
    for done, eid in enumerate(wanted):
        if say:
            say(f"scoring session {done + 1} of {len(wanted)}: {eid}")
        truth = open_truth(oracle, eid) if oracle else None
        scores[eid] = score_session(model, cache[eid], settings.data, tasks, truth)
    per_unit = pd.concat([s.per_unit for s in scores.values()], ignore_index=True)
    metrics = {
        "run": str(run),
        "tasks": _tasks(per_unit, list(scores.values()), tasks),
        "sessions": {eid: _tasks(s.per_unit, [s], tasks) for eid, s in scores.items()},
        "skipped": {eid: s.skipped for eid, s in scores.items() if s.skipped},
        "simulated": any(bool(cache[eid].attrs.get("simulated")) for eid in wanted),
        "cache": str(cache.path),
        "provenance": _provenance(cache, settings, scores),
    }
    return Evaluation(
        metrics, per_unit, {e: _colour(s.examples, cache) for e, s in scores.items() if s.examples}
    )


def _sessions_of(known: Sequence[str], cache: Cache) -> list[str]:
    found = [eid for eid in known if eid in cache]
    if not found:
        raise UserError(
            f"{cache.path} holds none of the {len(known)} sessions that the model was trained on"
        )
    if len(found) < len(known):
        logger.warning("%d of the model's sessions are not in %s", len(known) - len(found), cache)
    return found


def _tasks(
    per_unit: pd.DataFrame, sessions: Sequence[SessionScores], tasks: Sequence[str]
) -> dict[str, Any]:
    """Scores by task; a task that no session has is None."""
    found: dict[str, Any] = dict.fromkeys(tasks)
    if len(per_unit):
        for task, row in summarise(per_unit).iterrows():
            if np.isfinite(row.bits_per_spike):
                found[str(task)] = _plain(row.to_dict())
    for task in BEHAVIOUR_TASKS:
        scored = [s.behaviour[task] for s in sessions if task in s.behaviour]
        if scored:
            found[task] = {**_mean(scored), "n_sessions": len(scored)}
    return found


def _plain(row: dict[Any, Any]) -> dict[str, Any]:
    """JSON has no NaN: leave out what is not known; counts are integers."""
    return {
        str(name): int(value) if str(name).startswith("n_") else round(float(value), 6)
        for name, value in row.items()
        if np.isfinite(value)
    }


def _mean(scores: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Mean over sessions of nested scores."""
    first = scores[0]
    return {
        key: _mean([s[key] for s in scores])
        if isinstance(value, dict)
        else value
        if isinstance(value, str)
        else round(float(np.mean([s[key] for s in scores])), 6)
        for key, value in first.items()
    }


def _provenance(
    cache: Cache, settings: RunSettings, scores: dict[str, SessionScores]
) -> dict[str, Any]:
    rows = cache.sessions.loc[list(scores)]
    return {
        "ibl_mtm": ibl_mtm.__version__,
        "torch": torch.__version__,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "dataset": ", ".join(sorted(set(rows.dataset))),
        "split": _describe_split(cache, settings, scores),
        "sessions": {
            eid: {
                "subject": str(row.subject),
                "lab": str(row.lab),
                "date": str(row.date),
                "n_units": int(row.n_units),
                "n_test": scores[str(eid)].n_test,
            }
            for eid, row in rows.iterrows()
        },
    }


def _describe_split(cache: Cache, settings: RunSettings, scores: dict[str, SessionScores]) -> str:
    """The run's own split, or the one that its first session was ingested with."""
    split = settings.data.split
    if split is None:
        definition = json.loads(cache[next(iter(scores))].attrs["definition"])
        if "split" not in definition:
            return "as stored in the cache"
        split = Split.model_validate(definition["split"])
    shares = "/".join(f"{100 * share:g}" for share in split.fractions)
    return f"{split.kind}, {shares} % train/val/test, seed {split.seed}"


def _colour(examples: xr.Dataset, cache: Cache) -> xr.Dataset:
    """Add each unit's place and colour in the Allen atlas, as the cache tells them."""
    regions = cache.regions.reindex(examples.region.values)
    return examples.assign_coords(
        color=("unit", regions["color"].fillna("#999999").to_numpy(dtype=str)),
        order=("unit", regions["order"].fillna(np.iinfo(np.int32).max).to_numpy(dtype=np.int64)),
    )
