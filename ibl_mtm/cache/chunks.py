"""Spike counts of a session, read by whole chunks: what training reads a cache through.

    spikes = open_spikes(cache, eid)                # reads no counts yet
    counts = spikes.read(trials, units)             # (trial, time, unit), each chunk decoded once
    for part, rows, chunk in spikes.chunks(trials): # one chunk after the other
        chunk[rows]                                 # the counts of trials[part]

Reading may happen in any thread. A session in a local folder, as `write_group` makes it, is decoded
from its files: ten times as fast as through zarr-python, whose fixed cost per chunk is that of
decoding several. Everything else is read as xarray and Zarr read it.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import google_crc32c
import numpy as np
import xarray as xr
from numcodecs import blosc  # type: ignore[import-untyped]

from ibl_mtm.cache.cache import Cache
from ibl_mtm.cache.groups import DAMAGE, read_metadata
from ibl_mtm.errors import SessionError

__all__ = ["Spikes", "open_spikes", "spikes_of"]

#: The codecs that can be decoded here; whatever else a chunk went through is left to Zarr.
_CODECS = ["bytes", "blosc", "crc32c"]


@dataclass(frozen=True)
class Spikes:
    """Counts that are decoded when they are asked for.

    Attributes
    ----------
    eid
        The session.
    shape
        Numbers of trials, time bins and units.
    dtype
        uint8 or uint16.
    trials_per_chunk
        How many trials are decoded together.
    decode
        Decodes the trials of one chunk, by its number, into the first rows of an array (trial,
        time, unit) for a whole chunk; raises `SessionError` if it is damaged, missing, or of a
        session that was replaced.
    """

    eid: str
    shape: tuple[int, int, int]
    dtype: np.dtype
    trials_per_chunk: int
    decode: Callable[[int, np.ndarray], None]

    def chunks(self, trials: np.ndarray) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
        """Decode the chunks that hold some trials, one after the other into the same memory.

        Parameters
        ----------
        trials : ndarray of int
            Positions, increasing.

        Yields
        ------
        part : slice
            Which of `trials` the chunk holds.
        rows : ndarray of int
            Where it holds them.
        chunk : ndarray (trial, time, unit)
            Valid until the next one.
        """
        # New memory for each chunk would take longer than to decode it.
        chunk = np.empty((self.trials_per_chunk, *self.shape[1:]), self.dtype)
        for number in np.unique(trials // self.trials_per_chunk):
            first = number * self.trials_per_chunk
            part = slice(*np.searchsorted(trials, (first, first + self.trials_per_chunk)))
            self.decode(int(number), chunk)
            yield part, trials[part] - first, chunk

    def read(self, trials: np.ndarray, units: np.ndarray) -> np.ndarray:
        """Counts of some trials and units, (trial, time, unit).

        Parameters
        ----------
        trials, units : ndarray of int
            Positions, increasing.
        """
        counts = np.empty((len(trials), self.shape[1], len(units)), self.dtype)
        for part, rows, chunk in self.chunks(trials):
            # The mode spares a copy: positions are known to be inside.
            if len(units) == self.shape[2]:
                np.take(chunk, rows, 0, out=counts[part], mode="clip")
            else:
                np.take(chunk[rows], units, 2, out=counts[part], mode="clip")
        return counts


def open_spikes(cache: Cache, eid: str) -> Spikes:
    """Spike counts of a session of a cache.

    Raises
    ------
    SessionError
        If the session is damaged; `Spikes.decode` also if it is replaced from now on.
    """
    folder = cache.path / eid
    if not isinstance(folder, Path):
        return spikes_of(cache[eid])
    identity = _identify(folder)
    ds = cache[eid]
    chunk_shape = _chunk_shape(folder, ds.spikes.shape)
    if chunk_shape is None:
        return spikes_of(ds)

    def decode(number: int, chunk: np.ndarray) -> None:
        key = f"spikes/c/{number}/0/0"
        try:
            _decode_file(folder / key, chunk)
            failure = None
        except (OSError, ValueError, RuntimeError) as error:
            missing = isinstance(error, FileNotFoundError)
            failure = f"{key} {'is missing' if missing else f'is damaged: {error}'}"
        # Then the chunk may be another session's, or gone.
        if _identify(folder) != identity:
            raise SessionError(eid, "replaced since it was opened; open it again")
        if failure:
            raise SessionError(eid, f"{failure}; run ibl-mtm check")

    return Spikes(eid, ds.spikes.shape, ds.spikes.dtype, chunk_shape[0], decode)


def spikes_of(ds: xr.Dataset) -> Spikes:
    """Spike counts of a session's dataset, wherever that has them from."""
    array, eid = ds.spikes, str(ds.attrs["eid"])
    size = int(array.encoding.get("preferred_chunks", {}).get("trial", max(1, len(array))))

    def decode(number: int, chunk: np.ndarray) -> None:
        try:
            values = array[number * size : (number + 1) * size].values
        except DAMAGE as error:
            if isinstance(error, SessionError):
                raise
            raise SessionError(eid, f"spikes, chunk {number}: {error}") from error
        chunk[: len(values)] = values

    return Spikes(eid, array.shape, array.dtype, size, decode)


def _chunk_shape(folder: Path, shape: tuple[int, ...]) -> tuple[int, ...] | None:
    """Shape of the chunks of a session's spikes; None if they are not as `write_group` has them."""
    try:
        arrays = read_metadata(folder)["consolidated_metadata"]["metadata"]
        chunk_shape = tuple(arrays["spikes"]["chunk_grid"]["configuration"]["chunk_shape"])
        codecs = [codec["name"] for codec in arrays["spikes"]["codecs"]]
    except DAMAGE:
        return None
    return chunk_shape if codecs == _CODECS and chunk_shape[1:] == shape[1:] else None


def _decode_file(path: Path, chunk: np.ndarray) -> None:
    stored = path.read_bytes()
    data = stored[:-4]
    if google_crc32c.value(data) != int.from_bytes(stored[-4:], "little"):
        raise ValueError("its checksum does not match")
    blosc.decompress(data, chunk)


def _identify(folder: Path) -> tuple[int, int] | None:
    try:
        status = os.stat(folder / "zarr.json")
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_mtime_ns
