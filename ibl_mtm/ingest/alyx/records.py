"""Sessions of an Alyx database: what each consists of, and its files in a folder on this machine.

    record = ask(alyx, eid, dataset)            # two requests
    session = RemoteSession(record, root, source.url, patience)
    with session.open() as folder:
        one = folder.one()                      # sees the files that were chosen, and no others

Records are kept in the download folder: they are all that is needed to ingest without a network.
"""

import errno
import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

from filelock import FileLock

from ibl_mtm.config.catalog import AlyxSource, Dataset
from ibl_mtm.errors import SessionError
from ibl_mtm.ingest.alyx.absent import check_probes, check_public, check_trials
from ibl_mtm.ingest.alyx.camera import left_will_do
from ibl_mtm.ingest.alyx.client import Alyx, NotFoundError
from ibl_mtm.ingest.alyx.download import FileError, bytes_missing, download, missing
from ibl_mtm.ingest.alyx.fitting import fitting
from ibl_mtm.ingest.alyx.release import RemoteFile, choose_files, listed
from ibl_mtm.ingest.alyx.retry import GaveUpError, Patience
from ibl_mtm.ingest.files import one_line
from ibl_mtm.ingest.outcome import UnreachableError
from ibl_mtm.ingest.sources.folder import Folder
from ibl_mtm.one_files.one_tables import write_tables

__all__ = [
    "Record",
    "RemoteSession",
    "ask",
    "expand",
    "keep_record",
    "kept_records",
    "own_folder",
    "read_record",
]

_READ_ONLY = (errno.EROFS, errno.EACCES, errno.EPERM)


@dataclass(frozen=True)
class Record:
    """A session as Alyx describes it, with the files that were chosen of it.

    Parameters
    ----------
    eid, lab, subject, date, number
        Which session, and where it lies in ONE's layout.
    pin
        What the files were chosen by.
    pids
        Insertion id by name of probe.
    files
        All that ingestion needs.
    notes
        What was not found, or left out.
    probe_qc
        Quality of each insertion by name of probe, as Alyx has it.
    """

    eid: str
    lab: str
    subject: str
    date: str
    number: int
    pin: dict[str, Any]
    pids: dict[str, str]
    files: tuple[RemoteFile, ...]
    notes: tuple[str, ...]
    probe_qc: dict[str, str] = field(default_factory=dict)

    def folder(self, root: Path) -> Path:
        """Where the session lies below a download folder."""
        return root.joinpath(self.lab, "Subjects", self.subject, self.date, f"{self.number:03d}")


def ask(alyx: Alyx, eid: str, dataset: Dataset) -> Record:
    """Ask Alyx for one session, and choose its files.

    Raises
    ------
    SessionError
        If Alyx has no such session, or it lacks an insertion that the catalog names.
    GaveUpError
        If no attempt was answered.
    """
    source = dataset.source
    assert isinstance(source, AlyxSource)
    try:
        session = alyx.session(eid)
    except NotFoundError as error:
        raise SessionError(eid, str(error)) from None
    check_public(eid, session)
    pids = {str(i["name"]): str(i["id"]) for i in session.get("probe_insertion") or []}
    wanted = dataset.entry(eid).pids
    if wanted is not None and (strange := set(wanted) - set(pids.values())):
        known = ", ".join(pids.values()) or "none"
        raise SessionError(eid, f"no insertion {min(strange)}; its own are {known}")
    probes = None if wanted is None else [name for name, pid in pids.items() if pid in wanted]
    qualities = {
        str(i["name"]): str((i.get("json") or {}).get("qc") or "NOT_SET")
        for i in session.get("probe_insertion") or []
    }
    bad = [n for n in (probes or pids) if qualities[n] in source.leave_out]
    if bad:
        probes = [name for name in (probes or pids) if name not in bad]
    by_tag = source.tag is not None and source.revision is None
    tagged = alyx.tagged_datasets(eid) if by_tag else None
    files, notes = choose_files(session, tagged, source, dataset.align.event, probes)
    if tagged is not None and not any(file.id in tagged for file in files):
        alyx.check_tag()
        if source.untagged == "refuse":
            raise SessionError(
                eid,
                f"nothing of it carries the tag '{source.tag}'; with 'untagged: default' in the "
                "source its default revision is taken",
            )
        files, notes = choose_files(session, None, source, dataset.align.event, probes)
        notes.insert(0, f"nothing of it is in release {source.tag}; the default revision is used")
    notes += [f"alf/{n}: left out, as the insertion's quality is {qualities[n]}" for n in bad]
    if probes is not None and not probes:
        raise SessionError(eid, "; ".join(notes[-len(bad) :]))
    names = pids if probes is None else probes
    notes += check_probes(eid, session, files, names, wanted=wanted is not None)
    if dataset.align.event is not None:
        check_trials(eid, session, files)
    unchecked = [f.path for f in files if not f.md5 and not f.spare]
    notes += listed(unchecked, "no MD5 in the database; its size alone was compared")
    record = Record(
        eid=eid,
        lab=str(session["lab"]),
        subject=str(session["subject"]),
        date=str(session["start_time"])[:10],
        number=int(session["number"]),
        pin=_pin(dataset, eid),
        pids=pids,
        probe_qc=qualities,
        files=tuple(files),
        notes=tuple(notes),
    )
    _check_names(record)
    return record


def keep_record(record: Record, root: Path) -> None:
    """Keep a record in the download folder, for a time without network."""
    path = own_folder(root, "records") / f"{record.eid}.json"
    text = json.dumps(asdict(record), indent=1)
    if path.is_file() and path.read_text() == text:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(f".{os.getpid()}.new")
    aside.write_text(text)
    os.replace(aside, path)


def _check_names(record: Record) -> None:
    """Refuse names that would lead out of the session's folder, or that ONE cannot find."""
    parts = [part for file in record.files for part in file.path.split("/")]
    for name in (record.lab, record.subject, record.date, *parts):
        if not re.fullmatch(r"[\w#.-]+", name) or name in (".", ".."):
            raise SessionError(record.eid, f"Alyx names a folder or file '{name}', no name for ONE")


def read_record(root: Path, eid: str, dataset: Dataset) -> Record:
    """The record of a session that was kept in the download folder.

    Raises
    ------
    SessionError
        If there is none, or its files were chosen by something else.
    """
    try:
        values = json.loads((own_folder(root, "records") / f"{eid}.json").read_text())
    except (OSError, ValueError):
        raise SessionError(eid, f"was never downloaded to {root}; try without --offline") from None
    if values["pin"] != _pin(dataset, eid):
        raise SessionError(eid, f"what {root} has is another release; try without --offline")
    files = tuple(RemoteFile(**file) for file in values.pop("files"))
    return Record(**values | {"files": files, "notes": tuple(values["notes"])})


def kept_records(root: Path) -> list[str]:
    """Eids of the sessions of which a download folder has a record."""
    return sorted(path.stem for path in own_folder(root, "records").glob("*.json"))


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
            eid = record.eid
            write_tables(
                Path(tables),
                [(eid, record.lab, record.subject, record.date, record.number)],
                [(eid, f.id, f.path, (folder / f.path).stat().st_size) for f in files],
                [
                    (eid, pid, probe, record.probe_qc.get(probe, "NOT_SET"))
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


def _pin(dataset: Dataset, eid: str) -> dict[str, Any]:
    """All that decides which files are chosen."""
    source = dataset.source
    assert isinstance(source, AlyxSource)
    pids = dataset.entry(eid).pids
    pin = {
        "url": source.url,
        "tag": source.tag,
        "revision": source.revision,
        "event": dataset.align.event,
        "pids": None if pids is None else list(pids),
    }
    # Left out where they are as they always were: records of earlier versions go on to hold.
    if source.untagged != "refuse":
        pin["untagged"] = source.untagged
    if source.leave_out:
        pin["leave_out"] = sorted(source.leave_out)
    return pin


def own_folder(root: Path, name: str) -> Path:
    """A folder of ours in a download folder, at which ONE does not look."""
    return root / ".ibl-mtm" / name


def expand(root: Path) -> Path:
    """A path that begins with a variable of the environment, on this machine."""
    return Path(os.path.expandvars(root)).expanduser()
