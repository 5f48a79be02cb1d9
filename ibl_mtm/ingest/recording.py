"""What ingestion knows of one session before it is aligned, whatever kind of source it is from.

check_pids(eid, dataset.entry(eid).pids, ["6b2a...", "93e1..."])
"""

from collections.abc import Collection, Sequence

from ibl_mtm.errors import SessionError

__all__ = ["check_pids"]


def check_pids(
    eid: str, wanted: Sequence[str] | None, own: Collection[str], none: str = "none"
) -> None:
    """Refuse a session that lacks an insertion which the catalog names.

    Parameters
    ----------
    eid
        The session.
    wanted
        Insertion ids that the catalog names; None: none in particular.
    own
        Those that it has, with spikes.
    none
        What is said of its own where it has none.

    Raises
    ------
    SessionError
        If one is lacking; names it, and those that there are.
    """
    strange = [pid for pid in wanted or () if pid not in own]
    if strange:
        raise SessionError(eid, f"no insertion {strange[0]}; its own are {', '.join(own) or none}")
