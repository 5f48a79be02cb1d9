"""Score a run, or a baseline, on the test trials of its sessions.

evaluation = evaluate(Path("runs/mtm"), open_cache("cache.zarr"))
evaluation.metrics["tasks"]["co_smoothing"]["bits_per_spike"]
evaluation.write(Path("runs/mtm"))
"""

import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import xarray as xr
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from ibl_mtm._provenance import source_commit
from ibl_mtm.cache.cache import Cache
from ibl_mtm.cache.groups import write_group
from ibl_mtm.config.catalog import Split
from ibl_mtm.config.yaml_settings import read_settings
from ibl_mtm.errors import UserError
from ibl_mtm.evaluation.activity.predict import Precision, select_known, uses_bf16
from ibl_mtm.evaluation.baselines.registry import BASELINES, BaselinePredictor
from ibl_mtm.evaluation.behaviour.export import UnitFiltering, write_submission
from ibl_mtm.evaluation.document import make_document
from ibl_mtm.evaluation.predictors import ModelPredictor, Predictor
from ibl_mtm.evaluation.score_session import (
    ALL_TASKS,
    TASKS,
    SessionScores,
    nothing_scored,
    score_session,
)
from ibl_mtm.sessions.text import as_text
from ibl_mtm.sessions.view import describe_session, split_of
from ibl_mtm.simulate.truth import open_truth
from ibl_mtm.training.checkpoint.pretrained import load_model
from ibl_mtm.training.settings import DataSettings, RunSettings

__all__ = ["Evaluation", "evaluate", "evaluate_baseline"]

logger = logging.getLogger(__name__)

#: Makes the predictor of a session, and the session with the units that it is scored on.
Prepare = Callable[[xr.Dataset, np.ndarray], tuple[Predictor, xr.Dataset]]


@dataclass(frozen=True)
class Evaluation:
    """Scores of a run or a baseline.

    Attributes
    ----------
    metrics
        The JSON document of `ibl-mtm eval`.
    per_unit
        One row per session, unit and activity task.
    scores
        Everything that was scored and decoded, by session.
    examples
        Predictions to look at, a dataset per session.
    label, seed
        Of the run; a baseline has its name and seed 0.
    unit_filtering
        Whether settings left units out, for the benchmark.
    """

    metrics: dict[str, Any]
    per_unit: pd.DataFrame
    scores: dict[str, SessionScores]
    examples: dict[str, xr.Dataset]
    label: str
    seed: int
    unit_filtering: UnitFiltering

    def export(self, path: Path) -> list[str]:
        """Write what was decoded as a submission to the brain-wide benchmark, a zip."""
        return write_submission(self.scores, path, self.label, self.seed, self.unit_filtering)

    def write(self, folder: Path) -> None:
        """Write ``metrics.json``, ``per_unit.parquet`` and ``evaluation.zarr`` to a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        aside = folder / f".evaluation.{os.getpid()}.zarr"
        aside.mkdir()
        for eid, examples in self.examples.items():
            write_group(aside / eid, examples)
        shutil.rmtree(folder / "evaluation.zarr", ignore_errors=True)
        aside.rename(folder / "evaluation.zarr")
        self.per_unit.to_parquet(folder / "per_unit.parquet")
        (folder / "metrics.json").write_text(json.dumps(self.metrics, indent=1), encoding="utf-8")


def evaluate(
    run: Path,
    cache: Cache,
    *,
    tasks: Sequence[str] = TASKS,
    sessions: Sequence[str] | None = None,
    oracle: Path | None = None,
    device: str | torch.device = "cpu",
    precision: Precision = "auto",
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
        Some of `ALL_TASKS`; ``all`` stands for all of them.
    sessions
        Session ids; by default every session that the model was trained on.
    oracle
        The folder of a simulated experiment, for the scores of its true rates.
    device
        Where the model runs.
    precision
        Of the predictions of held-out activity (see `uses_bf16`).
    say
        Called with a line of text as each session begins.

    Raises
    ------
    UserError
        If a task or session is unknown, or the cache does not fit the model.
    """
    tasks = _known_tasks(tasks)
    model = load_model(run, device)
    settings = read_settings(run / "config.yaml", RunSettings)

    def prepare(ds: xr.Dataset, split: np.ndarray) -> tuple[Predictor, xr.Dataset]:
        ds = select_known(model, ds).load()
        return ModelPredictor(model, ds, np.flatnonzero(split == "test"), precision), ds

    eids = list(dict.fromkeys(sessions)) if sessions else _sessions_of(model.scope.sessions, cache)
    what = {"run": str(run), "precision": "bf16" if uses_bf16(model, precision) else "32"}
    at_once = 1 if model.read_in.device.type != "cpu" else None
    found = _evaluate(what, prepare, cache, eids, tasks, settings.data, oracle, say, at_once)
    return replace(found, label=settings.name, seed=settings.seed)


def evaluate_baseline(
    name: str,
    cache: Cache,
    *,
    settings: DataSettings = DataSettings(),  # noqa: B008 - immutable
    tasks: Sequence[str] = TASKS,
    sessions: Sequence[str] | None = None,
    oracle: Path | None = None,
    say: Callable[[str], None] | None = None,
) -> Evaluation:
    """Fit and score a baseline, one session at a time.

    Parameters
    ----------
    name
        One of `BASELINES`.
    cache
        Where the sessions are.
    settings
        Which units and trials, as in a run's settings.
    tasks, sessions, oracle, say
        As for `evaluate`; by default every session of the cache.

    Raises
    ------
    UserError
        If the baseline, a task or a session is unknown.
    """
    if name not in BASELINES:
        raise UserError(f"unknown baseline '{name}'; known: {', '.join(BASELINES)}")

    def prepare(ds: xr.Dataset, split: np.ndarray) -> tuple[Predictor, xr.Dataset]:
        session = describe_session(ds, settings)
        ds = ds.isel(unit=np.flatnonzero(np.isin(as_text(ds.unit), session.units))).load()
        return BaselinePredictor(name, ds, split, session.region), ds

    eids = list(dict.fromkeys(sessions)) if sessions else list(cache)
    what = {"baseline": name}
    return _evaluate(what, prepare, cache, eids, _known_tasks(tasks), settings, oracle, say)


def _known_tasks(tasks: Sequence[str]) -> Sequence[str]:
    if "all" in tasks:
        return ALL_TASKS
    for task in tasks:
        if task not in ALL_TASKS:
            raise UserError(f"unknown task '{task}'; known: {', '.join(ALL_TASKS)}, or all")
    return tasks


def _sessions_of(known: Sequence[str], cache: Cache) -> list[str]:
    found = [eid for eid in known if eid in cache]
    if not found:
        raise UserError(
            f"{cache.path} holds none of the {len(known)} sessions that the model was trained on"
        )
    if len(found) < len(known):
        logger.warning("%d of the model's sessions are not in %s", len(known) - len(found), cache)
    return found


def _evaluate(
    what: dict[str, str],
    prepare: Prepare,
    cache: Cache,
    eids: Sequence[str],
    tasks: Sequence[str],
    settings: DataSettings,
    oracle: Path | None,
    say: Callable[[str], None] | None,
    at_once: int | None = None,
) -> Evaluation:
    if not eids:
        raise UserError(f"{cache.path} holds no session to score")
    for eid in eids:
        if eid not in cache:
            cache.open(eid)  # whose error names the sessions that there are

    def score(eid: str) -> SessionScores:
        if say:
            say(f"scoring session {eids.index(eid) + 1} of {len(eids)}: {eid}")
        ds = cache[eid]
        split = split_of(ds, settings)
        if not (split == "test").any():
            return nothing_scored(tasks, "no test trials")
        truth = open_truth(oracle, eid) if oracle else None
        predictor, ds = prepare(ds, split)
        return score_session(predictor, ds, split, tasks, truth)

    start = time.perf_counter()
    scores = dict(zip(eids, _side_by_side(score, eids, at_once), strict=True))
    split: Split | None = settings.split
    made = {"seconds": round(time.perf_counter() - start, 1), "commit": source_commit()}
    return Evaluation(
        metrics=make_document(what, cache, scores, tasks, split) | made,
        per_unit=pd.concat([s.per_unit for s in scores.values()], ignore_index=True),
        scores=scores,
        examples={e: _colour(s.examples, cache) for e, s in scores.items() if s.examples},
        label=next(iter(what.values())),
        seed=0,
        unit_filtering="custom" if settings.min_rate or settings.min_label else "all_units",
    )


def _side_by_side(
    work: Callable[[str], SessionScores], eids: Sequence[str], at_once: int | None
) -> list[SessionScores]:
    """Score sessions in threads: what they compute is long and lets other threads run.

    Many sessions keep all cores busy with one thread each, where a product of small matrices on
    many threads would mostly wait.
    """
    threads = torch.get_num_threads()
    workers = min(at_once or threads, len(eids))
    torch.set_num_threads(max(1, threads // workers))
    try:
        with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(workers) as pool:
            return list(pool.map(work, eids))
    finally:
        torch.set_num_threads(threads)


def _colour(examples: xr.Dataset, cache: Cache) -> xr.Dataset:
    """Add each unit's place and colour in the Allen atlas, as the cache tells them."""
    regions = cache.regions.reindex(examples.region.values)
    return examples.assign_coords(
        color=("unit", regions["color"].fillna("#999999").to_numpy(dtype=str)),
        order=("unit", regions["order"].fillna(np.iinfo(np.int32).max).to_numpy(dtype=np.int64)),
    )
