"""Make a run of a checkpoint of the paper's published code.

report = import_published(Path("model_best.pt"), Path("runs/published"), units=Path("units.csv"),
                          cache=open_cache("cache.zarr"))
report.scores                                   # bits/spike on validation trials, by session
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from ibl_mtm.cache.cache import Cache
from ibl_mtm.cache.guard import reading
from ibl_mtm.errors import UserError
from ibl_mtm.model.masking import SCHEMES, Scheme
from ibl_mtm.model.mtm import MtM
from ibl_mtm.sessions.text import as_text, counted
from ibl_mtm.sessions.trial_format import trial_format
from ibl_mtm.sessions.view import Session, describe_session
from ibl_mtm.training.checkpoint.pretrained import save_model
from ibl_mtm.training.folder import claim_folder, empty_folder, write_request
from ibl_mtm.training.loop.objective import SessionRows, make_task, trial_keys
from ibl_mtm.training.loop.unit_scores import add_to, mean_over_units, new_totals
from ibl_mtm.training.outcome import write_outcome
from ibl_mtm.training.published.convert import Published, read_published
from ibl_mtm.training.settings import RunSettings, read_run_settings

__all__ = ["ImportReport", "import_published", "read_units"]

#: Validation trials of each session that are scored: a wrong order of units is far below the mean.
_TRIALS = 16
_SCORED_AT = -1


@dataclass(frozen=True)
class ImportReport:
    """What `ibl-mtm import-published --json` prints.

    Attributes
    ----------
    run, file
        The folder that was made, and what of.
    sha256
        Digest of the file.
    n_parameters, n_units
        Of the model.
    sessions
        That it knows units of.
    left_out
        Sessions that the file has a token for and no units were given of.
    schemes
        That it was trained with.
    scores
        Bits/spike on validation trials, by session, where a cache was given.
    below_mean
        Sessions of which that is below 0, which is what each unit's mean scores.
    """

    run: str
    file: str
    sha256: str
    n_parameters: int
    n_units: int
    sessions: list[str]
    left_out: list[str]
    schemes: list[str]
    scores: dict[str, float]
    below_mean: list[str]

    def to_json(self) -> dict[str, Any]:
        """As plain Python."""
        return asdict(self)


def import_published(
    file: str | Path,
    run: str | Path,
    *,
    units: str | Path | None = None,
    body_only: bool = False,
    cache: Cache | None = None,
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
        Where the sessions are. Those that it has are scored, and get regions and a split.
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
        sessions = _sessions_in(cache, table, settings) if cache is not None else []
        model = _model_of(published, table, sessions, settings, cache)
        scores = {s.eid: _score(model, s, settings) for s in sessions}
        report = ImportReport(
            run=str(run),
            file=str(file),
            sha256=_digest(file),
            n_parameters=sum(parameter.numel() for parameter in model.parameters()),
            n_units=len(model.scope.units),
            sessions=list(model.scope.sessions),
            left_out=[eid for eid in published.eids if eid not in table],
            schemes=list(trained),
            scores={eid: round(score, 6) for eid, score in scores.items() if np.isfinite(score)},
            below_mean=[eid for eid, score in scores.items() if score < 0],
        )
        empty_folder(run)
        known = {session.eid for session in sessions}
        write_request(run, settings, sessions, {e: u for e, u in table.items() if e not in known})
        save_model(model, run)
        _write_outcome(run, report, settings)
    for line in _lines(report, published, cache is not None, body_only):
        say(line)
    return report


def read_units(file: Path) -> dict[str, list[str]]:
    """Units of each session, in order, of a CSV file with columns eid and uuid.

    Raises
    ------
    UserError
        If it cannot be read, lacks a column, or names a unit twice or none at all.
    """
    try:
        table = pd.read_csv(file, dtype=str, keep_default_na=False)
    except OSError as error:
        raise UserError(f"cannot read {file}: {error.strerror}") from None
    except (ValueError, pd.errors.ParserError) as error:
        raise UserError(f"{file} is no CSV file: {str(error).strip().splitlines()[0]}") from None
    missing = {"eid", "uuid"} - set(table.columns)
    if missing:
        has = ", ".join(map(str, table.columns))
        raise UserError(f"{file} lacks the column {' and '.join(sorted(missing))}; it has {has}")
    if table.empty:
        raise UserError(f"{file} names no unit")
    table = table[["eid", "uuid"]].apply(lambda column: column.str.strip().str.lower())
    for row, (eid, uuid) in enumerate(table.itertuples(index=False), start=2):
        if not eid or not uuid:
            raise UserError(f"{file}, line {row}: an empty {'uuid' if eid else 'eid'}")
    if (twice := table[table.duplicated("uuid")]).size:
        raise UserError(f"{file}: unit {twice.uuid.iloc[0]} stands there twice")
    return {str(eid): rows.uuid.tolist() for eid, rows in table.groupby("eid", sort=False)}


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
        raise UserError(f"{cache.path} holds none of the {len(units)} sessions of --units")
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
def _score(model: MtM, session: Session, settings: RunSettings) -> float:
    """Bits/spike of some validation trials under fixed masks, the mean over units."""
    (rows,) = SessionRows.of([session], model.scope)
    trials = session.trials_in("val")
    chosen = np.unique(np.linspace(0, len(trials) - 1, min(len(trials), _TRIALS)).astype(int))
    if not len(trials):
        return float("nan")
    counts = torch.from_numpy(session.read("val")[chosen])
    key = trial_keys(settings.seed, _SCORED_AT, rows.session, session.trial[trials[chosen]])
    known = model.scope.schemes
    scheme: Scheme = "neuron" if "neuron" in known else known[0]
    task = make_task(rows, counts, scheme, key, settings.masks)
    (log_rate,) = model([task.group])
    totals = new_totals(len(rows.units))
    null = model.null_log_rate[rows.units]
    add_to(totals, torch.arange(len(totals)), log_rate, counts, task.target, null)
    return float(mean_over_units(totals))


def _write_outcome(run: Path, report: ImportReport, settings: RunSettings) -> None:
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
    write_outcome(run, trained | {"imported": {key: told[key] for key in ("file", "sha256")}})


def _lines(
    report: ImportReport, published: Published, has_cache: bool, body_only: bool
) -> list[str]:
    """What a user should know."""
    n_units, n_sessions = len(published.sizes), len(report.sessions)
    lines = [
        f"{report.file}: {counted(n_sessions, 'session')} of {len(published.eids)}, "
        f"{counted(report.n_units, 'unit')}, {report.n_parameters:,} parameters"
    ]
    if body_only:
        return [*lines, f"the body alone, without the stitchers of {n_units} numbers of units"]
    for eid, score in report.scores.items():
        lines.append(f"session {eid}: {score:+.3f} bits/spike on validation trials")
    if report.below_mean:
        lines.append(
            f"WARNING: {counted(len(report.below_mean), 'session')} below 0, where each unit's "
            f"mean is ({', '.join(report.below_mean[:3])}): its units stand in another order in "
            "the published recording than in --units, or its trials are other ones"
        )
    elif not has_cache:
        lines.append(
            "WARNING: nothing was scored: a wrong order of units raises no error anywhere; "
            "--cache CACHE tells"
        )
    elif len(report.scores) < n_sessions:
        n = n_sessions - len(report.scores)
        lines.append(f"{counted(n, 'session')} without validation trials in the cache: not scored")
    lines.append(
        "which trials trained it stands in no file: test scores of these sessions are held out "
        "only if the cache has the published split"
    )
    return lines


def _digest(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
