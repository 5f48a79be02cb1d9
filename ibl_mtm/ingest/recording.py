"""What ingestion knows of one session before it is aligned, whatever kind of source it is from.

recording.insertions[0].units               # one row per unit
recording.trials                            # None for contiguous windows
"""

import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from ibl_mtm.errors import SessionError

__all__ = [
    "Behaviour",
    "Insertion",
    "Recording",
    "Signal",
    "check_pids",
    "checked_signal",
    "numbers",
]

# ONE accepts ids of UUID versions 3 and 4 only. Version 3, from the session's place, is the same
# on every machine.
_NAMESPACE = uuid.UUID("6b0a5c1e-6b3a-4c53-8d0e-0c7c0a9e8f21")


@dataclass(frozen=True)
class Insertion:
    """One probe's sorting.

    Parameters
    ----------
    pid
        Id of the insertion; empty where no table tells it.
    probe
        Name of the probe, such as probe00.
    sorter, revision
        Where the sorting comes from; empty where its folder does not tell.
    times
        Spike times, ascending (s, session clock), shape (n_spikes,).
    clusters
        Row in `units` of each spike, shape (n_spikes,).
    units
        Columns unit, cluster_id, channel, region, depth (um), x, y, z (m), label.
    qc
        Quality of the insertion in Alyx; NOT_SET where nobody judged it.
    source
        What messages call its spikes' times; empty: the file in ONE's layout.
    """

    pid: str
    probe: str
    sorter: str
    revision: str
    times: NDArray[np.float64]
    clusters: NDArray[np.integer]
    units: pd.DataFrame
    qc: str = "NOT_SET"
    source: str = ""

    @property
    def called(self) -> str:
        """What messages call its spikes."""
        return self.source or f"alf/{self.probe}/spikes.times"


@dataclass(frozen=True)
class Signal:
    """A sampled signal: times (s, ascending) and values, both of shape (n_samples,).

    `rate` is that of a regular grid (Hz): bins as long as its samples take those that lie in
    them, as they are; otherwise, and where it is None, signals are read at the bins' centres.
    """

    times: NDArray[np.float64]
    values: NDArray[np.float64]
    rate: float | None = None


@dataclass(frozen=True)
class Behaviour:
    """What was recorded beside the spikes; None where it was not, and notes that say so.

    Licks are times (s), or on a regular grid how many there were in each sample. What is missing in
    a recording of the IBL's task is a variable of NaN in the cache; of another task (`of_ibl` is
    False) it is no variable.
    """

    wheel_velocity: Signal | None
    whisker_motion_energy: Signal | None
    licks: NDArray[np.float64] | Signal | None
    notes: list[str] = field(default_factory=list)
    of_ibl: bool = True


@dataclass(frozen=True)
class Recording:
    """What was recorded in one session, on its clock.

    Parameters
    ----------
    eid, subject, lab, date, number
        Which session; the date as YYYY-MM-DD.
    insertions
        Its probes.
    trials
        The trials table, in the IBL's names where it has them; None where the dataset needs none.
    behaviour
        Wheel, whisker motion energy and licks, as far as they are there.
    signals
        Further traces, by name, as far as they are there.
    notes
        What was missing or left out, each in one line.
    domains
        Where train, val and test are, intervals of shape (n, 2) each, where the files tell; None
        where trials are dealt out by rule.
    from_start
        Whether a spike's bin is counted from the start of its window, `floor((t - start) / bin)`,
        as others count whose numbers ours must equal; otherwise by the edges of the bins. The two
        differ where a spike is on an edge but for rounding.
    attributes
        Further attributes of the session in the cache.
    """

    eid: str
    subject: str
    lab: str
    date: str
    number: int
    insertions: list[Insertion]
    trials: pd.DataFrame | None
    behaviour: Behaviour
    notes: list[str]
    domains: Mapping[str, NDArray[np.float64]] | None = None
    from_start: bool = False
    attributes: Mapping[str, Any] = field(default_factory=dict)
    signals: Mapping[str, Signal] = field(default_factory=dict)


def check_pids(
    eid: str, wanted: Sequence[str] | None, own: Collection[str], none: str = "none"
) -> None:
    """Refuse a session that lacks an insertion which the catalog names.

    Parameters
    ----------
    eid
        The session.
    wanted
        Insertion ids that the catalog names; None: none in particular.
    own
        Those that it has, with spikes.
    none
        What is said of its own where it has none.

    Raises
    ------
    SessionError
        If one is lacking; names it, and those that there are.
    """
    strange = [pid for pid in wanted or () if pid not in own]
    if strange:
        raise SessionError(eid, f"no insertion {strange[0]}; its own are {', '.join(own) or none}")


def checked_signal(
    eid: str, name: str, times: ArrayLike, values: ArrayLike, gaps: bool = False
) -> Signal:
    """A signal from its samples: in order, all of them numbers, each at a time of its own.

    Parameters
    ----------
    gaps
        Whether a value may be NaN; the sample is then left out.

    Raises
    ------
    SessionError
        If times and values do not fit together; names the signal.
    """
    t, v = np.asarray(times, np.float64), np.asarray(values, np.float64)
    if t.shape != v.shape or t.ndim != 1:
        raise SessionError(eid, f"{name}: {t.shape} times but {v.shape} values")
    if gaps:
        t, v = t[~np.isnan(v)], v[~np.isnan(v)]
    if not (np.isfinite(t).all() and np.isfinite(v).all()):
        raise SessionError(eid, f"{name}: not every time and value is a finite number")
    if (np.diff(t) < 0).any():
        raise SessionError(eid, f"{name}: times are not in ascending order")
    apart = np.diff(t, prepend=-np.inf) > 0  # of samples at one time, the first
    return Signal(t[apart], v[apart])


def numbers(eid: str, file: str, table: pd.DataFrame, column: str) -> NDArray[np.float64]:
    """A column of a table as numbers; NaN where it has none.

    Raises
    ------
    SessionError
        Names the file, the column and the first value that is no number.
    """
    values = table[column]
    if values.dtype.kind not in "biuf":
        plain = values.map(lambda value: isinstance(value, int | float | np.number | np.bool_))
        if not plain.all():
            at = int(np.flatnonzero(~plain.to_numpy())[0])
            raise SessionError(
                eid, f"{file}: {column}: {values.iloc[at]!r} in row {at}, expected a number"
            )
    found: NDArray[np.float64] = values.to_numpy(np.float64, na_value=np.nan)
    return found


def session_id(lab: str, subject: str, date: str, number: str) -> str:
    """The eid of a session that no table names, from its place alone."""
    return str(uuid.uuid3(_NAMESPACE, f"{lab}/{subject}/{date}/{int(number):03d}"))
