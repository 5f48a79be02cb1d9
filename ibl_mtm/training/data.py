"""From the cache to batches: the chosen units and trials of each session, and their order.

sessions = [load_session(cache[eid], settings) for eid in cache]
for batch in batches(sessions, batch_size=16, seed=0):
    for session, trials in batch.parts:
        ...
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import xarray as xr

from ibl_mtm.errors import UserError
from ibl_mtm.model.mtm import TrialFormat
from ibl_mtm.split import split_trials
from ibl_mtm.text import as_text
from ibl_mtm.training.settings import DataSettings

__all__ = [
    "NO_REGION",
    "Batch",
    "Session",
    "batches",
    "eligible_regions",
    "load_session",
    "split_of",
    "steps_per_epoch",
    "trial_format",
]

#: Regions that are none: outside the brain, fibre tracts, and units without histology.
NO_REGION = frozenset({"void", "root", "unknown", ""})


def trial_format(ds: xr.Dataset) -> TrialFormat:
    """Format of a session's trials."""
    time = ds.time.values
    return TrialFormat(
        n_time=len(time),
        bin_size=round(float(ds.attrs["bin_size"]), 9),
        alignment=str(ds.attrs["alignment"]),
        start=round(float(time[0]), 9),
    )


@dataclass(frozen=True)
class Session:
    """The part of a session that a run uses, in memory.

    Attributes
    ----------
    eid
        The session.
    counts : ndarray (trial, time, unit), uint8 or uint16
        Spikes per bin.
    trial : ndarray (trial,)
        Numbers of the trials in the session's own table.
    split : ndarray (trial,), str
        train, val or test.
    units, region : ndarray (unit,), str
        Uuid, and the region of each unit under the chosen map, ``""`` where that region does not
        take part in region schemes.
    """

    eid: str
    counts: np.ndarray
    trial: np.ndarray
    split: np.ndarray
    units: np.ndarray
    region: np.ndarray

    def trials_in(self, split: str) -> np.ndarray:
        """Positions of the trials of one split."""
        return np.flatnonzero(self.split == split)

    @cached_property
    def training_spikes(self) -> np.ndarray:
        """Spikes of each unit in the training trials, (unit,)."""
        return self.counts[self.trials_in("train")].sum((0, 1), dtype=np.int64)

    @cached_property
    def log_mean(self) -> np.ndarray:
        """Log of each unit's mean count per bin in the training trials, (unit,).

        Half a spike is added, so that a unit that was silent has a finite log.
        """
        n_bins = len(self.trials_in("train")) * self.counts.shape[1]
        return np.log((self.training_spikes + 0.5) / n_bins)


def load_session(ds: xr.Dataset, settings: DataSettings) -> Session:
    """Apply a run's filters to a session of the cache and read what is left into memory.

    Filters on units look at training trials only.

    Raises
    ------
    UserError
        If no unit or no training trial is left.
    """
    eid = str(ds.attrs["eid"])
    if settings.included_only:
        if "included" not in ds:
            raise UserError(f"session {eid} has no trials table; set data.included_only=false")
        ds = ds.isel(trial=np.flatnonzero(ds.included.values))
    split = split_of(ds, settings)
    if not (split == "train").any():
        raise UserError(f"session {eid} has no training trials")
    keep = np.ones(ds.sizes["unit"], bool)
    if settings.min_label > 0:
        keep &= ds.label.values >= settings.min_label - 1e-6
    counts = ds.spikes.values
    if settings.min_rate > 0:
        mean = counts[split == "train"].mean((0, 1))
        keep &= mean / float(ds.attrs["bin_size"]) >= settings.min_rate
    if not keep.any():
        raise UserError(
            f"no unit of session {eid} passes data.min_label={settings.min_label} "
            f"and data.min_rate={settings.min_rate}"
        )
    return Session(
        eid=eid,
        counts=counts if keep.all() else counts[:, :, keep],
        trial=ds.trial.values,
        split=split,
        units=as_text(ds.unit.values[keep]),
        region=eligible_regions(
            as_text(ds[settings.regions].values[keep]), settings.min_units_per_region
        ),
    )


def split_of(ds: xr.Dataset, settings: DataSettings) -> np.ndarray:
    """Split of a session's trials that a run uses: its own, or the one in the cache, (trial,)."""
    if settings.split is None:
        return as_text(ds.split)
    return split_trials(
        str(ds.attrs["eid"]),
        ds.trial.values,
        settings.split.fractions,
        settings.split.kind,
        settings.split.seed,
        ds.window_start.values,
        ds.sizes["time"] * float(ds.attrs["bin_size"]),
    )


def eligible_regions(region: np.ndarray, minimum: int) -> np.ndarray:
    """Regions that take part in region schemes: ``""`` for the units of any other, (unit,)."""
    names, inverse, count = np.unique(region, return_inverse=True, return_counts=True)
    takes_part = (count >= minimum) & ~np.isin(names, list(NO_REGION))
    return np.where(takes_part[inverse], region, "")


@dataclass(frozen=True)
class Batch:
    """Trials of one training step.

    Attributes
    ----------
    step
        Number of the step.
    parts : tuple of (int, ndarray)
        Position of a session, and positions of trials in it; each session at most once.
    """

    step: int
    parts: tuple[tuple[int, np.ndarray], ...]

    def __len__(self) -> int:
        return sum(len(trials) for _, trials in self.parts)

    def share(self, index: int, total: int) -> "Batch":
        """One of `total` shares as equal as can be, which together hold every trial once."""
        start, stop = (len(self) * i // total for i in (index, index + 1))
        parts, first = [], 0
        for session, trials in self.parts:
            mine = trials[max(0, start - first) : max(0, stop - first)]
            parts += [(session, mine)] if len(mine) else []
            first += len(trials)
        return Batch(self.step, tuple(parts))


def steps_per_epoch(
    sessions: Sequence[Session], batch_size: int, sessions_per_batch: int = 1
) -> int:
    """Batches in which every training trial appears once."""
    size = batch_size // sessions_per_batch
    pieces = sum(-(-len(s.trials_in("train")) // size) for s in sessions)
    return -(-pieces // sessions_per_batch)


def batches(
    sessions: Sequence[Session],
    batch_size: int,
    seed: int,
    start: int = 0,
    sessions_per_batch: int = 1,
) -> Iterator[Batch]:
    """Endless training batches, shuffled anew every epoch.

    Each session's trials are cut into pieces of ``batch_size / sessions_per_batch``; a batch is
    `sessions_per_batch` pieces drawn at random. The last piece of a session and the last batch
    of an epoch may be smaller, no trial is dropped. The order depends on `seed` alone: iteration
    may `start` at any step.
    """
    per_epoch = steps_per_epoch(sessions, batch_size, sessions_per_batch)
    size = batch_size // sessions_per_batch
    step = start - start % per_epoch
    while True:
        rng = np.random.default_rng([seed, step // per_epoch])
        pieces = []
        for index, session in enumerate(sessions):
            trials = rng.permutation(session.trials_in("train"))
            pieces += [(index, part) for part in np.split(trials, range(size, len(trials), size))]
        order = rng.permutation(len(pieces))
        for first in range(0, len(order), sessions_per_batch):
            if step >= start:
                drawn = order[first : first + sessions_per_batch]
                yield Batch(step, _by_session([pieces[position] for position in drawn]))
            step += 1


def _by_session(pieces: Sequence[tuple[int, np.ndarray]]) -> tuple[tuple[int, np.ndarray], ...]:
    joined: dict[int, list[np.ndarray]] = {}
    for index, trials in pieces:
        joined.setdefault(index, []).append(trials)
    return tuple((index, np.concatenate(parts)) for index, parts in joined.items())
