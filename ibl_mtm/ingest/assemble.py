"""A recording, aligned and binned: one session as the cache keeps it.

    ds, regions = assemble(recording, dataset, "demo", source="/data/ONE")
    ds.spikes                                   # (trial, time, unit), exact counts

What each variable is stands in `ibl_mtm.sessions.schema`.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from ibl_mtm.brainsets.intervals import inside as within
from ibl_mtm.config.dataset import Dataset
from ibl_mtm.errors import SessionError
from ibl_mtm.ingest.align import (
    bin_edges,
    contiguous_starts,
    count_from_start,
    count_spikes,
    covered,
)
from ibl_mtm.ingest.plausible import check_extent, check_rates
from ibl_mtm.ingest.recording import Recording
from ibl_mtm.ingest.traces import bin_behaviour, bin_signals
from ibl_mtm.ingest.trials import encode_trials, included, keep_columns
from ibl_mtm.one_files.regions import region_table, regions_of
from ibl_mtm.sessions.schema import CONDITIONS, CONTIGUOUS, DECODE, KEPT, SIGNALS, is_own_name
from ibl_mtm.sessions.split import split_trials

__all__ = ["assemble"]

_MAPPINGS: dict[str, Literal["Beryl", "Cosmos"]] = {"beryl": "Beryl", "cosmos": "Cosmos"}
_TEXTS = ("unit", "pid", "probe", "probe_qc", "region")
_SOFTWARE = ("ibl-mtm", "ONE-api", "ibllib", "iblatlas")


def assemble(
    recording: Recording, dataset: Dataset, name: str, source: str, *, simulated: bool = False
) -> tuple[xr.Dataset, pd.DataFrame]:
    """Align and bin a recording.

    Parameters
    ----------
    recording
        The session, as loaded.
    dataset
        How to align it, which trials are included, how they are split.
    name
        Of the dataset, in the catalog.
    source
        Where the files come from.
    simulated
        Whether they are of a simulated experiment; whatever is shown of them later says so.

    Returns
    -------
    The session in the cache's format, and its regions' table.

    Raises
    ------
    SessionError
        If no trial is left, or if spikes and trials cannot be on one clock.
    """
    _check_names(recording)
    windows = _windows(recording, dataset)
    trial, edges = windows.trial, windows.edges
    recording = replace(recording, notes=[*recording.notes, *windows.doubts])
    coordinates = {
        "trial": ("trial", trial),
        "time": ("time", dataset.align.start + np.arange(dataset.align.n_bins) * dataset.align.bin),
        "window_start": ("trial", edges[:, 0]),
    }
    trials, notes, kept = _trials(recording, windows, dataset)
    recording = replace(recording, notes=[*recording.notes, *notes])
    spikes = np.concatenate(list(_counts(recording, edges, dataset.align.bin)), axis=2)
    variables = (
        {"spikes": (("trial", "time", "unit"), spikes)}
        | _units(recording, spikes, dataset)
        | bin_behaviour(recording.behaviour, edges, dataset.align.bin)
        | bin_signals(recording.signals, edges, dataset.align.bin)
        | trials
    )
    origin = {"source": source, "simulated": simulated}
    attributes = _attributes(recording, dataset, name) | origin | windows.removed
    attributes |= _own(recording, dataset, kept)
    ds = xr.Dataset(variables, coords=coordinates, attrs=attributes)
    acronyms = {str(a) for variable in ("region", "beryl", "cosmos") for a in ds[variable].values}
    return ds, region_table(acronyms)


def _check_names(recording: Recording) -> None:
    for name in recording.signals:
        if not is_own_name(name):
            raise SessionError(
                recording.eid,
                f"signal {name}: cannot name a variable of one's own (letters, digits and '_', and "
                "none that the cache has); give it another name",
            )


@dataclass(frozen=True)
class _Windows:
    """Numbers of the trials that are kept, and their bin edges.

    `split` is what the files' domains say each is for, where there are some; `removed` is how many
    were left out, `doubts` what is doubtful.
    """

    trial: NDArray[np.int64]
    edges: NDArray[np.float64]
    split: NDArray[np.str_] | None
    removed: dict[str, int]
    doubts: list[str]


def _windows(recording: Recording, dataset: Dataset) -> _Windows:
    align = dataset.align
    extents = [(i.times[0], i.times[-1]) for i in recording.insertions]
    if recording.trials is None or align.event is None:
        doubts = check_extent(recording, None)  # before there are windows all over it
        first, last = max(e[0] for e in extents), min(e[1] for e in extents)
        pieces = [(first, last)] if recording.domains is None else _pieces(recording.domains)
        events = np.concatenate([contiguous_starts(a, b, align.length) for a, b in pieces])
    else:
        events = recording.trials[align.event].to_numpy(np.float64)
        doubts = check_extent(recording, events)
    finite = np.flatnonzero(np.isfinite(events))
    edges = bin_edges(events[finite], align.start, align.bin, align.n_bins)
    inside = covered(edges, extents)
    removed = {
        "trials_without_event": len(events) - len(finite),
        "trials_outside_recording": int((~inside).sum()),
    }
    split = None
    if recording.domains is not None:
        split = np.full(len(edges), "", dtype="<U5")
        for name, domain in recording.domains.items():
            split[within(edges[:, [0, -1]], domain)] = name
        known = split != ""
        removed["trials_outside_domains"] = int((inside & ~known).sum())
        inside &= known
    if not inside.any():
        raise SessionError(
            recording.eid,
            f"no trial left: {removed['trials_without_event']} without {align.event}, "
            f"{removed['trials_outside_recording']} beyond the recording of every probe"
            + _between_splits(removed)
            + f" ({align.length:g} s windows)"
            + "".join(f"; {doubt}" for doubt in doubts),
        )
    outside = removed["trials_outside_recording"]
    if outside > inside.sum():
        doubts.append(
            f"{outside} of {len(inside)} trials lie outside of the recording; on another clock?"
        )
    doubts += check_rates(recording, edges[inside])
    split = None if split is None else split[inside]
    return _Windows(finite[inside], edges[inside], split, removed, doubts)


def _pieces(domains: Mapping[str, NDArray[np.float64]]) -> list[tuple[float, float]]:
    """All intervals of all domains, in order of time."""
    return sorted((float(a), float(b)) for domain in domains.values() for a, b in domain)


def _between_splits(removed: Mapping[str, int]) -> str:
    n = removed.get("trials_outside_domains", 0)
    return f", {n} within none of the files' domains" if n else ""


def _counts(
    recording: Recording, edges: NDArray[np.float64], bin_size: float
) -> Iterator[NDArray[np.uint8] | NDArray[np.uint16]]:
    for i in recording.insertions:
        if recording.from_start:
            n_bins = edges.shape[1] - 1
            yield count_from_start(i.times, i.clusters, len(i.units), edges[:, 0], bin_size, n_bins)
        else:
            yield count_spikes(i.times, i.clusters, len(i.units), edges)


def _units(recording: Recording, spikes: NDArray[Any], dataset: Dataset) -> dict[str, Any]:
    units = pd.concat(
        [i.units.assign(pid=i.pid, probe=i.probe, probe_qc=i.qc) for i in recording.insertions],
        ignore_index=True,
    )
    region = units["region"].to_numpy(dtype=str)
    seconds = spikes.shape[0] * dataset.align.n_bins * dataset.align.bin
    values = {
        **{name: units[name].to_numpy(dtype=str) for name in _TEXTS},
        **{
            # As the files have them, if they do.
            name: units[name].to_numpy(str) if name in units else regions_of(region, mapping)
            for name, mapping in _MAPPINGS.items()
        },
        **{name: units[name].to_numpy(np.int64) for name in ("cluster_id", "channel")},
        **{name: units[name].to_numpy(np.float32) for name in ("depth", "x", "y", "z", "label")},
        "firing_rate": (spikes.sum(axis=(0, 1), dtype=np.int64) / seconds).astype(np.float32),
    }
    return {name: ("unit", array) for name, array in values.items()}


def _trials(
    recording: Recording, windows: _Windows, dataset: Dataset
) -> tuple[dict[str, Any], list[str], list[str]]:
    """Variables of trials, notes on what is not there, and the names of those of one's own."""
    values: dict[str, NDArray[Any]] = {"split": _split(recording.eid, windows, dataset)}
    kept: dict[str, NDArray[Any]] = {}
    notes: list[str] = []
    if recording.trials is not None and dataset.align.event is not None:
        table = recording.trials.iloc[windows.trial]
        kept, lacking = keep_columns(table, dataset.kept, dataset.trials.keep == "all")
        values["included"], left_out = included(table, dataset.trials)
        values |= encode_trials(table) | kept
        notes = [*left_out, *lacking]
    return {name: ("trial", array) for name, array in values.items()}, notes, list(kept)


def _own(recording: Recording, dataset: Dataset, kept: list[str]) -> dict[str, Any]:
    """Attributes that only sessions with a task of their own have."""
    own = {
        KEPT: kept,
        SIGNALS: list(recording.signals),
        CONDITIONS: list(dataset.conditions),
        DECODE: json.dumps(dataset.decode) if dataset.decode else "",
    }
    return {key: value for key, value in own.items() if value}


def _split(eid: str, windows: _Windows, dataset: Dataset) -> NDArray[np.str_]:
    """What each trial is for: as the files say, or as it is dealt out."""
    if windows.split is not None:
        return windows.split
    rule = dataset.split
    assert rule.kind != "file"  # a source that has domains gives them
    starts, length = windows.edges[:, 0], dataset.align.length
    return split_trials(eid, windows.trial, rule.fractions, rule.kind, rule.seed, starts, length)


def _versions() -> Iterator[str]:
    for package in _SOFTWARE:
        with suppress(PackageNotFoundError):  # not every source needs every one
            yield f"{package} {version(package)}"


def _attributes(recording: Recording, dataset: Dataset, name: str) -> dict[str, Any]:
    align, eid = dataset.align, recording.eid
    return {
        **{key: getattr(recording, key) for key in ("eid", "subject", "lab", "date", "number")},
        "dataset": name,
        "role": dataset.entry(eid).role,
        "pids": [insertion.pid for insertion in recording.insertions],
        "probes": [insertion.probe for insertion in recording.insertions],
        "spike_sorters": [insertion.sorter for insertion in recording.insertions],
        "revisions": [insertion.revision for insertion in recording.insertions],
        "alignment": CONTIGUOUS if align.event is None else align.event,
        "window": [align.start, align.start + align.length],
        "bin_size": align.bin,
        "definition": json.dumps(dataset.definition(eid), sort_keys=True),
        "definition_hash": dataset.definition_hash(eid),
        "unit_filter": "none",
        "notes": recording.notes,
        "software": list(_versions()),
        "ingested": datetime.now(UTC).isoformat(timespec="seconds"),
        **recording.attributes,
    }
