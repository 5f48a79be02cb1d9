"""Spike counts of a session, read by whole chunks: what training reads a cache through.

    spikes = open_spikes(cache, eid)                # reads no counts yet
    counts = spikes.read(trials, units)             # (trial, time, unit), each chunk decoded once
    for part, rows, chunk in spikes.chunks(trials): # one chunk after the other
        chunk[rows]                                 # the counts of trials[part]

Reading may happen in any thread. Chunks as `write_group` makes them are fetched by Zarr's store and
decoded here, in the thread that asks and into memory that is there already: several times as fast
as through Zarr's arrays. Whatever was written with other codecs is read as xarray and Zarr read it.
"""

import google_crc32c
import numpy as np
import zarr
from numcodecs import blosc  # type: ignore[import-untyped]
from zarr.codecs import BloscCodec, BytesCodec, Crc32cCodec
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync

from ibl_mtm.cache.cache import Cache
from ibl_mtm.cache.groups import open_arrays, patiently
from ibl_mtm.errors import DAMAGE, SessionError
from ibl_mtm.sessions.spikes import Spikes, spikes_of

__all__ = ["open_spikes"]

#: The codecs that can be decoded here; whatever else a chunk went through is left to Zarr.
_CODECS = [BytesCodec, BloscCodec, Crc32cCodec]


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
