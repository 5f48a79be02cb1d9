"""A Zarr store that refuses to pass off lost, replaced or foreign chunks as data.

    store = GuardedStore(root / eid)
    zarr.open_group(store, path=store.group, mode="r")

Zarr reads a missing chunk as its fill value; every chunk of ours exists. Whoever still holds a
session that was replaced would mix its chunks with the new one's: here a group's folder must
stay the one that was opened, and the checksum at a chunk's end must be the one that the group's
`zarr.json` names. The latter costs no request, and also tells of a copy that was made by halves.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from zarr.abc.store import ByteRequest, Store
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import LocalStore, ObjectStore, WrapperStore

from ibl_mtm.cache.location import Location, RemotePath, explain_unreadable
from ibl_mtm.errors import DAMAGE, SessionError, UserError

__all__ = ["CHUNK_CHECKSUMS", "GuardedStore", "chunk_checksum", "reading"]

CHUNK_CHECKSUMS = "chunk_checksums"
"""Attribute of a group: JSON text, the checksum of every chunk by its key."""


def chunk_checksum(content: bytes) -> str:
    """The CRC-32C with which a chunk ends, as its four bytes in hexadecimal."""
    return content[-4:].hex()


@contextmanager
def reading(eid: str) -> Iterator[None]:
    """Make whatever is raised where damaged data are read a SessionError, with the mend."""
    try:
        yield
    except UserError:
        raise
    except DAMAGE as error:
        told = error.reason if isinstance(error, SessionError) else f"cannot be read ({error})"
        mend = "ibl-mtm check CACHE --repair drops it, and the next ingest makes it anew"
        raise SessionError(eid, f"{told.removesuffix('; run ibl-mtm check')}; {mend}") from error


class GuardedStore(WrapperStore[Store]):
    """The store of a group: local ones of their own, remote ones in that of the whole cache.

    Parameters
    ----------
    folder
        The group's folder.
    """

    group: str
    """Path of the group in this store."""

    def __init__(self, folder: Location) -> None:
        if isinstance(folder, RemotePath):
            super().__init__(_RemoteStore(folder))
            self.group = folder.key
        else:
            super().__init__(LocalStore(folder, read_only=True))
            self.group = ""
        self._folder = folder
        self._identity = _identify(folder)
        self._checksums: dict[str, str] | None = None

    def __str__(self) -> str:
        return str(self._folder)

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        value = await self._store.get(key, prototype, byte_range)
        if _identify(self._folder) != self._identity:
            raise SessionError(self._folder.name, "replaced since it was opened; open it again")
        key = key.removeprefix(f"{self.group}/")
        if key == "zarr.json" and value is not None:
            self._checksums = _read_checksums(value.to_bytes())
        elif "c" in key.split("/")[1:]:
            if value is None:
                raise SessionError(self._folder.name, f"{key} is missing; run ibl-mtm check")
            # No array of ours is sharded, so chunks are read whole.
            known = self._checksums
            if known is not None and chunk_checksum(value[-4:].to_bytes()) != known.get(key):
                raise SessionError(
                    self._folder.name,
                    f"{key} is damaged or another session's; open the session again, and if that "
                    "does not help, run ibl-mtm check",
                )
        return value


class _RemoteStore(ObjectStore[Any]):
    """The files of a remote cache; a server that fails raises an error for users."""

    def __init__(self, folder: RemotePath) -> None:
        super().__init__(folder.store, read_only=True)
        self._url = folder.root

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        from obstore.exceptions import BaseError

        try:
            return await super().get(key, prototype, byte_range)
        except BaseError as error:
            raise explain_unreadable(f"{self._url}/{key}", error) from error


def _read_checksums(document: bytes) -> dict[str, str] | None:
    """The checksums of all chunks of a group, by key; None in caches of earlier versions."""
    found: dict[str, str] | None = json.loads(
        json.loads(document)["attributes"].get(CHUNK_CHECKSUMS, "null")
    )
    return found


def _identify(folder: Location) -> tuple[int, int] | None:
    """Another one once a local group was replaced; None where it is not there, or remote."""
    if isinstance(folder, RemotePath):
        return None
    try:
        status = os.stat(folder / "zarr.json")
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_mtime_ns
