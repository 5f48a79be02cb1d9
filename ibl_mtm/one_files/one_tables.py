"""The cache tables that a local ONE reads, for files that have none.

write_tables(folder, [(eid, lab, subject, "2024-05-06", 1)], [(eid, id, "alf/licks.times.npy", 80)])
"""

from collections.abc import Iterable
from pathlib import Path

import pandas as pd
from iblutil.io import parquet
from one.alf.cache import DATASETS_COLUMNS, SESSIONS_COLUMNS

__all__ = ["write_tables"]


def write_tables(
    tables: Path,
    sessions: Iterable[tuple[str, str, str, str, int]],
    datasets: Iterable[tuple[str, str, str, int]],
    insertions: Iterable[tuple[str, str, str, str]] = (),
) -> None:
    """Write `sessions.pqt`, `datasets.pqt` and, if there are any, `insertions.pqt`.

    Parameters
    ----------
    tables
        Folder to write them into.
    sessions
        Eid, lab, subject, date as YYYY-MM-DD, number of each session.
    datasets
        Eid, id, path within the session, and size in bytes of each file.
    insertions
        Eid, pid, name of the probe, and quality of each insertion.
    """
    metadata = {"date_created": "1970-01-01 00:00", "origin": "ibl-mtm"}
    rows = [
        (eid, lab, subject, pd.to_datetime(date).date(), number, "", "")
        for eid, lab, subject, date, number in sessions
    ]
    table = pd.DataFrame(rows, columns=list(SESSIONS_COLUMNS)).astype(SESSIONS_COLUMNS)
    parquet.save(tables / "sessions.pqt", table.set_index("id").sort_index(), metadata)
    # Without a hash in the table ONE does not read each file twice to compare it.
    files = [(*dataset, None, True, "NOT_SET") for dataset in datasets]
    table = pd.DataFrame(files, columns=list(DATASETS_COLUMNS)).astype(DATASETS_COLUMNS)
    table["default_revision"] = _latest_revision(table)
    parquet.save(tables / "datasets.pqt", table.set_index(["eid", "id"]).sort_index(), metadata)
    probes = pd.DataFrame(list(insertions), columns=["eid", "id", "name", "qc"])
    if len(probes):
        table = probes.set_index(["eid", "id"]).sort_index()
        parquet.save(tables / "insertions.pqt", table, metadata)


def _latest_revision(datasets: pd.DataFrame) -> pd.Series:
    """Mark, of the revisions of each dataset, the last one; ONE warns where nothing is marked."""
    path = datasets["rel_path"].astype(str)
    revision = path.str.extract(r"/#(.+)#/")[0].fillna("")
    dataset = datasets["eid"] + path.str.replace(r"/#.+#/", "/", regex=True)
    return revision == revision.groupby(dataset).transform("max")
