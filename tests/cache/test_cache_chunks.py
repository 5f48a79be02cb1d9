"""Spike counts read by whole chunks: the same as xarray reads, and never damaged ones."""

import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
import zarr
from synthetic import make_regions, make_session
from zarr.codecs import BloscCodec, GzipCodec

from ibl_mtm.cache import groups
from ibl_mtm.cache.cache import open_cache
from ibl_mtm.cache.chunks import open_spikes
from ibl_mtm.cache.store import create_cache, write_session
from ibl_mtm.errors import SessionError
from ibl_mtm.sessions.spikes import spikes_of


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Two sessions of 150 trials (three chunks): counts up to the last of a byte, and of two."""
    root = tmp_path_factory.mktemp("chunks") / "cache.zarr"
    create_cache(root)
    for seed, dtype in ((1, np.uint8), (2, np.uint16)):
        ds = make_session(n_units=9, n_trials=150, n_bins=20, seed=seed)
        spikes = ds.spikes.astype(dtype)
        spikes[{"unit": 8}] = np.iinfo(dtype).max
        write_session(root, ds.assign(spikes=spikes), make_regions())
    return open_cache(root)


@pytest.fixture
def cache(whole, tmp_path):
    """The same, to be damaged."""
    return open_cache(shutil.copytree(whole.path, tmp_path / "cache.zarr"))


CHOSEN = {
    "all": np.arange(150),
    "some": np.array([0, 5, 63, 64, 149]),
    "of one chunk": np.array([70, 71, 72]),
    "none": np.array([], int),
}


@pytest.mark.parametrize("trials", CHOSEN.values(), ids=CHOSEN)
@pytest.mark.parametrize("units", [np.arange(9), np.array([2, 8])], ids=["all units", "two units"])
def test_counts_are_those_that_xarray_reads(whole, trials, units):
    for eid, ds in whole.items():
        for spikes in (open_spikes(whole, eid), spikes_of(ds), spikes_of(ds.load())):
            counts = spikes.read(trials, units)
            assert np.array_equal(counts, ds.spikes.values[trials][:, :, units])
            assert counts.dtype == spikes.dtype == ds.spikes.dtype


def test_each_chunk_is_decoded_once_and_only_those_that_are_needed(whole):
    eid = next(iter(whole))
    spikes = open_spikes(whole, eid)
    decoded = []

    def decode(number, chunk):
        decoded.append(number)
        spikes.decode(number, chunk)

    counted = type(spikes)(eid, spikes.shape, spikes.dtype, spikes.trials_per_chunk, decode)
    counted.read(CHOSEN["some"], np.arange(9))
    assert decoded == [0, 1, 2]
    counted.read(CHOSEN["of one chunk"], np.arange(9))
    assert decoded == [0, 1, 2, 1]


def test_threads_may_read_at_once(whole):
    eid = next(iter(whole))
    spikes, expected = open_spikes(whole, eid), whole[eid].spikes.values
    equal = []

    def read():
        equal.append(np.array_equal(spikes.read(np.arange(150), np.arange(9)), expected))

    threads = [threading.Thread(target=read) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert equal == [True] * 8


def chunk_file(cache: object, eid: str, number: int) -> Path:
    return cache.path / eid / f"spikes/c/{number}/0/0"  # type: ignore[attr-defined]


@pytest.mark.parametrize("way", ["files", "xarray"])
@pytest.mark.parametrize("damage", ["flipped", "cut", "empty", "missing"])
def test_damage_is_told_with_the_session_and_the_chunk(cache, damage, way):
    eid, other = list(cache)
    spikes = open_spikes(cache, eid) if way == "files" else spikes_of(cache[eid])
    file = chunk_file(cache, eid, 1)
    stored = bytearray(file.read_bytes())
    stored[len(stored) // 2] ^= 4
    if damage == "missing":
        file.unlink()
    else:
        file.write_bytes({"flipped": stored, "cut": stored[:-9], "empty": b""}[damage])
    with pytest.raises(SessionError, match=rf"{eid}: spikes.*1") as caught:
        spikes.read(np.arange(150), np.arange(9))
    assert caught.value.eid == eid
    # The rest of it, and the other session, can be read.
    assert len(spikes.read(np.array([0, 140]), np.arange(9))) == 2
    assert len(open_spikes(cache, other).read(np.arange(150), np.arange(9))) == 150


def test_a_session_that_was_replaced_is_not_mixed_with_its_successor(cache):
    eid = next(iter(cache))
    spikes = open_spikes(cache, eid)
    write_session(cache.path, cache[eid].load(), make_regions(), overwrite=True)
    with pytest.raises(SessionError, match=rf"{eid}: replaced since it was opened"):
        spikes.read(np.arange(150), np.arange(9))
    assert open_spikes(cache, eid).read(np.arange(150), np.arange(9)).any()


@pytest.mark.parametrize("name", ["lz4hc", "zstd"])
def test_counts_are_read_whatever_blosc_compressed_them_with(cache, name, monkeypatch):
    if name == "zstd":  # as early versions did

        def make(**settings):
            return BloscCodec(**(settings | {"cname": "zstd", "clevel": 5}))

        monkeypatch.setattr(groups, "BloscCodec", make)
    ds = make_session(n_units=9, n_trials=70, n_bins=20, seed=3)
    write_session(cache.path, ds, make_regions())
    eid = ds.attrs["eid"]
    array = zarr.open_array(cache.path / eid / "spikes", mode="r")
    assert array.compressors[0].cname.value == name
    counts = open_spikes(open_cache(cache.path), eid).read(np.arange(70), np.arange(9))
    assert np.array_equal(counts, ds.spikes.values)


def test_what_others_wrote_with_other_codecs_is_read_by_zarr(cache, monkeypatch):
    monkeypatch.setattr(groups, "Crc32cCodec", lambda: GzipCodec(level=1))
    ds = make_session(n_units=9, n_trials=70, n_bins=20, seed=3)
    write_session(cache.path, ds, make_regions())
    eid = ds.attrs["eid"]
    counts = open_spikes(open_cache(cache.path), eid).read(np.arange(70), np.arange(9))
    assert np.array_equal(counts, ds.spikes.values)
