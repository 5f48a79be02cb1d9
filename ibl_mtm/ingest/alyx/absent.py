"""Why a file that a session should have cannot be had: what Alyx says of it.

why_absent(session, "spikes.times.npy", "probe01")              # 'not on the server: ...'
check_probes(eid, session, files, ["probe00"], wanted=False)    # notes, or a SessionError
"""

from collections.abc import Iterable, Sequence
from typing import Any

from ibl_mtm.errors import SessionError
from ibl_mtm.ingest.alyx.release import RemoteFile

__all__ = ["check_probes", "check_public", "check_trials", "why_absent"]

_TRIALS = "_ibl_trials.table.pqt"


def why_absent(session: dict[str, Any], name: str, probe: str | None = None) -> str:
    """Why a file of this name, of this probe, was not chosen."""
    records = [
        record
        for record in session.get("data_dataset_session_related") or []
        if record.get("name") == name
        and (probe is None or probe in str(record.get("collection", "")).split("/"))
    ]
    if not records:
        return "not in the database"
    if not any(record.get("data_url") for record in records):
        return "not on the server: the database has it without an address"
    if any(record.get("qc") == "CRITICAL" for record in records):
        return "left out, as its quality is CRITICAL"
    return "not in the revision that was asked for"


def check_probes(
    eid: str,
    session: dict[str, Any],
    files: Iterable[RemoteFile],
    probes: Iterable[str],
    wanted: bool,
) -> list[str]:
    """Say of which probes no spikes were chosen, and why.

    Parameters
    ----------
    eid, session
        The session, and what Alyx answers about it.
    files
        That were chosen.
    probes
        Names of its insertions, as far as they are asked for.
    wanted
        Whether the catalog names them.

    Returns
    -------
    A note on each probe without spikes.

    Raises
    ------
    SessionError
        If no probe has spikes, or one that the catalog names has none.
    """
    found = {f.probe for f in files if f.name.startswith("spikes.")}
    lost = {p: why_absent(session, "spikes.times.npy", p) for p in sorted(set(probes) - found)}
    notes = [f"alf/{probe}: no spikes; spikes.times.npy is {why}" for probe, why in lost.items()]
    if found and not (wanted and lost):
        return notes
    if lost and wanted:
        raise SessionError(eid, notes[0])
    why = next(iter(lost.values()), why_absent(session, "spikes.times.npy"))
    raise SessionError(eid, f"no spikes in any folder alf/probe*: spikes.times.npy is {why}")


def check_public(eid: str, session: dict[str, Any]) -> None:
    """Refuse a session of which no file is on a server."""
    records: Sequence[Any] = session.get("data_dataset_session_related") or []
    if not any(record.get("data_url") for record in records):
        raise SessionError(
            eid, f"none of its {len(records)} files is on the server: the database has no addresses"
        )


def check_trials(eid: str, session: dict[str, Any], files: Iterable[RemoteFile]) -> None:
    """Refuse a session of which no trials were chosen; says why."""
    if not any(f.name.startswith("_ibl_trials.") for f in files):
        raise SessionError(eid, f"alf/{_TRIALS}: missing; it is {why_absent(session, _TRIALS)}")
