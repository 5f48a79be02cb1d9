"""The order of training batches: it follows from a seed, and is known before anything is read.

sampler = TrialSampler.of(sessions, settings)
for batch in sampler.epoch(0):
    for part in batch.parts:
        part.session, part.trials                   # positions
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor

from ibl_mtm.sessions.view import Session
from ibl_mtm.training.data.held import Held
from ibl_mtm.training.settings import RunSettings

__all__ = ["Batch", "Part", "TrialSampler"]


@dataclass(frozen=True)
class Part:
    """Trials of one session.

    Attributes
    ----------
    session
        Position of the session.
    trials : ndarray (B,)
        Positions of trials in it.
    held
        Where their counts are; None before they are read, and on devices that do not use them.
    """

    session: int
    trials: np.ndarray
    held: Held | None = None

    def __len__(self) -> int:
        return len(self.trials)

    def counts(self) -> Tensor:
        """Spikes per bin, (B, time, unit), uint8 or uint16."""
        if self.held is None:
            raise ValueError("these trials have not been read")
        return self.held.take(self.trials)


@dataclass(frozen=True)
class Batch:
    """Trials of one training step.

    Attributes
    ----------
    step
        Number of the step.
    parts
        Each session at most once.
    """

    step: int
    parts: tuple[Part, ...]

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    def share(self, index: int, total: int) -> "Batch":
        """One of `total` shares as equal as can be, which together hold every trial once."""
        start, stop = (len(self) * i // total for i in (index, index + 1))
        parts, first = [], 0
        for part in self.parts:
            mine = part.trials[max(0, start - first) : max(0, stop - first)]
            parts += [replace(part, trials=mine)] if len(mine) else []
            first += len(part)
        return Batch(self.step, tuple(parts))


@dataclass(frozen=True)
class TrialSampler:
    """Batches of every epoch, shuffled within and across sessions.

    Each session's trials are cut into pieces of ``batch_size / sessions_per_batch``; a batch is
    `sessions_per_batch` pieces drawn at random. The last piece of a session and the last batch
    of an epoch may be smaller, no trial is dropped. Sessions take turns in a pool: pieces are
    drawn from those in it, and one that has none left makes room for the next. So a session is
    needed once an epoch for a while, and with no more sessions than the pool holds all pieces of
    an epoch are shuffled.

    Attributes
    ----------
    trials : sequence of ndarray
        Positions of the training trials of each session.
    batch_size, seed, sessions_per_batch, pool
        The run's settings.
    """

    trials: Sequence[np.ndarray]
    batch_size: int
    seed: int
    sessions_per_batch: int = 1
    pool: int = 16

    @classmethod
    def of(cls, sessions: Sequence[Session], settings: RunSettings) -> "TrialSampler":
        """The order in which a run sees the training trials of its sessions."""
        return cls(
            [session.trials_in("train") for session in sessions],
            settings.batch_size,
            settings.seed,
            settings.sessions_per_batch,
            settings.data.pool,
        )

    @property
    def piece_size(self) -> int:
        """Trials that are drawn together."""
        return self.batch_size // self.sessions_per_batch

    @property
    def steps_per_epoch(self) -> int:
        """Batches in which every training trial appears once."""
        pieces = sum(-(-len(trials) // self.piece_size) for trials in self.trials)
        return -(-pieces // self.sessions_per_batch)

    def epochs(self, start: int = 0) -> Iterator[list[Batch]]:
        """Batches from step `start` on, without end: the rest of its epoch, then every other."""
        number, done = divmod(start, self.steps_per_epoch)
        while True:
            yield self.epoch(number)[done:]
            number, done = number + 1, 0

    def epoch(self, number: int) -> list[Batch]:
        """All batches of an epoch."""
        rng = np.random.default_rng([self.seed, number])
        pieces: list[Part] = []
        for session, trials in enumerate(self.trials):
            cuts = range(self.piece_size, len(trials), self.piece_size)
            pieces += [Part(session, piece) for piece in np.split(rng.permutation(trials), cuts)]
        drawn = self._draw(np.array([piece.session for piece in pieces]), number, rng)
        step = number * self.steps_per_epoch
        return [
            Batch(step + first // self.sessions_per_batch, _by_session([pieces[i] for i in some]))
            for first in range(0, len(drawn), self.sessions_per_batch)
            for some in [drawn[first : first + self.sessions_per_batch]]
        ]

    def _draw(self, session: np.ndarray, number: int, rng: np.random.Generator) -> np.ndarray:
        """The order of pieces, which belong to these sessions, in an epoch."""
        entering = np.random.default_rng([self.seed, number, 1]).permutation(len(self.trials))
        queue = rng.permutation(np.flatnonzero(np.isin(session, entering[: self.pool])))
        drawn = []
        for new in entering[self.pool :]:
            # Up to where the first of the sessions has no piece left.
            _, last = np.unique(session[queue[::-1]], return_index=True)
            end = len(queue) - last.max()
            drawn.append(queue[:end])
            queue = rng.permutation(np.append(queue[end:], np.flatnonzero(session == new)))
        return np.concatenate([*drawn, queue])


def _by_session(pieces: Sequence[Part]) -> tuple[Part, ...]:
    joined: dict[int, list[np.ndarray]] = {}
    for piece in pieces:
        joined.setdefault(piece.session, []).append(piece.trials)
    return tuple(Part(session, np.concatenate(parts)) for session, parts in joined.items())
