"""The tables of a report: scores of runs, baselines and the oracle, prompts, single sessions.

for row in score_table(runs):
    row.name, [cell.value for cell in row.cells]
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ibl_mtm.evaluation.scored_run import ScoredRun, decoded
from ibl_mtm.sessions.titles import TASK_TITLES, UNIT_TITLES

__all__ = [
    "Cell",
    "Row",
    "about_sessions",
    "behaviour_tasks",
    "digits",
    "listed",
    "number",
    "prompt_rows",
    "response_rows",
    "score_columns",
    "score_groups",
    "score_table",
    "session_rows",
]


#: Nulls that keep what is slow, so that p means something.
_NULLS = ("pseudo-sessions", "imposters")
_RAW_DECODERS = {
    "raw_spikes": "raw spikes",
    "reduced_rank": "raw spikes, low rank",
    "recurrent": "raw spikes, recurrent",
}
"""What decodes behaviour without any model of activity, and what to call it."""


@dataclass(frozen=True)
class Cell:
    """One score of a table: the number, the lines below it, whether it is the best."""

    value: float | None
    notes: tuple[str, ...] = ()
    best: bool = False


@dataclass(frozen=True)
class Row:
    """One line of the score table; a reference is no run, such as a baseline or the oracle."""

    name: str
    cells: list[Cell]
    reference: bool = False


def score_table(runs: Sequence[ScoredRun]) -> list[Row]:
    """Runs, baselines and the oracle against tasks; the best run or baseline is marked.

    The columns are the tasks that at least one run has a score in: the activity tasks in
    bits/spike, classes as accuracy (balanced accuracy below), traces as R². What decoders of raw
    spikes reach is taken from the first run or baseline that has it.
    """
    rows = [Row(run.name, [_run_cell(run, task) for task in _tasks(runs)]) for run in runs]
    for run in runs:  # of models that have behaviour inside
        own = {task: run.task(task).get("by_model") for task in decoded(runs)}
        if any(own.values()):
            cells = [_behaviour_cell(task, own.get(task)) for task in _tasks(runs)]
            rows.append(Row(f"{run.name}, by the model itself", cells, reference=True))
    for key, name in _RAW_DECODERS.items():
        raw = {task: _first(runs, task, key) for task in decoded(runs)}
        if any(raw.values()):
            cells = [_behaviour_cell(task, raw.get(task)) for task in _tasks(runs)]
            rows.append(Row(name, cells, reference=True))
    rows = _mark_best(rows)
    majority = {task: _first(runs, task, "majority") for task in decoded(runs)}
    if any(value is not None for value in majority.values()):
        cells = [Cell(majority.get(task)) for task in _tasks(runs)]
        rows.append(Row("most common class", cells, reference=True))
    chance = {task: _first(runs, task, "chance") for task in decoded(runs)}
    if any(chance.values()):
        cells = [_behaviour_cell(task, chance.get(task)) for task in _tasks(runs)]
        rows.append(Row("chance", cells, reference=True))
    oracle = {task: _first(runs, task, "oracle") for task in TASK_TITLES}
    if any(value is not None for value in oracle.values()):
        cells = [Cell(oracle.get(task)) for task in _tasks(runs)]
        rows.append(Row("true rates", cells, reference=True))
    # Of the spikes behaviour can tell what it follows, no more.
    told = _first(runs, "encoding", "oracle")
    known = {task: _first(runs, task, "oracle") for task in decoded(runs)}
    if any(known.values()) or told is not None:
        cells = [
            Cell(told) if task == "encoding" else _behaviour_cell(task, known.get(task))
            for task in _tasks(runs)
        ]
        rows.append(Row("true latents", cells, reference=True))
    return rows


def _tasks(runs: Sequence[ScoredRun]) -> list[str]:
    return [task for task in (*UNIT_TITLES, *decoded(runs)) if any(run.task(task) for run in runs)]


def score_columns(runs: Sequence[ScoredRun]) -> list[tuple[str, str]]:
    """Titles of the columns of `score_table`, and what they count in."""
    titles = {task: (title, "bits/spike") for task, title in UNIT_TITLES.items()}
    titles |= {task: (behaviour.title, behaviour.unit) for task, behaviour in decoded(runs).items()}
    return [titles[task] for task in _tasks(runs)]


def score_groups(
    runs: Sequence[ScoredRun],
) -> list[tuple[list[tuple[str, str]], list[Row]]]:
    """`score_columns` and `score_table` in two parts, activity and behaviour, where both are.

    A reference that has nothing in a part is left out of it.
    """
    columns, rows = score_columns(runs), score_table(runs)
    n_activity = len(columns) - len(behaviour_tasks(runs))
    groups = []
    for part in (slice(0, n_activity), slice(n_activity, None)):
        if columns[part]:
            cut = [replace(row, cells=row.cells[part]) for row in rows]
            shown = [
                row
                for row in cut
                if not row.reference or any(cell.value is not None for cell in row.cells)
            ]
            groups.append((columns[part], shown))
    return groups


def _first(runs: Sequence[ScoredRun], task: str, key: str) -> Any:
    return next((run.task(task)[key] for run in runs if run.task(task).get(key) is not None), None)


def _run_cell(run: ScoredRun, task: str) -> Cell:
    scores = run.task(task)
    if task not in UNIT_TITLES:
        return _behaviour_cell(task, scores)
    if not scores:
        return Cell(None)
    lines = []
    if scores.get("sem") is not None:
        over = " over units" if scores.get("n_sessions") == 1 else ""
        lines.append(f"± {number(scores['sem'])}{over}")
    if scores.get("median_units") is not None:
        lines.append(f"median {number(scores['median_units'])}")
    if scores.get("pooled_bits_per_spike") is not None:
        lines.append(f"pooled {number(scores['pooled_bits_per_spike'])}")
    if scores.get("poisson_d2") is not None:
        lines.append(f"D² {number(scores['poisson_d2'])}")
    if scores.get("fraction_of_oracle") is not None:
        part = f"{scores['fraction_of_oracle']:.0%}".replace("-", "−")
        lines.append(f"{part} of true {'latents' if task == 'encoding' else 'rates'}")
    return Cell(scores["bits_per_spike"], tuple(lines))


def _behaviour_cell(task: str, scores: Mapping[str, Any] | None) -> Cell:
    if task in UNIT_TITLES or not scores:
        return Cell(None)
    score, lines = ("r2" if "r2" in scores else "accuracy"), []
    if scores.get("sem") is not None:
        lines.append(f"± {number(scores['sem'])}")
        if scores.get("median_sessions") is not None:
            lines.append(f"median {number(scores['median_sessions'])}")
    elif (scores.get("intervals") or {}).get(score):
        low, high = scores["intervals"][score]
        lines.append(f"{number(low)} to {number(high)}")
    if scores.get("balanced_accuracy") is not None:
        lines.append(f"bal. {number(scores['balanced_accuracy'])}")
    if scores.get("null") in _NULLS and score in scores.get("p", {}):
        lines.append(f"p {scores['p'][score]:.2g} ({scores['null']})")
    return Cell(scores[score], tuple(lines))


def _mark_best(rows: Sequence[Row]) -> list[Row]:
    """The rows with the best of each column marked, and what prints the same."""
    columns = []
    for cells in zip(*(row.cells for row in rows), strict=True):
        known = [cell.value for cell in cells if cell.value is not None]
        best = number(max(known)) if len(known) > 1 else None
        columns.append([replace(cell, best=number(cell.value) == best) for cell in cells])
    return [replace(row, cells=[column[at] for column in columns]) for at, row in enumerate(rows)]


def listed(names: Sequence[str]) -> str:
    """Names as a sentence lists them: a, b and c."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def prompt_rows(runs: Sequence[ScoredRun]) -> list[tuple[str, str, list[float | None]]]:
    """Run, prompt, and the score of every decoded behaviour under that prompt."""
    rows, behaviours = [], decoded(runs)
    for run in runs:
        by_prompt = {t: run.task(t).get("by_prompt") or {} for t in behaviour_tasks(runs)}
        for prompt in dict.fromkeys(prompt for scores in by_prompt.values() for prompt in scores):
            values = [
                (scores.get(prompt) or {}).get(behaviours[t].score)
                for t, scores in by_prompt.items()
            ]
            rows.append((run.name, prompt, values))
    return rows


def response_rows(runs: Sequence[ScoredRun]) -> list[tuple[str, str, list[float | None]]]:
    """Run, what is compared, and its R² in every scored activity task; empty if there is none."""
    parts = {"psth_r2": "mean response", "residual_r2": "single trials"}
    tasks = [task for task in _tasks(runs) if task in TASK_TITLES]
    rows = [
        (run.name, title, [run.task(task).get(key) for task in tasks])
        for run in runs
        for key, title in parts.items()
    ]
    return [row for row in rows if any(value is not None for value in row[2])]


def behaviour_tasks(runs: Sequence[ScoredRun]) -> list[str]:
    """The behaviours that at least one run decoded."""
    return [task for task in decoded(runs) if any(run.task(task) for run in runs)]


def about_sessions(run: ScoredRun) -> dict[str, dict[str, Any]]:
    """What provenance tells of each scored session."""
    known = run.scores.get("provenance", {}).get("sessions", {})
    return {eid: known.get(eid, {}) for eid in run.eids}


def session_rows(
    run: ScoredRun, runs: Sequence[ScoredRun]
) -> list[tuple[str, dict[str, Any], list[float | None]]]:
    """Every session: its eid, what is known of it, and its scores, one for each score column."""
    about = about_sessions(run)
    behaviours = decoded(runs)
    keys = {
        task: behaviours[task].score if task in behaviours else "bits_per_spike"
        for task in _tasks(runs)
    }
    return [
        (eid, about[eid], [(scores.get(task) or {}).get(key) for task, key in keys.items()])
        for eid, scores in run.scores.get("sessions", {}).items()
    ]


def number(value: float | None) -> str:
    """A score to two digits that say something, or a dash where there is none."""
    if value is None or math.isnan(value):
        return "–"
    text = f"{value:.2f}" if abs(value) >= 0.095 else f"{value:.3f}"
    return text.replace("-", "−")


def digits(value: float) -> str:
    """A score as tables of many runs print it; what prints the same counts as equal."""
    return f"{value:.3f}" if round(value, 3) else "0.000"  # never -0.000
