"""The two tables of a cache: one row per session, one row per brain region.

    sessions = read_table(root, "sessions")        # pandas.DataFrame, indexed by eid
    sessions.loc[eid] = session_row(ds)

They save readers from opening every session; the sessions themselves are the truth.
"""

import json
import logging
import os
import shutil
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from ibl_mtm.cache.groups import (
    open_arrays,
    open_group,
    patiently,
    read_metadata,
    write_group,
)
from ibl_mtm.cache.location import READS_AT_ONCE, Location, RemotePath
from ibl_mtm.errors import DAMAGE, UserError

__all__ = [
    "REGION_COLUMNS",
    "SESSION_COLUMNS",
    "collect_regions",
    "current_sessions",
    "empty_table",
    "list_eids",
    "list_session_rows",
    "merge_regions",
    "read_table",
    "region_counts",
    "region_rows",
    "session_row",
    "write_table",
]

SESSION_COLUMNS = {
    "subject": str,
    "lab": str,
    "date": str,
    "number": "int64",
    "dataset": str,
    "role": str,
    "probes": str,
    "n_units": "int64",
    "n_good_units": "int64",
    "n_trials": "int64",
    "n_included": "int64",
    "mean_rate": "float64",
    "regions": str,
}
REGION_COLUMNS = {"name": str, "order": "int64", "color": str}
_COLUMNS: dict[str, dict[str, Any]] = {"sessions": SESSION_COLUMNS, "regions": REGION_COLUMNS}
_INDEX = {"sessions": "eid", "regions": "acronym"}

_log = logging.getLogger(__name__)


def empty_table(name: str) -> pd.DataFrame:
    """The table `sessions` or `regions` without rows."""
    columns = {
        column: pd.Series(dtype=object if kind is str else kind)
        for column, kind in _COLUMNS[name].items()
    }
    return pd.DataFrame(columns, index=pd.Index([], dtype=object, name=_INDEX[name]))


def session_row(ds: xr.Dataset) -> dict[str, Any]:
    """Summarise a session as a row of the table `sessions`."""
    attributes = ds.attrs
    included = ds["included"].values if "included" in ds.variables else np.zeros(0, bool)
    return {
        **{name: attributes[name] for name in ("subject", "lab", "date", "number", "dataset")},
        "role": attributes["role"],
        "probes": " ".join(sorted(set(map(str, ds["probe"].values)))),
        "n_units": ds.sizes["unit"],
        "n_good_units": int((ds["label"].values >= 1).sum()),
        "n_trials": ds.sizes["trial"],
        "n_included": int(included.sum()),
        "mean_rate": float(ds["firing_rate"].values.mean(dtype=np.float64)),
        "regions": " ".join(f"{acronym}:{n}" for acronym, n in region_counts(ds).items()),
    }


def region_counts(ds: xr.Dataset) -> dict[str, int]:
    """Units of a session per Beryl region, in the Allen order; units without a region last."""
    acronyms, counts = np.unique(ds["beryl"].values.astype(object), return_counts=True)
    order = region_rows(ds.attrs)["order"].reindex(acronyms).to_numpy(np.float64)
    return {str(acronyms[i]): int(counts[i]) for i in np.argsort(order, kind="stable")}


def region_rows(attributes: Mapping[str, Any]) -> pd.DataFrame:
    """The rows of the table `regions` for one session, from its attributes."""
    rows = pd.DataFrame.from_dict(
        json.loads(attributes["regions"]), orient="index", columns=list(REGION_COLUMNS)
    )
    return rows.astype({"order": np.int64}).rename_axis("acronym")


def list_eids(root: Location) -> list[str]:
    """The sessions in a cache, sorted; opens none of them.

    A local cache is asked which folders it has, a remote one for its table, since web servers
    list nothing.
    """
    if isinstance(root, RemotePath):
        return list(current_sessions(root).index)
    folders = (entry for entry in os.scandir(root) if entry.name not in _COLUMNS)
    return sorted(f.name for f in folders if os.path.exists(os.path.join(f.path, "zarr.json")))


def current_sessions(root: Location) -> pd.DataFrame:
    """The table `sessions` as it is true now: of a remote cache, as it was published.

    Raises
    ------
    UserError
        If a remote cache has no table, or a damaged one.
    """
    if not isinstance(root, RemotePath):
        return list_session_rows(root, list_eids(root))
    table = read_table(root, "sessions")
    if table is None:
        raise UserError(
            f"{root} has no table of sessions, or a damaged one; run 'ibl-mtm check --repair' "
            "on the cache that it was copied from, and copy that again"
        )
    return table


def list_session_rows(
    root: Path, eids: Iterable[str], known: pd.DataFrame | None = None
) -> pd.DataFrame:
    """The table `sessions` for these sessions; those that it lacks are asked themselves.

    Parameters
    ----------
    root
        A cache.
    eids
        The sessions to list; one that is damaged is left out, with a warning.
    known
        Rows to trust; by default those that the cache's table has.
    """
    eids = list(eids)
    if known is None:
        known = read_table(root, "sessions")
    if known is None:
        known = empty_table("sessions")
    rows = known.loc[known.index.isin(eids)]
    found = {}
    for eid in set(eids) - set(rows.index):
        try:
            with open_group(root / eid) as ds:
                found[eid] = session_row(ds)
        except DAMAGE as error:
            _log.warning("session %s is damaged and not listed (%s)", eid, error)
    if found:
        more = pd.DataFrame.from_dict(found, orient="index", columns=list(SESSION_COLUMNS))
        rows = pd.concat([rows, more]) if len(rows) else more
    return rows.sort_index().rename_axis("eid")


def collect_regions(root: Location, eids: Iterable[str]) -> pd.DataFrame:
    """The table `regions`, asked of these sessions themselves; skips those that are damaged."""
    tables = []
    for eid in eids:
        try:
            tables.append(region_rows(read_metadata(root / eid)["attributes"]))
        except DAMAGE as error:
            _log.warning("session %s is damaged, and its regions unknown (%s)", eid, error)
    return merge_regions(tables)


def merge_regions(tables: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """One table of regions from several, in the Allen order; of equal acronyms the last counts."""
    filled = [table for table in tables if len(table)]
    if not filled:
        return empty_table("regions")
    merged = pd.concat(filled)
    merged = merged.loc[~merged.index.duplicated(keep="last")]
    return merged.sort_values("order", kind="stable")


def read_table(root: Location, name: str) -> pd.DataFrame | None:
    """Read the table `sessions` or `regions` of a cache; None if it is missing or damaged."""

    kinds = {_INDEX[name]: str, **_COLUMNS[name]}

    def read(folder: Location) -> pd.DataFrame:
        arrays = dict(open_arrays(folder).arrays())
        # Side by side, since a server takes its time for each.
        with ThreadPoolExecutor(READS_AT_ONCE) as pool:
            values = list(pool.map(lambda column: np.asarray(arrays[column][:]), kinds))
        columns = {
            column: array.astype(object if kind is str else kind)
            for (column, kind), array in zip(kinds.items(), values, strict=True)
        }
        return pd.DataFrame(columns).set_index(_INDEX[name])

    try:
        return patiently(read, root / name)
    except DAMAGE:
        return None


def write_table(root: Path, name: str, table: pd.DataFrame, aside: Path) -> None:
    """Replace a table of a cache, by way of a folder on the same file system.

    Between the two renames there is no table; readers then ask the sessions themselves.
    """
    new, old = aside / f"new-{name}", aside / f"old-{name}"
    index = _INDEX[name]
    columns = {
        column: (index, table[column].to_numpy(object if kind is str else kind))
        for column, kind in _COLUMNS[name].items()
    }
    write_group(new, xr.Dataset(columns, coords={index: table.index.to_numpy(object)}))
    if (root / name).exists():
        (root / name).rename(old)
    new.rename(root / name)
    shutil.rmtree(old, ignore_errors=True)
