"""What is written is what is read, by this package and by any other Zarr reader."""

import json
import os
import time
from pathlib import Path

import google_crc32c
import numpy as np
import pandas as pd
import pytest
import tensorstore
import xarray as xr
from synthetic import make_regions, make_session

from ibl_mtm.cache.cache import open_cache
from ibl_mtm.cache.staging import _age, staging_folder
from ibl_mtm.cache.store import (
    create_cache,
    list_sessions,
    rebuild_sessions,
    session_attrs,
    write_session,
)
from ibl_mtm.cache.tables import read_table
from ibl_mtm.errors import SessionError, UserError
from ibl_mtm.sessions.schema import VARIABLES


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "below" / "cache.zarr"
    create_cache(root)
    return root


SESSIONS = {
    "trials": make_session(n_units=7, n_trials=150),
    "contiguous": make_session(contiguous=True, seed=1),
    "one unit, one trial": make_session(n_units=1, n_trials=1, seed=2),
}


@pytest.mark.parametrize("ds", SESSIONS.values(), ids=SESSIONS)
def test_round_trip(root: Path, ds: xr.Dataset, recwarn: pytest.WarningsRecorder) -> None:
    write_session(root, ds, make_regions())
    found = open_cache(root)[ds.eid]
    assert found.equals(ds)
    assert found.attrs.items() >= ds.attrs.items()
    assert {n: v.dtype.kind for n, v in found.variables.items()} == {
        n: "O" if v.dtype.kind in "OU" else v.dtype.kind for n, v in ds.variables.items()
    }
    assert not [str(w.message) for w in recwarn]


def test_counts_never_wrap(root: Path) -> None:
    ds = make_session()
    counts = ds.spikes.values.astype(np.uint16)
    counts[0, :3, 0] = 255, 256, 65535
    write_session(root, ds.assign(spikes=(ds.spikes.dims, counts)), make_regions())
    found = open_cache(root)[ds.eid].spikes
    assert found.dtype == np.uint16
    assert found.values[0, :3, 0].tolist() == [255, 256, 65535]


def test_xarray_alone_reads_all_of_it(root: Path) -> None:
    sessions = {ds.eid: ds for ds in SESSIONS.values()}
    for ds in sessions.values():
        write_session(root, ds, make_regions())
    with xr.open_datatree(root, engine="zarr", consolidated=False) as tree:
        assert set(tree.children) == {"sessions", "regions", *sessions}
        assert tree.attrs == {"format": "ibl-mtm", "format_version": 1}
        for eid, ds in sessions.items():
            assert tree[eid].to_dataset().equals(ds)
        for eid, ds in sessions.items():
            assert tree["sessions"].n_units.sel(eid=eid) == ds.sizes["unit"]
        assert tree["regions"].sel(acronym="CA1").color.item() == "#7ed04b"


def test_tensorstore_reads_the_numbers(root: Path) -> None:
    ds = SESSIONS["trials"]
    write_session(root, ds, make_regions())
    numeric = [name for name in map(str, ds.variables) if ds[name].dtype.kind in "buif"]
    assert "spikes" in numeric
    for name in numeric:
        spec = {
            "driver": "zarr3",
            "kvstore": {"driver": "file", "path": str(root / ds.eid / name)},
        }
        found = tensorstore.open(spec, read=True).result().read().result()
        np.testing.assert_array_equal(found, ds[name].values)


def test_the_layout_on_disk(root: Path) -> None:
    ds = SESSIONS["trials"]
    write_session(root, ds, make_regions())
    document = json.loads((root / ds.eid / "zarr.json").read_text())
    arrays = document["consolidated_metadata"]["metadata"]
    assert set(arrays) == set(ds.variables)
    assert arrays["spikes"]["chunk_grid"]["configuration"]["chunk_shape"] == [64, 100, 7]
    for name, array in arrays.items():
        assert [codec["name"] for codec in array["codecs"]][-2:] == ["blosc", "crc32c"]
        blosc = array["codecs"][-2]["configuration"]
        assert blosc["cname"] == ("lz4hc" if name == "spikes" else "zstd")
        assert blosc["shuffle"] == "bitshuffle"
        assert array["attributes"].get("units", "") == VARIABLES[name].units
    # Chunks of zeros are there too.
    chunks = [path for path in (root / ds.eid / "spikes" / "c").rglob("*") if path.is_file()]
    assert len(chunks) == 3


def test_every_chunk_is_named_with_its_checksum(root: Path) -> None:
    ds = SESSIONS["trials"]
    write_session(root, ds, make_regions())
    attributes = json.loads((root / ds.eid / "zarr.json").read_text())["attributes"]
    files = [f for f in (root / ds.eid).rglob("*") if f.is_file() and f.name != "zarr.json"]
    assert json.loads(attributes["chunk_checksums"]) == {
        file.relative_to(root / ds.eid).as_posix(): google_crc32c.value(content[:-4])
        .to_bytes(4, "little")
        .hex()
        for file in files
        for content in [file.read_bytes()]
    }
    # Readers and writers of sessions see none of it.
    assert not {"checksum", "chunk_checksums"} & set(open_cache(root)[ds.eid].attrs)
    assert not {"checksum", "chunk_checksums"} & set(session_attrs(root, ds.eid) or {})


def test_chunks_of_zeros_are_written(root: Path) -> None:
    ds = make_session()
    write_session(root, ds.assign(spikes=ds.spikes * np.uint8(0)), make_regions())
    assert (root / ds.eid / "spikes" / "c" / "0" / "0" / "0").is_file()


def test_units_that_the_caller_names_are_kept(root: Path) -> None:
    ds = make_session()
    ds["whisker_motion_energy"].attrs["units"] = "grey levels"
    write_session(root, ds, make_regions())
    found = open_cache(root)[ds.eid]
    assert found.whisker_motion_energy.attrs["units"] == "grey levels"
    assert found.firing_rate.attrs["units"] == "Hz"


def test_session_attrs(root: Path) -> None:
    ds = make_session(notes=["no camera"])
    assert session_attrs(root, ds.eid) is None
    write_session(root, ds, make_regions())
    found = session_attrs(root, ds.eid)
    assert found is not None
    assert found.items() >= ds.attrs.items()


def test_writing_again_changes_nothing(root: Path) -> None:
    ds = make_session()
    write_session(root, ds, make_regions())
    before = (root / ds.eid / "zarr.json").stat()
    write_session(root, ds, make_regions())
    assert (root / ds.eid / "zarr.json").stat() == before


def test_another_definition_needs_overwrite(root: Path) -> None:
    old = make_session()
    new = make_session(n_units=3, definition_hash="f" * 64)
    assert old.eid == new.eid
    write_session(root, old, make_regions())
    with pytest.raises(SessionError, match=r"another definition .*--overwrite"):
        write_session(root, new, make_regions())
    assert open_cache(root)[old.eid].equals(old)
    write_session(root, new, make_regions(), overwrite=True)
    cache = open_cache(root)
    assert cache[old.eid].equals(new)
    assert cache.sessions.n_units.tolist() == [3]


def test_a_session_that_does_not_fit_is_not_written(root: Path) -> None:
    ds = make_session().drop_vars("split")
    with pytest.raises(ValueError, match="split: missing"):
        write_session(root, ds, make_regions())
    assert len(open_cache(root)) == 0
    assert [path.name for path in staging_folder(root).iterdir()] == ["cache.lock"]


def test_a_failed_write_leaves_nothing(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    ds = make_session()
    monkeypatch.setattr("ibl_mtm.cache.store.write_group", fail)
    with pytest.raises(OSError, match="No space left"):
        write_session(root, ds, make_regions())
    assert len(open_cache(root)) == 0
    assert [path.name for path in staging_folder(root).iterdir()] == ["cache.lock"]


def test_regions_are_merged_in_the_allen_order(root: Path) -> None:
    regions = make_regions()
    thalamus, other = regions[regions.order >= 640], regions[regions.order < 640]
    first, second = make_session(seed=1), make_session(seed=2)
    first = first.isel(unit=first.cosmos == "TH")
    second = second.isel(unit=second.cosmos != "TH")
    write_session(root, first, thalamus)
    assert list(open_cache(root).regions.index) == ["TH", "LP", "PO"]
    write_session(root, second, other)
    expected = regions.set_index("acronym").sort_values("order")
    pd.testing.assert_frame_equal(open_cache(root).regions, expected)


def test_a_region_without_a_row_is_named(root: Path) -> None:
    with pytest.raises(ValueError, match=r"regions: .*\['CA1'\]"):
        write_session(root, make_session(), make_regions().query("acronym != 'CA1'"))


def test_many_sessions_are_listed_together(root: Path) -> None:
    for number in range(2):
        write_session(root, make_session(seed=number), make_regions(), listed=False)
    unlisted = open_cache(root).sessions  # readers ask the sessions themselves
    assert len(unlisted) == 2
    assert len(read_table(root, "sessions")) == 0
    list_sessions(root)
    pd.testing.assert_frame_equal(read_table(root, "sessions"), unlisted)


def test_rebuilding_the_tables(root: Path) -> None:
    for ds in SESSIONS.values():
        write_session(root, ds, make_regions())
    before = open_cache(root)
    expected = before.sessions, before.regions
    for name in ("sessions", "regions"):
        (root / name).rename(root.parent / name)
    # A reader needs no tables, ...
    pd.testing.assert_frame_equal(open_cache(root).sessions, expected[0])
    pd.testing.assert_frame_equal(open_cache(root).regions, expected[1])
    # ... and they can be had again.
    rebuild_sessions(root)
    with xr.open_datatree(root, engine="zarr", consolidated=False) as tree:
        assert list(tree["sessions"].eid.values) == list(expected[0].index)
        assert list(tree["regions"].acronym.values) == list(expected[1].index)


def test_creating_is_idempotent(root: Path) -> None:
    write_session(root, make_session(), make_regions())
    create_cache(root)
    assert len(open_cache(root)) == 1


def test_an_empty_folder_becomes_a_cache(tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    create_cache(tmp_path / "cache")
    assert len(open_cache(tmp_path / "cache")) == 0


def test_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("...")
    for path in (tmp_path, tmp_path / "thesis.tex"):
        with pytest.raises(UserError, match="no ibl-mtm cache"):
            create_cache(path)
    with pytest.raises(UserError, match="no cache at"):
        write_session(tmp_path / "none", make_session(), make_regions())
    assert (tmp_path / "thesis.tex").read_text() == "..."


def test_damaged_attributes_are_no_absent_session(root: Path) -> None:
    ds = make_session()
    write_session(root, ds, make_regions())
    file = root / ds.eid / "zarr.json"
    whole = file.read_text()
    assert "chunk_checksums" not in (session_attrs(root, ds.eid) or {"chunk_checksums": 0})
    for spoilt in ("{", whole.replace(ds.attrs["subject"], "another")):
        file.write_text(spoilt)
        with pytest.raises(
            SessionError, match=r"zarr\.json is damaged; run ibl-mtm check --repair"
        ):
            session_attrs(root, ds.eid)
    assert session_attrs(root, "not-there") is None


def test_a_folder_is_as_old_as_what_is_newest_in_it(tmp_path: Path) -> None:
    now = time.time()
    for name, age in (("a", 500), ("b", 100), ("c", 300)):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (now - age, now - age))
    os.utime(tmp_path, (now - 400, now - 400))
    assert _age(tmp_path) == pytest.approx(100, abs=30)
    (tmp_path / "b").unlink()
    os.utime(tmp_path, (now - 200, now - 200))
    assert _age(tmp_path) == pytest.approx(200, abs=30)
