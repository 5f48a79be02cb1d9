"""A cache of two sessions, as its owner would copy it to a server."""

import shutil
from pathlib import Path

from synthetic import make_regions, make_session

from ibl_mtm.cache.store import create_cache, write_session

__all__ = ["SESSIONS", "publish"]

SESSIONS = [
    make_session(seed=seed, n_units=10 + seed, n_trials=n) for seed, n in enumerate((70, 40))
]


def publish(folder: Path) -> Path:
    """Write the cache to ``cache.zarr`` in a folder; the folder."""
    create_cache(folder / "cache.zarr")
    for ds in SESSIONS:
        write_session(folder / "cache.zarr", ds, make_regions())
    shutil.rmtree(folder / "cache.zarr.staging")
    return folder
