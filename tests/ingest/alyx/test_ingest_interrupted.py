"""Ctrl-C in the middle of a download: it ends at once, says how to go on, and leaves no rubbish."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from alyx_server import PASSWORD, TAG, USER
from server_faults import drip

from ibl_mtm.ingest.alyx.at_once import each


@pytest.fixture
def started():
    """Processes of a test, none of which outlives it."""
    processes = []
    yield processes
    for process in processes:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def start(server, tmp_path, *arguments):
    (tmp_path / "catalog.yaml").write_text(
        f"datasets:\n  mine:\n    source: {{kind: alyx, url: '{server.url}', username: {USER}, "
        f"tag: {TAG}}}\n"
    )
    options = ["--catalog", "catalog.yaml", "--cache", "cache.zarr", *arguments]
    return subprocess.Popen(
        [sys.executable, "-m", "ibl_mtm.cli", "ingest", "mine", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"IBL_MTM_PASSWORD": PASSWORD},
        start_new_session=True,
        # Shells start what runs in the background deaf to Ctrl-C, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def interrupt_when_fetching(server, process):
    """Press Ctrl-C, which every process of a terminal gets, and tell how long the end took."""
    deadline = time.monotonic() + 60
    while not any("/public/" in request for request in server.requests):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.1)
    time.sleep(0.5)
    began = time.monotonic()
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    return time.monotonic() - began, out, err


@pytest.mark.parametrize("workers", ["1", pytest.param("2", marks=pytest.mark.slow)])
def test_ends_at_once_and_says_how_to_go_on(server, started, tmp_path, workers):
    server.fail("/public/", drip, float("inf"))
    process = start(server, tmp_path, "--workers", workers)
    started.append(process)
    took, _, err = interrupt_when_fetching(server, process)
    # One to three seconds; files in flight would have been waited for a minute and more.
    assert took < 15
    assert process.returncode == 130
    assert "Traceback" not in err
    assert len(err.strip().splitlines()) < 6, err
    assert "the same command goes on" in err


def test_what_is_under_way_is_told_to_stop():
    stopped, started = [], threading.Event()

    def action(item, stop):
        if item == "fails":
            started.wait(5)
            raise ZeroDivisionError
        started.set()
        stopped.append(stop.wait(5))

    with pytest.raises(ZeroDivisionError):
        each(action, ["waits", "fails"], 2)
    assert stopped == [True]


def test_each_item_is_done_once():
    done = []
    each(lambda item, stop: done.append(item), range(50), 4)
    assert sorted(done) == list(range(50))
    each(lambda item, stop: done.append(item), [], 4)
