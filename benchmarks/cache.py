"""A cache at brain-wide scale: how long until it answers.

    python benchmarks/cache.py [--sessions 459] [--cache DIR]

Prints a table: what, seconds (median of the repeats), the limit, their ratio; for the same cache
behind a web server on this machine, requests too. A network adds its delay: once for requests
that go out together, else once for each. The sessions have the units of the brain-wide release
(1,350 each, 620,000 in all) in regions drawn at random, and few trials and bins, since none of the
figures reads counts. The cache is made first, if it is not there.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ibl_mtm.cache.cache import open_cache
from ibl_mtm.cache.store import create_cache, list_sessions, write_session

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "helpers"))
from cache_servers import serve
from synthetic import make_regions, make_session

N_UNITS = 1350


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sessions", type=int, default=459)
    parser.add_argument("--cache", type=Path, help="keep the cache here")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        root = arguments.cache or Path(scratch) / "cache.zarr"
        seconds = make_cache(root, arguments.sessions)
        print(f"{arguments.sessions} sessions written in {seconds:.0f} s\n")
        rng = np.random.default_rng(0)
        cache = open_cache(root)
        eids = list(cache)
        rows = [
            ("open_cache, .sessions", measure(lambda: open_cache(root).sessions, 9), 0.3),
            ("the same in a new process", measure(lambda: in_new_process(root), 3), None),
            ("import xarray, zarr alone", measure(in_new_process, 3), None),
            ("one session", measure(lambda: cache[eids[rng.integers(len(eids))]], 50), 0.05),
            ("where('n_units > 1000')", measure(lambda: cache.where("n_units > 1000"), 9), None),
            ("to_datatree of all", measure(cache.to_datatree, 1), 15.0),
        ]
        remote_rows = measure_remote(root, eids)
    print(f"{'what':30} {'seconds':>8} {'limit':>6} {'ratio':>6}")
    for what, seconds, limit in rows:
        ratio = f"{limit:6.2f} {seconds / limit:6.2f}" if limit else ""
        print(f"{what:30} {seconds:8.3f} {ratio}")
    print(f"\n{'over HTTP':30} {'seconds':>8} {'requests':>8}")
    for what, seconds, requests in remote_rows:
        print(f"{what:30} {seconds:8.3f} {requests:8}")


def measure_remote(root: Path, eids: list[str]) -> list[tuple[str, float, int]]:
    """What, seconds, and requests of a repeat, through a web server on this machine."""
    rows = []
    with serve(root.parent) as server:
        url = f"{server.url}/{root.name}"
        cache = open_cache(url)
        for what, run, repeats in (
            ("open_cache, .sessions", lambda: open_cache(url).sessions, 9),
            ("one session", lambda: cache[eids[0]], 20),
            ("one session, all of it", lambda: cache[eids[0]].load(), 5),
            ("to_datatree of all", cache.to_datatree, 1),
        ):
            before = len(server.requests)
            seconds = measure(run, repeats)
            rows.append((what, seconds, (len(server.requests) - before) // repeats))
    return rows


def make_cache(root: Path, n_sessions: int) -> float:
    start = time.perf_counter()
    create_cache(root)
    regions = make_regions()
    for seed in range(n_sessions):
        ds = make_session(N_UNITS, n_trials=4, n_bins=4, seed=seed)
        write_session(root, ds, regions, listed=False)
    list_sessions(root)
    return time.perf_counter() - start


def measure(run: Callable[[], object], repeats: int) -> float:
    """Median of the seconds that a call takes."""
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def in_new_process(root: Path | None = None) -> None:
    code = "import xarray, zarr"
    if root:
        code = f"import ibl_mtm; ibl_mtm.open_cache({str(root)!r}).sessions"
    subprocess.run([sys.executable, "-c", code], check=True)


if __name__ == "__main__":
    main()
