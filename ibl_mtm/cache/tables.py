"""The two tables of a cache: one row per session, one row per brain region.

    sessions = read_table(root, "sessions")        # pandas.DataFrame, indexed by eid
    sessions.loc[eid] = session_row(ds, regions)

They save readers from opening every session; the sessions themselves are the truth.
"""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from ibl_mtm.cache.groups import open_group, write_group
from ibl_mtm.errors import SessionError

__all__ = [
    "REGION_COLUMNS",
    "SESSION_COLUMNS",
    "empty_table",
    "read_table",
    "region_counts",
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


def empty_table(name: str) -> pd.DataFrame:
    """The table `sessions` or `regions` without rows."""
    columns = {
        column: pd.Series(dtype=object if kind is str else kind)
        for column, kind in _COLUMNS[name].items()
    }
    return pd.DataFrame(columns, index=pd.Index([], dtype=object, name=_INDEX[name]))


def session_row(ds: xr.Dataset, regions: pd.DataFrame) -> dict[str, Any]:
    """Summarise a session as a row of the table `sessions` (units and counts of all trials)."""
    attributes = ds.attrs
    included = ds["included"].values if "included" in ds.variables else np.zeros(0, bool)
    return {
        **{name: attributes[name] for name in ("subject", "lab", "date", "number", "dataset")},
        "role": attributes.get("role", ""),
        "probes": " ".join(sorted(set(map(str, ds["probe"].values)))),
        "n_units": ds.sizes["unit"],
        "n_good_units": int((ds["label"].values >= 1).sum()),
        "n_trials": ds.sizes["trial"],
        "n_included": int(included.sum()),
        "mean_rate": float(ds["firing_rate"].values.mean(dtype=np.float64)),
        "regions": " ".join(f"{k}:{n}" for k, n in region_counts(ds["beryl"], regions).items()),
    }


def region_counts(acronyms: xr.DataArray, regions: pd.DataFrame) -> dict[str, int]:
    """Units per region, in the Allen order; regions without a place there come last."""
    names, counts = np.unique(acronyms.values.astype(object), return_counts=True)
    order = regions["order"].reindex(names).to_numpy(np.float64)
    return {str(names[i]): int(counts[i]) for i in np.argsort(order, kind="stable")}


def read_table(root: Path, name: str) -> pd.DataFrame:
    """Read the table `sessions` or `regions` of a cache.

    Raises
    ------
    LookupError
        If it is not there, or not readable, or was replaced while it was read.
    """
    try:
        with open_group(root / name) as ds:
            index = pd.Index(ds[_INDEX[name]].values.astype(object), name=_INDEX[name])
            columns = {
                column: ds[column].values.astype(object if kind is str else kind)
                for column, kind in _COLUMNS[name].items()
            }
    except (OSError, ValueError, KeyError, RuntimeError, SessionError) as error:
        raise LookupError(f"{root / name}: {error}") from error
    return pd.DataFrame(columns, index=index)


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
