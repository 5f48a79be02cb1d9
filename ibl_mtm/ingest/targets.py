"""Disks that are full and folders that may not be written: told in one line, with the mend.

check_writable(cache)                       # before anything is loaded
reason = blocked(error, cache, downloads)   # None where an error is about something else
"""

import errno
import os
import shutil
from pathlib import Path

from ibl_mtm.errors import UserError

__all__ = ["blocked", "check_writable", "expand"]

_FULL = {errno.ENOSPC, errno.EDQUOT}
_READ_ONLY = {errno.EROFS}
_FORBIDDEN = {errno.EACCES, errno.EPERM}
_NOT_MUCH = 1 << 20  # bytes; who has less has none


def check_writable(path: Path) -> None:
    """Refuse a folder that cannot be written to, or made.

    Raises
    ------
    UserError
        Names the folder and the mend.
    """
    path = Path(path).absolute()
    # What stands beside a cache is written too, such as the folder in which sessions are staged.
    for folder in (path, path.parent):
        there = folder
        while not there.exists() and there != there.parent:
            there = there.parent
        if not there.is_dir():
            raise UserError(f"cannot write {path}: {there} is no folder; give another path")
        if not os.access(there, os.W_OK | os.X_OK):
            locked = os.statvfs(there).f_flag & os.ST_RDONLY
            why = os.strerror(errno.EROFS if locked else errno.EACCES)
            raise UserError(f"cannot write {path}: {there}: {why}; give another path")


def blocked(error: OSError, *places: Path) -> str | None:
    """Why nothing more can be written; None where an error tells of something else.

    Parameters
    ----------
    error
        What was raised.
    places
        What is written to: the cache, the folder of downloads.
    """
    where = error.filename or _fullest(places)
    if error.errno in _FULL:
        return f"no space left for {where}: make room, then run the same command again"
    if error.errno in _READ_ONLY:
        return f"cannot write {where}: {error.strerror}; give another path"
    if error.errno in _FORBIDDEN and error.filename is not None:
        path = Path(os.fsdecode(error.filename))
        if any(_is_below(path, place) for place in places):
            return f"cannot write {where}: {error.strerror}; give another path"
    return None


def expand(path: Path) -> Path:
    """A path that begins with a variable of the environment, on this machine."""
    return Path(os.path.expandvars(path)).expanduser()


def _fullest(places: tuple[Path, ...]) -> str:
    """Those places on a disk that is full; all of them where that cannot be told."""
    full = []
    for place in places:
        there = place.absolute()
        while not there.exists() and there != there.parent:
            there = there.parent
        if shutil.disk_usage(there).free < _NOT_MUCH:
            full.append(place)
    return " and ".join(map(str, dict.fromkeys(full or places)))


def _is_below(path: Path, place: Path) -> bool:
    """Whether a path is in a place, or in what stands beside it for it."""
    place = place.absolute()
    beside = place.with_name(f"{place.name}.staging")
    return any(path.absolute().is_relative_to(each) for each in (place, beside))
