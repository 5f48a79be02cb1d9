"""Where a cache lies: a folder here, or a folder in a bucket or on a web server.

    root = locate("cache.zarr")                   # a pathlib.Path
    root = locate("s3://bucket/cache.zarr")       # a RemotePath, with the same `/`
    read_bytes(root / "sessions" / "zarr.json")

A remote folder is read file by file and never listed, so that a plain web server will do. The
package obstore, which reads it, is imported with the first URL.
"""

import re
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from ibl_mtm.errors import UserError

if TYPE_CHECKING:
    from obstore.store import GCSStore, HTTPStore, S3Store

__all__ = [
    "READS_AT_ONCE",
    "Location",
    "RemotePath",
    "explain_unreadable",
    "local_path",
    "locate",
    "read_bytes",
]

READS_AT_ONCE = 16
"""Threads that read at once: enough to hide the time that a server takes for each answer."""

# A server that is down is told of within seconds, one that does not answer within a minute.
_RETRIES = {"max_retries": 3, "retry_timeout": timedelta(seconds=30)}

_PUBLISHING = {
    "s3": "aws s3 sync cache.zarr {url}",
    "gs": "gcloud storage rsync --recursive cache.zarr {url}",
}


@dataclass(frozen=True)
class RemotePath:
    """A file or folder of a remote cache; `/` leads below it, as with `pathlib`.

    Parameters
    ----------
    root
        The cache's address, without password.
    store
        Reads what lies below that address.
    key
        Where this is, below it.
    """

    root: str
    store: "S3Store | GCSStore | HTTPStore" = field(repr=False)
    key: str = ""

    def __truediv__(self, name: str) -> "RemotePath":
        return RemotePath(self.root, self.store, f"{self.key}/{name}" if self.key else name)

    def __str__(self) -> str:
        return f"{self.root}/{self.key}" if self.key else self.root

    @property
    def name(self) -> str:
        """The last part of the address."""
        return PurePosixPath(str(self)).name

    @property
    def stem(self) -> str:
        """The last part of the address, without its suffix."""
        return PurePosixPath(str(self)).stem


Location = Path | RemotePath


def locate(path: "str | Location", storage_options: dict[str, Any] | None = None) -> Location:
    """The folder at a path or URL; nothing is read.

    Parameters
    ----------
    path
        A path, or a URL that begins with `file://`, `s3://`, `gs://`, `https://` or `http://`.
    storage_options
        For URLs: options of obstore's store for that scheme, such as ``endpoint``, ``region``,
        ``skip_signature`` (no credentials), ``client_options``, ``retry_config``.

    Raises
    ------
    UserError
        If the URL or an option has no meaning here, or obstore is not installed.
    """
    if isinstance(path, RemotePath):
        return path
    scheme = _scheme(path)
    if scheme in ("", "file"):
        if storage_options:
            raise UserError(f"{path}: storage_options are for URLs of buckets and web servers")
        return Path(_without_scheme(path)).expanduser()
    url = str(path).rstrip("/")
    parts = urlsplit(url)
    shown = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    if parts.query or parts.fragment:
        raise UserError(f"{shown}: a cache's URL ends with its folder, without '?' or '#'")
    options = {"retry_config": _RETRIES, **(storage_options or {})}
    # Servers in a laboratory and on this machine often speak plain HTTP; who names one means it.
    options["client_options"] = {"allow_http": True, **options.get("client_options", {})}
    store = _store_class(scheme, shown)
    try:
        return RemotePath(shown, store.from_url(url, **options))
    except Exception as error:
        raise UserError(
            f"{shown}: {_first_line(error)}; see storage_options and the URL"
        ) from error


def local_path(path: "str | Location") -> Path:
    """The folder at a path, for writing.

    Raises
    ------
    UserError
        If it is the URL of a remote folder; tells how to bring a cache there.
    """
    scheme = _scheme(path)
    if scheme in ("", "file"):
        return Path(_without_scheme(path)).expanduser()
    how = _PUBLISHING.get(scheme, "rclone copy cache.zarr REMOTE:FOLDER").format(url=path)
    raise UserError(
        f"{path} can only be read; write the cache to a folder here, then copy it: {how}"
    )


def read_bytes(file: Location) -> bytes:
    """Read a small file.

    Raises
    ------
    OSError
        If it is not there (FileNotFoundError), or a local one cannot be read.
    UserError
        If its server does not answer, or refuses.
    """
    if isinstance(file, Path):
        return file.read_bytes()
    import obstore
    from obstore.exceptions import BaseError

    try:
        return bytes(obstore.get(file.store, file.key).bytes())
    except FileNotFoundError:
        raise FileNotFoundError(f"{file} is not there") from None
    except BaseError as error:
        raise explain_unreadable(str(file), error) from error


def explain_unreadable(url: str, error: Exception) -> UserError:
    """The error to show a user when a server does not answer, or refuses."""
    line = _first_line(error)
    status = re.search(r"status code: (\d{3})", line)
    if status and status[1] in ("401", "403"):
        return UserError(
            f"{url}: access denied (HTTP {status[1]}), or not there; check the address and the "
            "credentials in the environment, or for a public bucket set AWS_SKIP_SIGNATURE=true "
            "or GOOGLE_SKIP_SIGNATURE=true"
        )
    # What obstore tells between the two is how often and how long it tried.
    reason = (
        f"HTTP {status[1]}" if status else line.split(" - ", 1)[-1].removeprefix("HTTP error: ")
    )
    return UserError(
        f"{url} cannot be read ({reason}); check the address and that its server is up, try again"
    )


def _scheme(path: "str | Location") -> str:
    return str(path).partition("://")[0].lower() if "://" in str(path) else ""


def _without_scheme(path: "str | Location") -> str:
    return url2pathname(urlsplit(str(path)).path) if _scheme(path) == "file" else str(path)


def _store_class(scheme: str, url: str) -> "type[S3Store] | type[GCSStore] | type[HTTPStore]":
    try:
        from obstore.store import GCSStore, HTTPStore, S3Store
    except ModuleNotFoundError:
        raise UserError(
            f"reading {url} needs the package obstore: pip install 'ibl-mtm[remote]'"
        ) from None
    stores = {"s3": S3Store, "gs": GCSStore, "https": HTTPStore, "http": HTTPStore}
    if scheme not in stores:
        raise UserError(f"{url}: expected a path, or file://, s3://, gs://, https:// or http://")
    return stores[scheme]


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].strip().rstrip(".")
