"""Score a run, or a baseline, on the test trials of its sessions.

evaluation = evaluate(Path("runs/mtm"), open_cache("cache.zarr"))
evaluation.metrics["tasks"]["co_smoothing"]["bits_per_spike"]
evaluation.write(Path("runs/mtm"))
"""

import hashlib
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr

from ibl_mtm._provenance import source_commit
from ibl_mtm.cache.cache import Cache, as_cache
from ibl_mtm.cache.guard import reading
from ibl_mtm.config.yaml_settings import read_settings
from ibl_mtm.errors import SessionError, UserError
from ibl_mtm.evaluation.activity.predict import Precision, select_known, uses_bf16
from ibl_mtm.evaluation.activity.tasks import UNIT_TASKS
from ibl_mtm.evaluation.baselines.registry import BASELINES, BaselinePredictor
from ibl_mtm.evaluation.behaviour.decode_by_model import decoding_scheme
from ibl_mtm.evaluation.behaviour.imposters import Imposters
from ibl_mtm.evaluation.document import data_digest, make_document, stacked
from ibl_mtm.evaluation.predictors import ModelPredictor, Predictor
from ibl_mtm.evaluation.request import (
    Request,
    chosen_sessions,
    deals_of,
    known_tasks,
    own_tasks,
    sessions_of,
)
from ibl_mtm.evaluation.result import Evaluation
from ibl_mtm.evaluation.score_session import (
    TASKS,
    R2Rules,
    SessionScores,
    nothing_scored,
    score_session,
)
from ibl_mtm.evaluation.side_by_side import sessions_at_once, side_by_side
from ibl_mtm.model.mtm import MtM
from ibl_mtm.sessions.deal import Deal, deal_trials
from ibl_mtm.sessions.schema import UNKNOWN_COLOR
from ibl_mtm.sessions.text import as_text
from ibl_mtm.sessions.view import describe_session
from ibl_mtm.simulate.truth import open_truth
from ibl_mtm.training.checkpoint.pretrained import find_model, load_model, model_digest
from ibl_mtm.training.folder import is_run
from ibl_mtm.training.settings import DataSettings, RunSettings, read_data_settings

__all__ = ["evaluate", "evaluate_baseline"]

logger = logging.getLogger(__name__)

#: Makes the predictor of a session, and the session with the units that it is scored on.
Prepare = Callable[[xr.Dataset, Deal], tuple[Predictor, xr.Dataset]]


def evaluate(
    run: str | Path,
    cache: Cache | str | Path,
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
    r2: R2Rules = "own",
) -> Evaluation:
    """Score a run.

    Parameters
    ----------
    run
        The folder of a run or of a model that `PretrainedMtM.save_pretrained` wrote, or a model
        of the Hub.
    cache
        Where its sessions are; open, or its path.
    tasks
        Some of `ALL_TASKS`, and of what the sessions declare (`decode` in the catalog), which is
        scored by default; ``all`` stands for all of them.
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
    r2
        ``published``: R² of activity by the rules of the paper's published code too (see
        `ibl_mtm.evaluation.activity.published_r2`).

    Raises
    ------
    UserError
        If a task or session is unknown, the cache does not fit the model, or the scores could
        not be written.
    SessionError
        If no session can be read. Where some cannot, the others are scored, and the reasons
        are in ``metrics["failed"]``.
    """
    cache = as_cache(cache)
    folder = find_model(run)
    model = load_model(folder, device)
    settings = _settings_of(folder)

    deals = deals_of(folder, settings.data)

    def prepare(ds: xr.Dataset, deal: Deal) -> tuple[Predictor, xr.Dataset]:
        with reading(ds.attrs["eid"]):
            ds = select_known(model, ds).load()
        test = np.flatnonzero(deal.split == "test")
        return ModelPredictor(model, ds, test, precision, min_distance_um), ds

    eids = (
        chosen_sessions(sessions, cache) if sessions else sessions_of(model.scope.sessions, cache)
    )
    tasks = known_tasks(tasks, (*own_tasks(cache, eids), *_tasks_of(model)))
    what: dict[str, Any] = {
        "run": str(run),
        "precision": "bf16" if uses_bf16(model, precision) else "32",
    }
    if min_distance_um:
        what["min_distance_um"] = min_distance_um
    n_prompts = len(model.scope.schemes) if set(tasks) - set(UNIT_TASKS) else 1
    at_once = 1 if model.read_in.device.type != "cpu" else None
    if at_once is None:
        at_once = sessions_at_once(cache, eids, n_prompts, memory_gb)
    request = Request(what, model_digest(folder), tasks, oracle, say, into, overwrite, r2)
    return _evaluate(request, prepare, cache, eids, settings.data, deals, at_once)


def evaluate_baseline(
    name: str,
    cache: Cache | str | Path,
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
    r2: R2Rules = "own",
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
    tasks, sessions, oracle, memory_gb, into, overwrite, say, r2
        As for `evaluate`; by default every session of the cache.

    Raises
    ------
    UserError
        If the baseline, a task or a session is unknown, or the run had other trials.
    SessionError
        As for `evaluate`.
    """
    cache = as_cache(cache)
    if name not in BASELINES:
        raise UserError(f"unknown baseline '{name}'; known: {', '.join(BASELINES)}")
    if into is not None and is_run(Path(into)):
        raise UserError(f"{into} is the folder of a run; give a baseline's scores one of their own")
    if like is not None:
        like = Path(like)
        settings = read_data_settings(like)
    deals = deals_of(like, settings) if like is not None else {}

    def prepare(ds: xr.Dataset, deal: Deal) -> tuple[Predictor, xr.Dataset]:
        with reading(ds.attrs["eid"]):
            session = describe_session(ds, settings, deal=deal)
            ds = ds.isel(unit=np.flatnonzero(np.isin(as_text(ds.unit), session.units))).load()
        return BaselinePredictor(name, ds, deal.split, session.region), ds

    eids = chosen_sessions(sessions, cache) if sessions else list(cache)
    encoding = ("encoding",) if "encoding" in BASELINES[name].tasks else ()
    tasks = known_tasks(tasks, (*own_tasks(cache, eids), *encoding))
    what: dict[str, Any] = {"baseline": name}
    made_by = hashlib.sha256(f"{name} {settings.model_dump_json()}".encode()).hexdigest()[:16]
    request = Request(what, made_by, tasks, oracle, say, into, overwrite, r2)
    at_once = sessions_at_once(cache, eids, _FITS, memory_gb)
    return _evaluate(request, prepare, cache, eids, settings, deals, at_once)


def _tasks_of(model: MtM) -> tuple[str, ...]:
    """What is asked of a model with modalities unless other tasks are."""
    schemes = model.scope.schemes
    encoding = ("encoding",) if "encoding" in schemes and model.settings.modalities else ()
    return (*encoding, *(model.settings.modalities if decoding_scheme(model) else ()))


#: Arrays as large as a session's counts in single precision that the fit of a baseline holds.
_FITS = 6


def _settings_of(folder: Path) -> RunSettings:
    """Settings of a run; of a model that came without any, those that say nothing."""
    if (folder / "config.yaml").is_file():
        return read_settings(folder / "config.yaml", RunSettings)
    return RunSettings(name=folder.resolve().name)


def _evaluate(
    request: Request,
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
    dealt: dict[str, Deal] = {}
    data: dict[str, str] = {}
    failed: dict[str, str] = {}

    def leave_out(error: SessionError) -> None:
        failed[error.eid] = error.reason
        logger.warning("session %s is left out: %s", error.eid, error.reason)

    for eid in eids:
        try:
            with reading(eid):
                ds = cache[eid]
                deal = deals.get(eid) or deal_trials(ds, settings)
                deal.check(ds)
                data[eid] = data_digest(ds, deal)
        except SessionError as error:
            leave_out(error)
        else:
            dealt[eid] = deal
    origin = {"model": request.model, "sessions": {e: {"data": data[e]} for e in dealt}}
    request.check(origin)

    imposters = Imposters(cache)
    start, done = time.perf_counter(), count(1)

    def score(eid: str) -> SessionScores | None:
        say(f"scoring session {list(dealt).index(eid) + 1} of {len(dealt)}: {eid}")
        try:
            scores = score_one(eid)
        except SessionError as error:
            leave_out(error)
            return None
        n_done, spent = next(done), time.perf_counter() - start
        if len(dealt) > 1:
            left = spent / n_done * (len(dealt) - n_done)
            say(f"{n_done} of {len(dealt)} sessions scored in {spent:.0f} s; {left:.0f} s left")
        return scores

    def score_one(eid: str) -> SessionScores:
        deal = dealt[eid]
        if not (deal.split == "test").any():
            return nothing_scored(tasks, "no test trials")
        truth = open_truth(oracle, eid) if oracle else None
        predictor, ds = prepare(cache[eid], deal)
        # Tasks of sessions that are scored side by side come as they are done.
        return score_session(
            predictor,
            ds,
            deal.split,
            tasks,
            truth,
            lambda line: say(f"  {eid} {line}"),
            imposters=imposters,
            r2=request.r2,
        )

    found = zip(dealt, side_by_side(score, list(dealt), at_once), strict=True)
    scores = {eid: of_session for eid, of_session in found if of_session is not None}
    if not scores:
        eid, reason = next(iter(failed.items()))
        raise SessionError(eid, reason)
    made = {"seconds": round(time.perf_counter() - start, 1), "commit": source_commit()}
    document = make_document(request.what, cache, scores, tasks, dealt, origin)
    return Evaluation(
        metrics=document | {"failed": {e: failed[e] for e in eids if e in failed}} | made,
        per_unit=stacked(s.per_unit for s in scores.values()),
        region_pairs=stacked(s.region_pairs for s in scores.values()),
        scores=scores,
        examples={e: _colour(s.examples, cache) for e, s in scores.items() if s.examples},
    )


def _colour(examples: xr.Dataset, cache: Cache) -> xr.Dataset:
    """Add each unit's place and colour in the Allen atlas, as the cache tells them."""
    regions = cache.regions.reindex(examples.region.values)
    return examples.assign_coords(
        color=("unit", regions["color"].fillna(UNKNOWN_COLOR).to_numpy(dtype=str)),
        order=("unit", regions["order"].fillna(np.iinfo(np.int32).max).to_numpy(dtype=np.int64)),
    )
