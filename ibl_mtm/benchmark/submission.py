"""Predictions on the disk: `LABEL/TASK/RECORDING/seed_N.safetensors`, in a folder or a zip.

for entry in open_submission(Path("predictions")):
    entry.name, entry.metadata(), entry.tensors()

write_predictions(folder, place, tensors, metadata)
"""

import json
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save_file

from ibl_mtm.benchmark.tasks import TASKS
from ibl_mtm.disk.replace import replace_file
from ibl_mtm.errors import UserError

__all__ = [
    "LABEL",
    "Entry",
    "Place",
    "labels_in",
    "open_submission",
    "root_of",
    "write_predictions",
]

LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
"""What may be the name of a submission, and so of a folder."""

_SEED = re.compile(r"seed_(\d+)\.safetensors")
#: Of a member of a zip.
_DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError)
#: What systems leave behind in folders and zips; the validator passes over it.
_LITTER = {".DS_Store", "Thumbs.db", "desktop.ini"}


@dataclass(frozen=True, order=True)
class Place:
    """Where predictions lie: of which submission, task, recording (none in TS3) and seed."""

    label: str
    task: str
    recording: str
    seed: int

    @property
    def path(self) -> str:
        """The path of the file, with slashes."""
        parts = [self.label, self.task, self.recording, f"seed_{self.seed}.safetensors"]
        return "/".join(part for part in parts if part)

    @classmethod
    def of(cls, path: str) -> "Place | None":
        """The place that a path names; None if it is no path of predictions."""
        parts = PurePosixPath(path).parts
        seed = _SEED.fullmatch(parts[-1]) if parts else None
        if seed is None or not 3 <= len(parts) <= 4:
            return None
        label, task, recording = parts[0], parts[1], parts[2:-1]
        if task not in TASKS or TASKS[task].by_recording != bool(recording):
            return None
        return cls(label, task, "".join(recording), int(seed[1]))


@dataclass(frozen=True)
class Entry:
    """A file of a submission.

    Attributes
    ----------
    name
        Its path within the submission, with slashes, from the label on.
    """

    name: str
    _source: "Path | zipfile.ZipFile"

    def read(self, size: int = -1) -> bytes:
        """Its content, or the first bytes of it."""
        if isinstance(self._source, Path):
            with (self._source / self.name).open("rb") as file:
                return file.read(size)
        with self._source.open(self.name) as member:
            return member.read(size)

    def metadata(self) -> dict[str, str]:
        """What its header says.

        Raises
        ------
        ValueError
            If it is no safetensors file.
        """
        try:
            start = self.read(8)
        except _DAMAGE as error:
            raise ValueError(f"no safetensors file ({error})") from None
        size = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        if not 2 <= size <= 100_000_000:  # the format's own limit
            raise ValueError("no safetensors file")
        try:
            header = json.loads(self.read(8 + size)[8:])
            return dict(header.get("__metadata__") or {})
        except (ValueError, AttributeError, *_DAMAGE) as error:
            raise ValueError(f"no safetensors file ({error})") from None

    def tensors(self) -> dict[str, np.ndarray]:
        """Its tensors.

        Raises
        ------
        ValueError
            If it is no whole safetensors file.
        """
        try:
            tensors: dict[str, np.ndarray] = load(self.read())
        except (SafetensorError, KeyError, *_DAMAGE) as error:
            raise ValueError(f"no whole safetensors file ({error})") from None
        return tensors


def labels_in(folder: Path) -> list[str]:
    """Names of the submissions in a folder: of its folders that hold one of a task."""
    return sorted(
        path.name
        for path in folder.iterdir()
        if path.is_dir() and any((path / task).is_dir() for task in TASKS)
    )


def root_of(path: Path) -> Path:
    """The folder that holds those of labels: this one, or the one above that of a label."""
    is_label = not labels_in(path) and any((path / task).is_dir() for task in TASKS)
    return path.absolute().parent if is_label else path


@contextmanager
def open_submission(path: Path, label: str | None = None) -> Iterator[dict[str, list[Entry]]]:
    """Open predictions: a zip, a folder of submissions, or the folder of one.

    Parameters
    ----------
    path
        The zip or folder.
    label
        Of a folder, this submission only.

    Yields
    ------
    The files of each submission, by label; of a zip everything under one name, the first label.

    Raises
    ------
    UserError
        If there are no predictions.
    """
    if path.is_file():
        if not zipfile.is_zipfile(path):
            raise UserError(f"{path} is no zip, and no folder of predictions")
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if not name.endswith("/")]
            entries = [Entry(name, archive) for name in sorted(names) if not _is_litter(name)]
            yield {entries[0].name.partition("/")[0] if entries else "": entries}
        return
    if not path.is_dir():
        raise UserError(f"no folder or zip {path}; give what `ibl-mtm benchmark run --out` wrote")
    root = root_of(path)
    labels = labels_in(path) if root == path else [path.absolute().name]
    if label is not None:
        if label not in labels:
            known = f"; there are {', '.join(labels)}" if labels else ""
            raise UserError(f"{path} holds no predictions of label '{label}'{known}")
        labels = [label]
    if not labels:
        raise UserError(
            f"{path} holds no predictions: expected are LABEL/TASK/RECORDING/seed_N.safetensors, "
            f"with tasks such as {next(iter(TASKS))}"
        )
    yield {label: _entries(root, label) for label in labels}


def _entries(root: Path, label: str) -> list[Entry]:
    files = sorted(path for path in (root / label).rglob("*") if path.is_file())
    names = [path.relative_to(root).as_posix() for path in files]
    return [Entry(name, root) for name in names if not _is_litter(name)]


def _is_litter(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return parts[-1] in _LITTER or "__MACOSX" in parts


def write_predictions(
    folder: Path, place: Place, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, Any]
) -> Path:
    """Write predictions to their place below a folder, whole or not at all.

    Parameters
    ----------
    folder
        Where the folder of the label is.
    place
        Their label, task, recording and seed, which are written into the file too.
    tensors
        In the dtypes that the file shall have.
    metadata
        More of it: `unit_filtering`, `dataset_version`, ….
    """
    file = folder / place.path
    file.parent.mkdir(parents=True, exist_ok=True)
    known = {"label": place.label, "task": place.task, "seed": place.seed}
    if place.recording:
        known["recording_id"] = place.recording
    text = {key: str(value) for key, value in {**known, **metadata}.items()}
    whole = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
    replace_file(file, lambda aside: save_file(whole, aside, metadata=text))
    return file
