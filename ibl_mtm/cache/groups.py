"""One Zarr group as one xarray Dataset: written with checksums, read with a guard.

    write_group(folder, ds)
    ds = open_group(folder)             # lazy; damaged or replaced data raise SessionError

Every chunk ends with a CRC-32C. The group's `zarr.json` holds the metadata of all its arrays
(consolidated), in the attribute `chunk_checksums` those ends of all chunks, and in the attribute
`checksum` a digest of itself.
"""

import hashlib
import json
import time
import warnings
from collections.abc import Callable, Mapping
from itertools import product
from math import ceil
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import xarray as xr
import zarr
from zarr.codecs import BloscCodec, Crc32cCodec
from zarr.core.buffer import Buffer
from zarr.storage import MemoryStore, StorePath

from ibl_mtm.cache.guard import CHUNK_CHECKSUMS, GuardedStore, chunk_checksum
from ibl_mtm.cache.location import Location, read_bytes
from ibl_mtm.cache.plain_text import with_plain_text
from ibl_mtm.errors import DAMAGE

__all__ = [
    "CHECKSUM",
    "metadata_digest",
    "open_arrays",
    "open_group",
    "patiently",
    "read_metadata",
    "write_group",
]

CHECKSUM = "checksum"
TRIALS_PER_CHUNK = 64

T = TypeVar("T")


def write_group(folder: Path, ds: xr.Dataset) -> None:
    """Write a dataset as a Zarr v3 group of its own, into a folder that does not exist yet.

    Arrays whose first dimension is `trial` and that have others are cut into chunks of 64
    trials; every other array is one chunk.
    """
    # In memory: on a disk, Zarr goes to another thread and back for every file.
    made: dict[str, Buffer] = {}
    with warnings.catch_warnings():
        # All readers that matter know consolidated metadata; the others read the arrays' own.
        warnings.filterwarnings("ignore", message="Consolidated metadata is currently not part")
        _as_stored(ds).to_zarr(
            MemoryStore(made),
            mode="w-",
            zarr_format=3,
            consolidated=True,
            # A chunk that is left out reads as zeros, and so would one that was lost.
            write_empty_chunks=True,
            encoding={str(name): _encoding(ds[name]) for name in ds.variables},
        )
    files = {key: content.to_bytes() for key, content in made.items()}
    document = json.loads(files["zarr.json"])
    document["attributes"][CHUNK_CHECKSUMS] = json.dumps(_collect_chunk_checksums(files, document))
    document["attributes"][CHECKSUM] = metadata_digest(document)
    files["zarr.json"] = json.dumps(document, indent=1, ensure_ascii=False).encode()
    for parent in sorted({(folder / key).parent for key in files}):
        parent.mkdir(parents=True)
    for key, content in files.items():
        (folder / key).write_bytes(content)


def open_group(folder: Location, chunks: Any = None) -> xr.Dataset:
    """Open a group lazily; with `chunks` (as in `xarray.open_zarr`) as dask arrays.

    Raises
    ------
    SessionError
        Later, when data are read: if a chunk is missing or the group was replaced meanwhile.
    UserError
        Now or later: if the server of a remote group does not answer, or refuses.
    """
    ds = xr.open_zarr(_place(folder), chunks=None, consolidated=True, zarr_format=3)
    if chunks is not None:
        # Coordinates stay without dask: `groupby` does not take them with it.
        chunked = xr.open_zarr(_place(folder), chunks=chunks, consolidated=True, zarr_format=3)
        ds = ds.assign({name: chunked.variables[name] for name in ds.data_vars})
    for name in (CHECKSUM, CHUNK_CHECKSUMS):
        ds.attrs.pop(name, None)
    ds.attrs = {name: _plain(value) for name, value in ds.attrs.items()}
    return with_plain_text(ds)


def _plain(value: Any) -> Any:
    """An attribute as netCDF has it, too: without truth values and mappings."""
    if isinstance(value, dict):
        return json.dumps(value)
    return int(value) if isinstance(value, bool) else value


def open_arrays(folder: Location) -> zarr.Group:
    """Open a group as Zarr itself shows it, with the same guard as `open_group`."""
    return zarr.open_group(_place(folder), mode="r", zarr_format=3, use_consolidated=True)


def patiently(read: Callable[[Location], T], folder: Location) -> T:
    """What `read` returns; it gets further chances while a local group may be being replaced."""
    for delay in (0.01, 0.03, 0.1) if isinstance(folder, Path) else ():
        try:
            return read(folder)
        except DAMAGE:
            time.sleep(delay)
    return read(folder)


def read_metadata(folder: Location) -> dict[str, Any]:
    """Read a group's `zarr.json`: `attributes`, and `consolidated_metadata` of its arrays.

    Raises
    ------
    FileNotFoundError
        If there is no such group.
    ValueError
        If it is no JSON document.
    UserError
        If the server of a remote group does not answer, or refuses.
    """
    document = json.loads(read_bytes(folder / "zarr.json"))
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
    # Counts are most of the bytes. Beside zstd they take two thirds more space like this, are
    # decoded in two thirds of the time, which every epoch pays, and encoded in a sixth.
    compressor = (
        BloscCodec(cname="lz4hc", clevel=1, shuffle="bitshuffle")
        if array.ndim == 3
        else BloscCodec(cname="zstd", clevel=5, shuffle="bitshuffle")
    )
    encoding: dict[str, Any] = {
        "chunks": tuple(chunks),
        "compressors": (compressor, Crc32cCodec()),
    }
    if array.dtype.kind == "f":
        encoding["fill_value"] = np.nan
    return encoding


def _place(folder: Location) -> StorePath:
    store = GuardedStore(folder)
    return StorePath(store, store.group)


def _collect_chunk_checksums(
    files: Mapping[str, bytes], document: dict[str, Any]
) -> dict[str, str]:
    """The checksum of every chunk, by its key."""
    checksums = {}
    for name, array in document["consolidated_metadata"]["metadata"].items():
        grid = array["chunk_grid"]["configuration"]["chunk_shape"]
        counts = [range(ceil(n / size)) for n, size in zip(array["shape"], grid, strict=True)]
        for index in product(*counts):
            key = "/".join([name, "c", *map(str, index)])
            checksums[key] = chunk_checksum(files[key])
    return checksums
