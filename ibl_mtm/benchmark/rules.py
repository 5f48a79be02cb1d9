"""What the benchmark's validator demands of one file of predictions, rule by rule.

for finding in check_file(entry, expected):
    finding.code, finding.where, finding.what       # "E006", path, "predictions are of shape ..."

Codes and their order are those of the validator of the leaderboard (app-brain-wide-bench,
``app/validation/validate_submission.py``); the words are ours.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ibl_mtm.benchmark.entity_ids import decode_ids
from ibl_mtm.benchmark.submission import Entry, Place
from ibl_mtm.benchmark.tasks import COSMOS_LABELS, TASKS, Task

__all__ = [
    "RULES",
    "UNIT_FILTERINGS",
    "Expected",
    "Finding",
    "check_file",
    "check_path",
    "wrong_arrays",
]

RULES = {
    "E001": "metadata or a tensor is missing",
    "E002": "unit_filtering is none that the benchmark knows",
    "E003": "dataset_version is not MAJOR.MINOR.PATCH",
    "E004": "the file's name is not seed_N.safetensors",
    "E005": "no task of the benchmark",
    "E006": "arrays of behaviour decoding do not fit each other or the task",
    "E007": "arrays of neural prediction do not fit each other or the task",
    "E008": "a window occurs twice",
    "E009": "arrays of region classification do not fit each other or the task",
    "E010": "label_names are not the ten regions in alphabetical order",
    "E011": "the benchmark has no such recording",
    "E012": "trials, windows or units are not those that the benchmark asks for",
    "E013": "the path is not LABEL/TASK/RECORDING/seed_N.safetensors, or the metadata differ",
    "E014": "a file that does not belong there",
    "E101": "fewer than three seeds of a task",
    "E102": "seeds are not contiguous",
    "E103": "recordings of a task have different seeds",
    "E104": "a recording of a task is missing",
    "E105": "the same task, recording and seed twice",
    "E106": "more than one label",
    "E107": "predictions are not finite",
    "E108": "dataset_version is not that of the benchmark",
    "E109": "the suite takes predictions from selected_units only",
    "E999": "the file cannot be read",
}
"""By code, in words."""

UNIT_FILTERINGS = ("all_units", "selected_units", "custom", "mixed")
_COMMON = ("label", "task", "seed", "unit_filtering", "dataset_version")
_VERSION = re.compile(r"\d+\.\d+\.\d+")
_TENSORS = {
    "ts1": ("predictions", "trial_id"),
    "ts2": ("predictions", "window_timestamps", "unit_ids"),
    "ts3": ("pred_proba", "entity_ids"),
}
_SHAPE_CODE = {"ts1": "E006", "ts2": "E007", "ts3": "E009"}


@dataclass(frozen=True, order=True)
class Finding:
    """Something that the validator refuses.

    Attributes
    ----------
    code
        Of `RULES`.
    where
        The file, or what of the submission.
    what
        What is wrong there, and what would be right.
    """

    code: str
    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.code} {self.where}: {self.what}"


@dataclass(frozen=True)
class Expected:
    """What the ground truth of a task and recording holds.

    Attributes
    ----------
    trials, windows, units
        Numbers of trials (TS1), starts of windows (TS2), ids of units (TS2 and TS3) in order.
    """

    trials: NDArray[np.int64] | None = None
    windows: NDArray[np.float64] | None = None
    units: NDArray[np.str_] | None = None


def check_path(name: str) -> Finding | None:
    """What is wrong with the path of a file; None if nothing is."""
    parts = name.split("/")
    if not parts[-1].endswith(".safetensors"):
        return Finding("E014", name, "only seed_N.safetensors belong there; delete it")
    if len(parts) > 1 and parts[-1].startswith("seed_") and Place.of(name) is None:
        if not re.fullmatch(r"seed_\d+\.safetensors", parts[-1]):
            return Finding("E004", name, "expected seed_N.safetensors, with N a number")
    elif Place.of(name) is None:
        return Finding("E014", name, "only seed_N.safetensors belong there; delete it")
    if len(parts) < 3 or len(parts) > 4:
        return Finding("E013", name, "expected LABEL/TASK/[RECORDING/]seed_N.safetensors")
    if parts[1] not in TASKS:
        return Finding("E005", name, f"'{parts[1]}' is none of {', '.join(TASKS)}")
    if TASKS[parts[1]].by_recording and len(parts) == 3:
        return Finding("E013", name, f"{parts[1]} needs the folder of a recording: TASK/RECORDING")
    if not TASKS[parts[1]].by_recording and len(parts) == 4:
        return Finding("E013", name, f"{parts[1]} has one file for all recordings: TASK/seed_N")
    return None


def check_file(
    entry: Entry, place: Place, expected: Expected | None = None, version: str | None = None
) -> Iterator[Finding]:
    """Everything that is wrong with the content of a file.

    Parameters
    ----------
    entry
        The file.
    place
        What its path says.
    expected
        The ground truth, where it is known (E012).
    version
        `dataset_version` that the benchmark takes (E108).
    """
    task, where = TASKS[place.task], entry.name
    try:
        metadata, tensors = entry.metadata(), entry.tensors()
    except ValueError as error:
        yield Finding("E999", where, f"{error}; write it anew")
        return
    yield from _check_metadata(metadata, place, task, where, version)
    missing = [name for name in _TENSORS[task.suite] if name not in tensors]
    if missing:
        yield Finding("E001", where, f"no tensor {', '.join(missing)}")
        return
    wrong = wrong_arrays(tensors, metadata, task)
    if wrong:
        yield Finding(_SHAPE_CODE[task.suite], where, wrong)
        return
    if task.suite == "ts2":
        starts = tensors["window_timestamps"]
        n_twice = len(starts) - len(np.unique(starts))
        if n_twice:
            yield Finding("E008", where, f"{n_twice} of {len(starts)} window_timestamps recur")
    predictions = tensors["pred_proba" if task.suite == "ts3" else "predictions"]
    n_bad = int((~np.isfinite(predictions)).sum())
    if n_bad:
        yield Finding("E107", where, f"{n_bad} of {predictions.size} predictions are NaN or inf")
    if expected is not None:
        yield from _check_asked(tensors, task, expected, where)


def _check_metadata(
    metadata: dict[str, str], place: Place, task: Task, where: str, version: str | None
) -> Iterator[Finding]:
    needed = [*_COMMON, "recording_id" if task.by_recording else "label_names"]
    if missing := [key for key in needed if key not in metadata]:
        yield Finding("E001", where, f"no metadata {', '.join(missing)}")
    filtering = metadata.get("unit_filtering")
    if filtering is not None and filtering not in UNIT_FILTERINGS:
        known = ", ".join(UNIT_FILTERINGS)
        yield Finding("E002", where, f"unit_filtering is '{filtering}', none of {known}")
    elif filtering not in (None, "selected_units") and task.suite != "ts1":
        yield Finding(
            "E109", where, f"unit_filtering is '{filtering}'; {task.name} is of selected_units"
        )
    found = metadata.get("dataset_version")
    if found is not None and not _VERSION.fullmatch(found):
        yield Finding("E003", where, f"dataset_version is '{found}', not as 0.1.0")
    elif None not in (found, version) and found != version:
        yield Finding("E108", where, f"dataset_version is {found}; the files are of {version}")
    names = metadata.get("label_names")
    if not task.by_recording and names is not None and names != ",".join(COSMOS_LABELS):
        yield Finding("E010", where, f"label_names are {names}, not {','.join(COSMOS_LABELS)}")
    said = {"label": place.label, "task": place.task, "seed": str(place.seed)}
    if task.by_recording:
        said["recording_id"] = place.recording
    for key, value in said.items():
        if metadata.get(key, value) != value:
            yield Finding("E013", where, f"{key} is {metadata[key]} within, {value} in its path")


def wrong_arrays(
    tensors: dict[str, np.ndarray], metadata: dict[str, str], task: Task
) -> str | None:
    """What of the shapes does not fit; stricter than the validator where scoring would fail."""
    if task.suite == "ts3":
        return _wrong_units(tensors, metadata)
    predictions = tensors["predictions"]
    shape = predictions.shape
    if predictions.ndim != 3:
        return f"predictions are of shape {shape}; expected are three dimensions"
    if shape[1] != task.n_steps:
        return f"predictions are of shape {shape}; expected are {task.n_steps} steps"
    if task.suite == "ts1":
        if shape[2] != task.n_outputs:
            return f"predictions are of shape {shape}; expected are {task.n_outputs} outputs"
        if tensors["trial_id"].shape != shape[:1]:
            return f"trial_id is of shape {tensors['trial_id'].shape}, predictions of {shape}"
        return None
    if tensors["window_timestamps"].shape != shape[:1]:
        found = tensors["window_timestamps"].shape
        return f"window_timestamps are of shape {found}, predictions of {shape}"
    if tensors["window_timestamps"].dtype != np.float64:
        kind = tensors["window_timestamps"].dtype
        return f"window_timestamps are {kind}: only float64 are those of the ground truth"
    names, wrong = _names(tensors["unit_ids"])
    if wrong or len(names) != shape[2]:
        return f"unit_ids: {wrong or f'{len(names)} of them, but predictions of {shape[2]} units'}"
    return None


def _wrong_units(tensors: dict[str, np.ndarray], metadata: dict[str, str]) -> str | None:
    odds = tensors["pred_proba"]
    n_labels = len(metadata.get("label_names", ",".join(COSMOS_LABELS)).split(","))
    if odds.ndim != 2 or odds.shape[1] != n_labels:
        return f"pred_proba is of shape {odds.shape}; expected are (unit, {n_labels})"
    names, wrong = _names(tensors["entity_ids"])
    if wrong or len(names) != len(odds):
        return f"entity_ids: {wrong or f'{len(names)} of them, but {len(odds)} rows'}"
    return None


def _names(matrix: np.ndarray) -> tuple[NDArray[np.str_], str]:
    try:
        return decode_ids(matrix), ""
    except ValueError as error:
        return np.array([], str), str(error)


def _check_asked(
    tensors: dict[str, np.ndarray], task: Task, expected: Expected, where: str
) -> Iterator[Finding]:
    if expected.trials is not None:
        yield from _same(tensors["trial_id"], expected.trials, "trial_id", where)
    if expected.windows is not None:
        starts = tensors["window_timestamps"]
        yield from _same(starts, expected.windows, "window_timestamps", where)
    if expected.units is None:
        return
    names = decode_ids(tensors["entity_ids" if task.suite == "ts3" else "unit_ids"])
    if task.suite == "ts3":
        if absent := sorted(set(expected.units) - set(names)):
            yield Finding(
                "E012",
                where,
                f"{len(absent)} of {len(expected.units)} units are missing, as {absent[0]}",
            )
        return
    found = list(_same(names, expected.units, "unit_ids", where))
    yield from found
    if not found and not np.array_equal(names, expected.units):
        yield Finding(
            "E012",
            where,
            "units are in another order than in the file of the recording; the validator would "
            "take it, and every unit be scored against another one",
        )


def _same(found: np.ndarray, asked: np.ndarray, what: str, where: str) -> Iterator[Finding]:
    missing, more = np.setdiff1d(asked, found), np.setdiff1d(found, asked)
    if not len(missing) and not len(more):
        return
    text = f"{what}: {len(missing)} of {len(asked)} are missing, {len(more)} are none of them"
    if what == "window_timestamps" and len(missing) and len(more):
        near = np.abs(more - asked[np.abs(asked - more[0]).argmin()]).min()
        if near < 1e-6:
            text += "; some differ in their last bits only: take those of torch.arange"
    yield Finding("E012", where, text)
