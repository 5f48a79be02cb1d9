"""Score a run, or a baseline, on the test trials of its sessions.

evaluation = evaluate(Path("runs/mtm"), open_cache("cache.zarr"))
evaluation.metrics["tasks"]["co_smoothing"]["bits_per_spike"]
evaluation.write(Path("runs/mtm"))
"""

import hashlib
import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import torch
import xarray as xr
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from ibl_mtm._provenance import source_commit
from ibl_mtm.cache.cache import Cache
from ibl_mtm.cache.groups import write_group
from ibl_mtm.config.yaml_settings import read_settings
from ibl_mtm.disk.ownership import remove
from ibl_mtm.disk.replace import replace_file
from ibl_mtm.disk.targets import check_folder
from ibl_mtm.errors import UserError
from ibl_mtm.evaluation.activity.predict import Precision, select_known, uses_bf16
from ibl_mtm.evaluation.baselines.registry import BASELINES, BaselinePredictor
from ibl_mtm.evaluation.behaviour.behaviours import BEHAVIOUR_TASKS
from ibl_mtm.evaluation.behaviour.export import UnitFiltering, write_submission
from ibl_mtm.evaluation.document import make_document, tell_origin
from ibl_mtm.evaluation.merge import METRICS, PAIRS, PER_UNIT, check_joins, join
from ibl_mtm.evaluation.predictors import ModelPredictor, Predictor
from ibl_mtm.evaluation.score_session import (
    ALL_TASKS,
    TASKS,
    SessionScores,
    nothing_scored,
    score_session,
)
from ibl_mtm.sessions.deal import Deal, deal_trials, read_deals
from ibl_mtm.sessions.text import as_text
from ibl_mtm.sessions.view import describe_session
from ibl_mtm.simulate.truth import open_truth
from ibl_mtm.training.checkpoint.pretrained import find_model, load_model, model_digest
from ibl_mtm.training.data.memory import available_memory
from ibl_mtm.training.folder import is_run
from ibl_mtm.training.settings import DataSettings, RunSettings, read_data_settings

__all__ = ["Evaluation", "evaluate", "evaluate_baseline", "sessions_at_once"]

logger = logging.getLogger(__name__)

EXAMPLES = "evaluation.zarr"

#: Makes the predictor of a session, and the session with the units that it is scored on.
Prepare = Callable[[xr.Dataset, Deal], tuple[Predictor, xr.Dataset]]


@dataclass(frozen=True)
class Evaluation:
    """Scores of a run or a baseline.

    Attributes
    ----------
    metrics
        The JSON document of `ibl-mtm eval`.
    per_unit
        One row per session, unit and activity task.
    region_pairs
        One row per session and pair of regions.
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
    region_pairs: pd.DataFrame
    scores: dict[str, SessionScores]
    examples: dict[str, xr.Dataset]
    label: str
    seed: int
    unit_filtering: UnitFiltering

    def export(self, path: str | Path) -> list[str]:
        """Write what was decoded as a submission to the brain-wide benchmark, a zip."""
        return write_submission(self.scores, Path(path), self.label, self.seed, self.unit_filtering)

    def write(self, folder: str | Path, *, overwrite: bool = False) -> None:
        """Write ``metrics.json``, tables and ``evaluation.zarr`` to a folder.

        Scores that are there stay beside these, if they are of the same model and data.

        Parameters
        ----------
        folder
            Of the run, or for the scores of a baseline.
        overwrite
            Replace what is there instead.

        Raises
        ------
        UserError
            If these scores and those that are there cannot stand side by side.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        metrics, per_unit, pairs = self.metrics, self.per_unit, self.region_pairs
        if not overwrite:
            metrics, per_unit, pairs = join(folder, metrics, per_unit, pairs)
        if overwrite or not (folder / METRICS).is_file():
            remove(folder, [EXAMPLES])
        for eid, examples in self.examples.items():
            with TemporaryDirectory(dir=folder, prefix=".evaluation.") as aside:
                write_group(Path(aside) / eid, examples)
                (folder / EXAMPLES).mkdir(exist_ok=True)
                remove(folder / EXAMPLES, [eid])
                (Path(aside) / eid).rename(folder / EXAMPLES / eid)
        replace_file(folder / PER_UNIT, per_unit.to_parquet)
        replace_file(folder / PAIRS, pairs.to_parquet)
        text = json.dumps(metrics, indent=1)
        replace_file(folder / METRICS, lambda path: path.write_text(text, encoding="utf-8"))


def evaluate(
    run: str | Path,
    cache: Cache,
    *,
    tasks: Sequence[str] = TASKS,
    sessions: Sequence[str] | None = None,
    oracle: str | Path | None = None,
    device: str | torch.device = "cpu",
    precision: Precision = "auto",
    min_distance_um: float = 0.0,
    memory_gb: float | None = None,
    into: str | Path | None = None,
    overwrite: bool = False,
    say: Callable[[str], None] | None = None,
) -> Evaluation:
    """Score a run.

    Parameters
    ----------
    run
        The folder of a run or of a model that `PretrainedMtM.save_pretrained` wrote, or a model
        of the Hub.
    cache
        Where its sessions are.
    tasks
        Some of `ALL_TASKS`; ``all`` stands for all of them.
    sessions
        Session ids, beginnings of them, or subjects; by default every session that the model was
        trained on.
    oracle
        The folder of a simulated experiment, for the scores of its true rates.
    device
        Where the model runs.
    precision
        Of the predictions of held-out activity (see `uses_bf16`).
    min_distance_um
        Do not show a unit that is predicted its neighbours on the probe (see `ibl_mtm.predict`).
    memory_gb
        What the sessions that are scored at a time may take (GB); by default half of what is
        available. One is always scored.
    into, overwrite
        Where, and how, the scores will be written (see `Evaluation.write`): what forbids it is
        told before anything is scored.
    say
        Called with a line of text as each session begins.

    Raises
    ------
    UserError
        If a task or session is unknown, the cache does not fit the model, or the scores could
        not be written.
    """
    tasks = _known_tasks(tasks)
    folder = find_model(run)
    model = load_model(folder, device)
    settings = _settings_of(folder)

    deals = _deals_of(folder, settings.data)

    def prepare(ds: xr.Dataset, deal: Deal) -> tuple[Predictor, xr.Dataset]:
        ds = select_known(model, ds).load()
        test = np.flatnonzero(deal.split == "test")
        return ModelPredictor(model, ds, test, precision, min_distance_um), ds

    eids = _chosen(sessions, cache) if sessions else _sessions_of(model.scope.sessions, cache)
    what: dict[str, Any] = {
        "run": str(run),
        "precision": "bf16" if uses_bf16(model, precision) else "32",
    }
    if min_distance_um:
        what["min_distance_um"] = min_distance_um
    n_prompts = len(model.scope.schemes) if set(tasks) & set(BEHAVIOUR_TASKS) else 1
    at_once = 1 if model.read_in.device.type != "cpu" else None
    if at_once is None:
        at_once = sessions_at_once(cache, eids, n_prompts, memory_gb)
    request = _Request(what, model_digest(folder), tasks, oracle, say, into, overwrite)
    found = _evaluate(request, prepare, cache, eids, settings.data, deals, at_once)
    return replace(found, label=settings.name, seed=settings.seed)


def evaluate_baseline(
    name: str,
    cache: Cache,
    *,
    settings: DataSettings = DataSettings(),  # noqa: B008 - immutable
    like: str | Path | None = None,
    tasks: Sequence[str] = TASKS,
    sessions: Sequence[str] | None = None,
    oracle: str | Path | None = None,
    memory_gb: float | None = None,
    into: str | Path | None = None,
    overwrite: bool = False,
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
    like
        A run whose units and split of trials are to be used instead.
    tasks, sessions, oracle, memory_gb, into, overwrite, say
        As for `evaluate`; by default every session of the cache.

    Raises
    ------
    UserError
        If the baseline, a task or a session is unknown, or the run had other trials.
    """
    if name not in BASELINES:
        raise UserError(f"unknown baseline '{name}'; known: {', '.join(BASELINES)}")
    if into is not None and is_run(Path(into)):
        raise UserError(f"{into} is the folder of a run; give a baseline's scores one of their own")
    if like is not None:
        like = Path(like)
        settings = read_data_settings(like)
    deals = _deals_of(like, settings) if like is not None else {}

    def prepare(ds: xr.Dataset, deal: Deal) -> tuple[Predictor, xr.Dataset]:
        session = describe_session(ds, settings, deal=deal)
        ds = ds.isel(unit=np.flatnonzero(np.isin(as_text(ds.unit), session.units))).load()
        return BaselinePredictor(name, ds, deal.split, session.region), ds

    eids = _chosen(sessions, cache) if sessions else list(cache)
    what: dict[str, Any] = {"baseline": name}
    made_by = hashlib.sha256(f"{name} {settings.model_dump_json()}".encode()).hexdigest()[:16]
    request = _Request(what, made_by, _known_tasks(tasks), oracle, say, into, overwrite)
    at_once = sessions_at_once(cache, eids, _FITS, memory_gb)
    return _evaluate(request, prepare, cache, eids, settings, deals, at_once)


def _settings_of(folder: Path) -> RunSettings:
    """Settings of a run; of a model that came without any, those that say nothing."""
    if (folder / "config.yaml").is_file():
        return read_settings(folder / "config.yaml", RunSettings)
    return RunSettings(name=folder.resolve().name)


def _deals_of(run: Path, settings: DataSettings) -> dict[str, Deal]:
    """How the trials of a run's sessions were dealt out, if it is young enough to say."""
    deals = read_deals(run)
    if not deals and settings.included_only and settings.split is not None:
        raise UserError(
            f"{run} was trained by a version that split included trials on their own "
            "(data.included_only with data.split), so which are held out is not known; train anew"
        )
    if not deals:
        logger.warning(
            "%s does not tell which trials it was trained on (an earlier version made it): test "
            "trials are those that its settings and this cache give now",
            run,
        )
    return deals


def _known_tasks(tasks: Sequence[str]) -> Sequence[str]:
    if "all" in tasks:
        return ALL_TASKS
    # As tables call them, too.
    names = [task.strip().lower().replace("-", "_").replace(" ", "_") for task in tasks]
    for given, task in zip(tasks, names, strict=True):
        if task not in ALL_TASKS:
            raise UserError(f"unknown task '{given}'; known: {', '.join(ALL_TASKS)}, or all")
    return list(dict.fromkeys(names))


def _chosen(sessions: Sequence[str], cache: Cache) -> list[str]:
    """Sessions by id, its beginning or subject, each once."""
    return list(dict.fromkeys(eid for name in sessions for eid in cache.find(name)))


def _sessions_of(known: Sequence[str], cache: Cache) -> list[str]:
    found = [eid for eid in known if eid in cache]
    if not found:
        raise UserError(
            f"{cache.path} holds none of the {len(known)} sessions that the model was trained on"
        )
    if len(found) < len(known):
        missing = [eid for eid in known if eid not in cache]
        logger.warning(
            "%d of the model's %d sessions are not in %s, and not scored: %s",
            len(missing),
            len(known),
            cache.path,
            ", ".join(missing[:3]) + (", …" if len(missing) > 3 else ""),
        )
    return found


@dataclass(frozen=True)
class _Request:
    what: dict[str, Any]
    model: str
    tasks: Sequence[str]
    oracle: str | Path | None
    say: Callable[[str], None] | None
    into: str | Path | None
    overwrite: bool

    def check(self, origin: Mapping[str, Any]) -> None:
        """Refuse scores that could not be written, before they are computed."""
        if self.into is not None:
            try:
                check_folder(Path(self.into))
            except UserError as error:
                raise UserError(f"{error} (--out DIR puts the scores elsewhere)") from None
            if not self.overwrite:
                check_joins(Path(self.into), {**self.what, "provenance": origin})


def _evaluate(
    request: _Request,
    prepare: Prepare,
    cache: Cache,
    eids: Sequence[str],
    settings: DataSettings,
    deals: Mapping[str, Deal],
    at_once: int | None = None,
) -> Evaluation:
    tasks, oracle = request.tasks, Path(request.oracle) if request.oracle else None
    say = request.say or (lambda line: None)
    if not eids:
        raise UserError(f"{cache.path} holds no session to score")
    dealt = {eid: deals.get(eid) or deal_trials(cache[eid], settings) for eid in eids}
    for eid, deal in dealt.items():
        deal.check(cache[eid])
    origin = tell_origin(request.model, cache, dealt)
    request.check(origin)

    start, done = time.perf_counter(), count(1)

    def score(eid: str) -> SessionScores:
        say(f"scoring session {eids.index(eid) + 1} of {len(eids)}: {eid}")
        scores = score_one(eid)
        n_done, spent = next(done), time.perf_counter() - start
        if len(eids) > 1:
            left = spent / n_done * (len(eids) - n_done)
            say(f"{n_done} of {len(eids)} sessions scored in {spent:.0f} s; {left:.0f} s left")
        return scores

    def score_one(eid: str) -> SessionScores:
        deal = dealt[eid]
        if not (deal.split == "test").any():
            return nothing_scored(tasks, "no test trials")
        truth = open_truth(oracle, eid) if oracle else None
        predictor, ds = prepare(cache[eid], deal)
        # Tasks of sessions that are scored side by side come as they are done.
        return score_session(
            predictor, ds, deal.split, tasks, truth, lambda line: say(f"  {eid} {line}")
        )

    scores = dict(zip(eids, _side_by_side(score, eids, at_once), strict=True))
    made = {"seconds": round(time.perf_counter() - start, 1), "commit": source_commit()}
    return Evaluation(
        metrics=make_document(request.what, cache, scores, tasks, dealt, origin) | made,
        per_unit=pd.concat([s.per_unit for s in scores.values()], ignore_index=True),
        region_pairs=pd.concat([s.region_pairs for s in scores.values()], ignore_index=True),
        scores=scores,
        examples={e: _colour(s.examples, cache) for e, s in scores.items() if s.examples},
        label=next(iter(request.what.values())),
        seed=0,
        unit_filtering="custom" if settings.min_rate or settings.min_label else "all_units",
    )


#: Arrays as large as a session's counts in single precision that the fit of a baseline holds.
_FITS = 6


def sessions_at_once(
    cache: Cache, eids: Sequence[str], n_arrays: int, memory_gb: float | None = None
) -> int:
    """How many sessions to score side by side, so that what they hold fits into memory.

    Parameters
    ----------
    cache, eids
        The sessions.
    n_arrays
        How many arrays of a number for each trial, bin and unit one of them holds, such as the
        log rates under each prompt; what they are made from comes on top.
    memory_gb
        The budget (GB); None: half of what is available.
    """
    budget = available_memory() / 2 if memory_gb is None else memory_gb * 1e9
    rows = cache.sessions.loc[[eid for eid in eids if eid in cache]]
    if not len(rows):
        return 1
    n_bins = cache[str(rows.index[0])].sizes["time"]
    largest = float((rows["n_units"] * rows["n_trials"]).max()) * n_bins
    # Beside arrays in single precision: counts, a chunk in double precision, and copies of trials.
    return max(1, int(budget // (largest * 4 * (n_arrays + 3))))


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
