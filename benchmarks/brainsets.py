"""A full-size session of the brain-wide map, from BrainWideBench's file to the cache.

    python benchmarks/brainsets.py [--map DIR]

Simulates two sessions of 700 units, 500 trials and an hour (kept in DIR if given), and prints a
table: seconds and memory of an ingest, each in a process of its own, and the ratio to what h5py
takes to read the file's spikes and behaviour alone. Files are read from a warm disk.
"""

import argparse
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py

from ibl_mtm.brainsets.layout import BEHAVIOURS, BUILDS, file_of, recordings_in
from ibl_mtm.config.dataset import Dataset
from ibl_mtm.ingest.run import ingest
from ibl_mtm.simulate.brainsets.wide_map import WideMap, simulate_map

ALIGNS = {
    "consecutive windows of 1 s": {"contiguous": 1.0, "bin": 0.02},
    "trials, 2 s": {"event": "stimOn_times", "window": (-0.5, 1.5), "bin": 0.02},
}

processes = multiprocessing.get_context("spawn")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--map", type=Path, help="keep the simulated sessions here")
    with tempfile.TemporaryDirectory() as scratch:
        root = parser.parse_args().map or Path(scratch) / "bwb"
        simulate_map(root, WideMap(sessions=2, scale="full"))
        print(f"{'':44} {'s':>6} {'ratio':>6} {'GB':>5}")
        for build in BUILDS:
            limit, _ = apart(read, root, build)
            print(f"{build + ', read by h5py alone':44} {limit:6.2f} {1.0:6.1f}")
            for name, align in ALIGNS.items():
                seconds, peak = apart(one_ingest, root, build, align, Path(scratch))
                what = f"{build}, {name}"
                print(f"{what:44} {seconds:6.2f} {seconds / limit:6.1f} {peak:5.2f}")


def read(root: Path, build: str) -> float:
    """Seconds to read spikes and behaviour of a session, decoded by nobody."""
    eid = recordings_in(root, build, "eval")[0]
    start = time.perf_counter()
    with h5py.File(file_of(root, build, "eval", eid)) as file:
        for group in ("spikes", "trials", *BEHAVIOURS):
            for values in file[group].values():
                if isinstance(values, h5py.Dataset):
                    values[()]
    return time.perf_counter() - start


def one_ingest(root: Path, build: str, align: dict[str, Any], scratch: Path) -> float:
    """Seconds to ingest it, as the report has them."""
    source = {"kind": "brainsets", "path": root, "regime": "eval", "build": build}
    dataset = Dataset.model_validate({"source": source, "align": align, "split": {"kind": "file"}})
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        # Twice: imports are not what is measured.
        ingest(dataset, "x", Path(folder) / "warm.zarr", workers=1)
        report = ingest(dataset, "x", Path(folder) / "c.zarr", workers=1)
    assert not report.failed
    return sum(outcome.seconds for outcome in report.sessions.values())


def _told(queue: Any, work: Callable[..., float], arguments: tuple[Any, ...]) -> None:
    seconds = work(*arguments)
    queue.put((seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6))


def apart(work: Callable[..., float], *arguments: Any) -> tuple[float, float]:
    """Seconds and peak memory (GB) of work in a process of its own."""
    queue = processes.Queue()
    process = processes.Process(target=_told, args=(queue, work, arguments))
    process.start()
    found: tuple[float, float] = queue.get()
    process.join()
    return found


if __name__ == "__main__":
    main()
