"""What a report says in words: how much was scored, how runs compare, caveats, where from.

headline(runs), facts(runs), notes(runs), setting_differences(runs), provenance_facts(run)
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from ibl_mtm.errors import UserError
from ibl_mtm.evaluation.compare import compare_activity
from ibl_mtm.evaluation.scored_run import ScoredRun, decoded
from ibl_mtm.report.tables import about_sessions, listed, number
from ibl_mtm.sessions.titles import TASK_TITLES
from ibl_mtm.sessions.view import NO_REGION

__all__ = ["facts", "headline", "notes", "provenance_facts", "setting_differences"]


def facts(runs: Sequence[ScoredRun]) -> list[tuple[str, str]]:
    """How much was scored: what is counted, and the number of it."""
    about = {eid: facts for run in runs for eid, facts in about_sessions(run).items()}
    units = {pair for run in runs for pair in zip(run.units["eid"], run.units["unit"], strict=True)}
    good = {
        pair
        for run in runs
        for own in [run.units[run.units["label"] >= 1] if "label" in run.units else run.units[:0]]
        for pair in zip(own["eid"], own["unit"], strict=True)
    }
    counts = {
        "session": len(about),
        "animal": len({facts["subject"] for facts in about.values() if "subject" in facts}),
        "unit": len(units),
        "good unit": len(good),
        "region": len({region for run in runs for region in run.units["region"]} - NO_REGION),
        "test trial": sum(facts.get("n_test") or 0 for facts in about.values()),
    }
    return [(name if n == 1 else f"{name}s", f"{n:,}") for name, n in counts.items() if n]


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
    shared = [task for task in TASK_TITLES if all(run.task(task) for run in runs)]
    if not others or not shared:
        return f"{text}."
    reached = [
        f"{run.name} reaches {number(run.task('co_smoothing')['bits_per_spike'])}"
        for run in others
        if run.task("co_smoothing")
    ]
    ahead = [TASK_TITLES[task].lower() for task in shared if _is_ahead(first, others, task)]
    text += "".join(f"; {what}" for what in reached)
    text += (
        f". {first.name} is ahead in {len(ahead)} of {len(shared)} activity tasks by more than "
        "the 95 % interval of the paired difference"
    )
    return text + (f": {listed(ahead)}." if 0 < len(ahead) < len(shared) else ".")


def _is_ahead(first: ScoredRun, others: Sequence[ScoredRun], task: str) -> bool:
    """Whether the interval of the difference from each other run lies above zero."""
    for other in others:
        try:
            pairs = [pair for pair in compare_activity(first, other) if pair.task == task]
        except UserError:  # scored on other trials, as the notes say
            return False
        if not pairs or pairs[0].low is None or pairs[0].low <= 0:
            return False
    return True


def notes(runs: Sequence[ScoredRun]) -> list[str]:
    """What a reader must know to trust the table: skipped tasks, runs on different data."""
    notes = []
    if any(set(run.eids) != set(runs[0].eids) for run in runs):
        notes.append("The runs were not scored on the same sessions: the rows do not compare.")
    elif len({run.scores.get("provenance", {}).get("split") for run in runs}) > 1:
        notes.append("The runs split trials differently: the rows do not compare.")
    scored = [{task for task, score in run.scores["tasks"].items() if score} for run in runs]
    if any(tasks != scored[0] for tasks in scored):
        notes.append("The runs were not scored on the same tasks: a dash is no score of 0.")
    titles = TASK_TITLES | {task: behaviour.title for task, behaviour in decoded(runs).items()}
    titles |= {"psth_r2": "R² of mean responses", "region_pairs": "Pairs of regions"}
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
        for eid, reason in run.scores.get("failed", {}).items():
            # It may have scores of an earlier evaluation.
            what = "was not scored again" if eid in run.scores["sessions"] else "is left out"
            notes.append(f"{run.name}: session {eid} {what}: {reason}")
    return notes


def setting_differences(runs: Sequence[ScoredRun]) -> list[tuple[str, list[str]]]:
    """The settings in which the runs differ: key, and the value of each run."""
    # A baseline has none: beside it every setting would differ.
    flat = [_flatten(run.settings) for run in runs]
    known = [settings for settings in flat if settings]
    keys = dict.fromkeys(key for settings in flat for key in settings)
    differing = [key for key in keys if len({settings.get(key, "–") for settings in known}) > 1]
    return [(key, [settings.get(key, "–") for settings in flat]) for key in differing]


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
