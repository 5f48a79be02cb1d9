"""Writing the IBL's files (ALF): arrays, growing arrays, tables and the tables that ONE reads.

    with GrowingArray(folder / "spikes.times.npy", np.float64) as times:
        times.append(block)

Every file depends on its contents alone, so the same contents give the same bytes.
"""

import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import DTypeLike, NDArray

__all__ = [
    "GrowingArray",
    "InsertionEntry",
    "SessionEntry",
    "draw_uuids",
    "write_one_tables",
    "write_table",
    "write_uuids",
]

# ONE asks its tables when they were made; a true date would differ between two equal experiments.
_TABLE_METADATA = {"date_created": "2025-03-01 00:00", "origin": "ibl-mtm"}
_QC = ["NOT_SET", "PASS", "WARNING", "FAIL", "CRITICAL"]


class GrowingArray:
    """A one-dimensional ``.npy`` file that is written block by block.

    Parameters
    ----------
    path
        The file; its folder is made.
    dtype
        Type of the elements.
    """

    def __init__(self, path: Path, dtype: DTypeLike) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._dtype = np.dtype(dtype)
        self._length = 0
        self._file = path.open("wb")
        self._write_header()
        self._header_length = self._file.tell()

    def append(self, values: NDArray[Any]) -> None:
        """Add values at the end."""
        self._file.write(np.ascontiguousarray(values, self._dtype).data)
        self._length += len(values)

    def _write_header(self) -> None:
        header = {
            "descr": np.lib.format.dtype_to_descr(self._dtype),
            "fortran_order": False,
            "shape": (self._length,),
        }
        np.lib.format.write_array_header_1_0(self._file, header)

    def __enter__(self) -> "GrowingArray":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._file:
            # NumPy pads headers so that a longer shape fits into the same place.
            self._file.seek(0)
            self._write_header()
            assert self._file.tell() == self._header_length


@dataclass(frozen=True)
class InsertionEntry:
    """A row of ``insertions.pqt``."""

    pid: str
    name: str
    serial: str


@dataclass(frozen=True)
class SessionEntry:
    """A row of ``sessions.pqt``, and the insertions of the session."""

    eid: str
    lab: str
    subject: str
    date: date
    number: int
    insertions: tuple[InsertionEntry, ...]

    def folder(self, root: Path) -> Path:
        """Where the session's files are."""
        day = self.date.isoformat()
        return root / self.lab / "Subjects" / self.subject / day / f"{self.number:03d}"


def draw_uuids(rng: np.random.Generator, n: int) -> list[str]:
    """Draw uuids of version 4, as the IBL's ids are."""
    return [str(uuid.UUID(bytes=rng.bytes(16), version=4)) for _ in range(n)]


def write_uuids(path: Path, uuids: Sequence[str]) -> None:
    """Write ``clusters.uuids.csv``: a header, one uuid a line, no newline at the end."""
    path.write_bytes("\n".join(["uuids", *uuids]).encode())


def write_table(path: Path, table: pd.DataFrame, metadata: dict[str, str] | None = None) -> None:
    """Write a parquet table; `metadata` is what ONE keeps in its own tables."""
    arrow = pa.Table.from_pandas(table)
    if metadata is not None:
        own = {b"one_metadata": json.dumps(metadata).encode()}
        arrow = arrow.replace_schema_metadata(own | (arrow.schema.metadata or {}))
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(arrow, path)


def write_one_tables(
    root: Path, sessions: Sequence[SessionEntry], dataset_rngs: Sequence[np.random.Generator]
) -> None:
    """Write ``datasets.pqt``, ``insertions.pqt`` and ``sessions.pqt`` for the files that are there.

    Parameters
    ----------
    root
        Folder of the experiment.
    sessions
        What was written.
    dataset_rngs
        One generator a session, for the ids of its datasets.
    """
    datasets = pd.concat(
        [_list_datasets(root, s, rng) for s, rng in zip(sessions, dataset_rngs, strict=True)]
    )
    write_table(root / "datasets.pqt", datasets.sort_index(), _TABLE_METADATA)

    insertions = pd.DataFrame(
        [
            {"eid": s.eid, "id": i.pid, "name": i.name, "model": "3B2", "serial": i.serial}
            for s in sessions
            for i in s.insertions
        ]
    ).assign(json=None)
    insertions = insertions.set_index(["eid", "id"]).sort_index()
    write_table(root / "insertions.pqt", insertions, _TABLE_METADATA)

    rows = pd.DataFrame(
        [
            {
                "id": s.eid,
                "lab": s.lab,
                "subject": s.subject,
                "date": s.date,
                "number": np.uint16(s.number),
                "task_protocol": "",
                "projects": "",
            }
            for s in sessions
        ]
    )
    write_table(root / "sessions.pqt", rows.set_index("id").sort_index(), _TABLE_METADATA)


def _list_datasets(root: Path, session: SessionEntry, rng: np.random.Generator) -> pd.DataFrame:
    folder = session.folder(root)
    files = sorted(p.relative_to(folder) for p in folder.rglob("*") if p.is_file())
    revised = {_without_revision(p) for p in files if _without_revision(p) != p}
    return pd.DataFrame(
        {
            "eid": session.eid,
            "id": draw_uuids(rng, len(files)),
            "rel_path": [p.as_posix() for p in files],
            "file_size": pd.array([(folder / p).stat().st_size for p in files], "UInt64"),
            # With a hash ONE reads every file twice; with an empty one it warns at every load.
            "hash": None,
            "exists": True,
            "qc": pd.Categorical(["NOT_SET"] * len(files), categories=_QC, ordered=True),
            "default_revision": [p not in revised for p in files],
        }
    ).set_index(["eid", "id"])


def _without_revision(path: Path) -> Path:
    return Path(*(part for part in path.parts if not part.startswith("#")))
