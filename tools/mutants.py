"""Would the tests notice? Single faults are put into the package at random, and tests run.

    make mutants                                    # 100 faults, over all rooms that make numbers
    python tools/mutants.py --number 20 --room training --seed 3
    python tools/mutants.py --room model --list     # what could be drawn, without running anything

What changes nothing (`tools/equivalent_faults.txt`, each with its reason) counts neither way.

A fault is one change of one expression or statement: a comparison that includes its limit, + for -,
a number larger by one, a condition inverted, train for val, a call left out. It is noticed if a
quick test of the room fails, or takes several times as long as it did. Those tests run first that
execute the changed line, the quickest of them before the others, then whole files where it runs at
import or in a shared fixture (all of the room where none is known to execute it).

This is no part of `make test`: it takes most of an hour. Needs a POSIX system: tests run in forks
of one process that has imported the large packages already.
"""

import argparse
import contextlib
import hashlib
import importlib
import json
import os
import queue
import random
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from faults import ROOT, Fault, equivalent_faults, faults_of, runs_at_import, spoilt
from which_tests import executing, measure_in, run_in

#: Rooms that make numbers, and other rooms whose tests are theirs too.
ROOMS = {
    "sessions": ("cache", "training"),
    "cache": (),
    "model": ("training",),
    "simulate": (),
    "ingest": ("one_files",),
    "training": (),
    "evaluation": (),
    "brainsets": ("ingest", "benchmark"),
    "benchmark": (),
    "experiments": (),
}
#: So many tests are tried first.
_FIRST = 12

#: What tests import, and takes long to: once, before they are run in forks.
LARGE = (
    *("torch", "lightning.pytorch", "xarray", "zarr", "sklearn.linear_model", "scipy.stats"),
    *("matplotlib.pyplot", "hypothesis", "pytest", "tensorboard", "safetensors.torch"),
    *("brainbox.io.one", "one.api", "iblatlas.regions", "distributed", "typer", "moto"),
    *("h5py", "pynwb", "flask"),
)


def tests_of(room: str, known: Mapping[str, Any]) -> list[str]:
    """Files of tests of a room, of those that are known."""
    folders = [f"tests/{name}/" for name in (room, *ROOMS[room])]
    return [test for test in known if test.startswith(tuple(folders))]


def find_tests(rooms: Iterable[str]) -> list[str]:
    """Files of tests of rooms."""
    found: list[Path] = []
    for room in rooms:
        for name in (room, *ROOMS[room]):
            found += sorted((ROOT / "tests" / name).rglob("test_*.py"))
    return list(dict.fromkeys(file.relative_to(ROOT).as_posix() for file in found))


def copy_project(into: Path) -> None:
    """The tracked files, and those that git does not ignore."""
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    names = subprocess.run(listed, cwd=ROOT, capture_output=True, check=True, text=True).stdout
    for name in filter(None, names.split("\0")):
        if (ROOT / name).is_file():
            (into / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, into / name)


def main() -> None:
    """Draw, run, report; exit 1 where fewer are noticed than asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--number", type=int, default=100, help="faults to draw")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--room", action="append", choices=ROOMS, help="by default all")
    parser.add_argument("--least", type=float, default=0.92, help="share that must be noticed")
    parser.add_argument("--jobs", type=int, default=2, help="faults that are tried at a time")
    parser.add_argument(
        "--known",
        type=Path,
        help="which test executes what is kept here, and read: for one state of the package",
    )
    parser.add_argument(
        "--first",
        type=int,
        default=1,
        help="go on at this one, after an interruption",
    )
    parser.add_argument("--list", action="store_true", help="only list what is drawn")
    chosen = parser.parse_args()
    rooms = chosen.room or list(ROOMS)
    files = [f for room in rooms for f in sorted((ROOT / "ibl_mtm" / room).rglob("*.py"))]
    every = [fault for file in files for fault in faults_of(file)]
    drawn = random.Random(chosen.seed).sample(every, min(chosen.number, len(every)))
    print(f"{len(every)} faults in {len(files)} files, {len(drawn)} drawn, seed {chosen.seed}")
    drawn = drawn[chosen.first - 1 :]
    if chosen.list:
        for fault in drawn:
            print(f"{fault.file}:{fault.line}: {fault.kind}: {fault.text}")
        return
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.dont_write_bytecode = True
    for name in LARGE:
        with contextlib.suppress(ImportError):  # what is not installed is not tested either
            importlib.import_module(name)
    results, same, equivalent = Counter[tuple[str, bool]](), 0, equivalent_faults()
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        copies: queue.SimpleQueue[Path] = queue.SimpleQueue()
        for job in range(chosen.jobs):
            copy_project(Path(folder, str(job)))
            copies.put(Path(folder, str(job)))

        def with_copy(action: Callable[[Path], Any]) -> Any:
            copy = copies.get()
            try:
                return action(copy)
            finally:
                copies.put(copy)

        with ThreadPoolExecutor(chosen.jobs) as pool:
            tests = find_tests(dict.fromkeys(fault.room for fault in drawn))
            kept = {}
            if chosen.known and chosen.known.is_file():
                kept = json.loads(chosen.known.read_text())
            now = {test: hashlib.sha256((ROOT / test).read_bytes()).hexdigest() for test in tests}
            new = [test for test in tests if kept.get(test, {}).get("digest") != now[test]]
            measured = pool.map(lambda test: with_copy(lambda copy: measure_in(copy, test)), new)
            for test, found in zip(new, measured, strict=True):
                kept[test] = found | {"digest": now[test]}
                print(f"     {sum(found['seconds'].values()):5.1f} s {test}", flush=True)
                if chosen.known:
                    chosen.known.write_text(json.dumps(kept))
            known = {test: kept[test] for test in tests}
            tried = pool.map(
                lambda fault: with_copy(lambda copy: try_fault(copy, fault, known)), drawn
            )
            for number, (fault, (noticed, by)) in enumerate(
                zip(drawn, tried, strict=True), chosen.first
            ):
                verdict = "noticed " if noticed else "SURVIVED"
                if not noticed and fault.told in equivalent:
                    same, verdict = same + 1, "the same"
                else:
                    results[fault.room, noticed] += 1
                where = f"{fault.file}:{fault.line}: {fault.kind}: {fault.text}"
                print(f"{number:4} {verdict} {where}{f'  [{by}]' if by else ''}", flush=True)
    for room in rooms:
        hit, missed = results[room, True], results[room, False]
        if hit + missed:
            print(f"{room:12} {hit} of {hit + missed}")
    total = sum(count for (_, noticed), count in results.items() if noticed)
    counted = max(1, len(drawn) - same)
    print(f"{total} of {counted} noticed ({total / counted:.1%}); {same} more change nothing")
    sys.exit(total / counted < chosen.least)


def try_fault(copy: Path, fault: Fault, known: dict[str, dict]) -> tuple[bool, str]:
    """Whether a fault is noticed, and by which tests."""
    room = tests_of(fault.room, known)
    seconds = {file: sum(known[file]["seconds"].values()) for file in room}
    files, own = executing(known, room, fault.file, fault.line)
    quickest = sorted(own, key=own.__getitem__)
    clean = (copy / fault.file).read_text(encoding="utf-8")
    shared = [file for file, outside in files.items() if outside]
    if runs_at_import(clean, fault.line):
        shared = list(files)
    # The few quickest tests notice most; then all that execute the line; then whole files, where
    # others than the first to ask for it look at what a fixture made.
    tries = [quickest[:_FIRST], quickest[_FIRST:]]
    tries += [[file] for file in sorted(shared if files else room, key=seconds.__getitem__)]
    (copy / fault.file).write_text(spoilt(fault, clean), encoding="utf-8")
    try:
        for tests in filter(None, tries):
            usual = sum(own.get(test, seconds.get(test, 0)) for test in tests)
            status = run_in(copy, sorted(tests), limit=30 + 5 * usual)
            if status is None:  # a busy machine, or a fork that stands still, is no fault
                status = run_in(copy, sorted(tests), limit=60 + 10 * usual)
            if status is None:
                return True, f"{_named(tests)}, without end"
            if status not in (0, 5):
                return True, _named(tests)
    finally:
        (copy / fault.file).write_text(clean, encoding="utf-8")
    return False, "" if files else "no test executes the line"


def _named(tests: Sequence[str]) -> str:
    files = dict.fromkeys(test.split("::")[0] for test in tests)
    return ", ".join(files) if len(files) < 4 else f"one of {len(files)} files"


if __name__ == "__main__":
    main()
