"""Parts of the cache, one at a time: what is read again, told, ordered and left out."""

import hashlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from filelock import FileLock, Timeout
from synthetic import make_regions, make_session

import ibl_mtm
from ibl_mtm.cache import check as checks
from ibl_mtm.cache import groups
from ibl_mtm.cache.card import session_card
from ibl_mtm.cache.groups import (
    metadata_digest,
    open_group,
    patiently,
    read_metadata,
    write_group,
)
from ibl_mtm.cache.guard import GuardedStore
from ibl_mtm.cache.location import RemotePath, locate
from ibl_mtm.cache.plain_text import with_plain_text
from ibl_mtm.cache.staging import lock_cache, remove_leftovers, stage, staging_folder
from ibl_mtm.cache.store import create_cache, rebuild_sessions, session_attrs, write_session
from ibl_mtm.cache.tables import collect_regions, list_session_rows, merge_regions, read_table
from ibl_mtm.errors import UserError


def test_a_digest_is_of_the_sorted_text_without_the_checksum_itself():
    document = {"zarr_format": 3, "attributes": {"lab": "Zürich", "checksum": "0", "b": [1, 2]}}
    text = '{"attributes":{"b":[1,2],"lab":"Zürich"},"zarr_format":3}'
    assert metadata_digest(document) == hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.parametrize(
    ("place", "n_reads"), [(Path("here"), 4), (RemotePath("https://there", None), 1)]
)
def test_what_is_being_replaced_here_is_read_four_times(place, n_reads, monkeypatch):
    waits, reads = [], []
    monkeypatch.setattr(groups.time, "sleep", waits.append)

    def read(folder):
        reads.append(folder)
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        patiently(read, place)
    assert reads == [place] * n_reads
    assert len(waits) == n_reads - 1
    assert sum(waits) < 0.2
    assert patiently(lambda folder: folder, place) == place


@pytest.mark.parametrize(
    ("error", "absent"),
    [(FileNotFoundError(), True), (ValueError("cut short"), False), (None, False)],
)
def test_a_table_on_a_server_is_absent_only_where_its_file_is(error, absent, monkeypatch):
    def read(folder):
        if error is not None:
            raise error
        return {}

    monkeypatch.setattr(checks, "read_metadata", read)
    assert checks._is_absent(RemotePath("https://there", None, "tables")) == absent


def test_a_place_on_a_server_is_written_as_its_url():
    root = RemotePath("https://there/cache.zarr", None)
    assert (str(root), root.name, root.stem) == ("https://there/cache.zarr", "cache.zarr", "cache")
    spikes = root / "e1" / "spikes"
    assert (spikes.key, str(spikes)) == ("e1/spikes", "https://there/cache.zarr/e1/spikes")
    assert locate(spikes) is spikes


def test_text_of_ones_own_that_is_empty_is_no_condition():
    ds = make_session(n_trials=20)
    ds = ds.assign_coords(
        included=("trial", np.arange(20) != 19),
        outcome=("trial", np.array(["hit"] * 9 + [""] * 4 + ["miss"] * 7, dtype=object)),
    )
    found = ibl_mtm.psth(ds, "outcome")
    assert found.outcome.values.tolist() == ["hit", "miss"]
    assert found.n_trials.values.tolist() == [9, 6]
    with pytest.raises(UserError, match=r"no variable 'trial'; .*they have window_start, "):
        ibl_mtm.psth(ds, "trial")
    with pytest.raises(UserError, match="needs trials, bins and units, not trial, time"):
        ibl_mtm.psth(ds.spikes.isel(unit=0))


def test_units_of_a_region_go_by_probe_and_then_from_the_top(tmp_path):
    ds = make_session(n_units=6, n_trials=4).assign_coords(
        beryl=("unit", ["CA1"] * 4 + ["VISa"] * 2),
        probe=("unit", ["probe01", "probe00"] * 3),
        depth=("unit", np.float32([10, 20, 30, 40, 50, 60])),
    )
    write_group(tmp_path / "g", ds.assign_attrs(regions=make_regions_text()))
    raster = ibl_mtm.population_raster(open_group(tmp_path / "g"), int(ds.trial[1]))
    assert raster.depth.values.tolist() == [60, 50, 40, 20, 30, 10]


def make_regions_text():
    table = make_regions().set_index("acronym")
    return table.to_json(orient="index")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("parts") / "cache.zarr"
    create_cache(root)
    for seed in (0, 1, 2, 3):
        ds = make_session(
            n_units=5 + seed, n_trials=10, n_bins=5, seed=seed, subject=f"S{seed % 3}"
        )
        write_session(root, ds, make_regions())
    return root


def test_every_session_is_listed_as_it_is_written(root):
    table = read_table(root, "sessions")
    assert sorted(table["n_units"]) == [5, 6, 7, 8]
    assert table.index.tolist() == sorted(table.index)
    few = list_session_rows(root, table.index[:2])
    assert few.index.tolist() == table.index[:2].tolist()
    none = list_session_rows(root, [])
    assert (len(none), none.index.name) == (0, "eid")


def test_an_unknown_session_is_answered_by_the_first_three(root):
    cache = ibl_mtm.open_cache(root)
    shown = ", ".join(list(cache)[:3])
    with pytest.raises(UserError, match=f"has 4: {shown}, …$"):
        cache["nobody"]
    none = cache.where("n_units > 99")
    with pytest.raises(UserError, match=r"^no session 'nobody': .*cache\.zarr has none$"):
        none["nobody"]
    assert repr(none).count("\n") == 0
    assert repr(cache).count("\n") == 6  # two lines above them


def test_a_card_tells_of_one_session_alone(root):
    cache = ibl_mtm.open_cache(root)
    (eid,) = cache.find("S1")
    card = session_card(cache, "S1")
    assert card["eid"] == eid
    assert card["n_units"] == 6
    assert card["regions"] == {"CA1": 2, "DG": 1, "LP": 1, "PO": 1, "VISa": 1}
    assert next(iter(card["regions"])) == "CA1"
    assert sum(card["splits"].values()) == 10
    assert card["provenance"]["definition"] == {"seed": 1}
    assert "subject" not in card["provenance"]
    units = {name: about["units"] for name, about in card["variables"].items()}
    assert (units["depth"], units["region"]) == ("um", "")
    with pytest.raises(UserError, match=r"^S0 has 2 sessions; choose one of "):
        session_card(cache, "S0")


def test_regions_are_those_of_the_sessions_that_are_there(root):
    eids = list(ibl_mtm.open_cache(root))
    assert collect_regions(root, eids[:1]).index.tolist()[0] == "Isocortex"
    assert collect_regions(root, []).empty
    old = pd.DataFrame({"name": ["a", "b"], "order": [3, 2], "color": ["#0", "#1"]}, ["A", "B"])
    new = pd.DataFrame({"name": ["c"], "order": [1], "color": ["#2"]}, ["A"])
    merged = merge_regions([old, old.iloc[:0], new])
    assert merged.index.tolist() == ["A", "B"]
    assert merged.loc["A", "name"] == "c"


def test_what_a_session_says_of_itself_is_without_checksums(root):
    eid = next(iter(ibl_mtm.open_cache(root)))
    attributes = session_attrs(root, eid)
    assert attributes["eid"] == eid
    assert not {"checksum", "chunk_checksums"} & set(attributes)
    assert not {"checksum", "chunk_checksums"} & set(ibl_mtm.open_cache(root)[eid].attrs)
    assert session_attrs(root, "nobody") is None


def test_a_cache_is_locked_while_it_is_written_and_then_no_more(tmp_path):
    root = tmp_path / "c.zarr"

    def is_free():
        lock = FileLock(staging_folder(root) / "cache.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return False
        lock.release()
        return True

    with lock_cache(root):
        assert not is_free()
    assert is_free()
    with pytest.raises(KeyError), lock_cache(root):
        raise KeyError
    assert is_free()


def test_what_is_prepared_is_its_owner_s_until_it_is_done(tmp_path):
    root = tmp_path / "c.zarr"
    with stage(root, "e1") as aside:
        (aside / "new").mkdir()
        remove_leftovers(root)
        assert aside.is_dir()
        with pytest.raises(Timeout):
            FileLock(aside / "owner.lock").acquire(timeout=0)
        left = aside.with_name(f"{aside.name}x")  # of a process that died
        left.mkdir()
        (aside.parent / "note.txt").touch()
        remove_leftovers(root)
        assert not left.exists()
    assert not aside.exists()
    assert (staging_folder(root) / "note.txt").exists()


def test_what_is_no_cache_is_neither_written_nor_mended(tmp_path):
    ds = make_session(n_units=5, n_trials=4, n_bins=5)
    for action in (
        lambda: write_session(tmp_path / "none", ds, make_regions()),
        lambda: rebuild_sessions(tmp_path / "none"),
        lambda: checks.repair(tmp_path / "none"),
    ):
        with pytest.raises(UserError, match="no cache at"):
            action()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("place", [lambda root: root, staging_folder])
def test_a_cache_that_cannot_be_written_is_not_mended(root, monkeypatch, place):
    def check_folder(folder):
        if folder == place(root):
            raise UserError(f"cannot write {folder}")

    monkeypatch.setattr(checks, "check_folder", check_folder)
    monkeypatch.setattr(checks, "rebuild_sessions", lambda *a, **k: pytest.fail("written"))
    with pytest.raises(UserError, match="cannot write"):
        checks.repair(root)


def test_metadata_are_a_mapping(tmp_path):
    (tmp_path / "zarr.json").write_text("[]")
    with pytest.raises(ValueError, match=r"zarr\.json: expected a mapping"):
        read_metadata(tmp_path)


def test_what_is_open_is_open_for_reading(root):
    eid = next(iter(ibl_mtm.open_cache(root)))
    assert GuardedStore(root / eid).read_only


def test_text_that_was_read_as_objects_is_written_as_it_was_stored():
    names = np.array(["a", "b"], dtype=object)
    ds = xr.Dataset({"beryl": ("unit", names), "depth": ("unit", np.zeros(2))})
    for name in ds.variables:
        ds[name].encoding["dtype"] = "kept"
    found = with_plain_text(ds)
    assert "dtype" not in found["beryl"].encoding
    assert found["depth"].encoding["dtype"] == "kept"
