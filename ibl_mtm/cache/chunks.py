"""Spike counts of a session, read by whole chunks: what training reads a cache through.

    spikes = open_spikes(cache, eid)                # reads no counts yet
    counts = spikes.read(trials, units)             # (trial, time, unit), each chunk decoded once
    for part, rows, chunk in spikes.chunks(trials): # one chunk after the other
        chunk[rows]                                 # the counts of trials[part]

Reading may happen in any thread. Chunks as `write_group` makes them are fetched by Zarr's store and
decoded here, in the thread that asks and into memory that is there already: several times as fast
as through Zarr's arrays. Whatever was written with other codecs is read as xarray and Zarr read it.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import google_crc32c
import numpy as np
import xarray as xr
import zarr
from numcodecs import blosc  # type: ignore[import-untyped]
from zarr.codecs import BloscCodec, BytesCodec, Crc32cCodec
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync

from ibl_mtm.cache.cache import Cache
from ibl_mtm.cache.groups import DAMAGE, open_arrays, patiently
from ibl_mtm.errors import SessionError

__all__ = ["Spikes", "open_spikes", "spikes_of"]

#: The codecs that can be decoded here; whatever else a chunk went through is left to Zarr.
_CODECS = [BytesCodec, BloscCodec, Crc32cCodec]


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
    try:
        array = patiently(open_arrays, cache.path / eid)["spikes"]
    except DAMAGE as error:
        raise SessionError(eid, f"cannot be opened ({error}); run ibl-mtm check") from error
    assert isinstance(array, zarr.Array)
    n_trials, n_bins, n_units = array.shape
    codecs = [type(codec) for codec in array.metadata.codecs]  # type: ignore[union-attr]
    if codecs != _CODECS or array.chunks[1:] != (n_bins, n_units):
        return spikes_of(cache[eid])

    def decode(number: int, chunk: np.ndarray) -> None:
        key = array.metadata.encode_chunk_key((number, 0, 0))
        try:
            # The store sees to it that the chunk is there, and of this very session.
            stored = sync((array.store_path / key).get(default_buffer_prototype()))
            assert stored is not None
            content = stored.as_numpy_array()
            data = content[:-4]
            if google_crc32c.value(data) != int.from_bytes(content[-4:].tobytes(), "little"):
                raise ValueError("its checksum does not match")
            blosc.decompress(data, chunk)
        except SessionError:
            raise
        except DAMAGE as error:
            raise SessionError(
                eid, f"spikes/{key} is damaged: {error}; run ibl-mtm check"
            ) from error

    return Spikes(eid, (n_trials, n_bins, n_units), array.dtype, array.chunks[0], decode)


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
