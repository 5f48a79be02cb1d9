"""Sessions of one folder in ONE's layout."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

from ibl_mtm.config.sources import LocalSource
from ibl_mtm.errors import UserError
from ibl_mtm.ingest.on_disk.folder import Folder, open_folder
from ibl_mtm.ingest.own.alf_2019 import holds_alf_2019
from ibl_mtm.ingest.sources.own import OwnSessions, find_old_alf
from ibl_mtm.ingest.sources.source import Search

__all__ = ["OnDisk", "find"]


class OnDisk:
    """Sessions of one folder, which is the origin of each."""

    def __init__(
        self, eids: list[str], folder: Folder, left_aside: Mapping[str, str] | None = None
    ) -> None:
        self.eids = eids
        self.left_aside = left_aside or {}
        self._folder = folder

    def origin(self, eid: str) -> Folder:
        """See `Found`."""
        return self._folder

    def subjects(self, eids: Iterable[str]) -> dict[str, str]:
        """See `Found`."""
        table = self._folder.sessions()
        return {eid: str(table.at[eid, "subject"]) for eid in eids if eid in table.index}


@contextmanager
def find(search: Search) -> Iterator["OnDisk | OwnSessions"]:
    """Find those that have spikes; a folder without cache tables is indexed for as long.

    A folder in the layout of 2019 is told by its files.
    """
    source = search.dataset.source
    assert isinstance(source, LocalSource)
    if not (source.path / "sessions.pqt").is_file() and holds_alf_2019(source.path):
        with find_old_alf(search) as old:
            yield old
        return
    with open_folder(source.path, search.aside) as folder:
        if search.sessions is None and search.listed:
            yield OnDisk(search.choose(search.listed), folder)
            return
        table = folder.sessions()
        spiking = list(table.index[table["has_spikes"]])
        eids = search.choose(search.listed or list(table.index), spiking)
        left_aside = {} if search.sessions else folder.left_aside | folder.without_spikes(table)
        if not eids and not left_aside:
            raise UserError(f"no session in {source.path} has spikes (alf/probe*/spikes.times.npy)")
        yield OnDisk(eids, folder, left_aside)
