"""A session of any lab as ingestion knows it, from arrays and tables, with the checks of any other.

probes = {"imec0": {"times": times, "clusters": clusters, "units": units}}
recording = make_recording(about, probes, trials, {"speed": (t, v)}, "trials", event="cue")
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ibl_mtm.errors import SessionError
from ibl_mtm.ingest.check_spikes import check_rows, check_spikes
from ibl_mtm.ingest.own.quality import LABELS
from ibl_mtm.ingest.recording import (
    Behaviour,
    Insertion,
    Recording,
    Signal,
    checked_signal,
    numbers,
)
from ibl_mtm.ingest.trials import check_trials
from ibl_mtm.one_files.regions import resolve_regions

__all__ = ["LICKS", "About", "make_recording"]

LICKS = "licks"
"""The signal that has times and no values."""

_NUMBERS = ("depth", "x", "y", "z")


@dataclass(frozen=True)
class About:
    """Which session; the date as YYYY-MM-DD."""

    eid: str
    subject: str
    date: str
    lab: str = "lab"
    number: int = 1


def make_recording(
    about: About,
    probes: Mapping[str, Mapping[str, Any]],
    trials: pd.DataFrame | None,
    signals: Mapping[str, Any],
    table: str = "trials",
    event: str | None = None,
    notes: list[str] | None = None,
) -> Recording:
    """Check a session's arrays and tables, and put them together.

    Parameters
    ----------
    about
        Which session it is.
    probes
        By name: `times` (s, in order) and `clusters` (ids), both (n_spikes,); and perhaps `units`,
        a table with a row for each unit and columns cluster_id, region, depth (um), x, y, z (m),
        label, channel, as far as they are known.
    trials, table, event
        The trials, how messages call their table, and the column that windows are aligned to;
        None for consecutive windows.
    signals
        By name: a `Signal`, a table of two columns (time in s, value), a series with times for
        index, or a pair of arrays. `wheel_velocity` and `whisker_motion_energy` are the IBL's;
        `licks` are times alone.
    notes
        What is known to be missing.

    Raises
    ------
    SessionError
        If something cannot be what it is taken for; names it.
    """
    eid, notes = about.eid, list(notes or ())
    if not probes:
        raise SessionError(eid, "no probe with spikes")
    insertions = [_insertion(eid, name, probe, notes) for name, probe in sorted(probes.items())]
    if event is not None:
        if trials is None:
            raise SessionError(eid, f"{table}: missing, and windows are to be aligned to {event}")
        trials = check_trials(eid, table, trials, event)
    named = {name: _signal(eid, name, given) for name, given in signals.items()}
    licks = named.pop(LICKS, None)
    return Recording(
        eid=eid,
        subject=about.subject,
        lab=about.lab,
        date=about.date,
        number=about.number,
        insertions=insertions,
        trials=None if event is None else trials,
        behaviour=Behaviour(
            wheel_velocity=named.pop("wheel_velocity", None),
            whisker_motion_energy=named.pop("whisker_motion_energy", None),
            licks=None if licks is None else licks.times,
            of_ibl=False,
        ),
        notes=notes,
        signals=named,
    )


def _insertion(eid: str, probe: str, given: Mapping[str, Any], notes: list[str]) -> Insertion:
    what = f"probe {probe}"
    if not probe:
        raise SessionError(eid, "a probe without a name")
    for name in ("times", "clusters"):
        if given.get(name) is None:
            raise SessionError(eid, f"{what}.{name}: missing")
    strange = sorted(set(given) - {"times", "clusters", "units"})
    if strange:
        raise SessionError(eid, f"{what}: '{strange[0]}' is none of times, clusters, units")
    times, clusters = check_spikes(
        eid, what, np.asarray(given["times"]), np.asarray(given["clusters"]), notes
    )
    table = given.get("units")
    if table is None:
        notes.append(f"{what}: no table of units; units are the clusters that have spikes")
        table = pd.DataFrame({"cluster_id": np.unique(clusters)})
    units = _units(eid, what, probe, table, notes)
    rows = _rows(eid, what, clusters, units["cluster_id"].to_numpy())
    check_rows(eid, what, rows, len(units), notes)
    return Insertion("", probe, "", "", times, rows, units, source=f"{what}.times")


#: Ids below this have room in a table.
_FEW = 1 << 24


def _rows(
    eid: str, what: str, clusters: NDArray[np.integer], ids: NDArray[np.int64]
) -> NDArray[np.int32]:
    """Row in the table of units of each spike."""
    order = np.argsort(ids)
    few = len(clusters) > 0 and clusters.min() >= 0 and clusters.max() < _FEW
    # To count is quicker than to sort, and a table than a search.
    found = np.flatnonzero(np.bincount(clusters.astype(np.intp))) if few else np.unique(clusters)
    strange = found[~np.isin(found, ids)]
    if len(strange):
        raise SessionError(
            eid,
            f"{what}: spikes of cluster {strange[0]}, which is not among the {len(ids)} units; "
            "leave such spikes out, or add the unit",
        )
    if few:
        row_of = np.zeros(int(found[-1]) + 1, np.int32)
        row_of[ids[ids <= found[-1]]] = np.flatnonzero(ids <= found[-1])
        return row_of[clusters]
    return order[np.searchsorted(ids, clusters, sorter=order)].astype(np.int32)


def _units(eid: str, what: str, probe: str, given: Any, notes: list[str]) -> pd.DataFrame:
    """The table of units with every column that an insertion has."""
    table = pd.DataFrame(given)
    if "cluster_id" not in table:
        if table.index.name != "cluster_id":
            raise SessionError(eid, f"{what}.units: no column cluster_id")
        table = table.reset_index()
    table = table.reset_index(drop=True)
    if not len(table):
        raise SessionError(eid, f"{what}.units: no units")
    ids = numbers(eid, f"{what}.units", table, "cluster_id")
    if not (np.isfinite(ids) & (ids >= 0) & (ids == np.round(ids))).all():
        raise SessionError(eid, f"{what}.units: cluster_id: expected whole numbers from 0")
    if len(np.unique(ids)) < len(ids):
        raise SessionError(eid, f"{what}.units: cluster_id: expected every one once")
    units = pd.DataFrame({"cluster_id": ids.astype(np.int64)})
    units["unit"] = [f"{eid}:{probe}:{cluster}" for cluster in units["cluster_id"]]
    for name in _NUMBERS:
        known = name in table
        units[name] = numbers(eid, f"{what}.units", table, name) if known else np.nan
    units["channel"] = _channels(eid, what, table)
    units["label"] = _labels(eid, what, table)
    try:
        regions, own = resolve_regions(table.get("region", [None] * len(table)))
    except ValueError as error:
        raise SessionError(eid, f"{what}.units: region: {error}") from None
    if own:
        notes.append(
            f"{what}: regions that the Allen atlas lacks are kept, and unknown in Beryl and "
            f"Cosmos: {', '.join(own)}"
        )
    return units.join(regions)


def _channels(eid: str, what: str, table: pd.DataFrame) -> NDArray[np.int64]:
    if "channel" not in table:
        return np.full(len(table), -1)
    channels = numbers(eid, f"{what}.units", table, "channel")
    return np.where(np.isfinite(channels), channels, -1).astype(np.int64)


def _labels(eid: str, what: str, table: pd.DataFrame) -> NDArray[np.float64]:
    """Quality: a score from 0 to 1, or words as Phy has them."""
    if "label" not in table:
        return np.full(len(table), np.nan)
    words = table["label"].map(lambda value: isinstance(value, str) or value is None)
    if words.any():
        plain = table["label"].fillna("").astype(str).str.lower()
        strange = plain[~plain.isin(list(LABELS))]
        if len(strange):
            raise SessionError(
                eid,
                f"{what}.units: label: '{strange.iloc[0]}' is none of good, mua, unsorted, nor a "
                "score from 0 to 1",
            )
        return np.asarray(plain.map(LABELS), np.float64)
    labels = numbers(eid, f"{what}.units", table, "label")
    if ((labels < 0) | (labels > 1)).any():
        raise SessionError(eid, f"{what}.units: label: expected scores from 0 to 1")
    return labels


def _signal(eid: str, name: str, given: Any) -> Signal:
    what = f"signal {name}"
    if isinstance(given, Signal):
        return given
    if name == LICKS:
        times = np.asarray(given)
        return checked_signal(eid, what, times, times)
    if isinstance(given, pd.Series):
        given = (given.index.to_numpy(), given.to_numpy())
    elif isinstance(given, pd.DataFrame):
        if given.shape[1] != 2:
            raise SessionError(eid, f"{what}: {given.shape[1]} columns, expected time and value")
        given = (given.iloc[:, 0].to_numpy(), given.iloc[:, 1].to_numpy())
    try:
        times, values = (np.asarray(part, np.float64) for part in given)
    except (TypeError, ValueError):
        raise SessionError(eid, f"{what}: expected times and values, all of them numbers") from None
    return checked_signal(eid, what, times, values, gaps=True)
