"""How fast trials reach the model, and how much memory they take.

    python benchmarks/loader.py [--sessions 20] [--many 200] [--folder DIR] [--torch-brain PYTHON]

Prints a table: what, its value, the limit, and the ratio of the two. The cache has sessions of 400
trials x 100 bins x 676 units at rates as of real recordings (5 Hz on average, lognormal), all
but four trials for training; batches have 16 trials. A session's chunks are links to those of one
of five sessions, and files are in the page cache. Loaders run for whole epochs, every session
decoded once in each; where nothing else is said values are the median of several. On a machine
that does other work too, see the rows per second of CPU time.

The row of torch_brain needs its package (torch_brain 0.2), here or in another environment whose
Python is named; it reads the same windows of the same spikes. Every measurement that has to do with
memory runs in a process of its own.
"""

import argparse
import importlib.util
import itertools
import json
import multiprocessing
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import xarray as xr

from ibl_mtm.cache.cache import open_cache
from ibl_mtm.cache.groups import CHECKSUM, metadata_digest
from ibl_mtm.cache.guard import CHUNK_CHECKSUMS
from ibl_mtm.cache.store import create_cache, write_session
from ibl_mtm.training.data.describe import READERS, describe_sessions
from ibl_mtm.training.data.loader import Loader
from ibl_mtm.training.run import train
from ibl_mtm.training.settings import DataSettings, RunSettings, read_run_settings

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "helpers"))
from synthetic import make_regions, make_session

N_TRIALS, N_BINS, N_UNITS, BATCH, POOL = 400, 100, 676, 16, 4
SESSION = N_TRIALS * N_BINS * N_UNITS
processes = multiprocessing.get_context("spawn")

Row = tuple[str, float, str, float | None]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sessions", type=int, default=20)
    parser.add_argument("--many", type=int, default=200, help="sessions for the row on memory")
    parser.add_argument("--folder", type=Path, help="keep the caches here")
    parser.add_argument("--torch-brain", default=sys.executable, metavar="PYTHON")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.folder or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        few = make_cache(folder / f"cache{arguments.sessions}.zarr", arguments.sessions)
        tell("the loader", apart(loader_rows, few))
        tell("beside it", apart(plain_rows, few, folder) + torch_brain_rows(few, folder, arguments))
        many = make_cache(folder / f"cache{arguments.many}.zarr", arguments.many)
        tell("memory", apart(memory_row, many, folder))


def tell(title: str, rows: list[Row]) -> None:
    print(f"\n{title:62} {'':>9}          {'limit':>8} {'ratio':>6}")
    for what, value, unit, limit in rows:
        bound = "" if limit is None else f"{limit:8,.0f} {value / limit:6.2f}"
        shown = f"{value:9.2f}" if value < 100 else f"{value:9,.0f}"
        print(f"  {what:60} {shown} {unit:8} {bound}", flush=True)


def apart(measure: Callable[..., list[Row]], *arguments: object) -> list[Row]:
    """Measure in a process of its own, which has done nothing else."""
    with processes.Pool(1) as pool:
        return pool.apply(measure, arguments)


def make_cache(root: Path, n_sessions: int) -> Path:
    """A cache whose sessions have units of their own, and the chunks of one of the first five."""
    if root.exists():
        return root
    create_cache(root)
    written: list[Path] = []
    for seed in range(n_sessions):
        ds = make_session(N_UNITS, N_TRIALS, N_BINS, seed=seed)
        split = np.where(np.arange(N_TRIALS) % 100 == 50, "val", "train")
        ds = ds.assign_coords(split=("trial", split))
        model = written[seed % 5] if seed >= 5 else None
        # Nothing is quicker to encode than nothing.
        spikes = draw_spikes(seed) if model is None else np.zeros(ds.spikes.shape, np.uint8)
        write_session(root, ds.assign(spikes=(ds.spikes.dims, spikes)), make_regions())
        folder = root / ds.attrs["eid"]
        if model is not None:
            link(model, folder)
        written.append(folder)
    return root


def draw_spikes(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    rates = rng.lognormal(np.log(5) - 0.5 * 1.3**2, 1.3, N_UNITS).clip(0.05, 80)
    counts = rng.poisson(rates * 0.02, (N_TRIALS, N_BINS, N_UNITS))
    return counts.clip(0, 255).astype(np.uint8)


def link(model: Path, folder: Path) -> None:
    """Let a session have another one's spikes."""
    for path in (model / "spikes" / "c").rglob("*"):
        if path.is_file():
            copy = folder / path.relative_to(model)
            copy.unlink()
            os.link(path, copy)
    document, theirs = (json.loads((place / "zarr.json").read_text()) for place in (folder, model))
    checksums = json.loads(document["attributes"][CHUNK_CHECKSUMS])
    others = json.loads(theirs["attributes"][CHUNK_CHECKSUMS])
    checksums |= {key: value for key, value in others.items() if key.startswith("spikes/")}
    document["attributes"][CHUNK_CHECKSUMS] = json.dumps(checksums)
    document["attributes"][CHECKSUM] = metadata_digest(document)
    (folder / "zarr.json").write_text(json.dumps(document))


def speeds(run: Callable[[], int], repeats: int) -> tuple[float, float]:
    """Trials per second, and per second of CPU time: medians."""
    wall, cpu = [], []
    for _ in range(repeats):
        start, start_cpu = time.perf_counter(), time.process_time()
        n_trials = run()
        wall.append(n_trials / (time.perf_counter() - start))
        cpu.append(n_trials / (time.process_time() - start_cpu))
    return statistics.median(wall), statistics.median(cpu)


def loader_rows(root: Path) -> list[Row]:
    start = time.perf_counter()
    sessions = describe_sessions(open_cache(root), DataSettings())
    rows: list[Row] = [
        (
            "sessions described at the start",
            len(sessions) / (time.perf_counter() - start),
            "/s",
            None,
        )
    ]
    # The least that holds the pool and what is read ahead; and more than there is.
    least = ((POOL + READERS) * SESSION + 64 * N_BINS * N_UNITS) / 1e9
    for what, memory, limit in (
        ("no session kept", least, 15_000),
        ("all kept in memory", 2 * len(sessions) * SESSION / 1e9, 60_000),
    ):
        settings = RunSettings(
            batch_size=BATCH, data=DataSettings(pool=POOL, memory_gb=memory, device_cache="off")
        )
        with closing(Loader(sessions, settings)) as loader:
            epochs = loader.training()

            def epoch(loader: Loader = loader, epochs: Iterator = epochs) -> int:
                batches = itertools.islice(epochs, loader.sampler.steps_per_epoch)
                return sum(len(part.counts()) for batch in batches for part in batch.parts)

            first, _ = speeds(epoch, 1)
            wall, cpu = speeds(epoch, 5)
        rows += [
            (f"{what}, first epoch", first, "trials/s", None),
            (f"{what}, further ones", wall, "trials/s", limit),
            (f"{what}, per second of CPU time", cpu, "trials/s", None),
        ]
    return rows


def plain_rows(root: Path, folder: Path) -> list[Row]:
    cache = open_cache(root)
    eids = list(cache)[:5]
    mapped, in_memory = [], []
    for eid in eids:
        counts = cache[eid].spikes.values
        np.save(folder / f"{eid}.npy", counts)
        mapped.append(np.load(folder / f"{eid}.npy", mmap_mode="r"))
        in_memory.append(counts)
    arrays: list[xr.DataArray] = [cache[eid].spikes for eid in eids]
    rng = np.random.default_rng(0)

    def draw(sources: list, read: Callable, n_batches: int) -> Callable[[], int]:
        def run() -> int:
            for _ in range(n_batches):
                trials = rng.choice(N_TRIALS, BATCH, replace=False)
                read(sources[rng.integers(len(sources))], trials)
            return n_batches * BATCH

        return run

    def take(source: np.ndarray, trials: np.ndarray) -> np.ndarray:
        return source.take(trials, 0)

    return [
        (
            f"{what}, {BATCH} random trials of a session at a time",
            speeds(run, 5)[0],
            "trials/s",
            None,
        )
        for what, run in (
            ("memory-mapped NPY", draw(mapped, take, 200)),
            ("one gather from memory", draw(in_memory, take, 200)),
            ("zarr-python through xarray", draw(arrays, lambda a, i: a[np.sort(i)].values, 3)),
        )
    ]


def torch_brain_rows(root: Path, folder: Path, arguments: argparse.Namespace) -> list[Row]:
    python = arguments.torch_brain
    if python == sys.executable and importlib.util.find_spec("torch_brain") is None:
        print(
            "\ntorch_brain is left out: not installed here, and no --torch-brain PYTHON that has it"
        )
        return []
    spikes = folder / "spikes"
    spikes.mkdir(exist_ok=True)
    total = 0
    for eid, ds in itertools.islice(open_cache(root).items(), 4):
        counts = ds.spikes.values
        trial, step, unit = (index.repeat(counts[counts > 0]) for index in np.nonzero(counts))
        jitter = np.random.default_rng(0).uniform(0.1, 0.9, len(trial))
        starts = ds.window_start.values
        times = starts[trial] + 0.02 * (step + jitter)
        order = np.argsort(times, kind="stable")
        np.savez(spikes / eid, times=times[order], units=unit[order], starts=starts)
        total += len(times)
    script = Path(__file__).parent / "others" / "torch_brain_windows.py"
    done = subprocess.run([python, script, spikes], capture_output=True, text=True)
    if done.returncode:
        print(f"\ntorch_brain is left out: {done.stderr.strip().splitlines()[-1]}")
        return []
    found = json.loads(done.stdout.splitlines()[-1])
    size = f"{total / 1e6:.0f} M spikes"
    return [
        (f"torch_brain, lazy HDF5, {size}, {how}", found[how], "trials/s", None)
        for how in ("unbinned", "binned")
    ]


def memory_row(root: Path, folder: Path) -> list[Row]:
    """A short training, then an epoch and a validation of everything, under 1 GB for counts."""
    cache = open_cache(root)
    changes = [
        "steps=20",
        "validate_every=20",
        "batch_size=16",
        "data.memory_gb=1",
        "model.width=16",
    ]
    settings = read_run_settings("mtm_small", [*changes, "model.heads=2", "model.layers=1"])
    train(settings, cache, folder / "run", overwrite=True, progress=False)
    trained = peak()
    sessions = describe_sessions(cache, settings.data)
    with closing(Loader(sessions, settings)) as loader:
        batches = itertools.islice(loader.training(), loader.sampler.steps_per_epoch)
        n_trials = sum(len(part.counts()) for batch in batches for part in batch.parts)
        n_trials += sum(len(part.counts()) for part in loader.validation())
    assert n_trials == len(sessions) * N_TRIALS
    size = len(sessions) * SESSION / 1e9
    return [
        (f"counts of {len(sessions)} sessions", size, "GB", None),
        ("peak of a training on them under memory_gb 1", trained, "GB", 2.0),
        ("and of a whole epoch of batches", peak(), "GB", 2.0),
    ]


def peak() -> float:
    """Largest memory of this process so far, in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


if __name__ == "__main__":
    main()
