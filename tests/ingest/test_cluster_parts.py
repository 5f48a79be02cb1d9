"""What a cluster is asked for and told, without one: `test_ingest_processes` starts some."""

import logging
import multiprocessing
import signal
from contextlib import contextmanager
from types import SimpleNamespace

import dask
import pytest

from ibl_mtm.errors import UserError
from ibl_mtm.ingest import cluster as module
from ibl_mtm.ingest.cluster import default_workers, open_cluster, run_jobs
from ibl_mtm.ingest.outcome import Outcome

GB = 1 << 30


class FakeClient:
    """Does what it is given at once, in this process."""

    def __init__(self, *address, **options):
        self.address, self.options = address, options
        self.cancelled, self.waited, self.submitted = [], [], []

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def subscribe_topic(self, topic, handler):
        self.topic, self.handler = topic, handler

    def submit(self, function, *arguments, **options):
        self.submitted.append((function, arguments, options))
        return SimpleFuture(function, arguments)

    def wait_for_workers(self, n, timeout):
        self.waited.append((n, timeout))

    def cancel(self, futures):
        self.cancelled += futures


class SimpleFuture:
    def __init__(self, function, arguments):
        self.function, self.arguments = function, arguments

    def result(self):
        return self.function(*self.arguments)


@pytest.mark.parametrize(
    ("processors", "memory", "expected"),
    [(8, 7 * GB, 2), (2, 64 * GB, 2), (4, 1 * GB, 1), (8, 9 * GB, 3)],
)
def test_as_many_workers_as_there_are_processors_and_memory_for(
    monkeypatch, processors, memory, expected
):
    monkeypatch.setattr(module, "CPU_COUNT", processors)
    monkeypatch.setattr(module, "MEMORY_LIMIT", memory)
    assert default_workers() == expected


@pytest.fixture
def started(monkeypatch):
    """What a cluster of this machine is started with, and the settings at that time."""
    seen = SimpleNamespace(preloaded=None)

    @contextmanager
    def local(**options):
        seen.options = options
        seen.environment = dask.config.get("distributed.nanny.pre-spawn-environ")
        seen.method = dask.config.get("distributed.worker.multiprocessing-method")
        yield "the cluster"

    context = SimpleNamespace(
        get_start_method=lambda: "forkserver",
        set_forkserver_preload=lambda names: setattr(seen, "preloaded", names),
    )
    monkeypatch.setattr(module, "get_mp_context", lambda: context)
    monkeypatch.setattr(module, "LocalCluster", local)
    monkeypatch.setattr(module, "Client", FakeClient)
    return seen


@pytest.mark.parametrize(("memory", "limit"), [(64 * GB, 3 * GB), (6 * GB, 2 * GB)])
def test_workers_are_processes_of_one_thread_that_share_the_memory(
    monkeypatch, started, memory, limit
):
    monkeypatch.setattr(module, "MEMORY_LIMIT", memory)
    with open_cluster(3) as client:
        assert client.address == ("the cluster",)
        assert client.waited == []
    options = started.options
    assert (options["n_workers"], options["threads_per_worker"]) == (3, 1)
    assert options["processes"] is True
    assert options["memory_limit"] == limit
    assert started.environment["OMP_NUM_THREADS"] == 1
    assert len(started.environment) == 3
    assert started.method == "forkserver"
    assert {"distributed", "ibl_mtm.ingest.assemble"} <= set(started.preloaded)


def test_without_servers_of_forks_nothing_is_imported_ahead(monkeypatch, started):
    monkeypatch.setattr(multiprocessing, "get_all_start_methods", lambda: ["spawn"])
    context = SimpleNamespace(get_start_method=lambda: "spawn")
    monkeypatch.setattr(module, "get_mp_context", lambda: context)
    usual = dask.config.get("distributed.worker.multiprocessing-method")
    with open_cluster():
        assert started.method == usual
    assert started.options["n_workers"] == 1
    assert started.preloaded is None


def test_ctrl_c_ends_workers_at_what_they_are_at(monkeypatch, started):
    killed = []
    workers = [SimpleNamespace(kill=lambda n=n: killed.append(n)) for n in range(2)]
    monkeypatch.setattr(multiprocessing, "active_children", lambda: workers)
    with open_cluster(2):
        pass
    assert killed == []
    with pytest.raises(KeyboardInterrupt), open_cluster(2):
        raise KeyboardInterrupt
    assert killed == [0, 1]


def test_workers_leave_ctrl_c_to_whom_it_is_meant_for(monkeypatch):
    asked = []
    monkeypatch.setattr(signal, "signal", lambda *arguments: asked.append(arguments))
    module.dask_setup(None)
    assert asked == [(signal.SIGINT, signal.SIG_IGN)]


def test_a_cluster_that_runs_is_joined_when_it_has_a_worker(started):
    with open_cluster(scheduler="tcp://there:8786") as client:
        assert client.address == ("tcp://there:8786",)
        assert client.waited == [(1, 30)]
        assert client.options == {"timeout": 30}
    assert not hasattr(started, "options")


def test_one_without_workers_is_told(started, monkeypatch):
    def nobody(self, n, timeout):
        raise TimeoutError("none came")

    monkeypatch.setattr(FakeClient, "wait_for_workers", nobody)
    told = r"no Dask scheduler with a worker at 'tcp://there:1' \(none came\)"
    with pytest.raises(UserError, match=told), open_cluster(scheduler="tcp://there:1"):
        pass


@pytest.fixture
def level():
    """The level of dask's own messages, which is set back."""
    logger = logging.getLogger("distributed")
    before = logger.level
    logger.setLevel(logging.WARNING)
    yield lambda: logger.level
    logger.setLevel(before)


@pytest.mark.parametrize(
    ("own", "dask_level"), [(logging.INFO, logging.WARNING), (logging.WARNING, logging.ERROR)]
)
def test_dask_is_quiet_where_we_are(started, level, monkeypatch, own, dask_level):
    monkeypatch.setattr(module.log, "isEnabledFor", lambda asked: asked >= own)
    with open_cluster():
        assert level() == dask_level


@pytest.mark.parametrize(
    ("own", "dask_level"),
    [(None, logging.WARNING), (logging.INFO, logging.WARNING), (logging.WARNING, logging.ERROR)],
)
def test_workers_are_as_quiet_as_their_client(level, monkeypatch, own, dask_level):
    configured = []
    monkeypatch.setattr(module.logs, "configure", configured.append)
    monkeypatch.setattr(module, "get_worker", lambda: None)
    monkeypatch.setattr(module, "run_job", lambda job, tell: "done")
    assert module._run("a job", own) == "done"
    assert level() == dask_level
    assert configured == ([] if own is None else [own])


def test_bytes_are_told_of_twice_a_second_and_at_the_end(monkeypatch):
    now, told = [100.0], []
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    worker = SimpleNamespace(log_event=lambda topic, n: told.append((topic, n)))
    monkeypatch.setattr(module, "get_worker", lambda: worker)

    def run_job(job, tell):
        for at, n in ((100.1, 5), (100.5, 6), (100.6, 7), (100.7, 8), (101.2, -3), (101.3, 4)):
            now[0] = at
            tell(n)
        return "done"

    monkeypatch.setattr(module, "run_job", run_job)
    assert module._run("a job") == "done"
    assert told == [(module._TOPIC, n) for n in (18, 5, 4)]
    told.clear()
    monkeypatch.setattr(module, "run_job", lambda job, tell: "done")
    module._run("a job")
    assert told == []  # nothing came


def test_jobs_are_given_as_they_end_and_a_worker_that_fails_fails_its_own(monkeypatch):
    def run(job, level):
        if job.eid == "b":
            raise MemoryError("too much\nof it")
        return Outcome("ingested")

    monkeypatch.setattr(module, "_run", run)
    monkeypatch.setattr(module, "as_completed", lambda futures: list(futures)[::-1])
    client, heard = FakeClient(), []
    jobs = [SimpleNamespace(eid=eid) for eid in "abc"]
    done = run_jobs(client, jobs, heard.append)
    assert next(done) == ("c", Outcome("ingested"))
    client.handler(("when", 77))
    assert heard == [77]
    (eid, failed), last = done
    assert (eid, failed.status) == ("b", "failed")
    assert failed.reason.startswith("its worker failed: MemoryError: too much")
    assert last == ("a", Outcome("ingested"))
    assert len(client.cancelled) == 3
    names = [options["key"] for _, _, options in client.submitted]
    assert [name.rsplit("-", 1)[0] for name in names] == ["ingest-a", "ingest-b", "ingest-c"]
    assert not any(options["pure"] for _, _, options in client.submitted)
    again = FakeClient()
    assert len(list(run_jobs(again, jobs[:1]))) == 1
    assert again.submitted[0][2]["key"] != names[0]  # results are remembered by name
