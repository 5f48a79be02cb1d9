"""Is a cache whole? Every session against the schema, every file against its checksum.

check(root)                         # {eid: "spikes, chunk 2.0.0: checksums do not match"}
repair(root)                        # drops damaged sessions; the next ingest redoes them
"""

from itertools import product
from math import ceil
from pathlib import Path

import pandas as pd

from ibl_mtm.cache.groups import (
    CHECKSUM,
    DAMAGE,
    metadata_digest,
    open_arrays,
    open_group,
    read_metadata,
)
from ibl_mtm.cache.schema import validate
from ibl_mtm.cache.store import read_format, rebuild_sessions
from ibl_mtm.cache.tables import list_eids, read_table, region_rows, session_row
from ibl_mtm.errors import SessionError

__all__ = ["check", "repair"]


def check(root: Path) -> dict[str, str]:
    """Read everything that a cache holds, and name what is damaged.

    A session that no table lists yet is none: readers see it, and the next writer lists it.

    Returns
    -------
    dict
        What is wrong, by eid; under `sessions` and `regions` what is wrong with those tables.

    Raises
    ------
    UserError
        If the path is no cache.
    """
    root = Path(root)
    read_format(root)
    return _find_damaged_sessions(root) | _find_damaged_tables(root)


def repair(root: Path) -> dict[str, str]:
    """Drop the damaged sessions of a cache, and make its tables anew from the others.

    Returns
    -------
    dict
        Why each session that was dropped was, by eid.

    Raises
    ------
    UserError
        If the path is no cache.
    """
    root = Path(root)
    read_format(root)
    damaged = _find_damaged_sessions(root)
    rebuild_sessions(root, without=damaged)
    return damaged


def _find_damaged_sessions(root: Path) -> dict[str, str]:
    reasons = {eid: _inspect_session(root, eid) for eid in list_eids(root)}
    # A second look, since the session may just have been replaced.
    return {
        eid: again
        for eid, reason in reasons.items()
        if reason and (root / eid).exists() and (again := _inspect_session(root, eid))
    }


def _inspect_session(root: Path, eid: str) -> str | None:
    try:
        _verify_group(root / eid)
        with open_group(root / eid) as ds:
            validate(ds)
        region_rows(ds.attrs)
    except SessionError as error:
        return error.reason
    except DAMAGE as error:
        return str(error)
    if ds.attrs["eid"] != eid:
        return f"attribute eid: expected the name of the folder, got '{ds.attrs['eid']}'"
    return None


def _find_damaged_tables(root: Path) -> dict[str, str]:
    found = {}
    for name, compare in {"sessions": _compare_sessions, "regions": _compare_regions}.items():
        # A table that is not there was just being replaced when its writer died.
        if (root / name).exists() and (reason := _inspect_table(root, name)):
            found[name] = reason
            continue
        table = read_table(root, name)
        found |= {} if table is None else compare(root, table)
    return found


def _inspect_table(root: Path, name: str) -> str | None:
    try:
        _verify_group(root / name)
    except SessionError as error:
        return error.reason
    except DAMAGE as error:
        return str(error)
    return None


def _compare_sessions(root: Path, table: pd.DataFrame) -> dict[str, str]:
    eids = list_eids(root)
    found = {
        str(eid): "listed in the table 'sessions', but not there"
        for eid in table.index.difference(eids)
    }
    for eid in table.index.intersection(eids):
        try:
            with open_group(root / eid) as ds:
                row = session_row(ds)
        except DAMAGE:
            continue
        differing = [name for name, value in row.items() if table.at[eid, name] != value]
        if differing:
            name = differing[0]
            found[str(eid)] = (
                f"the table 'sessions' says {name} = {table.at[eid, name]}, the session {row[name]}"
            )
    return found


def _compare_regions(root: Path, table: pd.DataFrame) -> dict[str, str]:
    occurring: set[str] = set()
    for eid in list_eids(root):
        try:
            occurring |= set(region_rows(read_metadata(root / eid)["attributes"]).index)
        except DAMAGE:
            continue
    lacking = sorted(occurring - set(table.index))
    return {"regions": f"no row for {', '.join(lacking)}"} if lacking else {}


def _verify_group(folder: Path) -> None:
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
