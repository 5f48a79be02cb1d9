"""Where sessions come from: a folder in ONE's layout, and the cache tables that index it.

with open_folder(Path("/data/ONE"), "local") as folder:
    folder.sessions()                   # every session with spikes, as a table
    one = folder.one()                  # a fresh One, for one session
"""

import json
import logging
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
from one.alf.path import ALFPath
from one.api import One

from ibl_mtm.config.dataset import Dataset
from ibl_mtm.errors import UserError
from ibl_mtm.ingest.on_disk.layout import dangling, scan, spikes_of_another_name
from ibl_mtm.ingest.outcome import one_line
from ibl_mtm.ingest.recording import Recording, session_id
from ibl_mtm.one_files.marker import is_simulated
from ibl_mtm.one_files.one_tables import DatasetRow, SessionRow, write_tables

__all__ = ["Folder", "open_folder"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Folder:
    """A folder in ONE's layout with the cache tables for it, which may lie elsewhere.

    Parameters
    ----------
    root, tables
        The folder, and where its cache tables are.
    notes
        What the tables leave out of it.
    left_aside
        Folders of sessions that ONE cannot read where they lie, and why.
    """

    root: Path
    tables: Path
    notes: tuple[str, ...] = ()
    left_aside: dict[str, str] = field(default_factory=dict)

    @property
    def address(self) -> str:
        """Where the files come from."""
        return str(self.root)

    @property
    def simulated(self) -> bool:
        """Whether they are of a simulated experiment."""
        return is_simulated(self.root)

    @property
    def targets(self) -> tuple[Path, ...]:
        """Nothing is written to it."""
        return ()

    def bytes_missing(self) -> int:
        """All is on disk."""
        return 0

    @contextmanager
    def open(self, on_bytes: Callable[[int], object] = lambda n: None) -> Iterator["Folder"]:
        """Give access to its sessions."""
        yield self

    def load(self, eid: str, dataset: Dataset) -> Recording:
        """What was recorded in a session; see `load_session`."""
        # Only where the work is done: brainbox takes two seconds to import.
        from ibl_mtm.ingest.through_one.load import load_session

        return load_session(self, eid, dataset)

    def one(self) -> One:
        """A local ONE that touches nothing outside the folder, and asks nothing.

        One per session: a load that fails can leave it unable to find anything else.
        """
        return One(cache_dir=self.root, tables_dir=self.tables, mode="local")

    def sessions(self) -> pd.DataFrame:
        """All sessions, by eid, in order of lab, subject, date and number.

        Columns: lab, subject, date, number, and whether ONE lists any spikes (`has_spikes`).
        """
        one = self.one()
        eids, details = one.search(details=True)
        if len(eids) == 0 and not self.left_aside:
            raise UserError(f"no session in {self.root}: expected LAB/Subjects/SUBJECT/DATE/NUMBER")
        columns = ["lab", "subject", "date", "number"]
        rows = [{name: detail[name] for name in columns} for detail in details or ()]
        table = pd.DataFrame(rows, columns=columns, index=pd.Index(map(str, eids), name="eid"))
        spiking = set()
        for part in ("times", "clusters"):
            spiking |= set(map(str, one.search(datasets=[f"spikes.{part}.npy"])))
        table["has_spikes"] = table.index.isin(list(spiking))
        return table.sort_values(columns)

    def without_spikes(self, table: pd.DataFrame) -> dict[str, str]:
        """Folders of the sessions of `sessions()` that have no spikes, and why."""
        one = self.one()
        found = {}
        for eid in table.index[~table["has_spikes"]]:
            folder = one.eid2path(eid)
            if folder is None or not folder.is_dir():
                found[str(folder or eid)] = "not on disk, though the cache tables list it"
                continue
            other = spikes_of_another_name(folder)
            lost = [path for path in dangling(folder) if "spikes" in path]
            reason = "no spikes (alf/probe*/spikes.times.npy)"
            if lost:
                reason = f"{lost[0]} is a link to nothing; fetch its file"
            elif other is not None:
                reason = f"{other}: spikes in a place or of a name that brainbox does not know"
            found[folder.relative_to(self.root).as_posix()] = reason
        return found

    def insertions(self, eid: str) -> dict[str, str]:
        """Insertion id (pid) of each probe of a session, by probe name, where a table tells."""
        own = self._insertions(eid)
        return dict(zip(own["name"], own["id"].astype(str), strict=True))

    def probe_qc(self, eid: str) -> dict[str, str]:
        """Quality of the insertion of each probe of a session, where a table tells."""
        own = self._insertions(eid)
        if "qc" in own:
            return dict(zip(own["name"], own["qc"].astype(str), strict=True))
        found = {}
        for name, about in zip(own["name"], own.get("json", []), strict=False):
            about = json.loads(about) if isinstance(about, str) else about
            if isinstance(about, Mapping) and about.get("qc"):
                found[name] = str(about["qc"])
        return found

    def _insertions(self, eid: str) -> pd.DataFrame:
        path = self.tables / "insertions.pqt"
        if not path.is_file():
            return pd.DataFrame({"name": [], "id": []})
        table = pd.read_parquet(path).reset_index()
        return table[table["eid"].astype(str) == eid]


@contextmanager
def open_folder(root: Path, aside: Path | None = None) -> Iterator[Folder]:
    """Give access to a folder in ONE's layout; index it aside, for as long, if it has no tables.

    Parameters
    ----------
    root
        The folder.
    aside
        Where to index it; by default among the system's temporary files.

    Raises
    ------
    UserError
        If there is no such folder, or its tables cannot be read.
    """
    if not root.is_dir():
        raise UserError(f"no folder '{root}' to ingest from")
    if (root / "sessions.pqt").is_file() and (root / "datasets.pqt").is_file():
        folder = Folder(root, root)
        try:
            folder.one()
        except Exception as error:
            raise UserError(
                f"the cache tables of {root} cannot be read ({one_line(error)}); without "
                "sessions.pqt and datasets.pqt there the folder is indexed anew"
            ) from error
        yield folder
        return
    if aside is not None:
        aside.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix="ibl-mtm-tables-", dir=aside) as tables:
        left_aside = _index(root, Path(tables))
        yield Folder(root, Path(tables), left_aside=left_aside)


def _index(root: Path, tables: Path) -> dict[str, str]:
    """Write the cache tables of a folder; the folders in it that ONE could not read, and why."""
    sessions, datasets = [], []
    found = scan(root)
    for place in found.sessions:
        eid = session_id(place.lab, place.subject, place.date, place.number)
        sessions.append(SessionRow(eid, place.lab, place.subject, place.date, int(place.number)))
        for file in ALFPath(place.folder).iter_datasets(recursive=True):
            path = file.relative_to(place.folder).as_posix()
            dataset = str(uuid.uuid3(uuid.UUID(eid), path))
            with suppress(OSError):  # a link to nothing; whoever needs the file says so
                datasets.append(DatasetRow(eid, dataset, path, file.stat().st_size))
    log.info("%s has no cache tables: indexed %d sessions", root, len(sessions))
    write_tables(tables, sessions, datasets)
    return found.left_aside
