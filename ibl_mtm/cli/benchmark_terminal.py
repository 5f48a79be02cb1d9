"""How results of the benchmark look in a terminal."""

from typing import TYPE_CHECKING

import numpy as np
from rich.table import Table

from ibl_mtm.cli.terminal import out
from ibl_mtm.sessions.text import counted

if TYPE_CHECKING:
    from ibl_mtm.benchmark.check import CheckReport
    from ibl_mtm.benchmark.predict.requests import Report
    from ibl_mtm.benchmark.score import Scores

__all__ = ["show_benchmark", "show_check", "show_run"]

_LINES = 5  # of one rule; more of the same say nothing new


def show_run(report: "Report") -> None:
    """What was predicted, and what could not be."""
    written, there = len(report.written), len(report.skipped)
    out.print(f"{counted(written, 'file')} written, {there} were there", highlight=False)
    for name, reason in report.failed.items():
        out.print(f"failed {name}: {reason}", style="red", highlight=False)


def show_check(report: "CheckReport") -> None:
    """What the validator would refuse, rule by rule."""
    from ibl_mtm.benchmark.rules import RULES

    files = ", ".join(f"{counted(n, 'file')} of {label}" for label, n in report.n_files.items())
    out.print(f"{report.path}: {files}", highlight=False)
    for code in sorted({finding.code for finding in report.findings}):
        same = [finding for finding in report.findings if finding.code == code]
        out.print(f"{code} {RULES[code]}", style="red", highlight=False)
        for finding in same[:_LINES]:
            out.print(f"  {finding.where}: {finding.what}", highlight=False)
        if len(same) > _LINES:
            out.print(f"  and {len(same) - _LINES} more", style="dim", highlight=False)
    if report.unchecked:
        out.print(
            f"not checked without the files of all recordings (--data): "
            f"{', '.join(report.unchecked)} (trials, windows, units)",
            style="yellow",
            highlight=False,
        )
    if report.ok:
        out.print("nothing that the benchmark would refuse", style="green", highlight=False)


def show_benchmark(scores: "Scores") -> None:
    """Primary metric of each task, by label, with ranks where there are several."""
    from ibl_mtm.benchmark.ranks import primary, rank, summarise
    from ibl_mtm.benchmark.tasks import TASKS

    summary = summarise(primary(scores.table)).set_index(["task", "label"])
    labels = sorted(scores.table["label"].unique())
    table = Table("task", "metric", *labels, box=None)
    for task in TASKS:
        if task not in summary.index.get_level_values("task"):
            continue
        cells = []
        for label in labels:
            row = summary.loc[(task, label)] if (task, label) in summary.index else None
            cells.append("-" if row is None else _with_error(row["score"], row["sem"]))
        table.add_row(task, TASKS[task].metric, *cells)
    if len(labels) > 1:
        ranks = rank(scores.table)["overall"]
        cells = ["-" if np.isnan(ranks[label]) else f"{ranks[label]:.2f}" for label in labels]
        table.add_row("rank", "mean over tasks", *cells)
    out.print(table, highlight=False)
    if len(summary):
        out.print("± standard error over seeds", style="dim", highlight=False)
    for name, reason in scores.failed.items():
        out.print(f"no score of {name}: {reason}", style="red", highlight=False)


def _with_error(score: float, sem: float) -> str:
    return f"{score:.3f}" if np.isnan(sem) else f"{score:.3f} ± {sem:.3f}"
