"""Files of a session, found through ONE and looked at before they are loaded.

paths = find(one, eid, "spikes", ["times", "clusters"], collection="alf/probe00/pykilosort")
spikes = load(eid, paths)                   # attribute -> array or table
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from one.alf.exceptions import ALFMultipleCollectionsFound, ALFObjectNotFound
from one.alf.io import load_object
from one.alf.path import ALFPath
from one.api import One

from ibl_mtm.errors import SessionError
from ibl_mtm.ingest.outcome import one_line

__all__ = ["find", "load", "place"]


def find(
    one: One,
    eid: str,
    obj: str,
    attributes: Sequence[str] | None = None,
    collection: str | None = None,
) -> list[ALFPath]:
    """Paths of an object's attributes (None: all) that are there, perhaps none; checked.

    Raises
    ------
    SessionError
        If one of them is cut short, or no array of numbers, or if there are two for an attribute.
    """
    try:
        paths = one.load_object(
            eid,
            obj,
            attribute=None if attributes is None else list(attributes),
            collection=collection,
            download_only=True,
            check_hash=False,
        )
    except ALFObjectNotFound:
        return []
    except ALFMultipleCollectionsFound as error:
        raise SessionError(eid, f"{obj}: in several folders, {one_line(error)}") from None
    seen: dict[str, ALFPath] = {}
    for path in paths:
        if path.suffix == ".npy":
            _check_npy(eid, path)
        other = seen.setdefault(path.attribute, path)
        if other is not path:
            raise SessionError(eid, f"{place(other)} and {place(path)}: which one counts?")
    return list(paths)


def load(eid: str, paths: list[ALFPath]) -> dict[str, Any]:
    """Load what `find` found: attribute -> content.

    Raises
    ------
    SessionError
        Names the file that cannot be read.
    """
    content: dict[str, Any] = {}
    for path in paths:
        try:
            content |= load_object([path])
        except Exception as error:
            raise SessionError(eid, f"{place(path)}: cannot be read ({one_line(error)})") from error
    return content


def place(path: Path) -> str:
    """Path of a file within its session, as messages name it."""
    return ALFPath(path).relative_to_session().as_posix()


def _check_npy(eid: str, path: Path) -> None:
    """Refuse files cut short, and those that NumPy would unpickle, which can run any code."""
    try:
        with path.open("rb") as file:
            version = np.lib.format.read_magic(file)
            read = np.lib.format.read_array_header_1_0
            if version != (1, 0):
                read = np.lib.format.read_array_header_2_0
            shape, _, dtype = read(file)
            expected = file.tell() + int(np.prod(shape)) * dtype.itemsize
    except ValueError as error:
        raise SessionError(eid, f"{place(path)}: no NPY file ({one_line(error)})") from None
    if dtype.hasobject:
        raise SessionError(eid, f"{place(path)}: holds Python objects, not numbers")
    if path.stat().st_size < expected:
        found = path.stat().st_size
        raise SessionError(eid, f"{place(path)}: cut short at {found} of {expected} bytes")
