"""A session of an Alyx database as any machine can have it: downloaded, and opened through ONE.

session = RemoteSession(record, root, source.url, patience)
with session.open() as folder:
    one = folder.one()                      # sees the files that were chosen, and no others
"""

import errno
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import ClassVar

from filelock import FileLock

from ibl_mtm.errors import SessionError
from ibl_mtm.ingest.alyx.camera import left_will_do
from ibl_mtm.ingest.alyx.download import FileError, bytes_missing, download, missing
from ibl_mtm.ingest.alyx.fitting import fitting
from ibl_mtm.ingest.alyx.records import Record, own_folder
from ibl_mtm.ingest.alyx.release import RemoteFile, listed
from ibl_mtm.ingest.on_disk.folder import Folder
from ibl_mtm.ingest.outcome import UnreachableError, one_line
from ibl_mtm.ingest.retry import GaveUpError, Patience
from ibl_mtm.ingest.targets import expand
from ibl_mtm.one_files.one_tables import DatasetRow, SessionRow, write_tables

__all__ = ["RemoteSession"]

_READ_ONLY = (errno.EROFS, errno.EACCES, errno.EPERM)


@dataclass(frozen=True)
class RemoteSession:
    """One session of an Alyx database, which any machine can download and open.

    Parameters
    ----------
    record
        What it consists of.
    root
        The download folder; its variables are those of the machine that opens the session.
    address
        Of the database.
    patience
        With the file server.
    offline
        Use what is on disk.
    """

    record: Record
    root: Path
    address: str
    patience: Patience
    offline: bool = False
    simulated: ClassVar[bool] = False

    @property
    def subject(self) -> str:
        """The animal."""
        return self.record.subject

    @property
    def notes(self) -> tuple[str, ...]:
        """What was not found of it, or left out."""
        return self.record.notes

    @property
    def targets(self) -> tuple[Path, ...]:
        """The download folder."""
        return (expand(self.root),)

    def bytes_missing(self) -> int:
        """Size of the files that are still to be downloaded."""
        files = [file for file in self.record.files if not file.spare]
        return bytes_missing(files, self._places()[0])

    @contextmanager
    def open(self, on_bytes: Callable[[int], object] = lambda n: None) -> Iterator[Folder]:
        """Download what is missing, and give access to the chosen files alone.

        Parameters
        ----------
        on_bytes
            Called with the number of bytes that came; negative where they were in vain.

        Raises
        ------
        SessionError
            Names the file that cannot be had, or is not on disk.
        """
        record = self.record
        folder, seen = self._places()
        # Another ingest may want the same files at the same time.
        with _lock(own_folder(expand(self.root), "locks") / f"{record.eid}.lock"):
            found, notes = self._fetch(folder, seen, on_bytes)
        files, misfits = fitting(found, folder)
        with TemporaryDirectory(prefix="ibl-mtm-tables-") as tables:
            eid, qc = record.eid, record.probe_qc
            write_tables(
                Path(tables),
                [SessionRow(eid, record.lab, record.subject, record.date, record.number)],
                [DatasetRow(eid, f.id, f.path, (folder / f.path).stat().st_size) for f in files],
                [
                    {"eid": eid, "id": pid, "name": probe, "qc": qc.get(probe, "NOT_SET")}
                    for probe, pid in record.pids.items()
                ],
            )
            yield Folder(expand(self.root), Path(tables), (*notes, *misfits))

    def _fetch(
        self, folder: Path, seen: Path, on_bytes: Callable[[int], object]
    ) -> tuple[list[RemoteFile], list[str]]:
        """Download what is missing; the files that are there, and notes on those that are not."""
        files = [f for f in self.record.files if not f.spare]
        spare = [f for f in self.record.files if f.spare]
        if self.offline:
            lacking = missing(files, folder, seen)
            needed = [f for f in lacking if not f.optional]
            if needed:
                reason = f"{needed[0].path} is not on disk, or not as it was; without --offline"
                raise SessionError(self.record.eid, f"{reason} it is downloaded")
            notes = listed([f.path for f in lacking], "not on disk, or not as it was")
            files = [f for f in files if f not in lacking]
            if spare and not left_will_do(files, folder):
                files += [f for f in spare if f not in missing(spare, folder, seen)]
            return files, notes
        gone = self._download(files, folder, seen, on_bytes)
        files = [f for f in files if f.path not in gone]
        if spare and not left_will_do(files, folder):
            gone |= self._download(spare, folder, seen, on_bytes)
            files += [f for f in spare if f.path not in gone]
        return files, [f"{why}; left out" for why in gone.values()]

    def _download(
        self, files: list[RemoteFile], folder: Path, seen: Path, on_bytes: Callable[[int], object]
    ) -> dict[str, str]:
        try:
            return download(files, folder, seen, self.patience, on_bytes)
        except GaveUpError as error:
            reason = one_line(error)
            if error.silent and error.host:
                raise UnreachableError(self.record.eid, reason, error.host) from error
            raise SessionError(self.record.eid, reason) from error
        except FileError as error:
            raise SessionError(self.record.eid, one_line(error)) from error

    def _places(self) -> tuple[Path, Path]:
        """Folder of the session, and where it is kept which of its files were found right."""
        root = expand(self.root)
        return self.record.folder(root), own_folder(root, "seen") / f"{self.record.eid}.json"


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Hold a file; in a folder that is read-only nobody else can fetch anything either."""
    with ExitStack() as stack:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(FileLock(path))
        except OSError as error:
            if error.errno not in _READ_ONLY:
                raise
        yield
