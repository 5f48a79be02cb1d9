"""Ingestion at full scale: where the time goes, how much memory it takes, what a database is asked.

    python benchmarks/ingest.py [--one DIR] [--sessions 8]

Simulates one session as large as real ones (15 million spikes, 900 clusters, 600 trials; in DIR it
is kept), and prints tables: what, how much, the limit, their ratio. Ratios within a table were
measured in the same run, since seconds depend on what else the machine does. Files are read from
a warm disk, every figure in a process of its own.
"""

import argparse
import multiprocessing
import os
import resource
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from ibl_mtm.config.dataset import Align, Dataset
from ibl_mtm.config.sources import AlyxSource, LocalSource
from ibl_mtm.ingest.run import ingest
from ibl_mtm.simulate.simulation import Simulation, simulate

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "helpers"))
from alyx_server import PASSWORD, TAG, USER, AlyxServer

processes = multiprocessing.get_context("spawn")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--one", type=Path, help="keep the simulated session here")
    parser.add_argument("--sessions", type=int, default=8, help="for one worker against two")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        one = arguments.one or folder / "ONE"
        simulate(one, Simulation(sessions=1, scale="full"))
        tell("binning against reading", apart(binning, one))
        tell("one session, from files on disk to the cache", apart(stages, one, folder))
        tell("the same spikes from arrays, by add_session", apart(from_arrays, one, folder))
        tell("memory", memory(one, folder, arguments.sessions))
        tell("the database", apart(questions, folder))
        tell("side by side", side_by_side(one, folder, arguments.sessions))


Row = tuple[str, float, str, float | None]


def tell(title: str, rows: list[Row]) -> None:
    print(f"\n{title:52} {'':>10}      {'limit':>8} {'ratio':>6}")
    for what, value, unit, limit in rows:
        bound = "" if limit is None else f"{limit:8.2f} {value / limit:6.2f}"
        print(f"  {what:50} {value:10.2f} {unit:4} {bound}", flush=True)


def apart(measure: Callable[..., list[Row]], *arguments: object) -> list[Row]:
    """Measure in a process of its own, which has done nothing else."""
    with processes.Pool(1) as pool:
        return pool.apply(measure, arguments)


def binning(one: Path) -> list[Row]:
    from ibl_mtm.ingest.align import bin_edges, count_spikes

    (sorting,) = {path.parent for path in one.rglob("spikes.times.npy")}
    trials = next(one.rglob("_ibl_trials.table.pqt"))
    align = Align()
    events = pd.read_parquet(trials)["stimOn_times"].dropna().to_numpy()
    edges = bin_edges(events, align.start, align.bin, align.n_bins)

    def read() -> tuple[np.ndarray, np.ndarray]:
        return np.load(sorting / "spikes.times.npy"), np.load(sorting / "spikes.clusters.npy")

    times, clusters = read()
    n_clusters = int(clusters.max()) + 1
    reading, counting = [], []
    for _ in range(9):
        reading.append(seconds(read))
        counting.append(seconds(lambda: count_spikes(times, clusters, n_clusters, edges)))
    ratio = statistics.median(c / r for c, r in zip(counting, reading, strict=True))
    size = f"{len(times) / 1e6:.1f} M spikes, {len(edges)} trials"
    return [
        (f"numpy.load of times and clusters, {size}", statistics.median(reading), "s", None),
        ("count_spikes", statistics.median(counting), "s", None),
        ("count_spikes / numpy.load", ratio, "x", 2.5),
    ]


def seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def stages(one: Path, folder: Path) -> list[Row]:
    from ibl_mtm.cache.store import create_cache, write_session
    from ibl_mtm.ingest import assemble as session
    from ibl_mtm.ingest.on_disk.folder import open_folder
    from ibl_mtm.ingest.through_one import load

    dataset = Dataset(source=LocalSource(kind="local", path=one))
    spent: dict[str, float] = {}

    def timed(module: object, name: str, label: str) -> None:
        function = getattr(module, name)

        def wrapper(*arguments: object, **settings: object) -> object:
            start = time.perf_counter()
            try:
                return function(*arguments, **settings)
            finally:
                spent[label] = spent.get(label, 0.0) + time.perf_counter() - start

        setattr(module, name, wrapper)

    timed(load, "load_trials", "  trials table")
    timed(load, "load_behaviour", "  wheel, camera, licks")
    timed(load, "load_insertions", "  spikes and units: read and checked")
    timed(session, "count_spikes", "  binning")
    create_cache(folder / "stages.zarr")
    start = time.perf_counter()
    with open_folder(one) as opened:
        (eid,) = opened.sessions().index
        recording = load.load_session(opened, eid, dataset)
        loaded = time.perf_counter()
        ds, regions = session.assemble(recording, dataset, "x", "files")
        assembled = time.perf_counter()
        write_session(folder / "stages.zarr", ds, regions)
    end = time.perf_counter()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    *reading, counting = [(label, value, "s", None) for label, value in spent.items()]
    return [
        ("load", loaded - start, "s", None),
        *reading,
        ("align", assembled - loaded, "s", None),
        counting,
        ("write, checked and listed", end - assembled, "s", None),
        ("in all", end - start, "s", 6.0),
        ("peak memory of the process", peak, "GB", 1.2),
    ]


def from_arrays(one: Path, folder: Path) -> list[Row]:
    """`add_session` of the session's spikes, units and trials, beside its ingest from files."""
    from ibl_mtm.ingest.add_session import add_session
    from ibl_mtm.ingest.on_disk.folder import open_folder
    from ibl_mtm.ingest.through_one import load

    align = Align()
    dataset = Dataset(source=LocalSource(kind="local", path=one), align=align)
    with open_folder(one) as opened:
        (eid,) = opened.sessions().index
        recording = load.load_session(opened, eid, dataset)
    columns = ["cluster_id", "region", "depth", "x", "y", "z", "label", "channel"]
    probes = {
        i.probe: {"times": i.times, "clusters": i.clusters, "units": i.units[columns]}
        for i in recording.insertions
    }
    behaviour = recording.behaviour
    signals = {
        name: (signal.times, signal.values)
        for name in ("wheel_velocity", "whisker_motion_energy")
        if (signal := getattr(behaviour, name)) is not None
    }
    window = align.model_dump(mode="json", exclude_none=True)
    who = {"subject": "m1", "date": "2024-05-06", "align": window}
    arrays, files = [], []
    for number in range(4):  # the first warms up
        cache = folder / f"arrays{number}.zarr"
        arrays.append(
            seconds(lambda c=cache: add_session(c, probes, recording.trials, signals, **who))
        )
        cache = folder / f"files{number}.zarr"
        files.append(seconds(lambda c=cache: ingest(dataset, "x", c, workers=1)))
    spent, usual = statistics.median(arrays[1:]), statistics.median(files[1:])
    n_spikes = sum(len(i.times) for i in recording.insertions)
    n_units = sum(len(i.units) for i in recording.insertions)
    return [
        ("spikes", n_spikes / 1e6, "M", None),
        ("units", n_units, "", None),
        ("add_session, against the ingest of its files", spent, "s", usual),
    ]


def memory(one: Path, folder: Path, n_sessions: int) -> list[Row]:
    # From the second session on: only then has the allocator what it keeps.
    few, many = (apart(peak_of, one, folder / f"peak{n}", n)[0] for n in (2, n_sessions))
    growth = many[1] / few[1]
    return [few, many, ("growth", growth, "x", 1.05)]


def peak_of(one: Path, folder: Path, n_sessions: int) -> list[Row]:
    copies = copy_sessions(one, folder, n_sessions)
    report = ingest(copies, "x", folder / "cache.zarr")
    assert len(report.sessions) == n_sessions
    assert not report.failed
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    return [(f"peak of one process, {n_sessions} sessions", peak, "GB", None)]


def copy_sessions(one: Path, folder: Path, n_sessions: int) -> Dataset:
    """The same session several times, by hard links where the file system has them."""
    (alf,) = one.glob("*/Subjects/*/*/*/alf")
    for number in range(1, n_sessions + 1):
        to = folder / "ONE" / "lab" / "Subjects" / "mouse" / "2024-01-01" / f"{number:03d}" / "alf"
        shutil.copytree(alf, to, copy_function=link_or_copy)
        for path in to.rglob("clusters.uuids.csv"):
            path.unlink()  # units of one cache have names of their own
    return Dataset(source=LocalSource(kind="local", path=folder / "ONE"))


def link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def questions(folder: Path) -> list[Row]:
    os.environ["IBL_MTM_PASSWORD"] = PASSWORD
    simulate(folder / "few", Simulation(sessions=4, units=20, trials=30))
    with AlyxServer(folder / "few") as server:
        source = AlyxSource(kind="alyx", url=server.url, username=USER, tag=TAG)
        report = ingest(Dataset(source=source), "x", folder / "questions.zarr")
        assert not report.failed
        asked = len(server.rest_requests()) / len(report.sessions)
    return [("requests a session, the search included", asked, "", 6.0)]


def side_by_side(one: Path, folder: Path, n_sessions: int) -> list[Row]:
    """All of it, and the pace once every worker has done a session and its imports."""
    dataset = copy_sessions(one, folder / "side", n_sessions)
    taken, pace = {}, {}
    for workers in (1, 2):
        cache = folder / f"side{workers}.zarr"
        ends: list[float] = []

        def note(*_: object, ends: list[float] = ends) -> None:
            ends.append(time.perf_counter())

        start = time.perf_counter()
        report = ingest(dataset, "x", cache, workers=workers, on_session=note)
        taken[workers] = time.perf_counter() - start
        pace[workers] = (ends[-1] - ends[workers - 1]) / (n_sessions - workers)
        assert not report.failed
    return [
        (f"{n_sessions} sessions, one worker", taken[1], "s", None),
        (f"{n_sessions} sessions, two workers", taken[2], "s", None),
        ("two workers / one", taken[1] / taken[2], "x", 1.7),
        ("a further session, one worker", pace[1], "s", None),
        ("a further session, two workers", pace[2], "s", None),
        ("two workers / one, further sessions", pace[1] / pace[2], "x", 1.7),
    ]


if __name__ == "__main__":
    main()
