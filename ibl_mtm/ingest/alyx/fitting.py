"""Which borrowed maps of channels fit a release's sorting, once all of its files are there.

    files, notes = fitting(files, folder)

Where in the brain a channel lies does not depend on who sorted its spikes: maps that do not carry
a release's tag serve as well, if they are of as many channels as the sorting had.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from ibl_mtm.ingest.alyx.release import RemoteFile

__all__ = ["fitting"]


def fitting(files: Sequence[RemoteFile], folder: Path) -> tuple[list[RemoteFile], list[str]]:
    """Leave out the borrowed files that are no maps of the channels that a sorting had.

    Parameters
    ----------
    files
        Of a session, borrowed ones among them.
    folder
        Of the session, with the files in it.

    Returns
    -------
    The files that are left, and notes on those that are not.
    """
    notes: list[str] = []
    left = list(files)
    checks: dict[str, Callable[[dict[str, int], Sequence[RemoteFile], Path], str | None]]
    checks = {"channels": _misfit_of_channels, "electrodeSites": _misfit_of_sites}
    for probe in sorted({f.probe for f in files if f.probe is not None and f.borrowed}):
        for obj, misfit in checks.items():
            own = [f for f in left if f.probe == probe]
            borrowed = [f for f in own if f.object == obj and f.borrowed]
            reason = misfit(_rows(own, folder), own, folder) if borrowed else None
            if reason is not None:
                notes.append(f"alf/{probe}/{obj}.*: not in the release, and not used: {reason}")
                left = [f for f in left if f not in borrowed]
    return left, notes


def _misfit_of_channels(
    rows: dict[str, int], files: Sequence[RemoteFile], folder: Path
) -> str | None:
    """Why maps of channels are not those of a sorting; None where they may be."""
    lengths = {n for name, n in rows.items() if name.startswith("channels.")}
    if len(lengths) > 1:
        return f"of {' and '.join(map(str, sorted(lengths)))} channels"
    units = next((f for f in files if f.name == "clusters.channels.npy"), None)
    channels = None if units is None else _read(folder / units.path)
    if lengths and channels is not None and channels.size and channels.max() >= max(lengths):
        return f"of {max(lengths)} channels, where units are on channel {channels.max()}"
    return None


def _misfit_of_sites(rows: dict[str, int], files: Sequence[RemoteFile], folder: Path) -> str | None:
    """Why the probe's map of sites cannot replace the sorter's map; None where it can."""
    sites = {n for name, n in rows.items() if name.startswith("electrodeSites.")}
    channels = {n for name, n in rows.items() if name.startswith("channels.")}
    if len(sites) > 1:
        return f"of {' and '.join(map(str, sorted(sites)))} sites"
    # Raw channel numbers tell which site is meant where the sorter left some out.
    if channels and sites != channels and "channels.rawInd.npy" not in rows:
        return f"{max(sites)} sites, but {max(channels)} channels"
    return None


def _rows(files: Sequence[RemoteFile], folder: Path) -> dict[str, int]:
    """Number of rows of each map, by name of the file; without those that cannot be read."""
    arrays = {
        f.name: _read(folder / f.path) for f in files if f.object in ("channels", "electrodeSites")
    }
    return {name: len(array) for name, array in arrays.items() if array is not None and array.ndim}


def _read(path: Path) -> np.ndarray | None:
    try:
        found: np.ndarray = np.load(path, mmap_mode="r")
        return found
    except ValueError:  # whoever loads it says what is wrong with it
        return None
