"""Make a run of a checkpoint of the paper's published code.

report = import_published(Path("model_best.pt"), Path("runs/published"), units=Path("units.csv"),
                          cache=open_cache("cache.zarr"))
report.scores                                   # bits/spike on validation trials, by session
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from ibl_mtm.cache.cache import Cache, as_cache
from ibl_mtm.cache.guard import reading
from ibl_mtm.errors import UserError
from ibl_mtm.model.masking import SCHEMES, Scheme
from ibl_mtm.model.mtm import MtM
from ibl_mtm.sessions.text import as_text
from ibl_mtm.sessions.trial_format import trial_format
from ibl_mtm.sessions.view import Session, describe_session
from ibl_mtm.training.checkpoint.pretrained import save_model
from ibl_mtm.training.folder import claim_folder, empty_folder, write_request
from ibl_mtm.training.objective.draw_tasks import SessionRows, make_task, trial_keys
from ibl_mtm.training.objective.unit_scores import add_to, mean_over_units, new_totals
from ibl_mtm.training.outcome import write_outcome
from ibl_mtm.training.published.convert import Published, read_published
from ibl_mtm.training.published.import_report import ImportReport
from ibl_mtm.training.published.unit_list import read_units
from ibl_mtm.training.settings import RunSettings, read_run_settings

__all__ = ["import_published"]

#: Validation trials of each session that are scored: a wrong order of units is far below the mean.
_TRIALS = 16
_SCORED_AT = -1
#: Mean predicted and observed log counts of units correlate by more where their order is right.
_ALIKE = 0.5


def import_published(
    file: str | Path,
    run: str | Path,
    *,
    units: str | Path | None = None,
    body_only: bool = False,
    cache: Cache | str | Path | None = None,
    schemes: Sequence[str] = (),
    overwrite: bool = False,
    say: Callable[[str], None] = lambda message: None,
) -> ImportReport:
    """Make a run of a published checkpoint, for evaluation, fine-tuning and embedding.

    Nothing in the file is run (see `ibl_mtm.training.published.inert`).

    Parameters
    ----------
    file
        What the published code saved: ``model_best.pt`` and the like.
    run
        Folder of the run.
    units
        A CSV file with columns eid and uuid: all units of each session, in the order of the
        published recordings, which the file does not tell.
    body_only
        Take over no session: for new animals.
    cache
        Where the sessions are, or its path. Those that it has are scored, and get regions and a
        split.
    schemes
        Masking schemes that it was trained with; without prompts the file does not tell.
    overwrite
        Replace an earlier run.
    say
        Called with a line of text for each thing that a user should know.

    Raises
    ------
    UserError
        If the file is refused, units do not fit it, or the folder holds something else.
    """
    file, run = Path(file), Path(run)
    cache = None if cache is None else as_cache(cache)
    if (units is None) != body_only:
        raise UserError(
            "--units and --body-only exclude each other: the body alone knows no units"
            if units
            else f"the units of {file} stand in no file of the published code: give them with "
            "--units CSV (eid and uuid, in order), or take its body alone with --body-only"
        )
    with claim_folder(run, resume=False, overwrite=overwrite):
        published = read_published(file)
        trained = _schemes_of(published, schemes)
        settings = _settings_of(published, trained)
        table = read_units(Path(units)) if units else {}
        published.check(table)
        sessions = _sessions_in(cache, table, settings) if cache is not None else []
        model = _model_of(published, table, sessions, settings, cache)
        scored = {s.eid: _score(model, s, settings) for s in sessions if len(s.trials_in("val"))}
        report = ImportReport(
            run=str(run),
            file=str(file),
            sha256=_digest(file),
            n_parameters=sum(parameter.numel() for parameter in model.parameters()),
            n_units=len(model.scope.units),
            sessions=list(model.scope.sessions),
            left_out=[eid for eid in published.eids if eid not in table],
            schemes=list(trained),
            scores={eid: round(score, 6) for eid, (score, _) in scored.items()},
            correlations={eid: round(alike, 6) for eid, (_, alike) in scored.items()},
            below_mean=[eid for eid, (score, _) in scored.items() if score < 0],
            unlike=[eid for eid, (_, alike) in scored.items() if alike < _ALIKE],
        )
        empty_folder(run)
        known = {session.eid for session in sessions}
        write_request(run, settings, sessions, {e: u for e, u in table.items() if e not in known})
        save_model(model, run)
        _write_outcome(run, report, settings, cache)
    for line in report.lines(published, has_cache=cache is not None):
        say(line)
    return report


def _schemes_of(published: Published, given: Sequence[str]) -> tuple[Scheme, ...]:
    names = [name.strip().lower().replace("-", "_") for name in given]
    for said, name in zip(given, names, strict=True):
        if name not in SCHEMES:
            raise UserError(f"unknown masking scheme '{said}'; known: {', '.join(SCHEMES)}")
    if not names and not published.prompts:
        raise UserError(
            f"{published.file} has no prompts, and does not tell by which masking schemes it was "
            f"trained: name them with --scheme ({', '.join(SCHEMES[:5])})"
        )
    wanted = names or published.prompts
    return tuple(scheme for scheme in SCHEMES if scheme in wanted)


def _settings_of(published: Published, schemes: Sequence[Scheme]) -> RunSettings:
    """The paper's settings, with the file's sizes; trials are split as a cache has them."""
    paper = read_run_settings("paper")
    return paper.model_copy(
        update={
            "name": "published",
            "model": published.settings,
            "masks": paper.masks.model_copy(update={"schemes": dict.fromkeys(schemes, 1.0)}),
            "data": paper.data.model_copy(update={"split": None}),
        }
    )


def _sessions_in(
    cache: Cache, units: Mapping[str, Sequence[str]], settings: RunSettings
) -> list[Session]:
    """Those sessions that a cache has, each with the units that the model has rows for."""
    sessions = []
    for eid in (eid for eid in units if eid in cache):
        with reading(eid):
            ds = cache[eid]
            here = as_text(ds.unit)
            missing = sorted(set(units[eid]) - set(here.tolist()))
            if missing:
                raise UserError(
                    f"{len(missing)} of {len(units[eid])} units of session {eid} are not in "
                    f"{cache.path} ({missing[0]}); ingest all of its units, or leave the session "
                    "out of --units"
                )
            ds = ds.isel(unit=np.flatnonzero(np.isin(here, units[eid])))
            sessions.append(describe_session(ds, settings.data))
    if units and not sessions:
        raise UserError(f"{cache.path} holds no session of those in --units")
    return sessions


def _model_of(
    published: Published,
    units: Mapping[str, Sequence[str]],
    sessions: Sequence[Session],
    settings: RunSettings,
    cache: Cache | None,
) -> MtM:
    formats = {s.eid: trial_format(cache[s.eid]) for s in sessions} if cache is not None else {}
    for eid, own in formats.items():
        if own.n_time != published.n_time or own != formats[sessions[0].eid]:
            raise UserError(
                f"session {eid} has trials of another format, {own}, than {published.file} "
                f"was trained on: {published.trial_format}; ingest it with that one"
            )
    data = settings.data
    model = published.to_model(
        units,
        sorted({str(region) for s in sessions for region in s.region} - {""}),
        tuple(settings.masks.schemes),
        {
            "region_map": data.regions,
            "min_units_per_region": data.min_units_per_region,
            "void_and_root": data.void_and_root,
        },
        next(iter(formats.values()), None),
    )
    rows = SessionRows.of(sessions, model.scope)
    for session, row in zip(sessions, rows, strict=True):
        model.null_log_rate[row.units] = torch.from_numpy(session.training.log_mean).float()
    return model


@torch.inference_mode()
def _score(model: MtM, session: Session, settings: RunSettings) -> tuple[float, float]:
    """Of some validation trials: bits/spike under fixed masks, the mean over units; and how the
    units' mean log rates correlate with the log of their mean counts.
    """
    (rows,) = SessionRows.of([session], model.scope)
    trials = session.trials_in("val")
    chosen = np.unique(np.linspace(0, len(trials) - 1, min(len(trials), _TRIALS)).astype(int))
    counts = torch.from_numpy(session.read("val")[chosen])
    key = trial_keys(settings.seed, _SCORED_AT, rows.session, session.trial[trials[chosen]])
    known = model.scope.schemes
    scheme: Scheme = "neuron" if "neuron" in known else known[0]
    task = make_task(rows, counts, scheme, key, settings.masks)
    (log_rate,) = model([task.group])
    totals = new_totals(len(rows.units))
    null = model.null_log_rate[rows.units]
    add_to(totals, torch.arange(len(totals)), log_rate, counts, task.target, null)
    together = torch.stack([log_rate.mean((0, 1)), null])
    # Of a single unit, or of units that are all alike, it says nothing.
    alike = float(torch.corrcoef(together)[0, 1].nan_to_num(1.0)) if len(null) > 1 else 1.0
    return float(mean_over_units(totals)), alike


def _write_outcome(
    run: Path, report: ImportReport, settings: RunSettings, cache: Cache | None
) -> None:
    told = report.to_json()
    trained = {
        "run": str(run),
        "steps": 0,
        "best_step": 0,
        "val": {},
        "seconds": 0.0,
        "init": None,
        "seed": settings.seed,
        "n_sessions": len(report.sessions),
    }
    if cache is not None:
        place = cache.path.resolve() if isinstance(cache.path, Path) else cache.path
        trained["cache"] = str(place)  # where `eval` looks by itself
    write_outcome(run, trained | {"imported": {key: told[key] for key in ("file", "sha256")}})


def _digest(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
