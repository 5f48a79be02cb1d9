"""One archive of the bulk release, a tar file or the folder unpacked from it, and its manifest.

    with open_archive(root, "bwm_ephys") as archive:
        archive.version                                     # "1.2.0"
        archive.read("metadata/sessions.parquet")           # bytes, as the manifest has them

Nothing is unpacked: the tar is not compressed, and its files are read where they lie.
"""

import hashlib
import json
import re
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from ibl_mtm.errors import UserError

__all__ = ["Archive", "find_archive", "open_archive"]

_KNOWN = {"bwm_ephys": "1.", "bwm_behavior": "2."}
"""Archives, and how the versions begin that are read."""


@dataclass(frozen=True)
class Contents:
    """What is in an archive: read once by each process, for all of its sessions.

    Attributes
    ----------
    version
        Of the dataset in it.
    members
        The files of a tar, by name; empty for a folder.
    manifest
        Size and checksum of each file, by name.
    tables
        Those that were read already, and compared with the manifest, by name.
    """

    version: str
    members: Mapping[str, tarfile.TarInfo]
    manifest: Mapping[str, Mapping[str, Any]]
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)


@dataclass
class Archive:
    """An open archive.

    Attributes
    ----------
    path
        The tar file, or the folder.
    contents
        What is in it.
    """

    path: Path
    contents: Contents
    _tar: tarfile.TarFile | None = None

    @property
    def version(self) -> str:
        """Version of the dataset in it."""
        return self.contents.version

    def __contains__(self, name: str) -> bool:
        return name in self.contents.members if self._tar else (self.path / name).is_file()

    def read(self, name: str) -> bytes:
        """Read a file; its size and SHA-256 are compared with the manifest.

        Raises
        ------
        ValueError
            If there is no such file, or it is not as the manifest has it; names both.
        """
        data = self.read_unverified(name)
        entry = self.contents.manifest.get(name)
        if entry is None:
            raise ValueError(f"{self.path}: {name} is not in its manifest")
        if len(data) != entry["size_bytes"] or hashlib.sha256(data).hexdigest() != entry["sha256"]:
            raise ValueError(
                f"{self.path}: {name} is not as its manifest has it; fetch the archive anew"
            )
        return data

    def read_unverified(self, name: str) -> bytes:
        """Read a file that the manifest does not list, such as the manifest."""
        if name not in self:
            raise ValueError(f"{self.path}: no {name}")
        if self._tar is None:
            return (self.path / name).read_bytes()
        file = self._tar.extractfile(self.contents.members[name])
        assert file is not None
        return file.read()


def find_archive(root: Path, dataset: str) -> Path | None:
    """Where an archive lies below a folder, or in it; the newest version where there are some.

    A folder is that of a version, with ``schema.yaml``; a tar is named ``DATASET-VERSION.tar``.
    """
    if (root / "schema.yaml").is_file() and root.parent.name == dataset:
        return root
    folders = {path.parent: path.parent.name for path in root.glob(f"{dataset}/*/schema.yaml")}
    tars = [*root.glob(f"{dataset}-*.tar"), *root.glob(f"{dataset}/*/{dataset}-*.tar")]
    versions = {tar: tar.stem.removeprefix(f"{dataset}-") for tar in tars} | folders
    # Of one version, the folder.
    return max(versions, key=lambda p: (_numbers(versions[p]), p in folders), default=None)


def _numbers(version: str) -> tuple[int, ...]:
    """The numbers of a version, by which 1.10 comes after 1.9."""
    return tuple(int(number) for number in re.findall(r"\d+", version))


@contextmanager
def open_archive(root: Path, dataset: str) -> Iterator[Archive]:
    """Open an archive that lies in a folder.

    Raises
    ------
    UserError
        If it is not there, cannot be read, or is of a version that is not known.
    """
    path = find_archive(root, dataset)
    if path is None:
        raise UserError(f"no {dataset} in {root}: neither {dataset}-VERSION.tar nor its folder")
    try:
        if path.is_dir():
            changed = (path / "manifest.json").stat().st_mtime_ns
            yield Archive(path, _read_contents(path, dataset, changed))
            return
        with tarfile.open(path, "r:") as tar:
            yield Archive(path, _read_contents(path, dataset, path.stat().st_mtime_ns), tar)
    except tarfile.TarError as error:
        raise UserError(f"{path}: no whole tar file ({error}); fetch it anew") from error
    except FileNotFoundError as error:
        raise UserError(f"{path}: not whole ({error.filename} is not there)") from error


# Two archives, each of which takes 0.3 s to index: not once for every session.
@lru_cache(2)
def _read_contents(path: Path, dataset: str, changed: int) -> Contents:
    """What is in an archive; `changed`, its time of modification, tells it from an older one."""
    members = {}
    with ExitStack() as stack:
        tar = None
        if path.is_file():
            tar = stack.enter_context(tarfile.open(path, "r:"))
            # Within are DATASET/VERSION/…
            named = ((member.name.split("/", 2), member) for member in tar if member.isfile())
            members = {parts[2]: member for parts, member in named if len(parts) == 3}
        archive = Archive(path, Contents("", members, {}), tar)
        try:
            schema = yaml.safe_load(archive.read_unverified("schema.yaml"))
            manifest = json.loads(archive.read_unverified("manifest.json"))
            files = {entry["path"]: entry for entry in manifest["files"]}
            name, version = str(schema["dataset_name"]), str(schema["dataset_version"])
        except (ValueError, KeyError, TypeError, yaml.YAMLError) as error:
            raise UserError(
                f"{path}: not whole, or no archive of the bulk release ({error})"
            ) from error
    if name != dataset or not version.startswith(_KNOWN[dataset]):
        raise UserError(f"{path}: {name} {version}, where {dataset} {_KNOWN[dataset]}x is known")
    return Contents(version, members, files)
