"""Sessions in files of other programs: of Phy, of NWB, of the ALF of 2019."""

import pkgutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ibl_mtm.config.dataset import Dataset
from ibl_mtm.errors import UserError
from ibl_mtm.ingest.outcome import OnBytes
from ibl_mtm.ingest.own.alf_2019 import find_alf_2019
from ibl_mtm.ingest.own.nwb import find_nwb_files
from ibl_mtm.ingest.own.phy import find_phy_folders
from ibl_mtm.ingest.own.places import Place, Places
from ibl_mtm.ingest.recording import Recording
from ibl_mtm.ingest.sources.source import Search
from ibl_mtm.ingest.targets import expand

__all__ = ["OwnSession", "OwnSessions", "find_nwb", "find_old_alf", "find_phy"]

_READERS = {
    "phy": "ibl_mtm.ingest.own.phy:read_phy",
    "nwb": "ibl_mtm.ingest.own.nwb:read_nwb",
    "local": "ibl_mtm.ingest.own.alf_2019:read_alf_2019",
}
"""What reads a session, by the kind of its source."""


@dataclass(frozen=True)
class OwnSession:
    """One session: where its files are, and its own access to them."""

    place: Place
    kind: str
    notes: tuple[str, ...] = ()
    simulated: bool = False
    targets: tuple[Path, ...] = ()

    @property
    def address(self) -> str:
        """See `Origin`."""
        return str(self.place.path)

    def bytes_missing(self) -> int:
        """See `Origin`; all is on disk."""
        return 0

    @contextmanager
    def open(self, on_bytes: OnBytes = lambda n: None) -> Iterator["OwnSession"]:
        """See `Origin`."""
        yield self

    def load(self, eid: str, dataset: Dataset) -> Recording:
        """See `Opened`."""
        read = pkgutil.resolve_name(_READERS[self.kind])
        recording: Recording = read(self.place, dataset)
        return recording


class OwnSessions:
    """Those of one folder."""

    def __init__(self, eids: list[str], kind: str, places: Places) -> None:
        self.eids = eids
        self.left_aside: Mapping[str, str] = places.left_aside
        self._kind = kind
        self._found = places.found

    def origin(self, eid: str) -> OwnSession:
        """See `Found`."""
        return OwnSession(self._found[eid], self._kind)

    def subjects(self, eids: Iterable[str]) -> dict[str, str]:
        """See `Found`."""
        return {eid: self._found[eid].about.subject for eid in eids}


@contextmanager
def find_phy(search: Search) -> Iterator[OwnSessions]:
    """Find the sessions that have folders of Phy."""
    yield _sessions(search, find_phy_folders(expand(search.folder), search.dataset))


@contextmanager
def find_nwb(search: Search) -> Iterator[OwnSessions]:
    """Find the files of NWB; each is opened for its subject and date."""
    yield _sessions(search, find_nwb_files(expand(search.folder), search.dataset))


@contextmanager
def find_old_alf(search: Search) -> Iterator[OwnSessions]:
    """Find the folders of the ALF of 2019."""
    yield _sessions(search, find_alf_2019(expand(search.folder)))


def _sessions(search: Search, places: Places) -> OwnSessions:
    if not places.found:
        why = next(iter(places.left_aside.items()), None)
        raise UserError(f"no session in {search.folder}" + (f": {why[0]}: {why[1]}" if why else ""))
    lost = [eid for eid in search.listed if eid not in places.found]
    if lost and search.sessions is None:
        known = ", ".join(list(places.found)[:3])
        raise UserError(
            f"the catalog lists session {lost[0]}, which {search.folder} does not have; its "
            f"{len(places.found)} are {known}{', …' if len(places.found) > 3 else ''}"
        )
    eids = search.choose(search.listed or list(places.found))
    return OwnSessions(eids, search.dataset.source.kind, places)
