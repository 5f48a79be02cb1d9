"""One session from its files into the cache: the work that is shared out among processes.

    outcome = run_job(Job(eid, dataset, "repeated-site", cache, origin))

A job holds no connection and no open file, so that any machine that sees the cache can do it.
"""

import json
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ibl_mtm.cache.store import session_attrs, write_session
from ibl_mtm.config.dataset import Dataset
from ibl_mtm.errors import SessionError
from ibl_mtm.ingest.assemble import assemble
from ibl_mtm.ingest.outcome import OnBytes, Outcome, UnreachableError, one_line
from ibl_mtm.ingest.sources.source import Origin
from ibl_mtm.ingest.targets import blocked

__all__ = ["Job", "is_complete", "run_job"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """One session to ingest: which, as what, into which cache, from where."""

    eid: str
    dataset: Dataset
    name: str
    cache: Path
    origin: Origin
    overwrite: bool = False


def run_job(job: Job, on_bytes: OnBytes = lambda n: None) -> Outcome:
    """Ingest a session; whatever goes wrong becomes its outcome, so that others go on."""
    start = time.monotonic()
    eid, fetched = job.eid, 0

    def count(n: int) -> None:
        nonlocal fetched
        fetched += n
        on_bytes(n)

    try:
        # Another process may have done it since.
        if not job.overwrite and is_complete(job.cache, eid, job.dataset):
            return Outcome("complete")
        with job.origin.open(count) as opened:
            recording = opened.load(eid, job.dataset)
        # In this order, each once: a folder may itself be the origin.
        told = (*job.origin.notes, *opened.notes)
        missing = [note for note in recording.notes if not _is_told(note, told)]
        known = dict.fromkeys((*told, *missing))
        recording = replace(recording, notes=list(known))
        ds, regions = assemble(
            recording, job.dataset, job.name, job.origin.address, simulated=job.origin.simulated
        )
        write_session(job.cache, ds, regions, overwrite=job.overwrite, listed=False)
    except SessionError as error:
        log.debug("session %s failed", eid, exc_info=True)
        host = error.host if isinstance(error, UnreachableError) else None
        seconds = time.monotonic() - start
        return Outcome("failed", error.reason, seconds, n_bytes=fetched, unreachable=host)
    except OSError as error:
        log.debug("session %s failed", eid, exc_info=True)
        reason = blocked(error, job.cache, *job.origin.targets)
        outcome = Outcome("failed", reason or _describe(error), time.monotonic() - start)
        return replace(outcome, n_bytes=fetched, blocked=reason)
    except Exception as error:
        # Whatever a library raises on files nobody foresaw must not stop the other sessions.
        log.debug("session %s failed", eid, exc_info=True)
        return Outcome("failed", _describe(error), time.monotonic() - start, n_bytes=fetched)
    notes = tuple(ds.attrs["notes"])
    for note in notes:
        log.info("session %s: %s", eid, note)
    return Outcome(
        "ingested",
        seconds=time.monotonic() - start,
        n_units=ds.sizes["unit"],
        n_trials=ds.sizes["trial"],
        n_bytes=fetched,
        notes=notes,
    )


def _describe(error: Exception) -> str:
    return f"{type(error).__name__}: {one_line(error)}"


def _is_told(note: str, told: Sequence[str]) -> bool:
    """Whether a note says only that something is missing, and another one why it is."""
    if note.endswith(": no spikes"):
        return any(other.startswith(note.removesuffix(" no spikes")) for other in told)
    name = note.removesuffix(": missing")
    return name != note and any(f"{name}." in other for other in told)


def is_complete(cache: Path, eid: str, dataset: Dataset) -> bool:
    """Whether the cache has the session as the dataset defines it.

    Raises
    ------
    SessionError
        If it has the session by another definition; says what differs.
    """
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
