"""What a run uses of every session of a cache.

sessions = describe_sessions(cache, settings.data)
sessions[0].units, sessions[0].trials_in("train")
"""

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from ibl_mtm.cache.cache import Cache
from ibl_mtm.cache.chunks import open_spikes
from ibl_mtm.sessions.deal import Deal
from ibl_mtm.sessions.selection import SelectionSettings
from ibl_mtm.sessions.view import Session, describe_session

__all__ = ["READERS", "describe_sessions"]

#: Threads that read and decode.
READERS = min(4, os.cpu_count() or 1)


def describe_sessions(
    cache: Cache,
    settings: SelectionSettings,
    deals: Mapping[str, Deal] | None = None,
    modalities: Sequence[str] = (),
) -> list[Session]:
    """Every session of a cache (see `describe_session`), several read at once.

    `deals` are those that a run was begun with, by eid, if it was; `modalities` those
    of its model.
    """

    def describe(eid: str) -> Session:
        # Spikes first: should the session be replaced in between, reading them will say so.
        spikes = open_spikes(cache, eid)
        return describe_session(cache[eid], settings, spikes, (deals or {}).get(eid), modalities)

    readers = ThreadPoolExecutor(READERS, "describe")
    try:
        return list(readers.map(describe, cache))
    finally:
        readers.shutdown(cancel_futures=True)
