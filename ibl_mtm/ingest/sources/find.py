"""Which sessions a dataset has, and where the files of each are: on disk, simulated, or in Alyx.

with find_sessions(dataset, "repeated-site", cache) as found:
    found.eids                          # those to ingest, in order
    found.origin(found.eids[0])         # its files, or where they are to be had from
"""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol

from ibl_mtm.config.catalog import AlyxSource, Dataset, LocalSource
from ibl_mtm.errors import SessionError, UserError
from ibl_mtm.ingest.alyx.client import Alyx, AnswerError, NotFoundError, connect
from ibl_mtm.ingest.alyx.records import (
    RemoteSession,
    ask,
    expand,
    keep_record,
    kept_records,
    own_folder,
    read_record,
)
from ibl_mtm.ingest.alyx.retry import GaveUpError, Patience
from ibl_mtm.ingest.files import one_line
from ibl_mtm.ingest.job import Origin
from ibl_mtm.ingest.sources.folder import Folder, open_folder

__all__ = ["Found", "find_sessions"]

log = logging.getLogger(__name__)

# So many sessions in a row that Alyx did not answer for: it does not answer at all.
_SILENCE = 3


class Found(Protocol):
    """The sessions to ingest."""

    eids: list[str]

    left_aside: Mapping[str, str]
    """Folders of sessions that are not among them, and why."""

    def origin(self, eid: str) -> Origin:
        """Where the files of one are; a SessionError if that cannot be learned."""

    def subjects(self, eids: Iterable[str]) -> dict[str, str]:
        """The animals of these, after `origin` was asked for each."""


@contextmanager
def find_sessions(
    dataset: Dataset,
    name: str,
    cache: Path,
    *,
    sessions: Sequence[str] | None = None,
    limit: int | None = None,
    dry_run: bool = False,
    offline: bool = False,
    aside: Path | None = None,
) -> Iterator[Found]:
    """Find the sessions of a dataset; their files are there for as long as this is open.

    Parameters
    ----------
    dataset, name
        The dataset and its name in the catalog.
    cache
        Beside it simulated and downloaded files are kept, unless the catalog says where.
    sessions
        The eids to ingest; None: those the catalog lists, else all that have spikes.
    limit
        No more than the first so many.
    dry_run
        Simulate and keep nothing.
    offline
        Ask no database.
    aside
        Where a folder without cache tables is indexed; None: in a temporary folder.

    Raises
    ------
    UserError
        If the source is not there, or lacks a session that was asked for.
    """
    source = dataset.source
    listed = [entry.eid for entry in dataset.sessions or ()]
    if isinstance(source, AlyxSource):
        root = source.path or cache.with_suffix(".one")
        with ExitStack() as stack:
            alyx = None
            if not offline:
                folder = own_folder(expand(root), "alyx")
                if dry_run:
                    folder = Path(stack.enter_context(TemporaryDirectory()))
                alyx = stack.enter_context(connect(source, folder))
            if not listed:
                listed = kept_records(expand(root)) if alyx is None else _tagged(alyx)
            if not listed:
                raise UserError(f"no session of {source.url} has the tag '{source.tag}'")
            eids = _choose(sessions, listed, listed, name)[:limit]
            yield _InAlyx(eids, dataset, root, alyx, keep=not dry_run)
    elif isinstance(source, LocalSource):
        with open_folder(source.path, aside) as opened:
            if sessions is None and listed:
                yield _OnDisk(listed[:limit], opened)
                return
            table = opened.sessions()
            spiking = list(table.index[table["has_spikes"]])
            eids = _choose(sessions, listed or list(table.index), spiking, name)[:limit]
            left_aside = {} if sessions else opened.left_aside | opened.without_spikes(table)
            if not eids and not left_aside:
                raise UserError(
                    f"no session in {source.path} has spikes (alf/probe*/spikes.times.npy)"
                )
            yield _OnDisk(eids, opened, left_aside)
    else:
        # The simulator is needed for simulated data alone.
        from ibl_mtm.ingest.sources.simulated import simulate_sessions

        root = source.path or cache.with_suffix(".one")
        eids = simulate_sessions(source, root, dry_run=dry_run)
        chosen = listed or eids if sessions is None else _choose(sessions, listed or eids, [], name)
        yield _OnDisk(chosen[:limit], Folder(root, root))


def _tagged(alyx: Alyx) -> list[str]:
    try:
        return alyx.tagged_sessions()
    except UserError:
        raise
    except Exception as error:
        # Whatever a server may answer; GaveUpError and AnswerError say what it was.
        raise UserError(f"Alyx does not tell which sessions there are: {one_line(error)}") from None


def _choose(
    wanted: Sequence[str] | None, known: Sequence[str], all_of_it: Sequence[str], name: str
) -> list[str]:
    if wanted is None:
        return list(all_of_it)
    strange = [eid for eid in wanted if eid not in known]
    if strange:
        raise UserError(
            f"no session '{strange[0]}' in dataset '{name}'; "
            f"it has {len(known)}, the first is {known[0]}"
        )
    return list(dict.fromkeys(wanted))


class _OnDisk:
    """Sessions of one folder."""

    def __init__(
        self, eids: list[str], folder: Folder, left_aside: Mapping[str, str] | None = None
    ) -> None:
        self.eids = eids
        self.left_aside = left_aside or {}
        self._folder = folder

    def origin(self, eid: str) -> Folder:
        return self._folder

    def subjects(self, eids: Iterable[str]) -> dict[str, str]:
        table = self._folder.sessions()
        return {eid: str(table.at[eid, "subject"]) for eid in eids if eid in table.index}


class _InAlyx:
    """Sessions of a database, asked for one by one, as its limit of requests suggests."""

    def __init__(
        self, eids: list[str], dataset: Dataset, root: Path, alyx: Alyx | None, keep: bool
    ) -> None:
        self.eids = eids
        self.left_aside: Mapping[str, str] = {}
        self._dataset = dataset
        self._root = root
        self._alyx = alyx
        self._keep = keep
        self._subjects: dict[str, str] = {}
        self._silences = 0

    def origin(self, eid: str) -> RemoteSession:
        source = self._dataset.source
        assert isinstance(source, AlyxSource)
        here = expand(self._root)
        if self._alyx is None:
            record = read_record(here, eid, self._dataset)
        elif self._silences >= _SILENCE:
            raise SessionError(eid, f"{source.url} did not answer for the sessions before it")
        else:
            try:
                record = ask(self._alyx, eid, self._dataset)
            except GaveUpError as error:
                self._silences += 1
                raise SessionError(eid, str(error)) from error
            except (SessionError, UserError):
                raise
            except (AnswerError, NotFoundError) as error:
                raise SessionError(eid, str(error)) from error
            except Exception as error:
                # Whatever a server may answer is the reason of one session.
                reason = f"{source.url} describes it as no Alyx would ({type(error).__name__}: "
                raise SessionError(eid, f"{reason}{one_line(error)})") from error
            self._silences = 0
            if self._keep:
                keep_record(record, here)
        self._subjects[eid] = record.subject
        patience = Patience(source.attempts, source.timeout)
        return RemoteSession(record, self._root, source.url, patience, self._alyx is None)

    def subjects(self, eids: Iterable[str]) -> dict[str, str]:
        return {eid: self._subjects[eid] for eid in eids}
