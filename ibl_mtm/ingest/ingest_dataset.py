"""Ingest a dataset by its name in the catalog, or by what the catalog would say of it.

ingest_dataset("rig", "rig.zarr").failed     # eid -> outcome, of sessions that cannot be trusted
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ibl_mtm.cache.location import local_path
from ibl_mtm.config.catalog import load_catalog
from ibl_mtm.config.dataset import Dataset
from ibl_mtm.config.yaml_settings import validate_settings
from ibl_mtm.ingest.outcome import IngestReport
from ibl_mtm.ingest.run import ingest

__all__ = ["ingest_dataset"]


def ingest_dataset(
    dataset: str | Mapping[str, Any],
    cache: str | Path,
    *,
    catalog: str | Path | None = None,
    name: str = "own",
    **options: Any,
) -> IngestReport:
    """Ingest a dataset into a cache, as `ibl-mtm ingest` does.

    Parameters
    ----------
    dataset
        Its name in the catalog; or a mapping of what stands there below the name, such as
        ``{"source": {"kind": "phy", "path": "rig"}, "align": {…}}``.
    cache
        Where the cache is, or is to be made.
    catalog
        A YAML file, by default the nearest ``data_catalog.yaml``.
    name
        What to call a dataset that a mapping describes.
    options
        sessions, overwrite, dry_run, workers and others, as of `ibl_mtm.ingest.run.ingest`.

    Examples
    --------
    >>> report = ingest_dataset("demo", "demo.zarr", dry_run=True)
    >>> [outcome.status for outcome in report.sessions.values()]
    ['planned', 'planned', 'planned', 'planned']
    """
    if isinstance(dataset, str):
        found = load_catalog(None if catalog is None else Path(catalog))
        name, chosen = dataset, found.dataset(dataset, offline=bool(options.get("offline")))
    else:
        chosen = validate_settings(dataset, Dataset, "ingest_dataset")
    return ingest(chosen, name, local_path(cache), **options)
