"""Counts of sessions, read in threads while the model computes, within a budget of memory.

with closing(Store(sessions, budget=10**9, pool=16)) as store:
    store.ask((3, "train"))                         # begins to read
    held = store.get((3, "train"))                  # waits for it
    store.release((3, "train"))                     # may be forgotten, if there is no room
"""

import heapq
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import torch

from ibl_mtm.errors import UserError
from ibl_mtm.sessions.view import Session
from ibl_mtm.training.data.describe import READERS
from ibl_mtm.training.data.held import Held

__all__ = ["Key", "Store"]

#: A session by its position, and which of its splits.
Key = tuple[int, str]

_SPLITS = ("val", "train")


@dataclass
class _Entry:
    future: "Future[Held]"
    users: int = 0


class Store:
    """Decoded counts of the training and validation trials of sessions.

    What fits stays; which that is depends on sizes alone, and validation trials come first, since
    as many chunks are read for them as for ten times as many training trials. Everything else is
    read when it is asked for, and forgotten when nobody uses it any more.

    Parameters
    ----------
    sessions
        All of a run's.
    budget
        Bytes of memory.
    pool
        Sessions whose training trials are in use at a time.
    device
        Hold everything there, whatever the budget; None: in the memory of the CPU.

    Raises
    ------
    UserError
        If the budget does not hold the pool.
    """

    def __init__(
        self,
        sessions: Sequence[Session],
        budget: float,
        pool: int,
        device: torch.device | None = None,
    ) -> None:
        self.sessions, self.device = sessions, device
        self.size: dict[Key, int] = {
            (index, split): session.n_bytes(split)
            for split in _SPLITS
            for index, session in enumerate(sessions)
        }
        self.kept = set(self.size)
        self.room = budget
        if device is None and self.total > budget:
            self._choose_kept(budget, pool)
        self.taken = 0
        self._entries: dict[Key, _Entry] = {}
        self._reading: list[Future[Held]] = []
        self._readers = ThreadPoolExecutor(READERS, "read")

    @property
    def total(self) -> int:
        """Bytes of everything."""
        return sum(self.size.values())

    def _choose_kept(self, budget: float, pool: int) -> None:
        # A session is read for each reader while those of the pool are in use, and some are left.
        largest = {
            split: [self.size[index, split] for index in range(len(self.sessions))]
            for split in _SPLITS
        }
        in_use = sum(heapq.nlargest(pool + READERS, largest["train"]))
        in_use += sum(heapq.nlargest(1 + READERS, largest["val"]))
        if in_use > budget:
            raise UserError(
                f"{pool} sessions in use at a time take {in_use / 1e9:.2f} GB of memory, and "
                f"there are {budget / 1e9:.2f}: set a larger data.memory_gb or a smaller data.pool"
            )
        left = budget - in_use
        self.kept = set()
        for key, size in self.size.items():
            if size <= left:
                self.kept.add(key)
                left -= size
        self.room = in_use + left

    def has_room(self, key: Key) -> bool:
        """Whether to read this ahead of its use."""
        if key in self._entries:
            return True
        self._raise_failed()
        fits = key in self.kept or self.taken + self.size[key] <= self.room
        return fits and len(self._reading) < READERS

    def ask(self, key: Key) -> None:
        """Begin to read a session's trials, unless they are here; hold them until released."""
        entry = self._entries.get(key)
        if entry is None:
            entry = self._entries[key] = _Entry(self._readers.submit(self._read, key))
            self._reading.append(entry.future)
            self.taken += 0 if key in self.kept else self.size[key]
        entry.users += 1

    def get(self, key: Key) -> Held:
        """What was asked for, when it has been read.

        Raises
        ------
        SessionError
            If this, or anything else that is being read, is damaged or was replaced.
        """
        self._raise_failed()
        return self._entries[key].future.result()

    def release(self, key: Key) -> None:
        """Let go of what was asked for."""
        entry = self._entries[key]
        entry.users -= 1
        if not entry.users and key not in self.kept:
            del self._entries[key]
            self.taken -= self.size[key]

    def close(self) -> None:
        """End all reading."""
        self._readers.shutdown(cancel_futures=True)

    def _read(self, key: Key) -> Held:
        index, split = key
        session = self.sessions[index]
        counts = torch.from_numpy(session.read(split))
        if self.device is not None:
            counts = counts.to(self.device)
        return Held(counts, session.trials_in(split))

    def _raise_failed(self) -> None:
        for future in self._reading:
            if future.done():
                future.result()
        self._reading = [future for future in self._reading if not future.done()]
