"""Where in the brain units are: from their channels, through brainbox, checked row by row."""

from typing import Any

import numpy as np
import pandas as pd
from brainbox.io.one import SpikeSortingLoader
from numpy.typing import NDArray
from one.alf.path import ALFPath

from ibl_mtm.errors import SessionError
from ibl_mtm.ingest.through_one.files import find, load, place
from ibl_mtm.one_files.regions import UNKNOWN

__all__ = ["place_units"]


def place_units(
    loader: SpikeSortingLoader,
    eid: str,
    folder: str,
    clusters: dict[str, Any],
    n_units: int,
    notes: list[str],
) -> pd.DataFrame:
    """Locate units by the channel of each.

    Parameters
    ----------
    loader
        Brainbox's loader of the insertion.
    folder
        Of the sorting, for messages.
    clusters
        What was loaded of the ALF object: `channels` and `depths` are used, if there.
    notes
        Receives what is missing.

    Returns
    -------
    One row per unit: channel (row in the sorter's channel map, -1 unknown), region (Allen
    acronym), depth (um), x, y, z (m).

    Raises
    ------
    SessionError
        If the channel maps contradict each other.
    """
    places = pd.DataFrame({"channel": np.full(n_units, -1), "region": UNKNOWN})
    places[["depth", "x", "y", "z"]] = np.full((n_units, 4), np.nan, dtype=np.float32)
    if "depths" in clusters:
        places["depth"] = clusters["depths"].astype(np.float32)
    if "channels" not in clusters:
        notes.append(f"{folder}: no clusters.channels; regions are unknown")
        return places
    channel = clusters["channels"]
    if channel.dtype.kind not in "iu" or channel.min() < 0:
        raise SessionError(eid, f"{folder}/clusters.channels: expected channel numbers from 0")
    places["channel"] = channel.astype(np.int64)
    sites = _load_sites(loader, eid, folder, notes)
    if sites is None:
        return places
    row = _row_of_site(loader, eid, folder, channel, sites)
    if "depths" not in clusters:
        axial = sites["axial_um"] if "axial_um" in sites else sites["localCoordinates"][:, 1]
        places["depth"] = axial[row].astype(np.float32)
    if sites.get("acronym") is None:
        notes.append(f"{folder}/channels: no histology; regions are unknown")
        return places
    places["region"] = np.asarray(sites["acronym"], dtype=str)[row]
    for axis in "xyz":
        places[axis] = sites[axis][row].astype(np.float32)
    return places


def _load_sites(
    loader: SpikeSortingLoader, eid: str, folder: str, notes: list[str]
) -> dict[str, Any] | None:
    """Brainbox's table of channels; None if there is none."""
    own = find(loader.one, eid, "channels", collection=loader.collection)
    if not own:
        notes.append(f"{folder}: no channels.*; regions are unknown")
        return None
    sites_files = find(loader.one, eid, "electrodeSites", collection=f"alf/{loader.pname}")
    _check_shapes(eid, [*own, *sites_files])
    try:
        sites: dict[str, Any] = loader.load_channels(spike_sorter="iblsorter", check_hash=False)
    except IndexError:
        raise SessionError(
            eid, f"{folder}/channels.brainLocationIds_ccf_2017: an id that the Allen atlas lacks"
        ) from None
    except KeyError as error:
        raise SessionError(eid, f"{folder}/channels.{error.args[0]}: missing") from None
    lengths = {name: len(values) for name, values in sites.items() if values is not None}
    if len(set(lengths.values())) > 1:
        raise SessionError(eid, f"{folder}/channels: {lengths} rows do not fit together")
    return sites


def _check_shapes(eid: str, paths: list[ALFPath]) -> None:
    """Refuse maps without the columns that brainbox reads by their number."""
    columns = {"localCoordinates": 2, "mlapdv": 3}
    for path in paths:
        if path.attribute in columns and path.suffix == ".npy":
            shape = np.load(path, mmap_mode="r").shape
            if len(shape) != 2 or shape[1] != columns[path.attribute]:
                raise SessionError(
                    eid,
                    f"{place(path)}: shape {shape}, expected {columns[path.attribute]} columns",
                )


def _row_of_site(
    loader: SpikeSortingLoader,
    eid: str,
    folder: str,
    channel: NDArray[np.integer],
    sites: dict[str, Any],
) -> NDArray[np.integer]:
    """Row in `sites` of channels that are numbered as rows of the sorter's own channel map.

    Where a sorter's map has fewer rows than the probe has sites, brainbox replaces it by the
    probe's map of sites: only the raw channel numbers then tell which row is meant.
    """
    own = load(eid, find(loader.one, eid, "channels", collection=loader.collection))
    n_channels, n_sites = (len(next(iter(table.values()))) for table in (own, sites))
    if channel.max() >= n_channels:
        raise SessionError(
            eid, f"{folder}/clusters.channels: row {channel.max()} of {n_channels} (0 to n - 1)"
        )
    if n_channels == n_sites:
        return channel
    raw = own.get("rawInd")
    if raw is None or raw.dtype.kind not in "iu" or not 0 <= raw.min() <= raw.max() < n_sites:
        raise SessionError(
            eid,
            f"{folder}/channels: {n_channels} rows but {n_sites} electrodeSites, "
            "and no rawInd that tells which is which",
        )
    chosen: NDArray[np.integer] = raw[channel]
    return chosen
