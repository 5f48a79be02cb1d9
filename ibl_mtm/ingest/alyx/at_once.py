"""Several things at once, in threads that nobody waits for.

    each(fetch, files, 4)               # fetch(file, stop), until one raises

A thread of a pool is waited for when the program ends, however long its server takes: here an
error, or Ctrl-C, ends it all at once, and what was under way is told to stop.
"""

import threading
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import TypeVar

__all__ = ["StoppedError", "each"]

_LAST_WAIT = 1.0  # s, for threads that were told to stop after an error

T = TypeVar("T")


class StoppedError(Exception):
    """Raised in what is under way when it is to stop."""


def each(
    action: Callable[[T, threading.Event], object], items: Sequence[T], n_threads: int
) -> None:
    """Call an action with each item, in no particular order.

    Parameters
    ----------
    action
        Gets an item, and an event that is set when it is to stop.
    items
        What to do it with.
    n_threads
        How many at once.

    Raises
    ------
    BaseException
        The first that an action raised, as it is raised; the others are told to stop.
    """
    todo: SimpleQueue[T] = SimpleQueue()
    for item in items:
        todo.put(item)
    done: SimpleQueue[BaseException | None] = SimpleQueue()
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            try:
                item = todo.get_nowait()
            except Empty:
                return
            try:
                action(item, stop)
            except BaseException as error:
                done.put(error)
            else:
                done.put(None)

    threads = [
        threading.Thread(target=work, daemon=True) for _ in range(min(n_threads, len(items)))
    ]
    try:
        for thread in threads:
            thread.start()
        for _ in items:
            error = done.get()
            if error is not None:
                raise error
    except Exception:
        stop.set()
        for thread in threads:
            thread.join(_LAST_WAIT / len(threads))
        raise
    finally:
        stop.set()
