"""Whatever is damaged is found and named, and can be dropped."""

import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
from synthetic import make_regions, make_session

from ibl_mtm.cache.cache import open_cache
from ibl_mtm.cache.check import check, repair
from ibl_mtm.cache.store import create_cache, session_attrs, write_session
from ibl_mtm.errors import SessionError, UserError

GOOD, BAD = make_session(seed=0, n_trials=70), make_session(seed=1, n_trials=70)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("whole") / "cache.zarr"
    create_cache(root)
    for ds in (GOOD, BAD):
        write_session(root, ds, make_regions())
    return root


@pytest.fixture
def root(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "cache.zarr"))


def flip(path: Path, position: int, bit: int) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 1 << bit
    path.write_bytes(content)


def test_a_whole_cache(whole: Path) -> None:
    assert check(whole) == {}
    assert repair(whole) == {}
    assert len(open_cache(whole)) == 2


@pytest.fixture
def alone(root: Path) -> Path:
    """A cache of one session, which is quick to check."""
    shutil.rmtree(root / GOOD.eid)
    repair(root)
    return root


@pytest.mark.slow
def test_a_flipped_bit_in_any_file_of_a_session(alone: Path) -> None:
    root = alone
    assert check(root) == {}
    rng = np.random.default_rng(0)
    files = sorted(path for path in (root / BAD.eid).rglob("*") if path.is_file())
    assert len(files) == 1 + 2 * len(BAD.variables) + 4  # four arrays have a second chunk
    for path in files:
        position, bit = int(rng.integers(path.stat().st_size)), int(rng.integers(8))
        flip(path, position, bit)
        assert set(check(root)) == {BAD.eid}, f"{path.relative_to(root)}, {position}, {bit}"
        flip(path, position, bit)
    assert check(root) == {}


@pytest.mark.slow
def test_any_flipped_bit_of_the_metadata_and_of_a_chunk(alone: Path) -> None:
    root = alone
    rng = np.random.default_rng(1)
    for name in ("zarr.json", "spikes/zarr.json", "spikes/c/0/0/0", "beryl/c/0", "included/c/0"):
        path = root / BAD.eid / name
        for position in rng.integers(path.stat().st_size, size=40):
            bit = int(rng.integers(8))
            flip(path, position, bit)
            assert set(check(root)) == {BAD.eid}, f"{name}, {position}, {bit}"
            flip(path, position, bit)


@pytest.mark.parametrize(
    "name", ["spikes/c/1/0/0", "spikes/zarr.json", "beryl/c/0", "spikes", "zarr.json", "time"]
)
def test_a_missing_file(root: Path, name: str) -> None:
    path = root / BAD.eid / name
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert set(check(root)) == {BAD.eid}


def test_the_chunk_is_named(root: Path) -> None:
    flip(root / BAD.eid / "spikes" / "c" / "1" / "0" / "0", 40, 3)
    assert check(root)[BAD.eid].startswith("spikes, chunk 1.0.0: ")


def test_a_folder_under_another_name(root: Path) -> None:
    (root / BAD.eid).rename(root / "renamed")
    assert check(root).keys() == {BAD.eid, "renamed"}


def test_repair_drops_what_is_damaged(root: Path) -> None:
    flip(root / BAD.eid / "spikes" / "c" / "0" / "0" / "0", 40, 3)
    assert repair(root).keys() == {BAD.eid}
    assert check(root) == {}
    cache = open_cache(root)
    assert list(cache) == [GOOD.eid]
    assert cache[GOOD.eid].equals(GOOD)
    assert session_attrs(root, BAD.eid) is None
    write_session(root, BAD, make_regions())
    assert check(root) == {}
    assert open_cache(root)[BAD.eid].equals(BAD)


def test_damaged_metadata_do_not_count_as_present(root: Path) -> None:
    path = root / BAD.eid / "zarr.json"
    path.write_text(path.read_text().replace("SYN_001", "SYN_007"))
    with pytest.raises(SessionError, match=r"zarr\.json is damaged"):
        session_attrs(root, BAD.eid)
    write_session(root, BAD, make_regions(), overwrite=True)
    assert check(root) == {}


@pytest.mark.parametrize("table", ["sessions", "regions"])
def test_a_damaged_table(root: Path, table: str) -> None:
    before = open_cache(root)
    expected = before.sessions, before.regions
    name = {"sessions": "n_units", "regions": "order"}[table]
    flip(root / table / name / "c" / "0", 20, 3)
    assert check(root).keys() == {table}
    # Readers ask the sessions themselves.
    assert open_cache(root).sessions.equals(expected[0])
    assert open_cache(root).regions.equals(expected[1])
    assert repair(root) == {}
    assert check(root) == {}
    assert open_cache(root).sessions.equals(expected[0])
    assert open_cache(root).regions.equals(expected[1])


def test_a_table_that_tells_of_another_session(root: Path, whole: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.zarr"
    create_cache(other)
    write_session(other, make_session(seed=1, n_units=4), make_regions())
    shutil.rmtree(root / BAD.eid)
    shutil.copytree(other / BAD.eid, root / BAD.eid)
    assert check(root) == {
        BAD.eid: "the table 'sessions' says n_units = 12, the session 4",
    }
    assert repair(root) == {}
    assert check(root) == {}


def test_a_session_that_was_deleted_by_hand(root: Path) -> None:
    shutil.rmtree(root / BAD.eid)
    assert list(open_cache(root)) == [GOOD.eid]
    assert check(root) == {BAD.eid: "listed in the table 'sessions', but not there"}
    assert repair(root) == {}
    assert check(root) == {}


def test_an_unlisted_damaged_session_does_not_hide_the_others(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for table in ("sessions", "regions"):
        shutil.rmtree(root / table)
    (root / BAD.eid / "zarr.json").write_text("{}")
    with caplog.at_level(logging.WARNING):
        assert list(open_cache(root)) == [GOOD.eid]
    assert BAD.eid in caplog.text
    third = make_session(seed=2)
    write_session(root, third, make_regions())
    assert set(open_cache(root)) == {GOOD.eid, third.eid}
    assert set(open_cache(root).regions.index) == set(make_regions().acronym)


def test_foreign_folders_are_left_alone(root: Path) -> None:
    (root / "notes").mkdir()
    (root / "notes" / "read me").write_text("mine")
    assert check(root) == {}
    assert repair(root) == {}
    assert (root / "notes" / "read me").read_text() == "mine"


def test_no_cache(tmp_path: Path) -> None:
    for function in (check, repair):
        with pytest.raises(UserError, match="is no ibl-mtm cache"):
            function(tmp_path)
