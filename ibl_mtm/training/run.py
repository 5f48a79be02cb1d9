"""Train a model on a cache into a run folder.

settings = read_run_settings("mtm_small")
report = train(settings, open_cache("cache.zarr"), Path("runs/mtm"))
report = train(settings, other_cache, Path("runs/tuned"), init=Path("runs/mtm"))
"""

import errno
import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch

from ibl_mtm.cache.cache import Cache, as_cache
from ibl_mtm.errors import UserError
from ibl_mtm.model.mtm import MtM
from ibl_mtm.sessions.deal import Deal, check_held_out, digest_of, read_deals
from ibl_mtm.sessions.trial_format import TrialFormat, trial_format
from ibl_mtm.sessions.view import Session
from ibl_mtm.training.checkpoint.build import build_model
from ibl_mtm.training.checkpoint.initialise import InitReport, initialise
from ibl_mtm.training.checkpoint.pretrained import find_model, load_model, save_model
from ibl_mtm.training.data.describe import describe_sessions
from ibl_mtm.training.data.evaluated_animals import refuse_evaluated
from ibl_mtm.training.data.loader import Loader
from ibl_mtm.training.encoding import fit_encoding
from ibl_mtm.training.folder import (
    CHECKPOINT,
    check_unchanged,
    claim_folder,
    empty_folder,
    on_first_process,
    settle_rank,
    write_request,
)
from ibl_mtm.training.loop.devices import check_devices
from ibl_mtm.training.loop.dynamics import choose_shares, fit_systems
from ibl_mtm.training.loop.module import Training
from ibl_mtm.training.loop.trainer import make_loaders, make_trainer, quiet
from ibl_mtm.training.objective.schemes import check_schemes, missing_modalities
from ibl_mtm.training.objective.target import check_target
from ibl_mtm.training.outcome import write_outcome
from ibl_mtm.training.settings import FinetuneSettings, RunSettings, as_run_settings

__all__ = ["TrainReport", "fit", "train"]

_INIT = "init.json"
#: Errors of a disk, or of a user's share of it, that is full.
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@dataclass(frozen=True)
class TrainReport:
    """What `ibl-mtm train --json` prints.

    Attributes
    ----------
    run
        The run folder.
    steps
        Optimizer steps taken.
    best_step
        The step whose weights were kept.
    val
        Bits/spike of each scheme at that step, on the validation trials.
    seconds
        Time that training took, before it was resumed too.
    init
        What was taken over from another run: numbers of units, sessions and regions that
        matched, are new, or were left out; their names are in the run's ``init.json``.
    """

    run: str
    steps: int
    best_step: int
    val: dict[str, float]
    seconds: float
    init: dict[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        """As plain Python; ``init`` is None if there was none."""
        return asdict(self)


def train(
    settings: RunSettings | str | Path | Mapping[str, Any],
    cache: Cache | str | Path,
    run: str | Path,
    *,
    init: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: bool = True,
    refit: bool = True,
    say: Callable[[str], None] = lambda message: None,
) -> TrainReport:
    """Train a model on every session of a cache.

    Parameters
    ----------
    settings
        The run's; written to ``config.yaml`` as they are. Or the name or path of a configuration,
        or a mapping, such as ``{"base": "mtm_small", "steps": 500}``.
    cache
        Sessions to train on, or the path of a cache; use `Cache.where` for a part of it.
    run
        Folder of the run.
    init
        A trained run, or a model of the Hub, to start from (see
        `ibl_mtm.training.checkpoint.initialise`); without it a model begins at random.
    resume
        Go on from ``checkpoints/last.ckpt``.
    overwrite
        Delete an earlier run of this folder first. Together with `resume`: go on where there is
        a checkpoint, begin anew where there is none.
    progress
        Show a progress bar on standard error.
    refit
        Fit linear dynamics, and the read-out of spikes from behaviour, to the validation trials
        too, once nothing is left to choose.
    say
        Called with a line of text for each thing that a user should know.

    Raises
    ------
    UserError
        If the folder is in use or holds another run, there is nothing to resume, the data or
        the model to start from do not fit, training diverges, or the disk is full.
    StoppedError
        If a signal ends it.
    """
    run, cache, settings = Path(run), as_cache(cache), as_run_settings(settings)
    if not len(cache):
        raise UserError(f"{cache.path} holds no session to train on")
    settle_rank(settings.trainer.devices * settings.trainer.nodes)
    if isinstance(cache.path, Path) and run.resolve().is_relative_to(cache.path.resolve()):
        raise UserError(f"{run} is inside of the cache {cache.path}; give --run a folder elsewhere")
    if overwrite and not (run / CHECKPOINT).is_file():
        resume = False
    if init is None and not resume and settings.finetune != FinetuneSettings():
        raise UserError("settings under 'finetune' need a run to start from: give --init RUN")
    if init is not None and run.resolve() == Path(init).resolve():
        raise UserError(f"--init and --run are the same folder, {run}; give the run its own")
    place = cache.path.resolve() if isinstance(cache.path, Path) else cache.path
    where = {"cache": str(place)}
    with claim_folder(run, resume=resume, overwrite=overwrite):
        if settings.data.evaluated_animals == "refuse":
            refuse_evaluated(cache)
        format_, sessions = _load(cache, settings, read_deals(run) if resume else {})
        torch.manual_seed(settings.seed)
        model = build_model(settings, sessions, format_)
        if settings.model.leading_tokens_see_all and on_first_process():
            say(
                "WARNING: model.leading_tokens_see_all=true: under causal attention a bin sees "
                "later ones by way of the leading tokens; for comparison with the published code"
            )
        if resume:
            check_unchanged(run, settings, sessions)
            _check_same_init(run, init)
            return fit(
                settings,
                sessions,
                model,
                run,
                run / CHECKPOINT,
                progress,
                say=say,
                refit=refit,
                about=where,
            )
        taken = None
        if init:
            source = find_model(init)
            check_held_out(_deals(sessions), read_deals(source), str(init))
            taken = initialise(model, load_model(source), str(init))

        folder = run

        def begin() -> None:
            """Only now does an earlier run go: whatever refuses a training has done so."""
            if not on_first_process():
                return
            empty_folder(folder)
            write_request(folder, settings, sessions)
            if taken:
                _write_init(taken, folder)
                for line in taken.lines():
                    say(line)

        return fit(settings, sessions, model, run, None, progress, begin, say, refit, where)


def fit(
    settings: RunSettings,
    sessions: Sequence[Session],
    model: MtM,
    run: Path,
    checkpoint: Path | None = None,
    progress: bool = True,
    begin: Callable[[], None] = lambda: None,
    say: Callable[[str], None] = lambda message: None,
    refit: bool = True,
    about: Mapping[str, Any] = MappingProxyType({}),
) -> TrainReport:
    """Train a model on sessions (see `train`).

    `begin` is called before anything is written; `about` is told in ``training.json``.
    """
    if settings.model.modalities and on_first_process():
        for line in missing_modalities(sessions, settings.model.modalities):
            say(line)
    if settings.target is not None:
        check_target(sessions, settings.model.modalities, settings.target)
    check_schemes(sessions, settings.asked, settings.data.min_units_per_region)
    check_devices(settings.trainer)
    loader = Loader(sessions, settings)
    per_epoch = loader.sampler.steps_per_epoch
    steps = settings.steps or per_epoch * (settings.epochs or 100)
    every = min(steps, settings.validate_every or per_epoch)
    module = Training(settings, model, sessions, steps)
    trainer, best, timer, stopped = make_trainer(settings, run, steps, every, progress)
    loader.open_store(trainer.strategy.root_device)
    begin()
    try:
        with stopped.told(run), quiet(), closing(loader):
            loaders = make_loaders(module, loader)
            trainer.fit(module, *loaders, ckpt_path=checkpoint, weights_only=True)
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise UserError(
            f"the disk of {run} is full ({error.strerror}) at step {trainer.global_step}; "
            "what it holds is whole: free some space and go on with --resume"
        ) from error
    begun = time.perf_counter()
    last = settings.model.dynamics or settings.model.refit_encoding
    # Of behaviour they say nothing.
    if last and settings.target is None and on_first_process():
        _fit_last(run, sessions, settings, say, refit)
    taken = _read_init(run)
    report = TrainReport(
        run=str(run),
        steps=trainer.global_step,
        best_step=best.best_step,
        val=best.val,
        seconds=round(timer.time_elapsed("train") + time.perf_counter() - begun, 1),
        init=taken["counts"] if taken else None,
    )
    if on_first_process():
        about = {
            **about,
            "seed": settings.seed,
            "n_sessions": len(sessions),
            "n_animals": len({session.subject or session.eid for session in sessions}),
            "trials": digest_of(_deals(sessions)),
        }
        write_outcome(run, report.to_json() | about)
    return report


def _fit_last(
    run: Path,
    sessions: Sequence[Session],
    settings: RunSettings,
    say: Callable[[str], None],
    refit: bool,
) -> None:
    """Fit what no step of training needs to the best transformer: dynamics, rows of `encoding`."""
    model = load_model(run)
    if settings.model.dynamics:
        fit_systems(model, sessions, ("train",), say)
        choose_shares(model, sessions, settings)
        if refit:
            # As baselines are: to all but the test trials, now that nothing is left to choose.
            fit_systems(model, sessions, ("train", "val"), say)
    fit_encoding(model, sessions, settings, refit=refit)
    save_model(model, run)


def _write_init(report: InitReport, run: Path) -> None:
    text = json.dumps({"counts": report.counts(), **asdict(report)}, indent=1)
    (run / _INIT).write_text(text, encoding="utf-8")


def _read_init(run: Path) -> dict[str, Any] | None:
    file = run / _INIT
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None


def _check_same_init(run: Path, init: str | Path | None) -> None:
    taken = _read_init(run)
    if init is None:
        return
    if taken is None or Path(taken["source"]).resolve() != Path(init).resolve():
        begun = f"from {taken['source']}" if taken else "without --init"
        raise UserError(f"{run} was begun {begun}, not from {init}; leave --init out to resume it")


def _deals(sessions: Sequence[Session]) -> dict[str, Deal]:
    return {session.eid: session.deal for session in sessions}


def _load(
    cache: Cache, settings: RunSettings, deals: Mapping[str, Deal]
) -> tuple[TrialFormat, list[Session]]:
    formats = {eid: trial_format(ds) for eid, ds in cache.items()}
    first, *others = formats
    for eid in others:
        if formats[eid] != formats[first]:
            raise UserError(
                f"sessions {first} and {eid} have trials of different formats "
                f"({formats[first]} and {formats[eid]}); train on one of them with `where`"
            )
    return formats[first], describe_sessions(cache, settings.data, deals, settings.model.modalities)
