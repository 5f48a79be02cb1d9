"""What a run uses of a session: units, regions, trials, sums over training trials.

session = describe_session(ds, settings.data)
session.units, session.trials_in("train")
session.read("train")                               # counts (trial, time, unit), decoded now

Describing a session reads its training trials once, chunk by chunk, and keeps none of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr

from ibl_mtm.errors import UserError
from ibl_mtm.sessions.deal import Deal, deal_trials
from ibl_mtm.sessions.modalities import (
    ModalityValues,
    SessionBehaviour,
    describe_modalities,
    read_modalities,
)
from ibl_mtm.sessions.selection import SelectionSettings
from ibl_mtm.sessions.spikes import Spikes, spikes_of
from ibl_mtm.sessions.text import as_text

__all__ = [
    "NO_REGION",
    "CountSums",
    "Session",
    "describe_session",
    "eligible_regions",
    "sum_counts",
]

#: Regions that are none: outside the brain, fibre tracts, and units without histology.
NO_REGION = frozenset({"void", "root", "unknown", ""})


@dataclass(frozen=True)
class CountSums:
    """Sums over the bins of some trials, for each unit: all that a new model needs to know of them.

    Attributes
    ----------
    n_bins
        Number of bins.
    counts, squares, roots : ndarray (unit,), float64
        Sums of the spike counts, of their squares, and of their square roots.
    """

    n_bins: int
    counts: np.ndarray
    squares: np.ndarray
    roots: np.ndarray

    def of(self, units: np.ndarray) -> "CountSums":
        """Those of some units, by position."""
        return CountSums(self.n_bins, self.counts[units], self.squares[units], self.roots[units])

    def mean_and_spread(self, transform: str) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of the counts, or (``sqrt``) of their square roots."""
        total, squares = (
            (self.roots, self.counts) if transform == "sqrt" else (self.counts, self.squares)
        )
        mean = total / self.n_bins
        variance = (squares - total * mean) / max(1, self.n_bins - 1)
        return mean, np.sqrt(variance.clip(min=0))

    @property
    def log_mean(self) -> np.ndarray:
        """Log of each unit's mean count per bin, (unit,).

        Half a spike is added, so that a unit that was silent has a finite log.
        """
        return np.log((self.counts + 0.5) / self.n_bins)


def sum_counts(spikes: Spikes, trials: np.ndarray) -> CountSums:
    """Sums over trials given by position, all units."""
    counts, squares, roots = np.zeros((3, spikes.shape[2]))
    # Sums of bytes are exact in single precision, which takes half the time.
    kind = np.float32 if spikes.dtype.itemsize == 1 else np.float64
    for _, rows, chunk in spikes.chunks(trials):
        for block in np.split(rows, range(8, len(rows), 8)):  # as much as a CPU's cache holds
            x = chunk[block].reshape(-1, chunk.shape[2]).astype(kind)
            counts += x.sum(0)
            squares += np.einsum("ij,ij->j", x, x)
            roots += np.sqrt(x).sum(0)
    return CountSums(len(trials) * spikes.shape[1], counts, squares, roots)


@dataclass(frozen=True)
class Session:
    """The part of a session that a run uses, without its counts.

    Attributes
    ----------
    eid
        The session.
    spikes
        Where its counts are read.
    trial : ndarray (trial,)
        Numbers of the trials in the session's own table.
    split : ndarray (trial,), str
        train, val or test.
    units, region : ndarray (unit,), str
        Uuid, and the region of each unit under the chosen map, ``""`` where that region does not
        take part in region schemes.
    training
        Sums over the training trials.
    deal
        All trials of the session and what they are for, those too that the run leaves out.
    trial_positions, unit_positions : ndarray of int
        Where these trials and units are in `spikes`.
    start : ndarray (trial,), float64
        When their windows begin, s on the session's clock.
    subject
        Whose session it is.
    behaviour
        Its modalities, of a run whose model has some.
    """

    eid: str
    spikes: Spikes
    trial: np.ndarray
    split: np.ndarray
    units: np.ndarray
    region: np.ndarray
    training: CountSums
    deal: Deal
    trial_positions: np.ndarray
    unit_positions: np.ndarray
    start: np.ndarray
    subject: str = ""
    behaviour: SessionBehaviour | None = None

    def trials_in(self, split: str) -> np.ndarray:
        """Positions of the trials of one split."""
        return np.flatnonzero(self.split == split)

    def behaviour_of(self, trials: np.ndarray) -> ModalityValues | None:
        """Modalities of some trials, by position, of a run whose model has some."""
        return None if self.behaviour is None else self.behaviour.values.take(trials)

    def n_bytes(self, split: str) -> int:
        """Memory that the counts of one split take."""
        _, n_bins, _ = self.spikes.shape
        n_counts = len(self.trials_in(split)) * n_bins * len(self.units)
        return n_counts * self.spikes.dtype.itemsize

    def read(self, split: str) -> np.ndarray:
        """Counts of the trials of one split, (trial, time, unit), uint8 or uint16.

        Raises
        ------
        SessionError
            If they are damaged, or the session was replaced since it was described.
        """
        return self.spikes.read(self.trial_positions[self.trials_in(split)], self.unit_positions)


def describe_session(
    ds: xr.Dataset,
    settings: SelectionSettings,
    spikes: Spikes | None = None,
    deal: Deal | None = None,
    modalities: Sequence[str] = (),
) -> Session:
    """Apply a run's filters to a session of the cache.

    Filters on units look at training trials only.

    Parameters
    ----------
    ds
        The session.
    settings
        The run's.
    spikes
        Its counts, by default as `ds` has them.
    deal
        What its trials are for, if a run decided that; by default as `deal_trials` decides.
    modalities
        Behaviours that the run's model knows.

    Raises
    ------
    UserError
        If no unit or no training trial is left, or the run had other trials.
    """
    eid, spikes = str(ds.attrs["eid"]), spikes or spikes_of(ds)
    if deal is None:
        deal = deal_trials(ds, settings)
    deal.check(ds)
    trials = np.flatnonzero(deal.used)
    split = deal.split[trials]
    if not (split == "train").any():
        raise UserError(f"session {eid} has no training trials")
    training = sum_counts(spikes, trials[split == "train"])
    keep = np.ones(ds.sizes["unit"], bool)
    if settings.min_label > 0:
        keep &= ds.label.values >= settings.min_label - 1e-6
    if settings.min_rate > 0:
        mean = training.counts / training.n_bins
        keep &= mean / float(ds.attrs["bin_size"]) >= settings.min_rate
    if not keep.any():
        raise UserError(
            f"no unit of session {eid} passes data.min_label={settings.min_label} "
            f"and data.min_rate={settings.min_rate}"
        )
    units = np.flatnonzero(keep)
    behaviour = None
    if modalities:
        values = read_modalities(ds, modalities).take(trials)
        train = np.flatnonzero(split == "train")
        behaviour = SessionBehaviour(values, describe_modalities(values, train, modalities))
    return Session(
        eid=eid,
        spikes=spikes,
        trial=ds.trial.values[trials],
        split=split,
        units=as_text(ds.unit.values[keep]),
        region=eligible_regions(
            as_text(ds[settings.regions].values[keep]),
            settings.min_units_per_region,
            settings.void_and_root,
        ),
        training=training.of(units),
        deal=deal,
        trial_positions=trials,
        unit_positions=units,
        start=ds.window_start.values[trials],
        subject=str(ds.attrs.get("subject", "")),
        behaviour=behaviour,
    )


def eligible_regions(
    region: np.ndarray, minimum: int, void_and_root: str = "leave_out"
) -> np.ndarray:
    """Regions that take part in region schemes: ``""`` for the units of any other, (unit,).

    Parameters
    ----------
    region : ndarray (unit,), str
    minimum
        Units that a region needs.
    void_and_root
        ``use``: units outside of regions are one, by their name.
    """
    names, inverse, count = np.unique(region, return_inverse=True, return_counts=True)
    takes_part = count >= minimum
    if void_and_root == "leave_out":
        takes_part &= ~np.isin(names, list(NO_REGION))
    return np.where(takes_part[inverse], region, "")
