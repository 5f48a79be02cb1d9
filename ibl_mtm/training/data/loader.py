"""Batches with their counts: for training in an order of their own, for validation one by one.

with closing(Loader(sessions, settings)) as loader:
    for batch in loader.training(start=0):
        for part in batch.parts:
            part.counts()                           # (B, time, unit)

Sessions are read in threads, ahead of their use as far as memory allows (see `Store`). What a batch
holds depends on its step alone: not on memory, threads, devices, or where training was resumed.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from ibl_mtm.errors import UserError
from ibl_mtm.sessions.view import Session
from ibl_mtm.training.data.memory import available_memory
from ibl_mtm.training.data.sampler import Batch, Part, TrialSampler
from ibl_mtm.training.data.store import Key, Store
from ibl_mtm.training.settings import RunSettings

__all__ = ["CPU", "VALIDATION_BATCH", "Loader", "Replica"]

VALIDATION_BATCH = 64
#: Batches looked ahead for sessions to be read.
_LOOK_AHEAD = 128


@dataclass(frozen=True)
class Replica:
    """A process of a training: its device, and its number among so many."""

    device: torch.device
    rank: int = 0
    total: int = 1


CPU = Replica(torch.device("cpu"))


@dataclass(frozen=True)
class _Visit:
    """A batch, what it needs, and which of that for the first and for the last time."""

    batch: Batch
    needs: tuple[Key, ...]
    enter: tuple[Key, ...] = ()
    leave: tuple[Key, ...] = ()


class Loader:
    """Reads what a training needs.

    Parameters
    ----------
    sessions
        All of a run's; batches name them by position.
    settings
        The run's.

    Raises
    ------
    UserError
        If there are no validation trials.
    """

    def __init__(self, sessions: Sequence[Session], settings: RunSettings) -> None:
        self.sessions, self.settings = sessions, settings
        self.sampler = TrialSampler.of(sessions, settings)
        self.validation_parts = [
            Part(index, trials)
            for index, session in enumerate(sessions)
            for trials in _cut(session.trials_in("val"))
        ]
        if not self.validation_parts:
            raise UserError("there are no validation trials: give data.split a share for them")
        self.store: Store | None = None

    def training(self, start: int = 0, replica: Replica = CPU) -> Iterator[Batch]:
        """Batches from step `start` on, without end.

        A process gets the counts of its own share; if it has none, those of the first trial.
        """

        def needs(batch: Batch) -> tuple[Key, ...]:
            own = batch.share(replica.rank, replica.total)
            parts = own.parts or batch.parts[:1]
            return tuple((part.session, "train") for part in parts)

        epochs = self.sampler.epochs(start)
        visits = (visit for epoch in epochs for visit in _visits(epoch, map(needs, epoch)))
        yield from self._read_ahead(visits, replica.device)

    def validation(self, replica: Replica = CPU) -> Iterator[Part]:
        """All validation trials, at most 64 at a time; a process reads its own share."""
        parts = [Batch(number, (part,)) for number, part in enumerate(self.validation_parts)]
        needs = [
            [(part.session, "val")] if number % replica.total == replica.rank else []
            for number, part in enumerate(self.validation_parts)
        ]
        for batch in self._read_ahead(iter(_visits(parts, needs)), replica.device):
            yield batch.parts[0]

    def close(self) -> None:
        """End all reading."""
        if self.store is not None:
            self.store.close()

    def _read_ahead(self, visits: Iterator[_Visit], device: torch.device) -> Iterator[Batch]:
        store = self.open_store(device)
        asked: deque[_Visit] = deque()
        in_use: list[Key] = []
        following = next(visits, None)

        def is_in_time(visit: _Visit) -> bool:
            return len(asked) < _LOOK_AHEAD and all(map(store.has_room, visit.enter))

        try:
            while asked or following:
                while following and (not asked or is_in_time(following)):
                    for key in following.enter:
                        store.ask(key)
                        in_use.append(key)
                    asked.append(following)
                    following = next(visits, None)
                visit = asked.popleft()
                held = {key[0]: store.get(key) for key in visit.needs}
                parts = (replace(part, held=held.get(part.session)) for part in visit.batch.parts)
                yield Batch(visit.batch.step, tuple(parts))
                for key in visit.leave:
                    in_use.remove(key)
                    store.release(key)
        finally:  # also if whoever iterates takes no more
            for key in in_use:
                store.release(key)

    def open_store(self, device: torch.device) -> Store:
        """Where counts are held, decided with the memory that there is.

        Raises
        ------
        UserError
            If it does not hold the sessions that are in use at a time.
        """
        if self.store is None:
            chosen = self.settings.data
            share = available_memory() / 2 / self.settings.trainer.devices
            budget = share if chosen.memory_gb is None else chosen.memory_gb * 1e9
            on_device = chosen.device_cache == "on" or (
                chosen.device_cache == "auto" and _has_room(device, self.sessions)
            )
            self.store = Store(self.sessions, budget, chosen.pool, device if on_device else None)
        return self.store


def _has_room(device: torch.device, sessions: Sequence[Session]) -> bool:
    """Whether half of a GPU's free memory holds all counts."""
    if device.type != "cuda":
        return False
    free, _ = torch.cuda.mem_get_info(device)
    return sum(s.n_bytes(split) for s in sessions for split in ("train", "val")) <= free / 2


def _cut(trials: np.ndarray) -> list[np.ndarray]:
    n_parts = -(-len(trials) // VALIDATION_BATCH)
    return np.array_split(trials, n_parts) if n_parts else []


def _visits(batches: Sequence[Batch], needs: Iterable[Sequence[Key]]) -> list[_Visit]:
    needed = [tuple(keys) for keys in needs]
    first: dict[Key, int] = {}
    last: dict[Key, int] = {}
    for number, key in ((number, key) for number, keys in enumerate(needed) for key in keys):
        first.setdefault(key, number)
        last[key] = number
    return [
        _Visit(
            batch,
            keys,
            enter=tuple(key for key in keys if first[key] == number),
            leave=tuple(key for key in keys if last[key] == number),
        )
        for number, (batch, keys) in enumerate(zip(batches, needed, strict=True))
    ]
