"""ONE's tables from the one writer: as ONE's own, and found by ONE."""

import pandas as pd
import pandas.testing
import pyarrow.parquet as pq
import pytest
from one.alf.cache import DATASETS_COLUMNS, SESSIONS_COLUMNS
from one.api import One

from ibl_mtm.one_files.one_tables import DatasetRow, SessionRow, write_tables

EIDS = ("3c9f6ba6-6b0f-4b0e-8d5a-0c7c0a9e8f21", "1a9f6ba6-6b0f-4b0e-8d5a-0c7c0a9e8f22")
SESSIONS = [
    SessionRow(EIDS[0], "lab", "KS_014", "2024-05-06", 12),
    SessionRow(EIDS[1], "", "KS_015", "2023-11-30", 1),
]
PATHS = (
    "alf/licks.times.npy",
    "alf/probe00/spikes.times.npy",
    "alf/probe00/#2024-01-01#/spikes.times.npy",
    "alf/probe00/#2025-03-01#/spikes.times.npy",
    "alf/probe01/#2023-01-01#/spikes.times.npy",
    "alf/#2024-02-02#/licks.times.npy",
)


def uuid(n):
    return f"{n:08d}-6b0f-4b0e-8d5a-0c7c0a9e8f21"


@pytest.fixture
def folder(tmp_path):
    files = [DatasetRow(EIDS[0], uuid(n), path, 80 + n) for n, path in enumerate(PATHS)]
    # Another session's revisions are its own.
    files.append(DatasetRow(EIDS[1], uuid(9), PATHS[1], 7))
    probes = [{"eid": EIDS[0], "id": uuid(3), "name": "probe00", "qc": "CRITICAL"}]
    write_tables(tmp_path, SESSIONS, files, probes)
    return tmp_path


def test_columns_and_types_are_those_of_one(folder):
    for name, columns, index in (
        ("sessions", SESSIONS_COLUMNS, ["id"]),
        ("datasets", DATASETS_COLUMNS, ["eid", "id"]),
    ):
        table = pd.read_parquet(folder / f"{name}.pqt")
        assert list(table.index.names) == index
        assert table.index.is_monotonic_increasing
        plain = table.reset_index().drop(columns="default_revision", errors="ignore")
        assert list(plain) == list(columns)
        pandas.testing.assert_frame_equal(plain, plain.astype(columns))
        assert b"one_metadata" in pq.read_schema(folder / f"{name}.pqt").metadata


def test_the_last_revision_is_the_default_one(folder):
    table = pd.read_parquet(folder / "datasets.pqt")
    default = set(table.loc[table["default_revision"]].itertuples())
    assert {(row.Index[0], row.rel_path) for row in default} == {
        (EIDS[0], PATHS[3]), (EIDS[0], PATHS[4]), (EIDS[0], PATHS[5]), (EIDS[1], PATHS[1]),
    }  # fmt: skip


def test_one_finds_sessions_and_files(folder):
    one = One(cache_dir=folder, tables_dir=folder, mode="local")
    assert [str(eid) for eid in one.search(subject="KS_014")] == [EIDS[0]]
    assert [str(eid) for eid in one.search(subject="KS_015", number=1)] == [EIDS[1]]
    found = one.list_datasets(EIDS[0], collection="alf/probe00", default_revisions_only=True)
    assert list(found) == [PATHS[3]]


def test_no_insertions_no_table(tmp_path):
    write_tables(tmp_path, SESSIONS, [])
    assert not (tmp_path / "insertions.pqt").exists()
    assert len(pd.read_parquet(tmp_path / "sessions.pqt")) == 2


def test_the_same_rows_give_the_same_bytes_in_whatever_order(tmp_path):
    for name, sessions in (("a", SESSIONS), ("b", SESSIONS[::-1])):
        write_tables(tmp_path / name, sessions, [DatasetRow(EIDS[0], uuid(1), PATHS[0], 1)])
    for file in ("sessions.pqt", "datasets.pqt"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
