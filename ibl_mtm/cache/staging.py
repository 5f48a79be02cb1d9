"""Where a writer prepares what it will move into a cache, and the lock under which it moves it.

    with lock_cache(root):
        remove_leftovers(root)
    with stage(root, eid) as folder:    # beside the root, removed at the end
        ...

The folder `<cache>.staging` stands beside the cache, because Zarr readers warn of anything
foreign inside it. A writer holds a file lock in its own folder there; the system drops that
lock when the writer dies, however it dies, and the next one removes what it left.
"""

import logging
import os
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp

from filelock import FileLock, Timeout

from ibl_mtm.errors import UserError

__all__ = ["lock_cache", "remove_leftovers", "stage", "staging_folder"]

_OWNER = "owner.lock"
_LOCK = "cache.lock"
_PATIENCE = 600.0
# File locks of another machine are not visible on every shared file system.
_FOREIGN_AGE = 3600.0

_log = logging.getLogger(__name__)


def staging_folder(root: Path) -> Path:
    """The folder beside a cache in which writers prepare sessions."""
    root = root.resolve()
    return root.with_name(root.name + ".staging")


@contextmanager
def lock_cache(root: Path) -> Iterator[None]:
    """Hold the cache's tables and session folders against other writers; readers need no lock.

    Raises
    ------
    UserError
        If another process holds it for ten minutes.
    """
    folder = staging_folder(root)
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / _LOCK)
    try:
        lock.acquire(timeout=_PATIENCE)
    except Timeout:
        raise UserError(
            f"{root}: another process has held {lock.lock_file} for {_PATIENCE / 60:.0f} minutes; "
            "end it, then try again"
        ) from None
    try:
        yield
    finally:
        lock.release()


@contextmanager
def stage(root: Path, name: str) -> Iterator[Path]:
    """A folder of one's own beside the cache, on the same file system, removed at the end."""
    with lock_cache(root):
        # Under the lock, or a cleaner could meet the folder before its owner has locked it.
        prefix = f"{name}.{socket.gethostname()}.{os.getpid()}."
        folder = Path(mkdtemp(prefix=prefix, dir=staging_folder(root)))
        owner = FileLock(folder / _OWNER)
        owner.acquire()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        owner.release()


def remove_leftovers(root: Path) -> None:
    """Remove the folders of writers that died; call with the cache locked."""
    for folder in staging_folder(root).iterdir():
        if folder.is_dir() and _is_dead(folder):
            _log.info("removing %s, left by a process that died", folder)
            shutil.rmtree(folder, ignore_errors=True)


def _is_dead(folder: Path) -> bool:
    if f".{socket.gethostname()}." not in folder.name and _age(folder) < _FOREIGN_AGE:
        return False
    owner = FileLock(folder / _OWNER)
    try:
        owner.acquire(timeout=0)
    except Timeout:
        return False
    owner.release()
    return True


def _age(folder: Path) -> float:
    """Seconds since anything in a folder last changed."""
    newest = folder.stat().st_mtime
    for path in folder.rglob("*"):
        newest = max(newest, path.lstat().st_mtime)
    return time.time() - newest
