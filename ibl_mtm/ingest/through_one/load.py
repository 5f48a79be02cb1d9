"""One session, loaded through ONE and brainbox and checked: what there is before alignment.

recording = load_session(folder, eid, dataset)
recording.insertions                        # a Recording, as of any other source
"""

from dataclasses import replace
from typing import TYPE_CHECKING

from one.api import One

from ibl_mtm.config.dataset import Dataset
from ibl_mtm.errors import SessionError
from ibl_mtm.ingest.on_disk.layout import dangling
from ibl_mtm.ingest.recording import Recording
from ibl_mtm.ingest.through_one.behaviour import load_behaviour, load_signals, load_trials
from ibl_mtm.ingest.through_one.insertions import load_insertions

if TYPE_CHECKING:
    from ibl_mtm.ingest.on_disk.folder import Folder

__all__ = ["load_session"]


def load_session(folder: "Folder", eid: str, dataset: Dataset) -> Recording:
    """Load a session as far as a dataset needs it.

    Raises
    ------
    SessionError
        If spikes or trials cannot be read or trusted; names the file.
    """
    one = folder.one()
    path = one.eid2path(eid)
    if path is None:
        raise SessionError(eid, f"no such session in {folder.root}")
    if not path.is_dir():
        why = "though the cache tables list it"
        if folder.tables != folder.root:
            why = "as ONE reads it; names of labs may have letters, digits and underscores only"
        raise SessionError(eid, f"no folder {path}, {why}")
    lost = [
        f"{name}: a link to a file that is not here; fetch it (git annex get, datalad get)"
        for name in dangling(path)
    ]
    try:
        recording = _load(folder, one, eid, dataset)
    except SessionError as error:
        raise SessionError(eid, "; ".join((error.reason, *lost[:1]))) from error
    return replace(recording, notes=[*recording.notes, *lost])


def _load(folder: "Folder", one: One, eid: str, dataset: Dataset) -> Recording:
    details = one.get_details(eid)
    event = dataset.align.event
    trials = None if event is None else load_trials(one, eid, event)
    # Before the spikes: filtering the wheel takes as much memory, for a moment, as they do.
    behaviour = load_behaviour(one, eid)
    signals, lacking = load_signals(one, eid, dataset.signals)
    pids = folder.insertions(eid)
    insertions, notes = load_insertions(one, eid, pids, dataset.entry(eid).pids)
    qc = folder.probe_qc(eid)
    insertions = [replace(i, qc=qc.get(i.probe, "NOT_SET")) for i in insertions]
    for insertion in insertions:
        if insertion.qc == "CRITICAL":
            notes.append(f"alf/{insertion.probe}: quality of the insertion is CRITICAL (probe_qc)")
    return Recording(
        eid=eid,
        subject=str(details["subject"]),
        lab=str(details["lab"]),
        date=str(details["date"]),
        number=int(details["number"]),
        insertions=insertions,
        trials=trials,
        behaviour=behaviour,
        notes=[*notes, *behaviour.notes, *lacking],
        signals=signals,
    )
