"""Sessions side by side, in processes of dask.distributed: started here, or a cluster that runs.

    with open_cluster(workers=4) as client:
        for eid, outcome in run_jobs(client, jobs):
            ...

A worker that dies, whatever of, takes no session with it: another one does that session again.
"""

import logging
import multiprocessing
import signal
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import dask
from dask.system import CPU_COUNT
from distributed import Client, LocalCluster, as_completed, get_worker
from distributed.system import MEMORY_LIMIT
from distributed.utils import get_mp_context

from ibl_mtm import logs
from ibl_mtm.errors import UserError
from ibl_mtm.ingest.job import Job, run_job
from ibl_mtm.ingest.outcome import Outcome, one_line

__all__ = ["default_workers", "open_cluster", "run_jobs"]

log = logging.getLogger(__name__)

# A session as large as real ones takes 1.2 GB; dask pauses a worker at 80 % of its limit.
_MEMORY = 3 << 30
_ONE_THREAD = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
# Imported once, for all workers.
_WORK = ("ibl_mtm.ingest.through_one.load", "ibl_mtm.ingest.assemble")
_TOPIC = "ibl-mtm-bytes"
_PATIENCE = 30  # s, for a scheduler and its first worker


def default_workers() -> int:
    """As many processes as this machine has processors and memory for."""
    return max(1, min(CPU_COUNT, MEMORY_LIMIT // _MEMORY))


@contextmanager
def open_cluster(workers: int = 1, scheduler: str | None = None) -> Iterator[Client]:
    """Start a cluster on this machine, or join one that runs.

    Parameters
    ----------
    workers
        Number of processes to start on this machine.
    scheduler
        Address of a running cluster to use instead. Its workers need to see the cache, nothing
        else of this machine.

    Raises
    ------
    UserError
        If there is no scheduler at the address, or none of its workers.
    """
    if not log.isEnabledFor(logging.INFO):
        logging.getLogger("distributed").setLevel(logging.ERROR)
    if scheduler is not None:
        with _join(scheduler) as client:
            yield client
        return
    with _start(workers) as cluster, Client(cluster) as client:
        try:
            yield client
        except KeyboardInterrupt:
            # Asked to end, workers would first finish what they are at.
            for process in multiprocessing.active_children():
                process.kill()
            raise


def run_jobs(
    client: Client, jobs: Sequence[Job], on_bytes: Callable[[int], object] = lambda n: None
) -> Iterator[tuple[str, Outcome]]:
    """Do jobs on a cluster, and give eid and outcome of each as it ends.

    Parameters
    ----------
    client
        Of the cluster.
    jobs
        One for each session.
    on_bytes
        Called with numbers of bytes that workers downloaded.
    """
    client.subscribe_topic(_TOPIC, lambda event: on_bytes(event[1]))
    # A name of its own for each: a cluster remembers results by name.
    futures = {
        client.submit(
            _run, job, logs.level(), key=f"ingest-{job.eid}-{uuid.uuid4().hex}", pure=False
        ): job
        for job in jobs
    }
    try:
        for future in as_completed(futures):
            eid = futures[future].eid
            try:
                outcome = future.result()
            except Exception as error:
                reason = f"its worker failed: {type(error).__name__}: {one_line(error)}"
                outcome = Outcome("failed", reason)
            yield eid, outcome
    finally:
        client.cancel(list(futures))  # those that nobody waits for any more


@contextmanager
def _start(workers: int) -> Iterator[LocalCluster]:
    """A cluster on this machine, of processes that are copies of one with all imports done."""
    # Dask's own choice for malloc makes every large array a new one of the system: 40 % more time.
    settings: dict[str, Any] = {
        "distributed.nanny.pre-spawn-environ": dict.fromkeys(_ONE_THREAD, 1)
    }
    if "forkserver" in multiprocessing.get_all_start_methods():
        settings["distributed.worker.multiprocessing-method"] = "forkserver"
    with dask.config.set(settings):
        context = get_mp_context()
        if context.get_start_method() == "forkserver":
            context.set_forkserver_preload(["distributed", __name__, *_WORK])
        with LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            memory_limit=min(_MEMORY, MEMORY_LIMIT // workers),
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            silence_logs=logging.ERROR,
            preload=[__name__],
        ) as cluster:
            yield cluster


def dask_setup(worker: Any) -> None:
    """Leave Ctrl-C, which reaches every process of a terminal, to the one that started workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _join(scheduler: str) -> Client:
    try:
        client = Client(scheduler, timeout=_PATIENCE)
        client.wait_for_workers(1, timeout=_PATIENCE)
    except (OSError, TimeoutError, ValueError) as error:
        raise UserError(
            f"no Dask scheduler with a worker at '{scheduler}' ({one_line(error)}); "
            "expected an address such as tcp://127.0.0.1:8786"
        ) from None
    return client


def _run(job: Job, level: int | None = None) -> Outcome:
    """Do a job on a worker, and tell the client of the bytes that come, twice a second."""
    if level is not None:
        logs.configure(level)
        if level > logging.INFO:
            logging.getLogger("distributed").setLevel(logging.ERROR)
    worker, lock = get_worker(), threading.Lock()
    pending, told = 0, time.monotonic()

    def tell(n: int, at_once: bool = False) -> None:
        nonlocal pending, told
        with lock:
            pending += n
            if pending and (at_once or time.monotonic() - told > 0.5):
                worker.log_event(_TOPIC, pending)
                pending, told = 0, time.monotonic()

    outcome = run_job(job, tell)
    tell(0, at_once=True)
    return outcome
