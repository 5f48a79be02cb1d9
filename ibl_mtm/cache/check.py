"""Is a cache whole? Every session against the schema, every file against its checksum.

check(root)                         # {eid: "spikes, chunk 2.0.0: checksums do not match"}
repair(root)                        # drops damaged sessions; the next ingest redoes them
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product
from math import ceil
from pathlib import Path
from typing import Any

import pandas as pd

from ibl_mtm.cache.groups import (
    CHECKSUM,
    metadata_digest,
    open_arrays,
    open_group,
    read_metadata,
)
from ibl_mtm.cache.location import READS_AT_ONCE, Location, RemotePath, local_path, locate
from ibl_mtm.cache.store import read_format, rebuild_sessions
from ibl_mtm.cache.tables import list_eids, read_table, region_rows, session_row
from ibl_mtm.errors import DAMAGE, SessionError
from ibl_mtm.sessions.schema import validate

__all__ = ["check", "repair"]


def check(root: str | Location) -> dict[str, str]:
    """Read everything that a cache holds, and name what is damaged.

    A session that the table does not list yet is no damage: readers see it, and the next writer
    lists it. One that is replaced meanwhile may seem at odds with the table.

    Returns
    -------
    dict
        What is wrong, by eid; under `sessions` and `regions` what is wrong with those tables.

    Raises
    ------
    UserError
        If the path is no cache, or a server does not answer, or refuses.
    """
    root = locate(root)
    read_format(root)
    if isinstance(root, RemotePath):
        # Which sessions it has, only its table knows.
        try:
            _verify_group(root / "sessions")
        except DAMAGE as error:
            return {"sessions": _explain(error)}
    whole, damaged = _inspect_sessions(root)
    return damaged | _inspect_tables(root, whole)


def repair(root: str | Location) -> dict[str, str]:
    """Drop the damaged sessions of a cache, and make its tables anew from the others.

    Returns
    -------
    dict
        Why each session that was dropped was, by eid.

    Raises
    ------
    UserError
        If the path is no cache, or the URL of one.
    """
    root = local_path(root)
    read_format(root)
    _, damaged = _inspect_sessions(root)
    rebuild_sessions(root, without=damaged)
    return damaged


@dataclass(frozen=True)
class _Summary:
    """What the tables should say of a session."""

    row: dict[str, Any]
    regions: set[str]


def _inspect_sessions(root: Location) -> tuple[dict[str, _Summary], dict[str, str]]:
    """Sessions that are whole, and the others with the reason."""
    eids = list_eids(root)
    with ThreadPoolExecutor(READS_AT_ONCE) as pool:
        found = dict(zip(eids, pool.map(lambda eid: _inspect(root, eid), eids), strict=True))
    whole = {eid: result for eid, result in found.items() if isinstance(result, _Summary)}
    return whole, {eid: result for eid, result in found.items() if isinstance(result, str)}


def _inspect(root: Location, eid: str) -> _Summary | str:
    """What the tables should say of a session, or what is wrong with it."""
    try:
        return _summarise(root, eid)
    except DAMAGE:
        # A second look, since the session may just have been replaced.
        try:
            return _summarise(root, eid)
        except DAMAGE as error:
            return _explain(error)


def _summarise(root: Location, eid: str) -> _Summary:
    _verify_group(root / eid)
    with open_group(root / eid) as ds:
        validate(ds)
        if ds.attrs["eid"] != eid:
            raise ValueError(f"attribute eid: expected the folder's name, got '{ds.attrs['eid']}'")
        return _Summary(session_row(ds), set(region_rows(ds.attrs).index))


def _inspect_tables(root: Location, whole: dict[str, _Summary]) -> dict[str, str]:
    found = {}
    for name, compare in {"sessions": _compare_sessions, "regions": _compare_regions}.items():
        if _is_absent(root / name):
            # It was just being replaced when its writer died; readers do without.
            continue
        try:
            _verify_group(root / name)
        except DAMAGE as error:
            found[name] = _explain(error)
            continue
        table = read_table(root, name)
        found |= {} if table is None else compare(root, table, whole)
    return found


def _is_absent(folder: Location) -> bool:
    if isinstance(folder, Path):
        return not folder.exists()
    try:
        read_metadata(folder)
    except FileNotFoundError:
        return True
    except DAMAGE:
        return False  # there, but damaged: how, its verification tells
    else:
        return False


def _compare_sessions(
    root: Location, table: pd.DataFrame, whole: dict[str, _Summary]
) -> dict[str, str]:
    absent = table.index.difference(list_eids(root))
    found = dict.fromkeys(map(str, absent), "listed in the table 'sessions', but not there")
    for eid in table.index.intersection(list(whole)):
        row = whole[eid].row
        differing = [name for name, value in row.items() if table.at[eid, name] != value]
        if differing:
            said, true = str(table.at[eid, differing[0]]), row[differing[0]]
            found[eid] = f"the table 'sessions' says {differing[0]} = {said}, the session {true}"
    return found


def _compare_regions(
    root: Location, table: pd.DataFrame, whole: dict[str, _Summary]
) -> dict[str, str]:
    occurring = {acronym for summary in whole.values() for acronym in summary.regions}
    lacking = sorted(occurring - set(table.index))
    return {"regions": f"no row for {', '.join(lacking)}"} if lacking else {}


def _explain(error: BaseException) -> str:
    return error.reason if isinstance(error, SessionError) else str(error)


def _verify_group(folder: Location) -> None:
    """Compare all metadata of a group with its checksum, and decode every chunk.

    Raises
    ------
    ValueError
        Names the array and the chunk, and what is wrong; other kinds of `DAMAGE` likewise.
    """
    document = read_metadata(folder)
    if document["attributes"].get(CHECKSUM) != metadata_digest(document):
        raise ValueError("zarr.json: its checksum does not match")
    arrays = document["consolidated_metadata"]["metadata"]
    for name, metadata in arrays.items():
        if read_metadata(folder / name) != metadata:
            raise ValueError(f"{name}/zarr.json: not as the group's zarr.json has it")
    for name, array in open_arrays(folder).arrays():
        grid = [range(ceil(n / c)) for n, c in zip(array.shape, array.chunks, strict=True)]
        for index in product(*grid):
            try:
                array.get_block_selection(index)
            except SessionError:
                raise
            except DAMAGE as error:
                chunk = ".".join(map(str, index))
                raise ValueError(f"{name}, chunk {chunk}: {error}") from error
