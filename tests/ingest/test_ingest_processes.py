"""Ingests that are killed, that meet, and that share the work: the cache stays whole.

Processes here are killed with SIGKILL, at moments drawn at random.
"""

import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from alyx_server import PASSWORD, AlyxServer
from remote_ingest import alyx, assert_same
from server_faults import status

from ibl_mtm.cache.cache import open_cache
from ibl_mtm.cache.check import check
from ibl_mtm.config.dataset import Dataset
from ibl_mtm.config.sources import LocalSource
from ibl_mtm.errors import UserError
from ibl_mtm.ingest.run import ingest
from ibl_mtm.simulate.simulation import Simulation, simulate

pytestmark = pytest.mark.slow

# Children start with everything imported, so that moments fall into the work itself.
processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(["ibl_mtm.ingest.run", "ibl_mtm.ingest.through_one.load"])


@pytest.fixture(scope="module")
def quartet(tmp_path_factory):
    """Four sessions, and the cache of an undisturbed ingest of them."""
    root = tmp_path_factory.mktemp("quartet")
    eids = simulate(root / "ONE", Simulation(sessions=4, units=12, trials=20, seed=3))
    dataset = Dataset(source=LocalSource(kind="local", path=root / "ONE"))
    assert not ingest(dataset, "truth", root / "cache.zarr").failed
    return root / "ONE", root / "cache.zarr", eids


@pytest.fixture
def server(quartet, monkeypatch):
    monkeypatch.setenv("IBL_MTM_PASSWORD", PASSWORD)
    with AlyxServer(quartet[0]) as server:
        yield server


def run_ingest(dataset: Dataset, cache: Path, failed) -> None:
    os.environ["IBL_MTM_PASSWORD"] = PASSWORD
    failed.value = len(ingest(dataset, "x", cache).failed)


def start(dataset: Dataset, cache: Path):
    failed = processes.Value("i", -1)
    process = processes.Process(target=run_ingest, args=(dataset, cache, failed))
    process.start()
    return process, failed


def test_killed_at_any_moment(server, quartet, tmp_path):
    _, truth, eids = quartet
    began = time.monotonic()
    process, failed = start(Dataset(source=alyx(server)), tmp_path / "0.zarr")
    process.join(60)
    whole = time.monotonic() - began
    assert failed.value == 0
    moments = random.Random(0)
    found = []
    for number in range(1, 21):
        cache = tmp_path / f"{number}.zarr"
        dataset = Dataset(source=alyx(server))
        process, _ = start(dataset, cache)
        time.sleep(moments.uniform(0.05, whole))
        process.kill()
        process.join(60)
        present = []
        if cache.exists():
            present = list(open_cache(cache))
            assert check(cache) == {}
        assert set(present) <= set(eids)
        found.append(len(present))
        process, failed = start(dataset, cache)
        process.join(60)
        assert failed.value == 0
        assert check(cache) == {}
        assert_same(cache, truth, eids)
        assert not [path for path in Path(f"{cache}.staging").glob("*") if path.is_dir()]
        assert not list((tmp_path / f"{number}.one").rglob("*.part"))
    assert len(set(found)) > 2, f"moments did not spread: {found}"


def test_two_at_once(server, quartet, tmp_path):
    _, truth, eids = quartet
    dataset, cache = Dataset(source=alyx(server)), tmp_path / "cache.zarr"
    both = [start(dataset, cache) for _ in range(2)]
    for process, _ in both:
        process.join(120)
    assert [failed.value for _, failed in both] == [0, 0]
    assert check(cache) == {}
    assert_same(cache, truth, eids)
    assert len(server.file_requests()) == len(set(server.file_requests()))


def test_workers_give_what_one_process_gives(server, quartet, tmp_path):
    _, truth, eids = quartet
    finished, fetched = [], []
    report = ingest(
        Dataset(source=alyx(server)),
        "x",
        tmp_path / "cache.zarr",
        workers=2,
        on_session=lambda eid, outcome, total: finished.append((eid, total)),
        on_bytes=lambda n, total: fetched.append(n),
    )
    assert not report.failed
    assert_same(tmp_path / "cache.zarr", truth, eids)
    assert sorted(finished) == sorted((eid, 4) for eid in eids)
    assert sum(fetched) > 0
    secret = PASSWORD.encode()
    assert not [p for p in tmp_path.rglob("*") if p.is_file() and secret in p.read_bytes()]


def test_a_failing_session_stops_no_worker(server, quartet, tmp_path):
    _, truth, eids = quartet
    server.fail("SIM3_002", status(404), float("inf"))
    report = ingest(Dataset(source=alyx(server)), "x", tmp_path / "cache.zarr", workers=2)
    assert len(report.failed) == 1
    assert_same(tmp_path / "cache.zarr", truth, set(eids) - set(report.failed))


class TestARunningCluster:
    """A scheduler and two workers of its own, as on another machine."""

    @pytest.fixture
    def cluster(self, tmp_path):
        """Address of the scheduler, and the workers by their download folders."""
        file = tmp_path / "scheduler.json"
        arguments = ["--scheduler-file", str(file)]
        started = [self.launch("scheduler", "--port", "0", "--no-dashboard", *arguments)]
        workers = {}
        for name in ("a", "b"):
            (tmp_path / name).mkdir()
            environment = {"SCRATCH": str(tmp_path / name)}
            options = ("--no-nanny", "--nthreads", "1", "--no-dashboard", "--death-timeout", "60")
            workers[tmp_path / name] = self.launch("worker", *options, *arguments, **environment)
        started += workers.values()
        deadline = time.monotonic() + 60
        while not (file.exists() and '"address"' in file.read_text()):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        yield json.loads(file.read_text())["address"], workers
        for process in started:
            process.kill()
            process.wait()

    @staticmethod
    def launch(*arguments: str, **environment: str) -> subprocess.Popen:
        environment = {k: v for k, v in os.environ.items() if "PASSWORD" not in k} | environment
        return subprocess.Popen(
            [sys.executable, "-m", "dask", *arguments],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def test_a_worker_that_is_killed_is_replaced_by_the_other(
        self, server, quartet, cluster, tmp_path, monkeypatch
    ):
        address, workers = cluster
        _, truth, eids = quartet
        dataset = Dataset(source=alyx(server, path=Path("$SCRATCH/one"), timeout=20.0))
        monkeypatch.setenv("SCRATCH", str(tmp_path / "client"))
        victim = []

        def kill_one(handler, reply):
            """Between two files of a session: whose worker it is, the folders tell."""
            handler.send(reply(), end=100)
            deadline = time.monotonic() + 30
            while not victim and time.monotonic() < deadline:
                for folder, process in workers.items():
                    if not victim and list(folder.rglob("spikes.times.npy.part")):
                        process.send_signal(signal.SIGKILL)
                        victim.append(folder)
                time.sleep(0.02)
            handler.close_connection = True

        server.fail("spikes.times", kill_one)
        report = ingest(dataset, "x", tmp_path / "cache.zarr", scheduler=address)
        assert len(victim) == 1
        assert {o.status for o in report.sessions.values()} == {"ingested"}
        assert check(tmp_path / "cache.zarr") == {}
        assert_same(tmp_path / "cache.zarr", truth, eids)
        (other,) = set(workers) - set(victim)
        assert any(other.rglob("spikes.times.npy"))
        assert not list((tmp_path / "client").rglob("*.npy"))

    def test_where_there_is_none(self, server, tmp_path, monkeypatch):
        monkeypatch.setattr("ibl_mtm.ingest.cluster._PATIENCE", 2)
        with pytest.raises(UserError, match="no Dask scheduler with a worker at 'tcp:"):
            ingest(
                Dataset(source=alyx(server)),
                "x",
                tmp_path / "cache.zarr",
                scheduler="tcp://127.0.0.1:1",
            )
        assert not (tmp_path / "cache.zarr").exists()


def test_the_command_killed_leaves_no_process_behind(server, quartet, tmp_path):
    root, truth, eids = quartet
    catalog = tmp_path / "catalog.yaml"
    catalog.write_text(f"datasets:\n  x:\n    source: {{kind: local, path: {root}}}\n")
    command = [
        *(sys.executable, "-m", "ibl_mtm.cli", "ingest", "x", "--catalog", str(catalog)),
        *("--cache", str(tmp_path / "cache.zarr"), "--workers", "2", "--json"),
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 60
    children: list[psutil.Process] = []
    while len(children) < 4 and time.monotonic() < deadline:  # a server of forks, its tracker
        children = psutil.Process(process.pid).children(recursive=True)
        time.sleep(0.05)
    assert len(children) >= 4
    time.sleep(2)
    process.kill()
    process.communicate()
    assert psutil.wait_procs(children, timeout=30)[1] == []
    done = subprocess.run(command, capture_output=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)["sessions"]) == 4
    assert check(tmp_path / "cache.zarr") == {}
    assert_same(tmp_path / "cache.zarr", truth, eids)
