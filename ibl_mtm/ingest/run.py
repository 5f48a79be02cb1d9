"""Ingestion: every session of a dataset into a cache, each on its own.

report = ingest(load_catalog().dataset("demo"), "demo", Path("cache.zarr"))
report.failed                               # eid -> reason
"""

import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from ibl_mtm.cache.store import create_cache, read_format, session_attrs, write_session
from ibl_mtm.catalog import Dataset, LocalSource, SimulatedSource
from ibl_mtm.errors import SessionError, UserError
from ibl_mtm.ingest.files import one_line
from ibl_mtm.ingest.load import load_session
from ibl_mtm.ingest.session import assemble
from ibl_mtm.ingest.source import Folder, open_folder
from ibl_mtm.simulate.simulation import Simulation, plan_session, simulate
from ibl_mtm.simulate.truth import is_simulated

__all__ = ["IngestReport", "Outcome", "ingest"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """What became of one session.

    Parameters
    ----------
    status
        `complete`: it was in the cache already, made from the same definition; `planned`: a dry
        run would have ingested it.
    reason
        Why it failed; None otherwise.
    seconds
        What it took.
    n_units, n_trials
        What it has; 0 where it was not ingested now.
    notes
        What was missing in it.
    """

    status: Literal["ingested", "complete", "failed", "planned"]
    reason: str | None = None
    seconds: float = 0.0
    n_units: int = 0
    n_trials: int = 0
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class IngestReport:
    """What became of every session that was asked for, by eid."""

    cache: Path
    sessions: dict[str, Outcome] = field(default_factory=dict)

    @property
    def failed(self) -> dict[str, str]:
        """Reason of every failed session."""
        return {
            eid: outcome.reason or ""
            for eid, outcome in self.sessions.items()
            if outcome.status == "failed"
        }

    def to_json(self) -> dict[str, Any]:
        """The report as a plain JSON mapping."""
        sessions = {eid: asdict(outcome) for eid, outcome in self.sessions.items()}
        return {"cache": str(self.cache), "sessions": sessions}


def ingest(
    dataset: Dataset,
    name: str,
    cache: Path,
    *,
    sessions: Sequence[str] | None = None,
    limit: int | None = None,
    overwrite: bool = False,
    dry_run: bool = False,
    on_session: Callable[[str, Outcome, int], None] | None = None,
) -> IngestReport:
    """Ingest a dataset; a session that fails is reported and never stops the others.

    Parameters
    ----------
    dataset, name
        The dataset and its name in the catalog.
    cache
        Where the cache is, or is to be made.
    sessions
        The eids to ingest; None: all of the dataset.
    limit
        Ingest no more than the first so many of them.
    overwrite
        Replace sessions that are in the cache already.
    dry_run
        Write nothing, and only tell what would be done.
    on_session
        Called after each session with its eid, its outcome and the number of all sessions.

    Raises
    ------
    UserError
        If the source is not there or lacks a session that was asked for, or the cache is none.
    """
    cache = Path(cache)
    if limit is not None and limit < 1:
        raise UserError(f"a limit of {limit} sessions leaves nothing to ingest")
    # Before anything is simulated or loaded for a cache that is none.
    if cache.exists() and not (cache.is_dir() and not any(cache.iterdir())):
        read_format(cache)
    report = IngestReport(cache)
    with _open_source(dataset, cache, dry_run) as folder:
        eids = _choose(folder, dataset, name, sessions)[:limit]
        if not dry_run:
            create_cache(cache)
        for eid in eids:
            outcome = _ingest_session(folder, eid, dataset, name, cache, overwrite, dry_run)
            report.sessions[eid] = outcome
            if on_session is not None:
                on_session(eid, outcome, len(eids))
    return report


@contextmanager
def _open_source(dataset: Dataset, cache: Path, dry_run: bool) -> Iterator[Folder]:
    source = dataset.source
    if isinstance(source, LocalSource):
        with open_folder(source.path) as folder:
            yield folder
    else:
        root = source.path or cache.with_suffix(".one")
        if not dry_run:
            simulate(root, _simulation(source))
        yield Folder(root, root)


def _simulation(source: SimulatedSource) -> Simulation:
    return Simulation(**source.model_dump(exclude={"kind", "path"}))


def _choose(folder: Folder, dataset: Dataset, name: str, wanted: Sequence[str] | None) -> list[str]:
    """The eids to ingest: those asked for, else the catalog's, else all that have spikes."""
    listed = [entry.eid for entry in dataset.sessions or ()]
    if wanted is None and listed:
        return listed
    if isinstance(dataset.source, SimulatedSource):
        simulation = _simulation(dataset.source)
        found = [plan_session(simulation, i).entry.eid for i in range(simulation.sessions)]
        spiking = found
    else:
        table = folder.sessions()
        found, spiking = list(table.index), list(table.index[table["has_spikes"]])
    if wanted is not None:
        known = listed or found
        strange = [eid for eid in wanted if eid not in known]
        if strange:
            raise UserError(
                f"no session '{strange[0]}' in dataset '{name}'; "
                f"it has {len(known)}, the first is {known[0]}"
            )
        return list(dict.fromkeys(wanted))
    if not spiking:
        raise UserError(f"no session in {folder.root} has spikes (alf/probe*/spikes.times.npy)")
    if len(spiking) < len(found):
        log.info("%d sessions without spikes are left aside", len(found) - len(spiking))
    return spiking


def _ingest_session(
    folder: Folder,
    eid: str,
    dataset: Dataset,
    name: str,
    cache: Path,
    overwrite: bool,
    dry_run: bool,
) -> Outcome:
    start = time.monotonic()
    try:
        if not overwrite and _is_complete(cache, eid, dataset):
            return Outcome("complete")
        if dry_run:
            return Outcome("planned")
        recording = load_session(folder, eid, dataset)
        ds, regions = assemble(
            recording, dataset, name, str(folder.root), simulated=is_simulated(folder.root)
        )
        write_session(cache, ds, regions, overwrite=overwrite)
    except SessionError as error:
        log.debug("session %s failed", eid, exc_info=True)
        return Outcome("failed", error.reason, time.monotonic() - start)
    except Exception as error:
        # Whatever a library raises on files nobody foresaw must not stop the other sessions.
        log.debug("session %s failed", eid, exc_info=True)
        reason = f"{type(error).__name__}: {one_line(error)}"
        return Outcome("failed", reason, time.monotonic() - start)
    for note in recording.notes:
        log.info("session %s: %s", eid, note)
    return Outcome(
        "ingested",
        seconds=time.monotonic() - start,
        n_units=ds.sizes["unit"],
        n_trials=ds.sizes["trial"],
        notes=tuple(recording.notes),
    )


def _is_complete(cache: Path, eid: str, dataset: Dataset) -> bool:
    """Whether the cache has the session as the dataset defines it; another one is an error."""
    present = session_attrs(cache, eid)
    if present is None:
        return False
    if present["definition_hash"] == dataset.definition_hash(eid):
        return True
    old, new = _flat(json.loads(present["definition"])), _flat(dataset.definition(eid))
    changes = [
        f"{key} {old.get(key)} -> {new.get(key)}"
        for key in sorted(old | new)
        if old.get(key) != new.get(key)
    ]
    raise SessionError(
        eid,
        f"the cache holds it by another definition ({', '.join(changes)}); --overwrite replaces it",
    )


def _flat(definition: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in definition.items():
        flat |= (
            _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value}
        )
    return flat
