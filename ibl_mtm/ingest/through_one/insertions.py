"""Spikes and units of a session's insertions, through ONE and brainbox, checked.

for insertion in load_insertions(one, eid, pids={}):
    insertion.times, insertion.clusters     # one entry per spike
    insertion.units                         # one row per unit
"""

import re
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
from brainbox.io.one import SpikeSortingLoader
from numpy.typing import NDArray
from one.api import One

from ibl_mtm.errors import SessionError
from ibl_mtm.ingest.check_spikes import check_rows, check_spikes
from ibl_mtm.ingest.recording import Insertion, check_pids, numbers
from ibl_mtm.ingest.through_one.channel_locations import place_units
from ibl_mtm.ingest.through_one.files import find, load, place
from ibl_mtm.one_files.regions import atlas

__all__ = ["load_insertions"]

_CLUSTERS = ("channels", "depths", "metrics", "uuids")


def load_insertions(
    one: One, eid: str, pids: Mapping[str, str], wanted: tuple[str, ...] | None = None
) -> tuple[list[Insertion], list[str]]:
    """Load every insertion of a session, or those with the wanted pids.

    Parameters
    ----------
    pids
        Insertion id by probe name, as far as known.
    wanted
        Insertion ids to load; None: all.

    Returns
    -------
    The insertions in order of probe name, and notes on what was missing.

    Raises
    ------
    SessionError
        If spikes cannot be read or trusted; names the file.
    """
    collections = one.list_collections(eid, filename="spikes*")
    found = {c.split("/")[1] for c in collections if re.match(r"alf/[\w.-]+", c)}
    # The IBL's names where there are some; else whatever a lab calls its probes.
    probes = sorted(name for name in found if re.match(r"probe\w+", name)) or sorted(found)
    if not probes:
        raise SessionError(eid, "no spikes in any folder alf/probe*")
    if wanted is not None:
        known = {pids[probe]: probe for probe in probes if probe in pids}
        check_pids(eid, wanted, known, "of unknown id, as there is no table insertions.pqt")
        probes = sorted(known[pid] for pid in wanted)
    notes: list[str] = []
    if wanted is None:
        folders = {c.split("/")[1] for c in one.list_collections(eid) if re.match(r"alf/probe", c)}
        silent = sorted((folders | set(pids)) - set(probes))
        notes += [f"alf/{probe}: no spikes" for probe in silent]
    insertions = [_load_insertion(one, eid, probe, pids.get(probe, ""), notes) for probe in probes]
    units = pd.concat([insertion.units["unit"] for insertion in insertions])
    if units.duplicated().any():
        raise SessionError(eid, f"clusters.uuids: {units[units.duplicated()].iloc[0]} stands twice")
    return insertions, notes


def _load_insertion(one: One, eid: str, probe: str, pid: str, notes: list[str]) -> Insertion:
    loader = SpikeSortingLoader(
        one=one, eid=eid, pname=probe, atlas=SimpleNamespace(regions=atlas())
    )
    # Lets brainbox choose among sortings; of its files, those that are needed are loaded below.
    loader.download_spike_sorting_object(
        "spikes", spike_sorter="iblsorter", missing="ignore", check_hash=False
    )
    collection = loader.collection
    # Brainbox matches names of probes by their beginning: probe00 also finds probe00a.
    if not f"{collection}/".startswith(f"alf/{probe}/"):
        raise SessionError(eid, f"alf/{probe}: no sorting that brainbox would choose")
    spike_files = find(one, eid, "spikes", ("times", "clusters"), collection)
    cluster_files = find(one, eid, "clusters", _CLUSTERS, collection)
    revisions = {path.revision or "" for path in (*spike_files, *cluster_files)}
    if len(revisions) > 1:
        raise SessionError(
            eid,
            f"{collection}: files of several revisions, {sorted(revisions)}, do not fit together",
        )
    spikes = load(eid, spike_files)
    clusters = load(eid, cluster_files)
    sorter = collection.removeprefix(f"alf/{probe}").strip("/")
    folder = place(spike_files[0].parent) if spike_files else collection
    for name in ("times", "clusters"):
        if name not in spikes:
            raise SessionError(eid, f"{folder}/spikes.{name}: missing")
    what = f"{folder}/spikes"
    times, rows = check_spikes(eid, what, spikes["times"], spikes["clusters"], notes)
    n_clusters = _count_clusters(eid, folder, clusters)
    if n_clusters is None:
        notes.append(f"{folder}: no clusters.*; units are the clusters that have spikes")
        cluster_id, rows = np.unique(rows, return_inverse=True)
    else:
        cluster_id = np.arange(n_clusters)
        check_rows(eid, what, rows, n_clusters, notes)
    units = pd.DataFrame({"cluster_id": cluster_id})
    units["unit"] = _uuids(eid, clusters, [f"{eid}:{probe}:{c}" for c in cluster_id], folder, notes)
    units["label"] = _labels(eid, folder, clusters, len(units), notes)
    units = units.join(place_units(loader, eid, folder, clusters, len(units), notes))
    return Insertion(pid, probe, sorter, revisions.pop(), times, rows, units)


def _count_clusters(eid: str, folder: str, clusters: dict[str, Any]) -> int | None:
    """Number of clusters, on which all files must agree; None where there is no such file."""
    lengths = {name: len(clusters[name]) for name in _CLUSTERS if name in clusters}
    if len(set(lengths.values())) > 1:
        raise SessionError(eid, f"{folder}/clusters: {lengths} rows do not fit together")
    n_clusters = next(iter(lengths.values()), None)
    if n_clusters == 0:
        raise SessionError(eid, f"{folder}/clusters: no units")
    return n_clusters


def _uuids(
    eid: str, clusters: dict[str, Any], substitute: list[str], folder: str, notes: list[str]
) -> list[str]:
    if "uuids" not in clusters:
        notes.append(f"{folder}/clusters.uuids: missing; units are named EID:PROBE:CLUSTER")
        return substitute
    uuids = np.asarray(clusters["uuids"])
    if uuids.size != len(substitute):
        raise SessionError(eid, f"{folder}/clusters.uuids: {uuids.shape[-1]} columns, expected one")
    return [str(uuid) for uuid in np.ravel(uuids)]


def _labels(
    eid: str, folder: str, clusters: dict[str, Any], n_units: int, notes: list[str]
) -> NDArray[np.float32]:
    metrics = clusters.get("metrics")
    if metrics is None or "label" not in metrics:
        notes.append(f"{folder}/clusters.metrics: no labels; label is NaN")
        return np.full(n_units, np.nan, dtype=np.float32)
    # Rows belong to clusters by position; what names the cluster of each is there to be compared.
    for name, found in _names_of_rows(metrics).items():
        by_uuid = found.dtype.kind in "OUT"
        expected = np.ravel(clusters.get("uuids", found)) if by_uuid else np.arange(n_units)
        if not np.array_equal(found, expected):
            right = "that of clusters.uuids" if by_uuid else f"0 to {n_units - 1} in order"
            raise SessionError(eid, f"{folder}/clusters.metrics: {name} is not {right}")
    return numbers(eid, f"{folder}/clusters.metrics", metrics, "label").astype(np.float32)


def _names_of_rows(metrics: pd.DataFrame) -> dict[str, NDArray[Any]]:
    """What names the clusters of a table's rows: columns made for it, and an index that counts."""
    found = {
        name: metrics[name].to_numpy()
        for name in ("cluster_id", "uuids", "uuid")
        if name in metrics
    }
    if not isinstance(metrics.index, pd.RangeIndex):
        found[str(metrics.index.name or "the index")] = metrics.index.to_numpy()
    return found
