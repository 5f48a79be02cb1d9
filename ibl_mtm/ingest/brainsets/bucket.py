"""Files of recordings in a bucket: listed once, fetched one by one, each compared with its ETag.

    bucket = open_bucket(source)                                    # s3://brain-wide-bench/…
    listed = list_recordings(bucket, source)                        # eid -> Remote
    fetch(bucket, listed[eid], path, Patience())

A file appears under its name only when it is whole. What an attempt left is gone on with, as long
as the bucket's object is the same.
"""

import hashlib
import json
import os
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from filelock import FileLock

from ibl_mtm.brainsets.layout import folder_of
from ibl_mtm.cache.location import RemotePath, explain_unreadable, locate
from ibl_mtm.config.sources import BrainsetsSource, BucketSource
from ibl_mtm.disk.replace import replace_file
from ibl_mtm.errors import SessionError, UserError
from ibl_mtm.ingest.brainsets.etag import agrees
from ibl_mtm.ingest.outcome import OnBytes, UnreachableError
from ibl_mtm.ingest.retry import GaveUpError, Patience, Transient, retry

__all__ = ["Remote", "describe", "fetch", "list_recordings", "missing_bytes", "open_bucket"]

_BLOCK = 1 << 23  # bytes of one request: what is lost where one fails
_SLOWEST = 120.0  # s for such a request
_SPOILT = 3  # a file that comes wrong so often is wrong in the bucket
# Answers to which the same request gets the same again: 3xx and 4xx, but for two.
_REFUSED = r"status code: (3|4(?!08|29))\d\d"


@dataclass(frozen=True)
class Remote:
    """An object of a bucket: its key below the root, its size, and the ETag that names it."""

    key: str
    size: int
    etag: str

    @property
    def eid(self) -> str:
        """The session that it holds."""
        return PurePosixPath(self.key).stem


def open_bucket(source: BucketSource) -> RemotePath:
    """Give access to the bucket of a source, or the folder in one; nothing is asked."""
    assert source.url is not None
    waits = {"connect_timeout": f"{source.timeout:g}s", "timeout": f"{_SLOWEST:g}s"}
    # Attempts are ours: two who try again would multiply them.
    options: dict[str, Any] = {"client_options": waits, "retry_config": {"max_retries": 0}}
    options |= {"skip_signature": True} if source.anonymous else {}
    if source.url.startswith("s3://"):
        options |= {"region": os.environ.get("AWS_REGION", "us-east-1")}
        options |= {"endpoint": source.endpoint} if source.endpoint else {}
    bucket = locate(source.url, options)
    assert isinstance(bucket, RemotePath)
    return bucket


def list_recordings(bucket: RemotePath, source: BrainsetsSource) -> dict[str, Remote]:
    """Every recording of a source's build and regime, by eid.

    Raises
    ------
    UserError
        If the bucket does not answer, refuses, or has none.
    """
    import obstore

    folder = folder_of(source.build, source.regime)
    found = _ask(
        lambda: [meta for page in obstore.list(bucket.store, prefix=folder) for meta in page],
        Patience(source.attempts, source.timeout),
        f"{bucket}/{folder}",
    )
    remotes = [
        Remote(meta["path"], meta["size"], meta["e_tag"] or "")
        for meta in found
        if meta["path"].endswith(".h5")
    ]
    if not remotes:
        raise UserError(f"no recording in {bucket}/{folder}; check the path of the source")
    return {remote.eid: remote for remote in sorted(remotes, key=lambda r: r.key)}


def describe(bucket: RemotePath, key: str, patience: Patience) -> Remote:
    """One object of a bucket.

    Raises
    ------
    UserError
        If it is not there, or the bucket does not answer.
    """
    import obstore

    address = f"{bucket}/{key}"
    try:
        meta = _ask(lambda: obstore.head(bucket.store, key), patience, address)
    except FileNotFoundError:
        raise UserError(f"{address} is not there; check the url of the source") from None
    return Remote(key, meta["size"], meta["e_tag"] or "")


T = TypeVar("T")


def _ask(action: Callable[[], T], patience: Patience, address: str) -> T:
    """Ask until there is an answer; who does not answer, or refuses, is an error for users."""
    try:
        return retry(lambda: _once(action, address), patience, address)
    except GaveUpError as error:
        raise UserError(
            f"{address} cannot be read ({str(error).removeprefix(f'{address}: ')}); check the "
            "address and that its server is up, try again"
        ) from error


def _once(action: Callable[[], T], address: str) -> T:
    """Ask once: a fault that may be gone the next time is `Transient`.

    Raises
    ------
    FileNotFoundError, PreconditionError
        As obstore has them.
    UserError
        If the server refuses, or says that the request is wrong.
    """
    from obstore.exceptions import BaseError, GenericError, PreconditionError

    try:
        return action()
    except (FileNotFoundError, PreconditionError, ConnectionError, TimeoutError):
        raise
    except (BaseError, OSError) as error:
        line = str(error).splitlines()[0]
        if not isinstance(error, GenericError) or re.search(_REFUSED, line):
            raise explain_unreadable(address, error) from error
        raise Transient(line.rpartition(" - ")[2]) from error


def missing_bytes(remote: Remote, path: Path) -> int:
    """How much of an object is still to be downloaded."""
    if _is_right(remote, path):
        return 0
    part = _part(remote, path)
    return remote.size - (part.stat().st_size if part.is_file() else 0)


def fetch(
    bucket: RemotePath,
    remote: Remote,
    path: Path,
    patience: Patience,
    on_bytes: OnBytes = lambda n: None,
    check: Callable[[Path], object] = lambda part: None,
) -> None:
    """Download an object, unless it is on disk as the bucket has it.

    Parameters
    ----------
    bucket, remote
        Where and what.
    path
        The file; beside it what was fetched is told in a ``.json``.
    patience
        With the server.
    on_bytes
        Called with the number of bytes that came; negative where they were in vain.
    check
        Called with what came, whole, before it has its name; what it raises ends it.

    Raises
    ------
    SessionError
        If the object is gone, was replaced meanwhile, or comes wrong again and again.
    UnreachableError
        If its server does not answer.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Another ingest may want the same file at the same time.
    with FileLock(path.with_suffix(".lock")):
        if _is_right(remote, path):
            return
        if path.is_file() and path.stat().st_size == remote.size and agrees(path, remote.etag):
            _note(remote, path)  # somebody copied it here
            return
        _remove_others(remote, path)
        previous = None
        for _ in range(_SPOILT):
            _download(bucket, remote, path, patience, on_bytes)
            part = _part(remote, path)
            right = agrees(part, remote.etag)
            # Twice the same: then it is the ETag that is no MD5, as with keys of one's own.
            if right is False and previous != (previous := _fingerprint(part)):
                on_bytes(-remote.size)
                part.unlink()
                continue
            check(part)
            os.replace(part, path)
            _note(remote, path)
            return
    raise SessionError(
        remote.eid,
        f"{bucket}/{remote.key}: came {_SPOILT} times with other contents than its ETag says",
    )


def _download(
    bucket: RemotePath, remote: Remote, path: Path, patience: Patience, on_bytes: OnBytes
) -> None:
    """Append what is lacking to the part, request by request."""
    address = f"{bucket}/{remote.key}"
    with _part(remote, path).open("ab") as part:
        while (start := part.tell()) < remote.size:
            span = (start, min(start + _BLOCK, remote.size))
            try:
                block = retry(partial(_get, bucket, remote, span), patience, address)
            except GaveUpError as error:
                raise UnreachableError(remote.eid, str(error), bucket.root) from error
            part.write(block)
            part.flush()
            on_bytes(len(block))


def _get(bucket: RemotePath, remote: Remote, span: tuple[int, int]) -> bytes:
    import obstore
    from obstore.exceptions import PreconditionError

    address = f"{bucket}/{remote.key}"
    options: obstore.GetOptions = {"range": span, "if_match": remote.etag or None}
    try:
        block = _once(
            lambda: bytes(obstore.get(bucket.store, remote.key, options=options).bytes()), address
        )
    except PreconditionError:
        raise SessionError(
            remote.eid,
            f"{address}: replaced meanwhile; the same command fetches it anew",
        ) from None
    except FileNotFoundError:
        raise SessionError(remote.eid, f"{address}: no longer there") from None
    except UserError as error:
        raise SessionError(remote.eid, str(error)) from error
    if len(block) != span[1] - span[0]:
        raise Transient(f"{len(block)} bytes where {span[1] - span[0]} were asked for")
    return block


def _part(remote: Remote, path: Path) -> Path:
    """Where an object grows: named by its ETag, so that two versions are never mixed; and by us."""
    mark = "".join(c for c in remote.etag if c.isalnum())[:16]
    return path.with_name(f".{path.stem}.{mark}.ibl-mtm.part")


def _remove_others(remote: Remote, path: Path) -> None:
    """Remove what we began of another version."""
    for other in path.parent.glob(f".{path.stem}.*.ibl-mtm.part"):
        if other != _part(remote, path):
            other.unlink()


def _fingerprint(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _about(path: Path) -> Path:
    return path.with_suffix(".json")


def _note(remote: Remote, path: Path) -> None:
    text = json.dumps(asdict(remote), indent=1) + "\n"
    replace_file(_about(path), lambda aside: aside.write_text(text, encoding="utf-8"))


def _is_right(remote: Remote, path: Path) -> bool:
    """Whether a file was fetched from this very object."""
    try:
        known = json.loads(_about(path).read_text(encoding="utf-8"))
        return path.stat().st_size == remote.size and known == asdict(remote)
    except (OSError, ValueError):
        return False
