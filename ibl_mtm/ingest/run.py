"""Ingestion: every session of a dataset into a cache, each on its own.

report = ingest(load_catalog().dataset("demo"), "demo", Path("cache.zarr"))
report.failed                               # eid -> reason
"""

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

from ibl_mtm.cache.store import create_cache, list_sessions, read_format, session_attrs
from ibl_mtm.config.dataset import Dataset
from ibl_mtm.errors import SessionError, UserError
from ibl_mtm.ingest.job import Job, is_complete, run_job
from ibl_mtm.ingest.outcome import IngestReport, Outcome, write_report
from ibl_mtm.ingest.sources.find import find_sessions
from ibl_mtm.ingest.sources.source import Found, Search
from ibl_mtm.ingest.targets import blocked, check_writable, expand

__all__ = ["IngestReport", "Outcome", "ingest"]

log = logging.getLogger(__name__)

# So many sessions in a row that a file server did not answer for: it does not answer at all.
_SILENCE = 3


def ingest(
    dataset: Dataset,
    name: str,
    cache: Path,
    *,
    sessions: Sequence[str] | None = None,
    limit: int | None = None,
    overwrite: bool = False,
    dry_run: bool = False,
    offline: bool = False,
    workers: int | None = 1,
    scheduler: str | None = None,
    on_session: Callable[[str, Outcome, int], object] | None = None,
    on_bytes: Callable[[int, int], object] | None = None,
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
    offline
        Use nothing but what is on disk.
    workers
        Number of sessions to do side by side, each in a process of its own; with 1, in this one.
        None: as many as the machine can take.
    scheduler
        Address of a running Dask cluster to share the sessions out to instead.
    on_session
        Called after each session with its eid, its outcome and the number of all sessions.
    on_bytes
        Called with the number of bytes that were just downloaded, and that of all to download.

    Raises
    ------
    UserError
        If the source is not there or lacks a session that was asked for, or the cache is none.
    """
    cache = Path(cache).expanduser()
    if limit is not None and limit < 1:
        raise UserError(f"a limit of {limit} sessions leaves nothing to ingest")
    if workers is not None and workers < 1:
        raise UserError(f"{workers} workers can do nothing; at least 1")
    # Before anything is simulated or loaded for a cache that is none.
    if cache.exists() and not (cache.is_dir() and not any(cache.iterdir())):
        read_format(cache)
    elif not dry_run:
        check_writable(cache)
    outcomes: dict[str, Outcome] = {}

    def finish(eid: str, outcome: Outcome, total: int) -> None:
        outcomes[eid] = outcome
        if on_session is not None:
            on_session(eid, outcome, total)

    if scheduler is not None:
        dataset, cache = _as_seen_elsewhere(dataset), cache.absolute()
    stopped = None
    aside = cache.parent if scheduler else None  # where other machines see it too
    search = Search(dataset, name, cache, sessions, limit, dry_run, offline, overwrite, aside)
    if on_bytes is not None:
        search = replace(search, on_bytes=on_bytes)
    with (
        _told_if_blocked(cache, dataset),
        find_sessions(search) as found,
    ):
        total = len(found.eids)
        if not total:
            return IngestReport(cache, {}, found.left_aside)
        jobs = []
        for eid in found.eids:
            outcome = None if overwrite else _present(cache, eid, dataset)
            if outcome is None:
                try:
                    origin = found.origin(eid)
                    jobs.append(Job(eid, dataset, name, cache, origin, overwrite))
                    continue
                except SessionError as error:
                    outcome = Outcome("failed", error.reason)
            finish(eid, outcome, total)
        _check_roles(dataset, cache, found, jobs)
        n_bytes = {job.eid: job.origin.bytes_missing() for job in jobs}
        if dry_run:
            for job in jobs:
                finish(job.eid, Outcome("planned", n_bytes=n_bytes[job.eid]), total)
            return IngestReport(cache, {eid: outcomes[eid] for eid in found.eids}, found.left_aside)

        def fetched(n: int) -> None:
            if on_bytes is not None:
                on_bytes(n, sum(n_bytes.values()))

        if jobs:
            check_writable(cache)
            with _workers_for(jobs, workers, scheduler) as run:
                create_cache(cache)
                fetched(0)
                try:
                    stopped = _work_off(
                        run(jobs, fetched), jobs, lambda eid, outcome: finish(eid, outcome, total)
                    )
                finally:
                    stopped = _list(cache) or stopped
        elif cache.exists() and all(os.access(p, os.W_OK) for p in (cache, cache.resolve().parent)):
            # An ingest that was killed at its very end left sessions to list, or folders aside.
            create_cache(cache)
            stopped = _list(cache)
    report = IngestReport(
        cache, {eid: outcomes[eid] for eid in found.eids}, found.left_aside, stopped
    )
    try:
        write_report(report, name)
    except OSError as error:
        log.warning("no ingest-report.json beside %s: %s", cache, error.strerror)
    return report


def _work_off(
    done: Iterable[tuple[str, Outcome]],
    jobs: Sequence[Job],
    finish: Callable[[str, Outcome], None],
) -> str | None:
    """Finish jobs as they end; why nothing more can be written, where that ends it.

    A file server that did not answer for several in a row is left alone, too.
    """
    left = [job.eid for job in jobs]
    silences = 0
    for eid, outcome in done:
        finish(eid, outcome)
        left.remove(eid)
        silences = silences + 1 if outcome.unreachable else 0
        if silences >= _SILENCE:
            reason = f"{outcome.unreachable} did not answer for the sessions before it"
        elif outcome.blocked:
            reason = f"not begun: {outcome.blocked}"
        else:
            continue
        for rest in left:
            finish(rest, Outcome("failed", reason))
        return outcome.blocked
    return None


def _list(cache: Path) -> str | None:
    """List what was ingested; why not, where the cache cannot be written."""
    try:
        list_sessions(cache)
    except OSError as error:
        reason = blocked(error, cache)
        if reason is None:
            raise
        return reason
    return None


@contextmanager
def _told_if_blocked(cache: Path, dataset: Dataset) -> Iterator[None]:
    """Make a disk that is full, or a folder that is read-only, an error for users."""
    try:
        yield
    except OSError as error:
        downloads = expand(dataset.source.path or cache.with_suffix(".one"))
        reason = blocked(error, cache, downloads)
        if reason is None:
            raise
        raise UserError(reason) from error


def _as_seen_elsewhere(dataset: Dataset) -> Dataset:
    """The dataset with a path that does not depend on the working directory."""
    path = dataset.source.path
    if path is None or str(path).startswith("$"):
        return dataset
    source = dataset.source.model_copy(update={"path": path.absolute()})
    return dataset.model_copy(update={"source": source})


def _present(cache: Path, eid: str, dataset: Dataset) -> Outcome | None:
    """What there is to say of a session that is in the cache; None where it is not."""
    try:
        return Outcome("complete") if is_complete(cache, eid, dataset) else None
    except SessionError as error:
        return Outcome("failed", error.reason)


def _check_roles(dataset: Dataset, cache: Path, found: Found, jobs: Sequence[Job]) -> None:
    """Refuse a dataset that trains on an animal which it also keeps for testing."""
    roles = {entry.eid: entry.role for entry in dataset.sessions or ()}
    if len(set(roles.values())) < 2:
        return
    subjects = found.subjects([job.eid for job in jobs])
    for eid in set(found.eids) - set(subjects):
        with suppress(SessionError):  # which was said
            attributes = session_attrs(cache, eid)
            if attributes is not None:
                subjects[eid] = attributes["subject"]
    seen: dict[str, str] = {}
    for eid, subject in subjects.items():
        other = seen.setdefault(subject, eid)
        if roles[other] != roles[eid]:
            raise UserError(
                f"animal {subject} has two roles: session {other} is for {roles[other]}, session "
                f"{eid} for {roles[eid]}; give both the same role in the catalog, or leave one out"
            )


Runner = Callable[[Sequence[Job], Callable[[int], object]], Iterable[tuple[str, Outcome]]]


@contextmanager
def _workers_for(
    jobs: Sequence[Job], workers: int | None, scheduler: str | None
) -> Iterator[Runner]:
    """What does jobs, one by one as they end: this process, or a cluster."""
    if not jobs or (scheduler is None and (workers == 1 or len(jobs) < 2)):
        yield lambda jobs, on_bytes: ((job.eid, run_job(job, on_bytes)) for job in jobs)
        return
    # Takes half a second to import.
    from ibl_mtm.ingest.cluster import default_workers, open_cluster, run_jobs

    with open_cluster(min(workers or default_workers(), len(jobs)), scheduler) as client:
        yield partial(run_jobs, client)
