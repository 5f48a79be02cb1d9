"""Sessions that are scored side by side: how many fit into memory, and on which threads."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TypeVar

import torch
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from ibl_mtm.cache.cache import Cache
from ibl_mtm.errors import SessionError
from ibl_mtm.training.data.memory import available_memory

__all__ = ["sessions_at_once", "side_by_side"]

Result = TypeVar("Result")


def sessions_at_once(
    cache: Cache, eids: Sequence[str], n_arrays: int, memory_gb: float | None = None
) -> int:
    """How many sessions to score side by side, so that what they hold fits into memory.

    Parameters
    ----------
    cache, eids
        The sessions.
    n_arrays
        How many arrays of a number for each trial, bin and unit one of them holds, such as the
        log rates under each prompt; what they are made from comes on top.
    memory_gb
        The budget (GB); None: half of what is available.
    """
    budget = available_memory() / 2 if memory_gb is None else memory_gb * 1e9
    rows = cache.sessions.loc[[eid for eid in eids if eid in cache]]
    if not len(rows):
        return 1
    n_bins = 1
    for eid in map(str, rows.index):
        with suppress(SessionError):  # whoever reads it says so
            n_bins = cache[eid].sizes["time"]
            break
    largest = float((rows["n_units"] * rows["n_trials"]).max()) * n_bins
    # Beside arrays in single precision: counts, a chunk in double precision, and copies of trials.
    return max(1, int(budget // (largest * 4 * (n_arrays + 3))))


def side_by_side(
    work: Callable[[str], Result], eids: Sequence[str], at_once: int | None
) -> list[Result]:
    """Work on sessions in threads: what they compute is long and lets other threads run.

    Many sessions keep all cores busy with one thread each, where a product of small matrices on
    many threads would mostly wait.
    """
    threads = torch.get_num_threads()
    workers = max(1, min(at_once or threads, len(eids)))
    torch.set_num_threads(max(1, threads // workers))
    try:
        with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(workers) as pool:
            return list(pool.map(work, eids))
    finally:
        torch.set_num_threads(threads)
