"""What a kind of source is to the rest of ingestion: a function that finds sessions.

    @contextmanager
    def find(search: Search) -> Iterator[Found]:
        folder = Folder(search.folder, search.folder)
        yield OnDisk(search.choose(list(folder.sessions().index)), folder)

`SOURCES` in `ibl_mtm.ingest.sources.find` names one for each kind. What it finds gives an `Origin`
for each session, which is sent to the process that ingests it, and gives access to its files there.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ibl_mtm.config.dataset import Dataset
from ibl_mtm.errors import UserError
from ibl_mtm.ingest.outcome import OnBytes
from ibl_mtm.ingest.recording import Recording

__all__ = ["Find", "Found", "Opened", "Origin", "Search"]


class Opened(Protocol):
    """The files of a session, on this machine."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What was not found of the session, or left out, when it was opened."""

    def load(self, eid: str, dataset: Dataset) -> Recording:
        """What was recorded, checked; a SessionError names the file that cannot be trusted."""


class Origin(Protocol):
    """Where the files of a session are, or are to be had from: no connection, no open file."""

    @property
    def address(self) -> str:
        """What the cache names as their source."""

    @property
    def simulated(self) -> bool:
        """Whether they are of a simulated experiment."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What was not found of the session, or left out."""

    @property
    def targets(self) -> tuple[Path, ...]:
        """What is written to when it is opened."""

    def bytes_missing(self) -> int:
        """How much is to be downloaded."""

    def open(self, on_bytes: OnBytes) -> AbstractContextManager[Opened]:
        """Fetch what is missing, and give access to the files."""


class Found(Protocol):
    """The sessions to ingest."""

    eids: list[str]

    left_aside: Mapping[str, str]
    """Folders of sessions that are not among them, and why."""

    def origin(self, eid: str) -> Origin:
        """Where the files of one are; a SessionError if that cannot be learned."""

    def subjects(self, eids: Iterable[str]) -> dict[str, str]:
        """The animals of these, after `origin` was asked for each."""


@dataclass(frozen=True)
class Search:
    """What to find.

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
        Keep nothing.
    offline
        Ask nobody else for anything.
    overwrite
        Replace those that are in the cache already.
    aside
        Where a folder without cache tables is indexed; None: in a temporary folder.
    on_bytes
        Called where finding them needs a download: with the number of bytes that came, and that
        of all.
    """

    dataset: Dataset
    name: str
    cache: Path
    sessions: Sequence[str] | None = None
    limit: int | None = None
    dry_run: bool = False
    offline: bool = False
    overwrite: bool = False
    aside: Path | None = None
    on_bytes: Callable[[int, int], object] = lambda n, total: None

    @property
    def folder(self) -> Path:
        """Where the source's files are, or are to be kept."""
        return self.dataset.source.path or self.cache.with_suffix(".one")

    @property
    def listed(self) -> list[str]:
        """Eids that the catalog names."""
        return [entry.eid for entry in self.dataset.sessions or ()]

    def choose(self, known: Sequence[str], otherwise: Sequence[str] | None = None) -> list[str]:
        """The sessions that were asked for, up to the limit.

        Parameters
        ----------
        known
            All that may be asked for.
        otherwise
            Those to take where none was; None: all that are known.

        Raises
        ------
        UserError
            If one was asked for that is not known.
        """
        if self.sessions is None:
            return list(known if otherwise is None else otherwise)[: self.limit]
        strange = [eid for eid in self.sessions if eid not in known]
        if strange:
            raise UserError(
                f"no session '{strange[0]}' in dataset '{self.name}'; "
                f"it has {len(known)}, the first is {known[0]}"
            )
        return list(dict.fromkeys(self.sessions))[: self.limit]


Find = Callable[[Search], AbstractContextManager[Found]]
