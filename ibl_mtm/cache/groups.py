"""One Zarr group as one xarray Dataset: written with checksums, read with a guard.

    write_group(folder, ds)
    ds = open_group(folder)             # lazy; damaged or replaced data raise SessionError

Every chunk ends with a CRC-32C. The group's `zarr.json` holds the metadata of all its arrays
(consolidated) and, in the attribute `checksum`, a digest of itself.
"""

import hashlib
import json
import os
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import xarray as xr
import zarr
from zarr.abc.store import ByteRequest, Store
from zarr.codecs import BloscCodec, Crc32cCodec
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import LocalStore, WrapperStore

from ibl_mtm.errors import SessionError

__all__ = [
    "CHECKSUM",
    "DAMAGE",
    "metadata_digest",
    "open_arrays",
    "open_group",
    "patiently",
    "read_metadata",
    "write_group",
]

CHECKSUM = "checksum"
DAMAGE = (OSError, ValueError, LookupError, TypeError, RuntimeError, SessionError)
"""What reading a group may raise that is damaged, missing or just being replaced."""

TRIALS_PER_CHUNK = 64

T = TypeVar("T")


def write_group(folder: Path, ds: xr.Dataset) -> None:
    """Write a dataset as a Zarr v3 group of its own, into a folder that does not exist yet.

    Arrays whose first dimension is `trial` and that have others are cut into chunks of 64
    trials; every other array is one chunk.
    """
    with warnings.catch_warnings():
        # All readers that matter know consolidated metadata; the others read the arrays' own.
        warnings.filterwarnings("ignore", message="Consolidated metadata is currently not part")
        _as_stored(ds).to_zarr(
            folder,
            mode="w-",
            zarr_format=3,
            consolidated=True,
            # A chunk that is left out reads as zeros, and so would one that was lost.
            write_empty_chunks=True,
            encoding={str(name): _encoding(ds[name]) for name in ds.variables},
        )
    path = folder / "zarr.json"
    document = json.loads(path.read_text())
    document["attributes"][CHECKSUM] = metadata_digest(document)
    path.write_text(json.dumps(document, indent=1, ensure_ascii=False))


def open_group(folder: Path, chunks: Any = None) -> xr.Dataset:
    """Open a group lazily; with `chunks` (as in `xarray.open_zarr`) as dask arrays.

    Raises
    ------
    SessionError
        Later, when data are read: if a chunk is missing or the group was replaced meanwhile.
    """
    ds = xr.open_zarr(_GuardedStore(folder), chunks=chunks, consolidated=True, zarr_format=3)
    del ds.attrs[CHECKSUM]
    return ds


def open_arrays(folder: Path) -> zarr.Group:
    """Open a group as Zarr itself shows it, with the same guard as `open_group`."""
    return zarr.open_group(_GuardedStore(folder), mode="r", zarr_format=3, use_consolidated=True)


def patiently(read: Callable[[], T]) -> T:
    """What `read` returns; it gets further chances while a group may be being replaced."""
    for delay in (0.01, 0.03, 0.1):
        try:
            return read()
        except DAMAGE:
            time.sleep(delay)
    return read()


def read_metadata(folder: Path) -> dict[str, Any]:
    """Read a group's `zarr.json`: `attributes`, and `consolidated_metadata` of its arrays.

    Raises
    ------
    FileNotFoundError
        If there is no such group.
    ValueError
        If it is no JSON document.
    """
    document = json.loads((folder / "zarr.json").read_bytes())
    if not isinstance(document, dict):
        raise ValueError(f"{folder / 'zarr.json'}: expected a mapping")
    return document


def metadata_digest(document: dict[str, Any]) -> str:
    """SHA-256 of a group's metadata as compact JSON with sorted keys, without its `checksum`."""
    attributes = {k: v for k, v in document["attributes"].items() if k != CHECKSUM}
    text = json.dumps(
        document | {"attributes": attributes},
        sort_keys=True,
        separators=(",", ":"),
        ensure_ascii=False,
    )
    return hashlib.sha256(text.encode()).hexdigest()


def _as_stored(ds: xr.Dataset) -> xr.Dataset:
    """Give every text variable the one dtype that has a place in the Zarr v3 specification."""
    text = {
        name: variable.astype(np.dtypes.StringDType())
        for name, variable in ds.variables.items()
        if variable.dtype.kind in "OU"
    }
    # What a variable remembers of another file (fill values, chunks) must not reach this one.
    return ds.assign(text).drop_encoding()


def _encoding(array: xr.DataArray) -> dict[str, Any]:
    chunks = [max(1, size) for size in array.shape]
    if array.ndim > 1 and array.dims[0] == "trial":
        chunks[0] = min(TRIALS_PER_CHUNK, chunks[0])
    compressor = BloscCodec(cname="zstd", clevel=5, shuffle="bitshuffle")
    encoding: dict[str, Any] = {
        "chunks": tuple(chunks),
        "compressors": (compressor, Crc32cCodec()),
    }
    if array.dtype.kind == "f":
        encoding["fill_value"] = np.nan
    return encoding


class _GuardedStore(WrapperStore[Store]):
    """A local group that refuses to pass off lost or replaced chunks as data.

    Zarr reads a missing chunk as its fill value; every chunk of ours exists. And whoever still
    holds a session that was replaced would mix its chunks with the new one's.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(LocalStore(folder, read_only=True))
        self._folder = folder
        self._identity = _identify(folder)

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        value = await self._store.get(key, prototype, byte_range)
        if _identify(self._folder) != self._identity:
            raise SessionError(self._folder.name, "replaced since it was opened; open it again")
        if value is None and "c" in key.split("/")[1:]:
            raise SessionError(self._folder.name, f"{key} is missing; run ibl-mtm check")
        return value


def _identify(folder: Path) -> tuple[int, int] | None:
    try:
        status = os.stat(folder / "zarr.json")
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_mtime_ns
