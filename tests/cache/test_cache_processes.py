"""Several processes at one cache: killed, side by side, reading while others write."""

import multiprocessing
import os
import signal
import socket
import time
from collections.abc import Iterable
from itertools import cycle, islice
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from synthetic import make_regions, make_session

from ibl_mtm.cache.cache import open_cache
from ibl_mtm.cache.check import check
from ibl_mtm.cache.staging import stage, staging_folder
from ibl_mtm.cache.store import create_cache, write_session
from ibl_mtm.errors import SessionError

# A forked process must not inherit Zarr's threads; this server has imported it, and run none. What
# this file imports is imported there once, and not in every process.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(
    [
        "pytest",
        "xarray",
        "dask.array",
        "ibl_mtm.cache.cache",
        "ibl_mtm.cache.check",
        "ibl_mtm.cache.store",
    ]
)

UNTOUCHED = make_session(seed=99)


def make_version(seed: int, version: int) -> xr.Dataset:
    """One of several contents of the same session, of different sizes or of the same."""
    n_units = (4, 4, 6)[version]
    ds = make_session(n_units, n_trials=80, n_bins=50, seed=seed)
    return ds.assign(spikes=ds.spikes + np.uint8(version)).assign_attrs(version=version)


def write(root: Path, sessions: Iterable[tuple[int, int]], started: object = None) -> None:
    for seed, version in sessions:
        if started is not None:
            started.set()
        write_session(root, make_version(seed, version), make_regions(), overwrite=True)


def write_for_ever(root: Path, started: object) -> None:
    write(root, cycle([(seed, version) for version in range(3) for seed in range(3)]), started)


def write_once(root: Path, seeds: list[int]) -> None:
    create_cache(root)
    for seed in seeds:
        write_session(root, make_version(seed, 0), make_regions())


def start(function: object, *arguments: object) -> BaseProcess:
    process = PROCESSES.Process(target=function, args=arguments, daemon=True)
    process.start()
    return process


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "cache.zarr"
    create_cache(root)
    write_session(root, UNTOUCHED, make_regions())
    return root


def assert_valid(root: Path) -> set[str]:
    """Every session that is there is whole, and the table tells of these and no others."""
    assert check(root) == {}
    cache = open_cache(root)
    for eid, ds in cache.items():
        expected = make_version(int(ds.subject[4:]), ds.version) if "version" in ds.attrs else None
        assert ds.equals(UNTOUCHED if expected is None else expected)
        assert cache.sessions.loc[eid, "n_units"] == ds.sizes["unit"]
    assert UNTOUCHED.eid in cache
    return set(cache)


def kill_writers(root: Path, times: int) -> None:
    rng = np.random.default_rng(0)
    seen: set[str] = set()
    left = 0
    for attempt in range(10 * times):
        # On a busy machine a writer may get nowhere before it is killed.
        if attempt >= times and len(seen) > 1 and left > 0:
            break
        started = PROCESSES.Event()
        process = start(write_for_ever, root, started)
        assert started.wait(60)
        time.sleep(rng.uniform(0, 0.5))
        assert process.is_alive()
        os.kill(process.pid or 0, signal.SIGKILL)
        process.join()
        left += len(list(staging_folder(root).iterdir())) - 1
        seen |= assert_valid(root)
    # The kills did meet writers at work, ...
    assert len(seen) > 1
    assert left > 0
    # ... and the next one tidies up behind them.
    write(root, [(7, 0)])
    assert [path.name for path in staging_folder(root).iterdir()] == ["cache.lock"]
    with xr.open_zarr(root / "sessions") as table:
        assert set(table.eid.values) == assert_valid(root)


def test_a_killed_writer_leaves_a_valid_cache(root: Path) -> None:
    kill_writers(root, times=6)


@pytest.mark.slow
def test_many_killed_writers_leave_a_valid_cache(root: Path) -> None:
    kill_writers(root, times=100)


def test_two_writers_at_once(tmp_path: Path) -> None:
    root = tmp_path / "cache.zarr"
    writers = [start(write_once, root, seeds) for seeds in ([0, 1, 2, 3], [5, 3, 1, 4])]
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0, 0]
    assert check(root) == {}
    with xr.open_zarr(root / "sessions") as table:
        assert set(table.eid.values) == {make_version(seed, 0).eid for seed in range(6)}
    assert [path.name for path in staging_folder(root).iterdir()] == ["cache.lock"]


def test_a_reader_never_sees_half_a_session(root: Path) -> None:
    versions = {
        (ds.eid, version): ds
        for seed in range(3)
        for version in range(3)
        if (ds := make_version(seed, version)) is not None
    }
    started = PROCESSES.Event()
    writer = start(write_for_ever, root, started)
    assert started.wait(60)
    outcomes = {"whole": 0, "replaced": 0}
    patience = time.monotonic() + 60  # a busy machine needs longer for as many looks
    while outcomes["whole"] <= 10 and time.monotonic() < patience:
        cache = open_cache(root)
        assert cache[UNTOUCHED.eid].equals(UNTOUCHED)
        for eid in cache:
            if eid == UNTOUCHED.eid:
                continue
            try:
                ds = cache[eid].load()
            except SessionError:
                outcomes["replaced"] += 1
            else:
                outcomes["whole"] += 1
                assert ds.equals(versions[eid, ds.version])
    assert writer.is_alive()
    writer.kill()
    writer.join()
    assert outcomes["whole"] > 10


def test_a_living_writer_is_left_alone(root: Path) -> None:
    with stage(root, "mine") as folder:
        write(root, islice(cycle([(0, 0), (1, 0)]), 2))
        assert folder.is_dir()
    assert not folder.exists()


@pytest.mark.parametrize(("age", "kept"), [(60, True), (7200, False)], ids=["young", "old"])
def test_a_writer_on_another_machine(root: Path, age: float, kept: bool) -> None:
    folder = staging_folder(root) / f"eid.not-{socket.gethostname()}-but-another.1.abc"
    folder.mkdir()
    then = time.time() - age
    os.utime(folder, (then, then))
    write(root, [(0, 0)])
    assert folder.exists() == kept
