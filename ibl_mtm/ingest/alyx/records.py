"""What each session of an Alyx database consists of: the files of one release, and their places.

record = ask(alyx, eid, dataset)            # two requests
record.files                                # with size and hash of each

Records are kept in the download folder: they are all that is needed to ingest without a network.
"""

import json
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ibl_mtm.config.dataset import Dataset
from ibl_mtm.config.sources import AlyxSource
from ibl_mtm.disk.replace import replace_file
from ibl_mtm.errors import SessionError
from ibl_mtm.ingest.alyx.absent import check_probes, check_public, check_trials
from ibl_mtm.ingest.alyx.client import Alyx, NotFoundError
from ibl_mtm.ingest.alyx.release import RemoteFile, choose_files, listed
from ibl_mtm.ingest.recording import check_pids

__all__ = ["Record", "ask", "keep_record", "kept_records", "own_folder", "read_record"]


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
    check_pids(eid, wanted, pids.values())
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
    replace_file(path, lambda aside: aside.write_text(text))


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
