"""Evaluated runs as one table: a line for each run, session and task.

runs = read_replicates([Path("runs/mtm-0"), Path("runs/mtm-1")])
scores = score_lines(runs, ["MtM", "MtM"])      # row, replicate, eid, task, score, reference
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from ibl_mtm.errors import UserError
from ibl_mtm.evaluation.behaviour.behaviours import BEHAVIOURS
from ibl_mtm.evaluation.scored_run import ScoredRun, read_scored_run
from ibl_mtm.sessions import titles
from ibl_mtm.training.outcome import read_outcome

__all__ = [
    "OTHER_SCORES",
    "RAW_SPIKES",
    "TASK_TITLES",
    "TRUE_LATENTS",
    "TRUE_RATES",
    "Replicate",
    "read_replicates",
    "score_lines",
    "tasks_of",
]

TASK_TITLES = {task: (title, "bits/spike") for task, title in titles.TASK_TITLES.items()} | {
    task: (behaviour.title, behaviour.unit) for task, behaviour in BEHAVIOURS.items()
}
"""Every task in the order of tables: what to call it, and what its score counts in."""

OTHER_SCORES = ("pooled_bits_per_spike", "poisson_d2")
"""Of activity, beside the mean over units of bits/spike: see `ibl_mtm.evaluation.metrics`."""

TRUE_RATES, TRUE_LATENTS = "true rates", "true latents"
RAW_SPIKES = "decoded from raw spikes"
"""Rows that no run is behind."""


@dataclass(frozen=True)
class Replicate:
    """One run among the others that a row of a table averages over.

    Attributes
    ----------
    run
        As evaluated.
    series
        The name of its settings, or of the baseline.
    outcome
        What its training told; empty for a baseline.
    pretrained
        Whether it started from another run.
    animals
        How many the run that it started from was trained on.
    """

    run: ScoredRun
    series: str
    outcome: dict[str, Any]
    pretrained: bool
    animals: int

    @property
    def seed(self) -> int:
        """Of the training; 0 for a baseline."""
        return int(self.outcome.get("seed", 0))

    @property
    def split(self) -> str:
        """How the trials of its sessions were split."""
        return str(self.run.scores["provenance"]["split"])

    @property
    def is_baseline(self) -> bool:
        """Whether it is scores of a baseline, which nothing was trained for."""
        return bool(self.run.scores.get("baseline"))

    @property
    def source(self) -> Path | None:
        """The run that it started from."""
        return Path(self.outcome["init"]["from"]) if self.pretrained else None

    @property
    def schemes(self) -> list[str]:
        """The masking schemes that it was trained with."""
        weights = (self.run.settings.get("masks") or {}).get("schemes") or {}
        return [scheme for scheme, weight in weights.items() if weight > 0]

    @property
    def prompted(self) -> bool:
        """Whether it was told the scheme."""
        return bool((self.run.settings.get("model") or {}).get("prompt"))


def read_replicates(paths: Sequence[Path]) -> list[Replicate]:
    """Read evaluated runs, in the order given.

    Raises
    ------
    UserError
        If there is none, one was not evaluated, or one is named twice.
    """
    if not paths:
        raise UserError("name at least one evaluated run")
    seen: set[Path] = set()
    for path in map(Path, paths):
        if path.resolve() in seen:
            raise UserError(f"{path} is named twice: a table counts each run once")
        seen.add(path.resolve())
    return [_read(Path(path)) for path in paths]


def _read(path: Path) -> Replicate:
    run = read_scored_run(path)
    outcome = read_outcome(path) or {}
    init = outcome.get("init") or {}
    taken = init.get("sessions")
    before = read_outcome(Path(init["from"])) if taken else None
    return Replicate(
        run=run,
        series=str(run.settings.get("name") or run.scores.get("baseline") or run.name),
        outcome=outcome,
        pretrained=taken is not None,
        animals=_animals(before or {}, taken) if taken else 0,
    )


def _animals(before: Mapping[str, Any], taken: Mapping[str, int]) -> int:
    """Animals of an earlier training; of one that does not tell, its sessions, one of each."""
    return int(before.get("n_animals", taken["matched"] + taken["left_out"]))


def score_lines(runs: Sequence[Replicate], row_names: Sequence[str]) -> pd.DataFrame:
    """A line for each score of each session of each run, and of each reference.

    Parameters
    ----------
    runs
        Evaluated runs.
    row_names
        The row of a table that each counts to.

    Returns
    -------
    Columns row, replicate (seed and split), eid, task, score, reference (no run is behind it),
    and `OTHER_SCORES` (NaN where a task, a reference or an earlier version has none).
    """
    lines = []
    for run, row in zip(runs, row_names, strict=True):
        replicate = f"seed {run.seed}, {run.split}"
        for eid, tasks in run.run.scores["sessions"].items():
            for task, found in tasks.items():
                if not found:
                    continue
                if task in BEHAVIOURS:
                    key = BEHAVIOURS[task].score
                    scores = {
                        row: found.get(key),
                        TRUE_LATENTS: (found.get("oracle") or {}).get(key),
                        RAW_SPIKES: (found.get("raw_spikes") or {}).get(key),
                    }
                else:
                    scores = {row: found.get("bits_per_spike"), TRUE_RATES: found.get("oracle")}
                for name, score in scores.items():
                    if score is not None:
                        own = found if name == row else {}
                        others = [own.get(other) for other in OTHER_SCORES]
                        lines.append((name, replicate, eid, task, score, name != row, *others))
    columns = ["row", "replicate", "eid", "task", "score", "reference", *OTHER_SCORES]
    return pd.DataFrame(lines, columns=columns)


def tasks_of(lines: pd.DataFrame) -> list[str]:
    """The tasks that there is a score of, in the order of tables."""
    found = set(lines["task"])
    return [task for task in TASK_TITLES if task in found]
