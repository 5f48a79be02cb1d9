"""Which quick test executes which line, and tests run in forks of this process.

found = measure_in(copy, "tests/model/test_masking.py")     # {"seconds": {...}, "lines": {...}}
status = run_in(copy, ["tests/model/test_masking.py"], limit=60)
"""

import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

__all__ = ["executing", "measure_in", "run_in"]

#: What is executed outside of single tests: imports, and fixtures that several tests share.
ALL = "all"


def run_in(copy: Path, tests: Sequence[str], limit: float) -> int | None:
    """Run quick tests in a copy of the project, up to the first that fails; None: without end."""
    return _in_fork(copy, lambda: _pytest(tests), limit)


def measure_in(copy: Path, file: str) -> dict[str, Any]:
    """Run a file of tests: seconds of each, and the tests that execute each line of the package."""
    for _ in range(2):  # a busy machine may fail a test of processes once
        status = _in_fork(copy, lambda: _measure(file), limit=900)
        if status in (0, 5):  # 5: nothing in it is quick
            break
    else:
        output = (copy / "output.txt").read_text(errors="replace")[-2000:]
        raise SystemExit(f"{file} fails without any fault (status {status}):\n{output}")
    found: dict[str, Any] = json.loads((copy / "measured.json").read_text())
    return found


def executing(
    known: Mapping[str, Any], tests: Sequence[str], file: str, line: int
) -> tuple[dict[str, bool], dict[str, float]]:
    """Which tests execute a line.

    Returns
    -------
    files
        Files of tests that do, and whether they do so outside of single tests: at import, or in a
        fixture that several share, so that any test of the file may look at what came of it.
    own
        Single tests that do, and their seconds.
    """
    files, own = dict[str, bool](), dict[str, float]()
    for test in tests:
        names = known[test]["lines"].get(file, {}).get(str(line))
        if names is None:
            continue
        files[test] = ALL in names
        seconds = known[test]["seconds"]
        own |= {name: seconds[name] for name in names if name in seconds}
    return files, own


def _in_fork(copy: Path, command: Callable[[], int], limit: float) -> int | None:
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


def _pytest(tests: Sequence[str], *plugins: object) -> int:
    options = ["-q", "-x", "-p", "no:cacheprovider", "-p", "no:xdist"]
    return int(pytest.main([*options, *tests], plugins=[*plugins]))


def _measure(file: str) -> int:
    watch = _Watch()
    status = _pytest([file], watch)
    Path("measured.json").write_text(json.dumps(watch.found(Path.cwd())))
    return status


class _Watch:
    """A plugin of pytest that notes for each test its seconds and the lines that it executes."""

    def __init__(self) -> None:
        self.seconds = dict[str, float]()
        self.context = ALL
        self.coverage = None
        if find_spec("coverage") is not None:
            import coverage

            self.coverage = coverage.Coverage(data_file=None, source=["ibl_mtm"], config_file=False)
            self.coverage.start()
            self.coverage.switch_context(ALL)

    @contextlib.contextmanager
    def of(self, context: str) -> Iterator[None]:
        """Lines that are executed within are noted for a test, or for all."""
        before = self.context
        self._switch(context)
        try:
            yield
        finally:
            self._switch(before)

    def _switch(self, context: str) -> None:
        self.context = context
        if self.coverage is not None:
            self.coverage.switch_context(context)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        start = time.monotonic()
        with self.of(item.nodeid):
            result = yield
        self.seconds[item.nodeid] = time.monotonic() - start
        return result

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: Any) -> Iterator[None]:
        with self.of(self.context if fixturedef.scope == "function" else ALL):
            return (yield)

    def found(self, here: Path) -> dict[str, Any]:
        """What was noted: seconds by test; tests by line, by file."""
        lines: dict[str, dict[int, list[str]]] = {}
        if self.coverage is not None:
            self.coverage.stop()
            data = self.coverage.get_data()
            for path in data.measured_files():
                name = Path(path).relative_to(here).as_posix()
                lines[name] = data.contexts_by_lineno(path)
        return {"seconds": self.seconds, "lines": lines}
