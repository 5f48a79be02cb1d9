"""The tables in which ONE looks files up: the one writer of them, for whoever has files.

session = SessionRow(eid, "lab", "subject", "2024-05-06", 1)
write_tables(folder, [session], [(eid, id, "alf/licks.times.npy", 80)])

Every table depends on its rows alone, so that the same rows give the same bytes. Columns and types
are those of `one.alf.cache`, which is not needed to write them.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

__all__ = ["DatasetRow", "SessionRow", "write_tables"]

# ONE asks its tables when they were made; a true date would differ between two equal sets of them.
_METADATA = {"date_created": "2025-03-01 00:00", "origin": "ibl-mtm"}
_QC = pd.CategoricalDtype(["NOT_SET", "PASS", "WARNING", "FAIL", "CRITICAL"], ordered=True)


class SessionRow(NamedTuple):
    """A row of ``sessions.pqt``; the date as YYYY-MM-DD."""

    eid: str
    lab: str
    subject: str
    date: str
    number: int


class DatasetRow(NamedTuple):
    """A row of ``datasets.pqt``: a file of a session, its path within it and its size in bytes."""

    eid: str
    id: str
    path: str
    size: int


def write_tables(
    tables: Path,
    sessions: Iterable[SessionRow],
    datasets: Iterable[DatasetRow],
    insertions: Iterable[Mapping[str, Any]] = (),
) -> None:
    """Write ``sessions.pqt``, ``datasets.pqt`` and, if there are any, ``insertions.pqt``.

    Of several revisions of a file the last is the default one.

    Parameters
    ----------
    tables
        Folder to write them into.
    sessions, datasets
        Their rows.
    insertions
        ``eid``, ``id`` (the pid) and ``name`` of each, and what else there is to say of all.
    """
    table = pd.DataFrame(sessions, columns=["id", "lab", "subject", "date", "number"])
    table["date"] = pd.to_datetime(table["date"]).dt.date
    table = table.astype({"number": "uint16"}).assign(task_protocol="", projects="")
    _save(tables / "sessions.pqt", table.set_index("id"))

    table = pd.DataFrame(datasets, columns=["eid", "id", "rel_path", "file_size"])
    table = table.astype({"file_size": "UInt64"})
    # With a hash ONE reads every file twice; with an empty one it warns at every load.
    table = table.assign(hash=None, exists=True, qc=pd.Series("NOT_SET", table.index, dtype=_QC))
    table["default_revision"] = _latest_revision(table)
    _save(tables / "datasets.pqt", table.set_index(["eid", "id"]))

    probes = pd.DataFrame(list(insertions))
    if len(probes):
        _save(tables / "insertions.pqt", probes.set_index(["eid", "id"]))


def _save(path: Path, table: pd.DataFrame) -> None:
    arrow = pa.Table.from_pandas(table.sort_index())
    own = {b"one_metadata": json.dumps(_METADATA).encode()}
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(arrow.replace_schema_metadata(own | (arrow.schema.metadata or {})), path)


def _latest_revision(datasets: pd.DataFrame) -> pd.Series:
    """Mark, of the revisions of each dataset, the last one; ONE warns where nothing is marked."""
    path = datasets["rel_path"].astype(str)
    revision = path.str.extract(r"(?:^|/)#(.+?)#/")[0].fillna("")
    dataset = datasets["eid"].astype(str) + path.str.replace(r"(^|/)#.+?#/", r"\1", regex=True)
    return revision == revision.groupby(dataset).transform("max")
