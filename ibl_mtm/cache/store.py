"""Writing a cache: a session is moved in whole or not at all, and then listed.

    create_cache(root)
    write_session(root, ds, regions)
    session_attrs(root, eid)["definition_hash"]

A session is prepared beside the cache (`staging`) and appears with the one rename of its
folder. The tables follow, under a lock. Until then, or if the process dies in between, the table
lacks the session: readers then ask the session itself, and the next writer lists it.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd
import xarray as xr

from ibl_mtm.cache.groups import CHECKSUM, metadata_digest, read_metadata, write_group
from ibl_mtm.cache.guard import CHUNK_CHECKSUMS
from ibl_mtm.cache.location import Location, RemotePath, local_path
from ibl_mtm.cache.staging import lock_cache, remove_leftovers, stage
from ibl_mtm.cache.tables import (
    REGION_COLUMNS,
    collect_regions,
    empty_table,
    list_eids,
    list_session_rows,
    merge_regions,
    read_table,
    region_rows,
    write_table,
)
from ibl_mtm.errors import DAMAGE, SessionError, UserError
from ibl_mtm.sessions.schema import FORMAT, FORMAT_VERSION, VARIABLES, own_variables, validate

__all__ = [
    "create_cache",
    "list_sessions",
    "read_format",
    "rebuild_sessions",
    "session_attrs",
    "write_session",
]

UNKNOWN_REGION = "unknown"


def create_cache(root: Path) -> None:
    """Create an empty cache, with the folders above it; a cache that is there stays as it is.

    Raises
    ------
    UserError
        If the path holds something else.
    """
    root = local_path(root)
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        with stage(root, "new") as aside:
            new = aside / "cache"
            new.mkdir()
            document = {
                "zarr_format": 3,
                "node_type": "group",
                "attributes": {"format": FORMAT, "format_version": FORMAT_VERSION},
            }
            (new / "zarr.json").write_text(json.dumps(document, indent=1))
            for name in ("sessions", "regions"):
                write_table(new, name, empty_table(name), aside)
            with lock_cache(root):
                if not (root / "zarr.json").exists():
                    new.rename(root)
    read_format(root)
    with lock_cache(root):
        remove_leftovers(root)


def read_format(root: Location) -> int:
    """The format version of a cache.

    Raises
    ------
    UserError
        If the path is no cache, or one of a newer format than this version reads.
    """
    if isinstance(root, Path) and not root.exists():
        raise UserError(f"no cache at {root}; 'ibl-mtm ingest DATASET --cache {root}' makes one")
    try:
        attributes = read_metadata(root)["attributes"]
        found, version = attributes["format"], int(attributes["format_version"])
    except FileNotFoundError:
        if isinstance(root, RemotePath):
            raise UserError(f"no cache at {root}: {root / 'zarr.json'} is not there") from None
        found, version = None, 0
    except (OSError, ValueError, KeyError, TypeError):
        found, version = None, 0
    if found != FORMAT:
        raise UserError(f"{root} is no ibl-mtm cache: its zarr.json names no format '{FORMAT}'")
    if version > FORMAT_VERSION:
        raise UserError(
            f"{root} has cache format {version}, and this ibl-mtm reads up to {FORMAT_VERSION}; "
            "upgrade it: pip install --upgrade ibl-mtm"
        )
    return version


def session_attrs(root: Path, eid: str) -> dict[str, Any] | None:
    """The attributes of a session in the cache, read from one small file; None if it is absent.

    Raises
    ------
    SessionError
        If that file is damaged.
    """
    try:
        document = read_metadata(Path(root) / eid)
        attributes = dict(document["attributes"])
        intact = attributes.pop(CHECKSUM) == metadata_digest(document)
        attributes.pop(CHUNK_CHECKSUMS, None)
    except FileNotFoundError:
        return None
    except DAMAGE:
        intact = False
    if not intact:
        raise SessionError(eid, "zarr.json is damaged; run ibl-mtm check --repair")
    return attributes


def write_session(
    root: Path,
    ds: xr.Dataset,
    regions: pd.DataFrame,
    *,
    overwrite: bool = False,
    listed: bool = True,
) -> None:
    """Put a session into a cache; other processes may read it and write to it meanwhile.

    A session that is there already, made from the same definition, stays as it is.

    Parameters
    ----------
    root
        A cache, as `create_cache` makes it.
    ds
        The session, as `schema.validate` wants it.
    regions
        One row for each acronym in `region`, `beryl` and `cosmos` (but "unknown"), with columns
        acronym, name, order (in the Allen atlas) and color ("#rrggbb").
    overwrite
        Replace the session if it is there.
    listed
        List it in the table at once. Who writes many sessions lists them together, afterwards
        (`list_sessions`): writing the table takes as long as a tenth of a session.

    Raises
    ------
    ValueError
        If `ds` does not fit the schema or `regions` lacks a region; nothing is written.
    SessionError
        If the session is there, made from another definition, and `overwrite` is false.
    """
    root = Path(root)
    read_format(root)
    validate(ds)
    ds = _complete(ds, regions)
    eid = ds.attrs["eid"]
    if not overwrite and _is_present(root, ds):
        return
    with stage(root, eid) as aside:
        new, old = aside / "new", aside / "old"
        write_group(new, ds)
        with lock_cache(root):
            remove_leftovers(root)
            # Again, now that nobody else can put it there.
            if not overwrite and _is_present(root, ds):
                return
            _add_regions(root, region_rows(ds.attrs), aside)
            if (root / eid).exists():
                # Not listed while it is replaced: its row would tell of the old one.
                others = [other for other in list_eids(root) if other != eid]
                write_table(root, "sessions", list_session_rows(root, others), aside)
                (root / eid).rename(old)
            new.rename(root / eid)
            if listed:
                write_table(root, "sessions", list_session_rows(root, list_eids(root)), aside)


def list_sessions(root: Path) -> None:
    """List the sessions that are in a cache and not in its table."""
    root = Path(root)
    with stage(root, "tables") as aside, lock_cache(root):
        known = read_table(root, "sessions")
        eids = list_eids(root)
        if known is None or set(eids) != set(known.index):
            write_table(root, "sessions", list_session_rows(root, eids), aside)


def rebuild_sessions(root: Path, *, without: Iterable[str] = ()) -> None:
    """Make both tables anew from the sessions themselves.

    Parameters
    ----------
    root
        A cache.
    without
        Sessions to drop from the cache.
    """
    root = Path(root)
    read_format(root)
    with stage(root, "tables") as aside, lock_cache(root):
        remove_leftovers(root)
        dropped = set(without)
        kept = [eid for eid in list_eids(root) if eid not in dropped]
        sessions = list_session_rows(root, kept, known=empty_table("sessions"))
        write_table(root, "sessions", sessions, aside)
        write_table(root, "regions", collect_regions(root, kept), aside)
        for eid in dropped:
            (root / eid).rename(aside / eid)


def _is_present(root: Path, ds: xr.Dataset) -> bool:
    eid = ds.attrs["eid"]
    present = session_attrs(root, eid)
    if present is None:
        return False
    if present["definition_hash"] != ds.attrs["definition_hash"]:
        raise SessionError(
            eid,
            f"is in the cache, made from another definition (dataset '{present['dataset']}'); "
            "use --overwrite to replace it, or another cache",
        )
    return True


def _complete(ds: xr.Dataset, regions: pd.DataFrame) -> xr.Dataset:
    """The session as it is stored: labels as coordinates, described, with its regions."""
    labels = [name for name in map(str, ds.data_vars) if ds[name].ndim == 1]
    ds = ds.set_coords(labels).copy()
    described = VARIABLES | own_variables(ds.attrs)
    for name, variable in ds.variables.items():
        known = described[str(name)]
        units = {"units": known.units} if known.units else {}
        variable.attrs = {"long_name": known.about, **units, **variable.attrs}
    return ds.assign_attrs(regions=_describe_regions(ds, regions))


def _describe_regions(ds: xr.Dataset, regions: pd.DataFrame) -> str:
    missing = {"acronym", *REGION_COLUMNS} - set(regions.columns)
    if missing:
        raise ValueError(f"regions: expected a column '{min(missing)}'")
    table = regions.set_index("acronym")[list(REGION_COLUMNS)]
    if table.index.has_duplicates:
        raise ValueError("regions: expected every acronym once")
    occurring = {str(a) for name in ("region", "beryl", "cosmos") for a in ds[name].values}
    lacking = sorted(occurring - {UNKNOWN_REGION} - set(table.index))
    if lacking:
        raise ValueError(f"regions: expected a row for every region, and found none for {lacking}")
    return table.loc[table.index.isin(occurring)].to_json(orient="index")


def _add_regions(root: Path, regions: pd.DataFrame, aside: Path) -> None:
    known = read_table(root, "regions")
    if known is None:
        known = collect_regions(root, list_eids(root))
    elif set(regions.index) <= set(known.index):
        return
    write_table(root, "regions", merge_regions([known, regions]), aside)
