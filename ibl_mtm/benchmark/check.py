"""Whether the benchmark would take a submission: every rule of its validator, before an upload.

    report = check_submission(Path("predictions"), data=BenchmarkData(Path("/data/bwb")))
    for finding in report.findings:
        print(finding)                              # E012 mtm/ts1-choice/...: trial_id: ...

Without the files of the recordings it cannot be told whether trials, windows and units are those
that are asked for.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from ibl_mtm.benchmark.data import BenchmarkData
from ibl_mtm.benchmark.rules import RULES, Expected, Finding, check_file, check_path
from ibl_mtm.benchmark.submission import Entry, Place, open_submission
from ibl_mtm.benchmark.tasks import TASKS, Task
from ibl_mtm.brainsets.layout import EVAL_RECORDING_IDS

__all__ = ["DATASET_VERSION", "CheckReport", "check_submission"]

DATASET_VERSION = "0.1.0"
"""Of the benchmark's public data."""

LEAST_SEEDS = 3


@dataclass
class CheckReport:
    """What a check found.

    Attributes
    ----------
    path
        What was checked.
    n_files
        Files of predictions, by label.
    findings
        What the validator would refuse, in order of code.
    unchecked
        Codes that need the recordings' files, not all of which were given.
    """

    path: str
    n_files: dict[str, int] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    unchecked: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether nothing was found."""
        return not self.findings

    def to_json(self) -> dict[str, Any]:
        """As plain Python."""
        return {
            "path": self.path,
            "ok": self.ok,
            "files": self.n_files,
            "findings": [
                {"code": f.code, "rule": RULES[f.code], "where": f.where, "what": f.what}
                for f in self.findings
            ],
            "unchecked": self.unchecked,
        }


def check_submission(
    path: Path,
    data: BenchmarkData | None = None,
    *,
    label: str | None = None,
    deterministic: bool = False,
) -> CheckReport:
    """Check predictions in a folder or a zip.

    Parameters
    ----------
    path
        A zip; or a folder of submissions, of which each is checked on its own.
    data
        The files for evaluation, from which the ground truth follows.
    label
        Of a folder, check this submission only.
    deterministic
        The model is declared to know no seeds: any number of them will do.

    Raises
    ------
    UserError
        If there are no predictions.
    SessionError
        If a file for evaluation is damaged, or there in one build only.
    """
    known = set(EVAL_RECORDING_IDS)
    here = set(data.recordings) if data else set()
    expected = _Asked(data) if data and here else None
    if here and not known & here:  # of a simulation
        known = here
    report = CheckReport(str(path), unchecked=["E012"] if known - here else [])
    with open_submission(path, label) as submissions:
        for name, entries in submissions.items():
            found = list(_check(entries, expected, known, deterministic))
            report.findings += found
            report.n_files[name] = sum(Place.of(entry.name) is not None for entry in entries)
    report.findings.sort()
    return report


def _check(
    entries: Sequence[Entry], asked: "_Asked | None", known: set[str], deterministic: bool
) -> Iterator[Finding]:
    places: dict[Place, str] = {}
    for entry in entries:
        wrong = check_path(entry.name)
        place = Place.of(entry.name)
        if wrong or place is None:
            if wrong:
                yield wrong
            continue
        if place in places:
            yield Finding("E105", entry.name, f"the same as {places[place]}")
            continue
        places[place] = entry.name
        expected = None
        if place.recording and place.recording not in known:
            what = f"{place.recording} is none of the {len(known)} that are evaluated"
            yield Finding("E011", entry.name, what)
        elif asked and (not place.recording or place.recording in asked.data.recordings):
            expected = asked.of(TASKS[place.task], place.recording)
        yield from check_file(entry, place, expected, DATASET_VERSION)
    yield from _check_whole(list(places), known, deterministic)


def _check_whole(places: list[Place], known: set[str], deterministic: bool) -> Iterator[Finding]:
    """What no file tells alone: seeds and recordings of each task."""
    labels = sorted({place.label for place in places})
    if len(labels) > 1:
        yield Finding("E106", ", ".join(labels), "a submission has one label; make a zip of each")
    seeds: dict[tuple[str, str], dict[str, set[int]]] = defaultdict(lambda: defaultdict(set))
    for place in places:
        seeds[place.label, place.task][place.recording].add(place.seed)
    for (label, task), by_recording in sorted(seeds.items()):
        where = f"{label}/{task}"
        if TASKS[task].by_recording and (absent := sorted(known - set(by_recording))):
            yield Finding(
                "E104", where, f"{len(absent)} of {len(known)} are missing, as {absent[0]}"
            )
        if not deterministic:
            yield from _check_seeds(where, by_recording)


def _check_seeds(where: str, by_recording: dict[str, set[int]]) -> Iterator[Finding]:
    every = set().union(*by_recording.values())
    if len(every) < LEAST_SEEDS:
        yield Finding("E101", where, f"seeds {_numbers(every)}; at least {LEAST_SEEDS} are due")
    if len(every) != max(every) - min(every) + 1:
        yield Finding("E102", where, f"seeds {_numbers(every)}; expected are consecutive ones")
    for recording, seeds in sorted(by_recording.items()):
        if seeds != every:
            yield Finding(
                "E103",
                f"{where}/{recording}",
                f"seeds {_numbers(seeds)}, but the task has {_numbers(every)}",
            )
            return  # one names the trouble


def _numbers(seeds: set[int]) -> str:
    return ", ".join(map(str, sorted(seeds)))


class _Asked:
    """The ground truth's trials, windows and units, read when they are asked for."""

    def __init__(self, data: BenchmarkData) -> None:
        self.data = data
        self.of = lru_cache(maxsize=64)(self._of)

    def _of(self, task: Task, recording: str) -> Expected:
        from ibl_mtm.benchmark.truth import NeuralTruth, scored_units
        from ibl_mtm.benchmark.windows import trial_windows

        if task.suite == "ts3":
            names = []
            for eid in self.data.recordings:
                with self.data.open(task, eid) as opened:
                    names.append(scored_units(opened, "eval")["name"].to_numpy(str))
            return Expected(units=np.concatenate(names))
        with self.data.open(task, recording) as opened:
            if task.suite == "ts1":
                windows = trial_windows(opened, task, "test")
                return Expected(trials=windows["trial_index"].to_numpy(np.int64))
            neural = NeuralTruth.of(opened, task, "test", spikes=False)
        return Expected(windows=neural.starts, units=neural.units)
