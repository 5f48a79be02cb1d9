"""The tasks of BrainWideBench: what each asks for, where it lies in a file, how it is scored.

TASKS["ts1-choice"].n_outputs                       # 2 classes
tasks_of("ts2")                                     # ["ts2-co_smoothing", "ts2-forecasting"]

As in `ibl-bwb-eval` 0.1.0 (`ibl_bwb_eval.tasks`).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from ibl_mtm.brainsets.layout import Build
from ibl_mtm.errors import UserError

__all__ = [
    "BIN",
    "CLIPPED",
    "COSMOS_LABELS",
    "N_BINS",
    "N_FORECAST",
    "SUITES",
    "TASKS",
    "WINDOW",
    "Suite",
    "Task",
    "choose_tasks",
    "tasks_of",
]

Suite = Literal["ts1", "ts2", "ts3"]
SUITES: dict[Suite, str] = {
    "ts1": "behaviour decoding",
    "ts2": "neural prediction",
    "ts3": "brain region of units",
}
BUILD_OF: dict[Suite, Build] = {
    "ts1": "all_units",
    "ts2": "selected_units",
    "ts3": "selected_units",
}
"""The build of files that a suite is defined on."""

WINDOW, BIN, N_BINS = 1.0, 0.02, 50
"""Length of a scored window, width of a bin or step (s), and how many make a window."""
N_FORECAST = 5
"""Bins at the end of a window that forecasting asks for."""

COSMOS_LABELS = ("CB", "CNU", "CTXsp", "HB", "HPF", "HY", "Isocortex", "MB", "OLF", "TH")

CLIPPED = ("r2", "poisson_d2", "bps")
"""Scores that count as 0 where they are below, before they are averaged."""


@dataclass(frozen=True)
class Task:
    """A task.

    Attributes
    ----------
    name
        As in paths and metadata: ``ts1-choice``.
    suite
        What it is part of.
    title
        What to call it.
    metric
        The one that ranks are made by and that may choose on val.
    n_outputs
        Classes, or 1; 0 where it is the session's number of units.
    n_steps
        Predictions in time for each window.
    windows
        The intervals of `ts1` tasks, one window per trial.
    signal
        Where the target lies: ``GROUP/NAME``, or a column of `windows`.
    confident
        For paws: the signal that says which samples count, and the column with their number.
    """

    name: str
    suite: Suite
    title: str
    metric: str
    n_outputs: int
    n_steps: int = N_BINS
    windows: str = ""
    signal: str = ""
    confident: tuple[str, str] | None = None

    @property
    def build(self) -> Build:
        """The build of files that it is defined on."""
        return BUILD_OF[self.suite]

    @property
    def is_class(self) -> bool:
        """Whether a class is asked for, of a trial or of a unit."""
        return self.n_steps == 1

    @property
    def by_recording(self) -> bool:
        """Whether there is a file for each recording."""
        return self.suite != "ts3"


def _of_trial(name: str, title: str, n_classes: int) -> Task:
    return Task(f"ts1-{name}", "ts1", title, "bacc", n_classes, 1, windows=name, signal=name)


def _trace(name: str, title: str, group: str, windows: str = "movement_window") -> Task:
    side = name.removesuffix("_paw_speed")
    is_paw = side != name
    return Task(
        f"ts1-{name}",
        "ts1",
        title,
        "poisson_d2" if name == "licking_rate" else "r2",
        1,
        windows=windows,
        signal=f"{group}/{name}",
        confident=(f"is_{side}_paw_confident", f"num_{side}_paw_confident") if is_paw else None,
    )


TASKS = {
    task.name: task
    for task in (
        _of_trial("choice", "choice", 2),
        _of_trial("reward", "reward", 2),
        _of_trial("stimulus_contrast", "contrast", 5),
        _trace("whisker_motion_energy", "whisker motion energy", "whisker"),
        _trace("wheel_speed", "wheel speed", "wheel"),
        _trace("left_paw_speed", "left paw speed", "paws"),
        _trace("right_paw_speed", "right paw speed", "paws"),
        _trace("licking_rate", "licking", "licks", "licking_window"),
        Task("ts2-co_smoothing", "ts2", "co-smoothing", "poisson_d2", 0),
        Task("ts2-forecasting", "ts2", "forecasting", "poisson_d2", 0, N_FORECAST),
        Task("ts3-unit_cosmos", "ts3", "region of units", "macro/f1-score", len(COSMOS_LABELS), 1),
    )
}
"""By name, in the benchmark's order."""


def tasks_of(suite: Suite) -> list[str]:
    """Names of a suite's tasks."""
    return [name for name, task in TASKS.items() if task.suite == suite]


def choose_tasks(suites: Iterable[str] = (), names: Iterable[str] = ()) -> list[Task]:
    """Tasks by suite, by name, or both; all of them if nothing is asked for.

    Raises
    ------
    UserError
        If there is no such suite or task.
    """
    suites, names = list(suites), list(names)
    for suite in suites:
        if suite not in SUITES:
            raise UserError(f"no suite '{suite}'; known: {', '.join(SUITES)}")
    whole = [task if task in TASKS else _full_name(task) for task in names]
    return [
        task
        for name, task in TASKS.items()
        if (not suites or task.suite in suites) and (not whole or name in whole)
    ]


def _full_name(name: str) -> str:
    for task in TASKS:
        if task.partition("-")[2] == name:
            return task
    raise UserError(f"no task '{name}'; known: {', '.join(TASKS)}")
