"""Files of a session from a file server: compared with the database before they are taken.

    download(files, folder, seen, patience)

A file appears under its name only after its size and MD5 were found right; what was found right
once is not read again as long as its size and time of change stay.
"""

import hashlib
import json
import logging
import os
import threading
import time
import urllib.parse
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import requests
from one.alf.path import add_uuid_string

from ibl_mtm.disk.replace import replace_file
from ibl_mtm.ingest.alyx.at_once import StoppedError, each
from ibl_mtm.ingest.alyx.release import RemoteFile
from ibl_mtm.ingest.outcome import OnBytes, one_line
from ibl_mtm.ingest.retry import GaveUpError, Patience, Transient, check_status, retry

__all__ = ["FileError", "bytes_missing", "download", "missing"]

_AT_ONCE = 4
_BLOCK = 1 << 18
_SLOWEST = 1000  # bytes/s; slower than this is no answer
_SPOILT = 3  # a file that comes wrong so often is wrong on the server, or in the database


class FileError(Exception):
    """A file cannot be had, or not as the database says it should be."""


class _GoneError(FileError):
    """The server has no such file, or does not give it away."""


def missing(files: Iterable[RemoteFile], folder: Path, seen: Path) -> list[RemoteFile]:
    """Those of a session's files that are not on disk as the database has them.

    Parameters
    ----------
    files
        What is needed.
    folder
        Of the session.
    seen
        Where it is kept which files were found right before.
    """
    known = _read_seen(seen)
    lacking = [file for file in files if not _is_right(file, folder, known)]
    _write_seen(seen, known)
    return lacking


def bytes_missing(files: Iterable[RemoteFile], folder: Path) -> int:
    """How much is to be downloaded, by the sizes of the files alone."""
    return sum(file.size or 0 for file in files if not _has_size(folder / file.path, file.size))


def _has_size(path: Path, size: int | None) -> bool:
    return path.is_file() and size in (None, path.stat().st_size)


def download(
    files: Sequence[RemoteFile],
    folder: Path,
    seen: Path,
    patience: Patience,
    on_bytes: OnBytes = lambda n: None,
) -> dict[str, str]:
    """Fetch what is missing of a session's files, several at a time.

    Only one process may do so for a session.

    Parameters
    ----------
    files, folder, seen
        As for `missing`.
    on_bytes
        Called with the number of bytes that came; negative where they were in vain.

    Returns
    -------
    Path of each optional file that the server does not have, and what it says instead.

    Raises
    ------
    FileError
        Names the first file that cannot be had.
    GaveUpError
        If no attempt went well.
    """
    known = _read_seen(seen)
    for file in files:
        _remove_leftovers(file, folder)
    wanted = [file for file in files if not _is_right(file, folder, known)]

    gone: dict[str, str] = {}

    def fetch(file: RemoteFile, stop: threading.Event) -> None:
        path = folder / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            retry(lambda: _attempt(file, path, patience, on_bytes, stop), patience, file.path)
        except GaveUpError as error:
            error.host = urllib.parse.urlsplit(file.url).netloc.split("@")[-1]
            raise
        except _GoneError as error:
            if not file.optional:
                raise
            gone[file.path] = str(error)
            return
        except requests.RequestException as error:  # no address, or one that leads in circles
            raise FileError(f"{file.path}: {one_line(error)}") from error
        known[file.path] = _look_of(file, folder)

    try:
        each(fetch, wanted, _AT_ONCE)
    finally:
        _write_seen(seen, dict(known))
    return gone


log = logging.getLogger(__name__)

Seen = dict[str, list[int | str | None]]


def _look_of(file: RemoteFile, folder: Path) -> list[int | str | None]:
    stat = (folder / file.path).stat()
    return [stat.st_size, stat.st_mtime_ns, file.md5]


def _is_right(file: RemoteFile, folder: Path, known: Seen) -> bool:
    path = folder / file.path
    try:
        look = _look_of(file, folder)
    except OSError:
        return False
    if file.size is not None and look[0] != file.size:
        return False
    if known.get(file.path) == look:
        return True
    # Without an MD5 to compare it with, only a file that we fetched ourselves is trusted.
    if file.md5 is None:
        return False
    with path.open("rb") as stream:
        right = hashlib.file_digest(stream, "md5").hexdigest() == file.md5
    if right:
        known[file.path] = look
    return right


def _read_seen(seen: Path) -> Seen:
    try:
        known: Seen = json.loads(seen.read_text())
        return known
    except (OSError, ValueError):
        return {}


def _write_seen(seen: Path, known: Seen) -> None:
    if known == _read_seen(seen):
        return
    try:
        seen.parent.mkdir(parents=True, exist_ok=True)
        replace_file(seen, lambda aside: aside.write_text(json.dumps(known)))
    except OSError as error:
        # Nothing is lost but the time to look at the files again.
        log.info("cannot keep which files were found right: %s", error)


def _remove_leftovers(file: RemoteFile, folder: Path) -> None:
    """Remove what downloads left that were cut off: our own, and those of ONE itself."""
    path = folder / file.path
    for leftover in (_part(path), Path(add_uuid_string(path, file.id))):
        # Looked at first: a file system that is read-only refuses to remove even what is not there.
        if leftover.exists():
            with suppress(FileNotFoundError):
                leftover.unlink()


def _part(path: Path) -> Path:
    return path.with_name(f"{path.name}.part")


def _attempt(
    file: RemoteFile, path: Path, patience: Patience, on_bytes: OnBytes, stop: threading.Event
) -> None:
    part = _part(path)
    transfer = _Transfer(on_bytes, stop)
    try:
        size = _receive(file, part, patience, transfer)
        if size is not None and transfer.size != size:
            raise Transient(f"came as {transfer.size} of {size} bytes", attempts=_SPOILT)
        if file.md5 is not None and transfer.md5.hexdigest() != file.md5:
            raise Transient("its MD5 is not the one in the database", attempts=_SPOILT)
        os.replace(part, path)
    except BaseException:
        on_bytes(-transfer.size)
        with suppress(FileNotFoundError):
            part.unlink()
        raise


@dataclass
class _Transfer:
    """What came of a file so far."""

    on_bytes: OnBytes
    stop: threading.Event
    size: int = 0

    def __post_init__(self) -> None:
        self.md5 = hashlib.md5(usedforsecurity=False)

    def add(self, block: bytes) -> None:
        if self.stop.is_set():
            raise StoppedError
        self.size += len(block)
        self.md5.update(block)
        self.on_bytes(len(block))


def _receive(file: RemoteFile, part: Path, patience: Patience, transfer: _Transfer) -> int | None:
    """Write a file aside as it comes; the size that it should have."""
    scheme, place, path, query, _ = urllib.parse.urlsplit(file.url, allow_fragments=False)
    url = urllib.parse.urlunsplit((scheme, place, urllib.parse.quote(path, safe="/%"), query, ""))
    # Compressed on the way, its size would be another one.
    headers = {"Accept-Encoding": "identity"}
    with requests.get(url, stream=True, timeout=patience.timeout, headers=headers) as answer:
        check_status(answer)
        if answer.status_code != 200:
            kind = _GoneError if answer.status_code in (401, 403, 404, 410) else FileError
            # Without what a signed address ends with.
            where = urllib.parse.urlunsplit((scheme, place.split("@")[-1], path, "", ""))
            raise kind(f"{file.path}: HTTP {answer.status_code} {answer.reason} ({where})")
        began, count = time.monotonic(), 0
        with part.open("wb") as out:
            while block := answer.raw.read1(_BLOCK):
                out.write(block)
                transfer.add(block)
                count += len(block)
                if (passed := time.monotonic() - began) > patience.timeout:
                    if count < _SLOWEST * passed:
                        raise Transient(f"only {count} bytes in {passed:.0f} s")
                    began, count = time.monotonic(), 0
        if file.size is not None:
            return file.size
        length = answer.headers.get("Content-Length")
        return None if length is None else int(length)
