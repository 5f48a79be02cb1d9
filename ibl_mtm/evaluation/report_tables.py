"""What a report says in words and numbers: the score table, its caveats, settings, provenance.

for row in score_table(runs):
    row.name, [cell.value for cell in row.cells]
"""

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ibl_mtm.evaluation.behaviour import BEHAVIOURS
from ibl_mtm.evaluation.figures import TASKS
from ibl_mtm.evaluation.scored_run import ScoredRun

__all__ = [
    "Cell",
    "Row",
    "behaviour_tasks",
    "facts",
    "headline",
    "listed",
    "notes",
    "number",
    "prompt_rows",
    "provenance_facts",
    "score_columns",
    "score_groups",
    "score_table",
    "session_rows",
    "setting_differences",
]


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
    for key, name in _RAW_DECODERS.items():
        raw = {task: _first(runs, task, key) for task in BEHAVIOURS}
        if any(raw.values()):
            cells = [_behaviour_cell(task, raw.get(task)) for task in _tasks(runs)]
            rows.append(Row(name, cells, reference=True))
    rows = _mark_best(rows)
    majority = {task: _first(runs, task, "majority") for task in BEHAVIOURS}
    if any(value is not None for value in majority.values()):
        cells = [Cell(majority.get(task)) for task in _tasks(runs)]
        rows.append(Row("most common class", cells, reference=True))
    chance = {task: _first(runs, task, "chance") for task in BEHAVIOURS}
    if any(chance.values()):
        cells = [_behaviour_cell(task, chance.get(task)) for task in _tasks(runs)]
        rows.append(Row("shuffled trials", cells, reference=True))
    oracle = {task: _first(runs, task, "oracle") for task in TASKS}
    if any(value is not None for value in oracle.values()):
        cells = [Cell(oracle.get(task)) for task in _tasks(runs)]
        rows.append(Row("true rates", cells, reference=True))
    return rows


def _tasks(runs: Sequence[ScoredRun]) -> list[str]:
    return [task for task in (*TASKS, *BEHAVIOURS) if any(run.task(task) for run in runs)]


def score_columns(runs: Sequence[ScoredRun]) -> list[tuple[str, str]]:
    """Titles of the columns of `score_table`, and what they count in."""
    titles = {task: (title, "bits/spike") for task, title in TASKS.items()}
    titles |= {task: (behaviour.title, behaviour.unit) for task, behaviour in BEHAVIOURS.items()}
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
    if task in BEHAVIOURS:
        return _behaviour_cell(task, scores)
    if not scores:
        return Cell(None)
    lines = []
    if scores.get("sem") is not None:
        lines.append(f"± {number(scores['sem'])}")
    if scores.get("fraction_of_oracle") is not None:
        lines.append(f"{scores['fraction_of_oracle']:.0%} of true rates")
    return Cell(scores["bits_per_spike"], tuple(lines))


def _behaviour_cell(task: str, scores: Mapping[str, Any] | None) -> Cell:
    if task not in BEHAVIOURS or not scores:
        return Cell(None)
    score, lines = BEHAVIOURS[task].score, []
    if scores.get("sem") is not None:
        lines.append(f"± {number(scores['sem'])}")
    elif (scores.get("intervals") or {}).get(score):
        low, high = scores["intervals"][score]
        lines.append(f"{number(low)} to {number(high)}")
    if scores.get("balanced_accuracy") is not None:
        lines.append(f"bal. {number(scores['balanced_accuracy'])}")
    return Cell(scores[score], tuple(lines))


def _mark_best(rows: Sequence[Row]) -> list[Row]:
    """The rows with the best of each column marked, and what prints the same."""
    columns = []
    for cells in zip(*(row.cells for row in rows), strict=True):
        known = [cell.value for cell in cells if cell.value is not None]
        best = number(max(known)) if len(known) > 1 else None
        columns.append([replace(cell, best=number(cell.value) == best) for cell in cells])
    return [replace(row, cells=[column[at] for column in columns]) for at, row in enumerate(rows)]


def facts(runs: Sequence[ScoredRun]) -> list[tuple[str, str]]:
    """How much was scored: what is counted, and the number of it."""
    about = {eid: facts for run in runs for eid, facts in _about_sessions(run).items()}
    units = {pair for run in runs for pair in zip(run.units["eid"], run.units["unit"], strict=True)}
    counts = {
        "session": len(about),
        "animal": len({facts["subject"] for facts in about.values() if "subject" in facts}),
        "unit": len(units),
        "region": len({region for run in runs for region in run.units["region"]}),
        "test trial": sum(facts.get("n_test") or 0 for facts in about.values()),
    }
    return [(name if n == 1 else f"{name}s", f"{n:,}") for name, n in counts.items() if n]


def _about_sessions(run: ScoredRun) -> dict[str, dict[str, Any]]:
    """What provenance tells of each scored session."""
    known = run.scores.get("provenance", {}).get("sessions", {})
    return {eid: known.get(eid, {}) for eid in run.eids}


def headline(runs: Sequence[ScoredRun]) -> str:
    """How the first run does, and how it compares, in two sentences."""
    first, others = runs[0], runs[1:]
    scores = first.task("co_smoothing")
    if not scores:
        return f"{first.name} has no co-smoothing score."
    text = (
        f"{first.name} predicts the spikes of a unit that it is not shown with "
        f"{number(scores['bits_per_spike'])} bits per spike"
    )
    if scores.get("fraction_of_oracle") is not None:
        text += f", {scores['fraction_of_oracle']:.0%} of what the true rates allow"
    shared = [task for task in TASKS if all(run.task(task) for run in runs)]
    if not others or not shared:
        return f"{text}."
    reached = [
        f"{run.name} reaches {number(run.task('co_smoothing')['bits_per_spike'])}"
        for run in others
        if run.task("co_smoothing")
    ]
    ahead = [
        TASKS[task].lower()
        for task in shared
        if all(
            first.task(task)["bits_per_spike"] > run.task(task)["bits_per_spike"] for run in others
        )
    ]
    text += "".join(f"; {what}" for what in reached)
    text += f". {first.name} is ahead in {len(ahead)} of {len(shared)} activity tasks"
    return text + (f": {listed(ahead)}." if 0 < len(ahead) < len(shared) else ".")


def listed(names: Sequence[str]) -> str:
    """Names as a sentence lists them: a, b and c."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def notes(runs: Sequence[ScoredRun]) -> list[str]:
    """What a reader must know to trust the table: skipped tasks, runs on different data."""
    notes = []
    if any(set(run.eids) != set(runs[0].eids) for run in runs):
        notes.append("The runs were not scored on the same sessions: the rows do not compare.")
    elif len({run.scores.get("provenance", {}).get("split") for run in runs}) > 1:
        notes.append("The runs split trials differently: the rows do not compare.")
    titles = TASKS | {task: behaviour.title for task, behaviour in BEHAVIOURS.items()}
    for run in runs:
        skipped = Counter(
            (task, reason)
            for tasks in run.scores.get("skipped", {}).values()
            for task, reason in tasks.items()
        )
        for (task, reason), n in skipped.items():
            where = "1 session" if n == 1 else f"{n} sessions"
            prefix = f"{run.name}: " if len(runs) > 1 else ""
            notes.append(f"{prefix}{titles.get(task, task)} skipped in {where}: {reason}")
    return notes


def prompt_rows(runs: Sequence[ScoredRun]) -> list[tuple[str, str, list[float | None]]]:
    """Run, prompt, and the score of every decoded behaviour under that prompt."""
    rows = []
    for run in runs:
        by_prompt = {t: run.task(t).get("by_prompt") or {} for t in behaviour_tasks(runs)}
        for prompt in dict.fromkeys(prompt for scores in by_prompt.values() for prompt in scores):
            values = [
                (scores.get(prompt) or {}).get(BEHAVIOURS[t].score)
                for t, scores in by_prompt.items()
            ]
            rows.append((run.name, prompt, values))
    return rows


def behaviour_tasks(runs: Sequence[ScoredRun]) -> list[str]:
    """The behaviours that at least one run decoded."""
    return [task for task in BEHAVIOURS if any(run.task(task) for run in runs)]


def session_rows(
    run: ScoredRun, runs: Sequence[ScoredRun]
) -> list[tuple[str, dict[str, Any], list[float | None]]]:
    """Every session: its eid, what is known of it, and its scores, one for each score column."""
    about = _about_sessions(run)
    keys = {task: BEHAVIOURS[task].score if task in BEHAVIOURS else "bits_per_spike"
            for task in _tasks(runs)}  # fmt: skip
    return [
        (eid, about[eid], [(scores.get(task) or {}).get(key) for task, key in keys.items()])
        for eid, scores in run.scores.get("sessions", {}).items()
    ]


def setting_differences(runs: Sequence[ScoredRun]) -> list[tuple[str, list[str]]]:
    """The settings in which the runs differ: key, and the value of each run."""
    flat = [_flatten(run.settings) for run in runs]
    keys = dict.fromkeys(key for settings in flat for key in settings)
    rows = [(key, [settings.get(key, "–") for settings in flat]) for key in keys]
    return [(key, values) for key, values in rows if len(set(values)) > 1]


def provenance_facts(run: ScoredRun) -> list[tuple[str, str]]:
    """Where the scores of a run come from: versions, cache, split."""
    facts = {"run": str(run.path), "cache": run.scores.get("cache")}
    facts |= run.scores.get("provenance", {})
    facts.pop("sessions", None)
    return list(_flatten(facts).items())


def _flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = (
                value if isinstance(value, str) else json.dumps(value, default=str)
            )
    return flat


def number(value: float | None) -> str:
    """A score to two digits that say something, or a dash where there is none."""
    if value is None or math.isnan(value):
        return "–"
    text = f"{value:.2f}" if abs(value) >= 0.095 else f"{value:.3f}"
    return text.replace("-", "−")
