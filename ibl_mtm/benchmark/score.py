"""Scores of predictions against the ground truth that follows from the files for evaluation.

scores = score_submissions(Path("predictions"), BenchmarkData(Path("/data/bwb")))
scores.table                                    # label, task, recording, seed, metric, score

write_scores(scores, Path("predictions"))       # scores.csv, which `ibl-mtm results` reads
"""

import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ibl_mtm.benchmark.data import BenchmarkData
from ibl_mtm.benchmark.entity_ids import decode_ids
from ibl_mtm.benchmark.metrics import PoissonSums, score_trials, score_units
from ibl_mtm.benchmark.ranks import summarise
from ibl_mtm.benchmark.rules import wrong_arrays
from ibl_mtm.benchmark.score_table import COLUMNS, SCORES, read_scores
from ibl_mtm.benchmark.submission import Entry, Place, open_submission
from ibl_mtm.benchmark.tasks import TASKS, Task
from ibl_mtm.benchmark.truth import NeuralTruth, TrialTruth, scored_units, trial_truth
from ibl_mtm.disk.replace import replace_file
from ibl_mtm.disk.targets import check_folder
from ibl_mtm.errors import SessionError

__all__ = ["Scores", "score_submissions", "scores_as_json", "write_scores"]

Group = list[tuple[Place, Entry]]
Say = Callable[[str], None]


@dataclass
class Scores:
    """Scores of files.

    Attributes
    ----------
    table
        `COLUMNS`; recording is empty in TS3.
    failed
        By path: why a file has no scores.
    """

    table: pd.DataFrame
    failed: dict[str, str] = field(default_factory=dict)


def score_submissions(
    path: Path,
    data: BenchmarkData,
    *,
    label: str | None = None,
    tasks: Sequence[Task] = tuple(TASKS.values()),
    recordings: Sequence[str] | None = None,
    say: Say = lambda message: None,
) -> Scores:
    """Score every file of predictions in a folder or a zip.

    Parameters
    ----------
    path
        As for `open_submission`.
    data
        The files for evaluation.
    label, tasks, recordings
        These only.
    say
        Called with a line of text for each task and recording.

    Raises
    ------
    UserError
        If there are no predictions.
    """
    rows: list[tuple[str, str, str, int, str, float]] = []
    failed: dict[str, str] = {}
    with open_submission(path, label) as submissions:
        groups: dict[tuple[str, str], Group] = defaultdict(list)
        for entries in submissions.values():
            for entry in entries:
                place = Place.of(entry.name)
                if place is None or TASKS[place.task] not in tasks:
                    continue
                if recordings is None or not place.recording or place.recording in recordings:
                    groups[place.task, place.recording].append((place, entry))
        for (task, recording), group in sorted(groups.items()):
            say(f"{task} {recording}: {len(group)} files")
            try:
                for (place, _), scores in _score_group(TASKS[task], recording, group, data, failed):
                    key = (place.label, place.task, place.recording, place.seed)
                    rows += [(*key, metric, score) for metric, score in scores.items()]
            except SessionError as error:
                failed |= {entry.name: str(error) for _, entry in group}
    return Scores(pd.DataFrame(rows, columns=COLUMNS), failed)


def _score_group(
    task: Task, recording: str, group: Group, data: BenchmarkData, failed: dict[str, str]
) -> Iterator[tuple[tuple[Place, Entry], dict[str, float]]]:
    """Files of one task and recording: the ground truth is made once."""
    score: Callable[[dict[str, np.ndarray]], dict[str, float]]
    if task.suite == "ts3":
        units = pd.concat([_units(data, task, eid) for eid in data.recordings])
        score = partial(_score_ts3, units=units)
    else:
        if recording not in data.recordings:
            failed |= {
                entry.name: f"no file of recording {recording} in {data.root}" for _, entry in group
            }
            return
        with data.open(task, recording) as opened:
            if task.suite == "ts1":
                truth = trial_truth(opened, task, "test")
                score = partial(_score_ts1, task=task, truth=truth)
            else:
                neural = NeuralTruth.of(opened, task, "test")
                score = partial(_score_ts2, truth=neural)
    for member in group:
        try:
            tensors = member[1].tensors()
            if wrong := wrong_arrays(tensors, member[1].metadata(), task):
                raise ValueError(wrong)
            yield member, score(tensors)
        except (ValueError, KeyError) as error:
            failed[member[1].name] = f"{error}; see `ibl-mtm benchmark check`"


def _units(data: BenchmarkData, task: Task, eid: str) -> pd.DataFrame:
    with data.open(task, eid) as opened:
        return scored_units(opened, "eval")[["name", "target"]]


def _score_ts1(tensors: dict[str, np.ndarray], task: Task, truth: TrialTruth) -> dict[str, float]:
    _, at, asked = np.intersect1d(tensors["trial_id"], truth.trial_id, return_indices=True)
    if not len(at):
        raise ValueError("no trial_id is that of a trial which is scored")
    mask = None if truth.mask is None else truth.mask[asked]
    return score_trials(task, tensors["predictions"][at], truth.values[asked], mask)


def _score_ts2(tensors: dict[str, np.ndarray], truth: NeuralTruth) -> dict[str, float]:
    predictions, starts = tensors["predictions"], tensors["window_timestamps"]
    if not len(starts):
        raise ValueError("no windows")
    order = np.argsort(starts, kind="stable")
    place = np.minimum(np.searchsorted(starts, truth.starts, sorter=order), len(starts) - 1)
    at = order[place]
    known = starts[at] == truth.starts  # to the last bit, as the benchmark does
    if not known.any():
        raise ValueError("no window_timestamps are those of a window which is scored")
    expected = (truth.task.n_steps, len(truth.units))
    if predictions.shape[1:] != expected:
        raise ValueError(f"predictions are of shape {predictions.shape}, not (window, {expected})")
    sums = PoissonSums(len(truth.units))
    for part, targets in truth.targets():
        here = known[part]
        sums.add(predictions[at[part][here]], targets[here])
    return sums.scores()


def _score_ts3(tensors: dict[str, np.ndarray], units: pd.DataFrame) -> dict[str, float]:
    row = {name: at for at, name in enumerate(decode_ids(tensors["entity_ids"]))}
    absent = [name for name in units["name"] if name not in row]
    if absent:
        raise ValueError(f"{len(absent)} units are missing, as {absent[0]}")
    at = np.array([row[name] for name in units["name"]])
    return score_units(tensors["pred_proba"][at], units["target"].to_numpy())


def write_scores(scores: Scores, folder: Path) -> Path:
    """Write scores into a folder, made if need be; those of other files that are there stay."""
    check_folder(folder)
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / SCORES
    table = scores.table
    if file.is_file():
        if table.empty:
            return file
        old = read_scores(folder)
        keys = COLUMNS[:4]
        anew = pd.MultiIndex.from_frame(table[keys])
        table = pd.concat([old[~pd.MultiIndex.from_frame(old[keys]).isin(anew)], table])
    table = table.sort_values(COLUMNS[:5], kind="stable")
    replace_file(file, lambda aside: table.to_csv(aside, index=False))
    return file


def scores_as_json(scores: Scores) -> dict[str, Any]:
    """As plain Python: averages of each label and task, every score, and what failed."""
    summary = summarise(scores.table)
    rows = json.loads(scores.table.to_json(orient="records", double_precision=15))
    labels: dict[str, dict[str, Any]] = defaultdict(lambda: defaultdict(dict))
    for row in json.loads(summary.to_json(orient="records", double_precision=15)):
        label, task, metric = row.pop("label"), row.pop("task"), row.pop("metric")
        labels[label][task][metric] = row
    return {"labels": labels, "scores": rows, "failed": scores.failed}
