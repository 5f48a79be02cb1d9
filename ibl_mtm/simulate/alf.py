"""Writing the IBL's files (ALF): arrays, growing arrays, tables, and what ONE reads of them.

    with GrowingArray(folder / "spikes.times.npy", np.float64) as times:
        times.append(block)

Every file depends on its contents alone, so the same contents give the same bytes.
"""

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

from ibl_mtm.one_files.one_tables import DatasetRow, SessionRow, write_tables

__all__ = [
    "GrowingArray",
    "InsertionEntry",
    "SessionEntry",
    "draw_uuids",
    "write_one_tables",
    "write_table",
    "write_uuids",
]


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


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a parquet table."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pandas(table), path)


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
    datasets: list[DatasetRow] = []
    for session, rng in zip(sessions, dataset_rngs, strict=True):
        folder = session.folder(root)
        files = sorted(p.relative_to(folder) for p in folder.rglob("*") if p.is_file())
        datasets += [
            DatasetRow(session.eid, dataset, path.as_posix(), (folder / path).stat().st_size)
            for path, dataset in zip(files, draw_uuids(rng, len(files)), strict=True)
        ]
    write_tables(
        root,
        [SessionRow(s.eid, s.lab, s.subject, s.date.isoformat(), s.number) for s in sessions],
        datasets,
        [
            {"eid": s.eid, "id": i.pid, "name": i.name, "model": "3B2", "serial": i.serial}
            | {"json": None}
            for s in sessions
            for i in s.insertions
        ],
    )
