"""What a report is made of: sections, and the plots in them.

section = Section("Regions", "Regions with at least 5 scored units.")
section.plots.append(Plot("regions", figure, figures_of(run)))
"""

from dataclasses import dataclass, field
from pathlib import Path

from matplotlib.figure import Figure

from ibl_mtm.evaluation.scored_run import ScoredRun

__all__ = ["Plot", "Section", "figures_of"]


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
