"""Would the tests notice? Single faults are put into the package at random, and tests run.

    make mutants                                    # 100 faults, over all rooms that make numbers
    python tools/mutants.py --number 20 --room training --seed 3
    python tools/mutants.py --room model --list     # what could be drawn, without running anything

A fault is one change of one expression or statement: a comparison that includes its limit, + for -,
a number larger by one, a condition inverted, train for val, a call left out. It is noticed if a
quick test of the room fails, or takes several times as long as it did. Only those test files run
that execute the changed line (all of the room where none is known to), quickest first.

This is no part of `make test`: it takes most of an hour. Needs a POSIX system: tests run in forks
of one process that has imported the large packages already.
"""

import argparse
import ast
import contextlib
import importlib
import json
import os
import queue
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]

#: Rooms that make numbers, and other rooms whose tests are theirs too.
ROOMS = {
    "sessions": ("cache", "training"),
    "cache": (),
    "model": ("training",),
    "simulate": (),
    "ingest": ("one_files",),
    "training": (),
    "evaluation": (),
    "experiments": (),
}
#: What tests import, and takes long to: once, before they are run in forks.
LARGE = (
    *("torch", "lightning.pytorch", "xarray", "zarr", "sklearn.linear_model", "scipy.stats"),
    *("matplotlib.pyplot", "hypothesis", "pytest", "tensorboard", "safetensors.torch"),
    *("brainbox.io.one", "one.api", "iblatlas.regions", "distributed", "typer", "moto"),
)


@dataclass(frozen=True)
class Fault:
    """A change of one node of a module's syntax tree, by its position in `ast.walk`."""

    file: str
    node: int
    kind: str
    line: int
    text: str

    @property
    def room(self) -> str:
        """The room of the package that it is in."""
        return Path(self.file).parts[1]


COMPARISONS = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq, ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
}  # fmt: skip
ARITHMETIC = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult,
              ast.FloorDiv: ast.Mult, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd}  # fmt: skip
NAMES = {"min": "max", "max": "min", "argmin": "argmax", "argmax": "argmin", "any": "all",
         "all": "any", "floor": "ceil", "ceil": "floor", "cumsum": "cumprod", "mean": "sum",
         "median": "mean", "std": "var", "nanmean": "nansum"}  # fmt: skip
SPLITS = {"train": "val", "val": "test", "test": "val", "fit": "test"}


def change(node: ast.AST) -> tuple[str, Callable[[], None]] | None:
    """What can be wrong with a node, and how to make it so."""
    match node:
        case ast.Compare(ops=[op]) if type(op) in COMPARISONS:
            other = COMPARISONS[type(op)]
            return f"{type(op).__name__} -> {other.__name__}", lambda: setattr(
                node, "ops", [other()]
            )
        case ast.BinOp(op=op) if type(op) in ARITHMETIC and not _is_text(node):
            other = ARITHMETIC[type(op)]
            return f"{type(op).__name__} -> {other.__name__}", lambda: setattr(node, "op", other())
        case ast.BoolOp(op=op):
            other = ast.Or if isinstance(op, ast.And) else ast.And
            return f"{type(op).__name__} -> {other.__name__}", lambda: setattr(node, "op", other())
        case ast.Constant(value=bool() as value):
            return f"{value} -> {not value}", lambda: setattr(node, "value", not value)
        case ast.Constant(value=int() as value):
            return f"{value} -> {value + 1}", lambda: setattr(node, "value", value + 1)
        case ast.Constant(value=float() as value):
            return f"{value} -> {2 * value + 1}", lambda: setattr(node, "value", 2 * value + 1)
        case ast.Constant(value=str() as value) if value in SPLITS:
            other_split = SPLITS[value]
            return f"'{value}' -> '{other_split}'", lambda: setattr(node, "value", other_split)
        case ast.If(test=test) | ast.IfExp(test=test):
            return "condition inverted", lambda: setattr(node, "test", _not(test))
        case ast.Attribute(attr=name) if name in NAMES:
            return f"{name} -> {NAMES[name]}", lambda: setattr(node, "attr", NAMES[name])
        case ast.Name(id=name, ctx=ast.Load()) if name in NAMES:
            return f"{name} -> {NAMES[name]}", lambda: setattr(node, "id", NAMES[name])
        case ast.AugAssign():
            return "left out", lambda: setattr(node, "value", _nothing(node.op))
        case ast.Expr(value=ast.Call()):
            return "call left out", lambda: setattr(node, "value", ast.Constant(None))
    return None


def _not(test: ast.expr) -> ast.expr:
    return ast.UnaryOp(ast.Not(), test)


def _nothing(op: ast.operator) -> ast.expr:
    """What leaves a value as it is, so that ``x op= it`` does nothing to a number."""
    return ast.Constant(1 if isinstance(op, (ast.Mult, ast.Div, ast.Pow)) else 0)


def _is_text(node: ast.BinOp) -> bool:
    sides = (node.left, node.right)
    return any(isinstance(s, (ast.JoinedStr, ast.List, ast.Tuple)) for s in sides) or any(
        isinstance(s, ast.Constant) and isinstance(s.value, str) for s in sides
    )


def faults_of(file: Path) -> Iterator[Fault]:
    """Every fault that can be put into a module; none in what is only said, typed or tuned."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    lines = file.read_text(encoding="utf-8").splitlines()
    passed_over = {id(inner) for node in ast.walk(tree) for inner in _said(node)}
    for number, node in enumerate(ast.walk(tree)):
        if id(node) in passed_over:
            continue
        found = change(node)
        if found:
            line = node.lineno  # type: ignore[attr-defined]
            name = file.relative_to(ROOT).as_posix()
            yield Fault(name, number, found[0], line, lines[line - 1].strip())


def _said(node: ast.AST) -> Iterator[ast.AST]:
    """Parts of a node that no number follows from: messages, types, names, amounts of work."""
    match node:
        case ast.JoinedStr() | ast.Raise() | ast.Assert():
            yield from ast.walk(node)
        case ast.Call(func=ast.Attribute(value=ast.Name(id="log" | "_log" | "warnings"))):
            yield from ast.walk(node)
        case ast.Expr(value=ast.Call(func=func)) if _is_log(func):
            yield from ast.walk(node)
        case ast.AnnAssign(annotation=part) | ast.arg(annotation=part) if part is not None:
            yield from ast.walk(part)
        case ast.FunctionDef(returns=part, decorator_list=decorators):
            for piece in (*([part] if part else []), *decorators):
                yield from ast.walk(piece)
        case ast.ClassDef(decorator_list=decorators):
            for piece in decorators:
                yield from ast.walk(piece)
        case ast.Assign(targets=[ast.Name(id=name)]) if name.startswith("_") and name.isupper():
            yield from ast.walk(node)  # an amount of work or a tolerance of this module alone
        case ast.If(test=ast.Name(id="TYPE_CHECKING")):
            yield from ast.walk(node)


def _is_log(func: ast.expr) -> bool:
    return isinstance(func, ast.Attribute) and func.attr in {"info", "debug", "warning", "log"}


def spoilt(fault: Fault, source: str) -> str:
    """A module's source with the fault in it."""
    tree = ast.parse(source)
    node = next(n for at, n in enumerate(ast.walk(tree)) if at == fault.node)
    found = change(node)
    assert found is not None
    found[1]()
    return ast.unparse(ast.fix_missing_locations(tree)) + "\n"


def in_fork(copy: Path, command: Callable[[], int], limit: float) -> int | None:
    """Run something in a fork of this process, within a copy of the project; None: too long."""
    pid = os.fork()
    if pid == 0:
        os.setpgid(0, 0)
        # A job in the background ignores it, and so would what tests start.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.chdir(copy)
        sys.path[:0] = [str(copy), str(copy / "tests")]
        with open(copy / "output.txt", "w") as out:
            os.dup2(out.fileno(), 1)
            os.dup2(out.fileno(), 2)
        status = 3
        try:
            status = command()
        finally:
            os._exit(status)
    deadline = time.monotonic() + limit
    while time.monotonic() < deadline:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            _end(pid)
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.05)
    _end(pid)
    os.waitpid(pid, 0)
    return None


def _end(pid: int) -> None:
    """End what a fork started, and itself."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


def pytest_files(files: Sequence[str]) -> int:
    """Run the quick tests of some files, up to the first that fails."""
    import pytest

    return int(pytest.main(["-q", "-x", "-p", "no:cacheprovider", "-p", "no:xdist", *files]))


def measure(file: str) -> int:
    """Run a file of tests; note the lines of the package that it executes, and how long it took."""
    lines: dict[str, list[int]] = {}
    start = time.monotonic()
    if find_spec("coverage") is None:
        status = pytest_files([file])
    else:
        import coverage

        watch = coverage.Coverage(data_file=None, source=["ibl_mtm"], config_file=False)
        watch.start()
        status = pytest_files([file])
        watch.stop()
        data, here = watch.get_data(), Path.cwd()
        for path in data.measured_files():
            lines[Path(path).relative_to(here).as_posix()] = sorted(data.lines(path) or ())
    seconds = time.monotonic() - start
    Path("measured.json").write_text(json.dumps({"seconds": seconds, "lines": lines}))
    return status


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
        "--known", type=Path, help="which test executes what: kept here, and read if it is there"
    )
    parser.add_argument("--list", action="store_true", help="only list what is drawn")
    chosen = parser.parse_args()
    rooms = chosen.room or list(ROOMS)
    files = [f for room in rooms for f in sorted((ROOT / "ibl_mtm" / room).rglob("*.py"))]
    every = [fault for file in files for fault in faults_of(file)]
    drawn = random.Random(chosen.seed).sample(every, min(chosen.number, len(every)))
    print(f"{len(every)} faults in {len(files)} files, {len(drawn)} drawn, seed {chosen.seed}")
    if chosen.list:
        for fault in drawn:
            print(f"{fault.file}:{fault.line}: {fault.kind}: {fault.text}")
        return
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.dont_write_bytecode = True
    for name in LARGE:
        with contextlib.suppress(ImportError):  # what is not installed is not tested either
            importlib.import_module(name)
    results = Counter[tuple[str, bool]]()
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
            known = {}
            if chosen.known and chosen.known.is_file():
                kept = json.loads(chosen.known.read_text())
                known = {test: kept[test] for test in tests if test in kept}
            new = [test for test in tests if test not in known]
            measured = pool.map(lambda test: with_copy(lambda copy: _measured(copy, test)), new)
            for test, found in zip(new, measured, strict=True):
                known[test] = found
                if chosen.known:
                    chosen.known.write_text(json.dumps(known))
            tried = pool.map(
                lambda fault: with_copy(lambda copy: try_fault(copy, fault, known)), drawn
            )
            for number, (fault, (noticed, by)) in enumerate(zip(drawn, tried, strict=True), 1):
                results[fault.room, noticed] += 1
                verdict = "noticed " if noticed else "SURVIVED"
                where = f"{fault.file}:{fault.line}: {fault.kind}: {fault.text}"
                print(f"{number:4} {verdict} {where}{f'  [{by}]' if by else ''}", flush=True)
    for room in rooms:
        hit, missed = results[room, True], results[room, False]
        if hit + missed:
            print(f"{room:12} {hit} of {hit + missed}")
    total = sum(count for (_, noticed), count in results.items() if noticed)
    print(f"{total} of {len(drawn)} noticed ({total / len(drawn):.0%})")
    sys.exit(total / len(drawn) < chosen.least)


def _measured(copy: Path, test: str) -> dict:
    for _ in range(2):  # a busy machine may fail a test of processes once
        status = in_fork(copy, lambda: measure(test), limit=900)
        if status in (0, 5):  # 5: nothing in it is quick
            break
    else:
        output = (copy / "output.txt").read_text(errors="replace")[-2000:]
        raise SystemExit(f"{test} fails without any fault (status {status}):\n{output}")
    found: dict = json.loads((copy / "measured.json").read_text())
    print(f"     {found['seconds']:5.1f} s {test}", flush=True)
    return found


def try_fault(copy: Path, fault: Fault, known: dict[str, dict]) -> tuple[bool, str]:
    """Whether a fault is noticed, and by which file of tests."""
    candidates = tests_of(fault.room, known)
    executing = [t for t in candidates if fault.line in known[t]["lines"].get(fault.file, ())]
    clean = (copy / fault.file).read_text(encoding="utf-8")
    (copy / fault.file).write_text(spoilt(fault, clean), encoding="utf-8")
    try:
        for test in sorted(executing or candidates, key=lambda test: known[test]["seconds"]):
            limit = 30 + 5 * known[test]["seconds"]
            status = in_fork(copy, lambda test=test: pytest_files([test]), limit)  # type: ignore[misc]
            if status is None:
                return True, f"{test}, without end"
            if status not in (0, 5):
                return True, test
    finally:
        (copy / fault.file).write_text(clean, encoding="utf-8")
    return False, "" if executing else "no test executes the line"


if __name__ == "__main__":
    main()
