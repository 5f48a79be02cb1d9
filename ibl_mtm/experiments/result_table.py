"""The table of results: for a report, as Markdown and as CSV.

columns, rows = score_table(results)           # of ibl_mtm.report.tables
markdown_table(results), csv_table(results)
"""

import math
from collections.abc import Mapping
from typing import Any

from ibl_mtm.experiments.read import OTHER_SCORES, TASK_TITLES, tasks_of
from ibl_mtm.experiments.results import Results
from ibl_mtm.experiments.summary import HOW
from ibl_mtm.report.tables import Cell, Row, digits

__all__ = [
    "caption",
    "csv_table",
    "difference_table",
    "markdown_table",
    "other_table",
    "score_table",
]


def score_table(results: Results) -> tuple[list[tuple[str, str]], list[Row]]:
    """Titles of the columns with what they count in, and the rows; references come last."""
    tasks = tasks_of(results.lines)
    rows = []
    for name, group in results.summary.groupby("row", sort=False):
        scored = {entry["task"]: entry for entry in group.to_dict("records")}
        row = [_cell(scored[task]) if task in scored else Cell(None) for task in tasks]
        rows.append(Row(str(name), row, reference=bool(group["reference"].iloc[0])))
    return [TASK_TITLES[task] for task in tasks], rows


def _cell(scores: Mapping[Any, Any]) -> Cell:
    # Of the true rates in one session, runs differ by nothing that a reader wants to know.
    known = _is_number(scores["sem"]) and not (scores["reference"] and scores["n_sessions"] == 1)
    notes = (f"± {digits(scores['sem'])}",) if known else ()
    return Cell(float(scores["mean"]), notes, best=bool(scores["best"]))


def _is_number(value: float | None) -> bool:
    return value is not None and not math.isnan(value)


def caption(results: Results) -> str:
    """What the numbers are."""
    made = results.made
    data = "Simulated data. " if results.simulated else ""
    data += f"{made['credit']}. " if made.get("credit") else ""
    runs = results.summary.loc[~results.summary["reference"].astype(bool), "n_runs"]
    each = f"{runs.min()}" if runs.min() == runs.max() else f"{runs.min()} to {runs.max()}"
    sessions = "1 session" if made["n_sessions"] == 1 else f"{made['n_sessions']} sessions"
    return (
        f"{data}Test trials of {sessions}, {each} {'run' if each == '1' else 'runs'} of each row "
        f"and session. {HOW}. The best of each column is bold."
    )


def markdown_table(results: Results) -> str:
    """The table as Markdown, the best of each column in bold."""
    columns, rows = score_table(results)
    lines = [["", *(f"{title} ({unit})" for title, unit in columns)]]
    for row in rows:
        name = f"*{row.name}*" if row.reference else row.name
        lines.append([name, *map(_markdown, row.cells)])
    return _pipes(lines)


def _markdown(cell: Cell) -> str:
    if cell.value is None:
        return ""
    value = f"**{digits(cell.value)}**" if cell.best else digits(cell.value)
    return " ".join([value, *cell.notes])


def other_table(results: Results) -> str:
    """Pooled bits/spike and Poisson D² of the activity tasks as Markdown; empty without any."""
    known = results.summary.reindex(columns=["row", "task", *OTHER_SCORES])
    known = known.dropna(subset=list(OTHER_SCORES), how="all")
    if known.empty:
        return ""
    tasks = [task for task in tasks_of(results.lines) if task in set(known["task"])]
    lines = [["pooled bits/spike; D²", *(TASK_TITLES[task][0] for task in tasks)]]
    for name, group in known.groupby("row", sort=False):
        cells = {entry["task"]: entry for entry in group.to_dict("records")}
        shown = [
            "; ".join(
                digits(cells[task][score])
                if task in cells and _is_number(cells[task][score])
                else ""
                for score in OTHER_SCORES
            )
            for task in tasks
        ]
        lines.append([str(name), *shown])
    return _pipes(lines)


def difference_table(results: Results) -> str:
    """Paired differences as Markdown; empty where there are none."""
    if results.differences.empty:
        return ""
    tasks = tasks_of(results.lines)
    lines = [["difference", *(TASK_TITLES[task][0] for task in tasks)]]
    for (row, against), group in results.differences.groupby(["row", "against"], sort=False):
        cells: dict[str, Any] = {entry["task"]: entry for entry in group.to_dict("records")}
        shown = []
        for task in tasks:
            entry = cells.get(task)
            if entry is None:
                shown.append("")
                continue
            difference, sem = entry["difference"], entry["sem"]
            error = f" ± {digits(sem)}" if _is_number(sem) else ""
            shown.append(f"{'+' if difference >= 0 else ''}{digits(difference)}{error}")
        lines.append([f"{row} − {against}", *shown])
    return _pipes(lines)


def _pipes(lines: list[list[str]]) -> str:
    rule = ["---"] * len(lines[0])
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (lines[0], rule, *lines[1:])) + "\n"


def csv_table(results: Results) -> str:
    """One line for each row and task: mean, standard error and how many they are of."""
    return results.summary.to_csv(index=False)
