"""Sessions in files of Neurodata Without Borders: units, trials, time series.

    places = find_nwb_files(root, dataset)
    recording = read_nwb(places.found[eid], dataset)

DANDI's files differ in where they say what a unit's region and quality are; known are the
electrodes of each unit, its peak channel (as the Allen Institute has it), and columns of its own.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ibl_mtm.config.dataset import Dataset
from ibl_mtm.config.sources import NwbSource
from ibl_mtm.errors import SessionError, UserError
from ibl_mtm.ingest.outcome import one_line
from ibl_mtm.ingest.own.places import Place, Places, gather, make_about
from ibl_mtm.ingest.own.quality import without_noise
from ibl_mtm.ingest.own.recordings import About, make_recording
from ibl_mtm.ingest.recording import Recording

__all__ = ["find_nwb_files", "read_nwb"]

_GROUP = re.compile(r"(acquisition|processing|analysis|stimulus/presentation)/")
"""What stands before the names of series in a file, and in none of their paths here."""

_REGIONS = ("location", "brain_area", "region", "brain_region", "area")
_QUALITIES = ("quality", "label", "group", "KSLabel", "ks_label")
_DEPTHS = ("depth", "rel_y", "probe_vertical_position")


def find_nwb_files(root: Path, dataset: Dataset) -> Places:
    """Files of NWB in a folder, or one of them; each is asked for its subject and its date.

    Raises
    ------
    UserError
        If there is none, or pynwb is not installed.
    """
    source = dataset.source
    assert isinstance(source, NwbSource)
    files = [root] if root.is_file() else sorted(root.rglob("*.nwb"))
    if not files:
        raise UserError(f"no file of NWB in {root} (*.nwb)")
    abouts: dict[Path, About | None] = {}
    broken: dict[str, str] = {}
    for path in files:
        try:
            with _open("", path) as nwb:
                abouts[path] = _about(nwb, source)
        except SessionError as error:
            broken[str(path)] = error.reason
    found = gather(
        abouts, "it names no subject (subject_id); give 'subject' in the source, or mend the file"
    )
    return Places(found.found, {**found.left_aside, **broken})


@contextmanager
def _open(eid: str, path: Path) -> Iterator[Any]:
    """An open file."""
    try:
        from pynwb import NWBHDF5IO
    except ModuleNotFoundError:
        raise UserError(
            f"reading {path} needs the package pynwb: pip install 'ibl-mtm[nwb]'"
        ) from None
    try:
        io = NWBHDF5IO(str(path), "r", load_namespaces=True)
    except Exception as error:  # whatever HDF5 and hdmf raise on files nobody foresaw
        raise SessionError(eid, f"{path}: no file of NWB ({one_line(error)})") from error
    with io:
        try:
            nwb = io.read()
        except Exception as error:  # likewise, of what is inside
            raise SessionError(eid, f"{path}: cannot be read ({one_line(error)})") from error
        yield nwb


def _about(nwb: Any, source: NwbSource) -> About | None:
    subject = source.subject or (nwb.subject.subject_id if nwb.subject is not None else None)
    if not subject:
        return None
    day = source.date or nwb.session_start_time.date().isoformat()
    return make_about(str(subject), day, str(nwb.lab or source.lab))


def read_nwb(place: Place, dataset: Dataset) -> Recording:
    """Load a session.

    Raises
    ------
    SessionError
        If what is needed is missing, or cannot be trusted; names it.
    """
    source, eid, path = dataset.source, place.about.eid, place.path
    assert isinstance(source, NwbSource)
    notes: list[str] = []
    event = dataset.align.event
    with _open(eid, path) as nwb:
        return make_recording(
            place.about,
            _probes(eid, path, nwb, notes),
            None if event is None else _trials(eid, path, nwb, source.trials),
            _signals(path, nwb, dataset.signals, notes),
            f"{path}: {source.trials}",
            event,
            notes,
        )


def _probes(eid: str, path: Path, nwb: Any, notes: list[str]) -> dict[str, dict[str, Any]]:
    units = nwb.units
    if units is None or not len(units):
        raise SessionError(eid, f"{path}: no table of units; it was never sorted?")
    if "spike_times" not in units.colnames:
        there = ", ".join(units.colnames)
        raise SessionError(eid, f"{path}: units have no spike_times; they have {there}")
    index = units["spike_times"]
    ends = np.asarray(index.data[:], np.int64)
    flat = np.asarray(index.target.data[:], np.float64)
    table = _table_of_units(nwb, units, notes)
    row = np.repeat(np.arange(len(ends)), np.diff(ends, prepend=0))
    order = np.argsort(flat, kind="stable")
    times, row = flat[order], row[order]
    found = {}
    for probe in table["probe"].unique():
        own = table[table["probe"] == probe]
        its = np.isin(row, own.index.to_numpy())
        if not its.any():
            notes.append(f"probe {probe}: no spikes")
            continue
        clusters = table["cluster_id"].to_numpy()[row[its]]
        kept = own.drop(columns="probe").reset_index(drop=True)
        found[str(probe)] = without_noise(f"probe {probe}", times[its], clusters, kept, notes)
    return found


def _table_of_units(nwb: Any, units: Any, notes: list[str]) -> pd.DataFrame:
    """Ids, probe, region, quality and depth of each unit, from wherever the file says them."""
    table = pd.DataFrame({"cluster_id": np.asarray(units.id[:], np.int64)})
    electrode = _electrodes(nwb, units)
    names, places = units.colnames, nwb.electrodes
    region = next((name for name in _REGIONS if name in names), None)
    if region is not None:
        table["region"] = [_text(value) for value in units[region][:]]
    elif electrode is not None and "location" in places.colnames:
        found = np.array([_text(value) for value in places["location"][:]], dtype=object)
        table["region"] = [None if at < 0 else found[at] for at in electrode]
    else:
        notes.append(
            "units: neither electrodes with a location nor a column "
            f"{', '.join(_REGIONS)}: no regions"
        )
    quality = next((name for name in _QUALITIES if name in names), None)
    if quality is None:
        notes.append(f"units: no column {', '.join(_QUALITIES)}: label is NaN")
    table["label"] = "" if quality is None else [_text(value) for value in units[quality][:]]
    depth = next((name for name in _DEPTHS if name in names), None)
    if depth is not None:
        table["depth"] = np.asarray(units[depth][:], np.float64)
    table["channel"] = -1 if electrode is None else electrode
    table["probe"] = "probe00"
    if "electrode_group" in names:
        table["probe"] = [group.name for group in units["electrode_group"][:]]
    elif electrode is not None and "group_name" in places.colnames:
        groups = [_text(value) for value in places["group_name"][:]]
        table["probe"] = ["probe00" if at < 0 else groups[at] for at in electrode]
    return table


def _electrodes(nwb: Any, units: Any) -> np.ndarray | None:
    """Row of one electrode of each unit, -1 where it has none; None if the file does not tell."""
    if nwb.electrodes is None:
        return None
    if "electrodes" in units.colnames:
        index = units["electrodes"]
        if not hasattr(index, "target"):  # one for each unit
            return np.asarray(index.data[:], np.int64)
        ends = np.asarray(index.data[:], np.int64)
        rows = np.asarray(index.target.data[:], np.int64)
        starts = np.concatenate([[0], ends[:-1]]).astype(np.int64)
        return np.array(
            [rows[a] if b > a else -1 for a, b in zip(starts, ends, strict=True)], np.int64
        )
    if "peak_channel_id" in units.colnames:
        ids = pd.Index(np.asarray(nwb.electrodes.id[:]))
        return ids.get_indexer(pd.Index(np.asarray(units["peak_channel_id"][:]))).astype(np.int64)
    return None


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _trials(eid: str, path: Path, nwb: Any, name: str) -> pd.DataFrame:
    table = nwb.trials if name == "trials" else (nwb.intervals or {}).get(name)
    if table is None:
        others = ", ".join(nwb.intervals or {}) or "none"
        raise SessionError(
            eid, f"{path}: no table of trials '{name}'; tables of intervals: {others}"
        )
    found: pd.DataFrame = table.to_dataframe()
    return found.reset_index(drop=True)


def _signals(
    path: Path, nwb: Any, wanted: Mapping[str, str], notes: list[str]
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Time series, by their name or the end of their path in the file."""
    from pynwb import TimeSeries

    series = {_place(item): item for item in nwb.objects.values() if isinstance(item, TimeSeries)}
    found = {}
    for name, where in wanted.items():
        asked = _GROUP.sub("", where.strip("/"))
        matches = [at for at in series if at == asked or at.endswith(f"/{asked}")]
        if len(matches) != 1:
            what = "several are called that" if matches else "no such time series"
            there = ", ".join(sorted(matches or series)[:5])
            notes.append(f"signal {name}: {where}: {what}; there are {there}")
            continue
        item = series[matches[0]]
        values = np.asarray(item.data[:])
        if values.ndim != 1:
            notes.append(f"signal {name}: {where}: {values.shape} values, expected one per time")
            continue
        factor = float(item.conversion or 1.0)
        values = values.astype(np.float64) * factor + float(item.offset or 0.0)
        if item.timestamps is not None:
            times = np.asarray(item.timestamps[:], np.float64)
        else:
            times = float(item.starting_time) + np.arange(len(values)) / float(item.rate)
        found[name] = (times, values)
    return found


def _place(item: Any) -> str:
    """Names from the outermost down: processing module, interface, series."""
    names = [item.name]
    while (item := item.parent) is not None and item.name != "root":
        names.append(item.name)
    return "/".join(reversed(names))
