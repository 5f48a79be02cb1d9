"""What a report is made of: sections, the plots in them, and the tables that those show.

section = Section("Regions", "Regions with at least 5 scored units.")
section.plots.append(Plot("regions", figure, figures_of(run)))
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from ibl_mtm.evaluation.scored_run import ScoredRun

__all__ = ["Plot", "Section", "as_number", "figures_of", "join_runs"]


@dataclass(frozen=True)
class Plot:
    """A figure, its name, and the folder that its files belong in."""

    name: str
    figure: Figure
    folder: Path


@dataclass(frozen=True)
class Section:
    """A heading, what to know before looking, the figures, and what is missing and why."""

    title: str
    text: str
    plots: list[Plot] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    columns: int = 2


def figures_of(run: ScoredRun) -> Path:
    """The folder of a run's figures."""
    return run.path / "figures"


def join_runs(runs: Sequence[ScoredRun], tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """A table of each run in one, with a column run that knows their order."""
    named = [table.assign(run=run.name) for run, table in zip(runs, tables, strict=True)]
    filled = [table for table in named if len(table)] or named
    joined = pd.concat(filled, ignore_index=True)
    # A run keeps its colour where another one has nothing to show.
    return joined.assign(run=pd.Categorical(joined["run"], [run.name for run in runs]))


def as_number(value: float | None) -> float:
    """A score of a document, NaN where it has none."""
    return float("nan") if value is None else float(value)
