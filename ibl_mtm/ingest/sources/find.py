"""Which sessions a dataset has, and where the files of each are: by the kind of its source.

with find_sessions(Search(dataset, "repeated-site", cache)) as found:
    found.eids                          # those to ingest, in order
    found.origin(found.eids[0])         # its files, or where they are to be had from
"""

import pkgutil
from contextlib import AbstractContextManager

from ibl_mtm.errors import UserError
from ibl_mtm.ingest.sources.source import Find, Found, Search

__all__ = ["SOURCES", "find_sessions"]

SOURCES: dict[str, Find | str] = {
    "local": "ibl_mtm.ingest.sources.local:find",
    "simulated": "ibl_mtm.ingest.sources.simulated:find",
    "alyx": "ibl_mtm.ingest.sources.alyx:find",
    "brainsets": "ibl_mtm.ingest.sources.brainsets:find",
    "bwm": "ibl_mtm.ingest.sources.bwm:find",
    "phy": "ibl_mtm.ingest.sources.own:find_phy",
    "nwb": "ibl_mtm.ingest.sources.own:find_nwb",
}
"""How to find the sessions of each kind of source: a function, or the place of one, since what a
kind needs, such as the simulator, is imported for it alone."""


def find_sessions(search: Search) -> AbstractContextManager[Found]:
    """Find the sessions of a dataset; their files are there for as long as this is open.

    Raises
    ------
    UserError
        If the source is not there, or lacks a session that was asked for.
    """
    find = SOURCES.get(search.dataset.source.kind)
    if find is None:
        raise UserError(
            f"nothing is found by a source of kind {search.dataset.source.kind}; its sessions are "
            "put into a cache by ibl_mtm.add_session"
        )
    if isinstance(find, str):
        find = pkgutil.resolve_name(find)
    assert callable(find)
    return find(search)
