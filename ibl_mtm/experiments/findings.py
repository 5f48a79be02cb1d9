"""What the paper saw, asked of a table: each claim, whether it is seen here, and the numbers.

for finding in find("ablation", rows, summary):
    finding.claim, finding.seen, finding.verdict, finding.numbers
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from ibl_mtm.evaluation.activity.tasks import ACTIVITY_TASKS, TASK_SCHEME
from ibl_mtm.experiments.read import TASK_TITLES
from ibl_mtm.report.tables import digits, listed

__all__ = ["NEAR", "Finding", "find"]

NEAR = 0.02
"""Scores that differ by less count as near each other: what another seed alone may do."""

Rows = Mapping[str, Mapping[str, Any]]
Scores = dict[str, float]
"""By task."""

_ALL_SCHEMES = {TASK_SCHEME[task] for task in ACTIVITY_TASKS}


@dataclass(frozen=True)
class Finding:
    """A claim, whether the table bears it out, and the numbers that decide.

    A claim about several tasks is seen if it holds on each of them; `tasks` is on how many of how
    many it does.
    """

    claim: str
    seen: bool
    numbers: str
    tasks: list[int] | None = None

    @property
    def verdict(self) -> str:
        """Whether it is seen, in words."""
        if self.seen:
            return "Seen"
        if self.tasks is None or not self.tasks[0]:
            return "Not seen"
        return "Seen on {} of {} tasks".format(*self.tasks)


def find(kind: str, rows: Rows, summary: pd.DataFrame) -> list[Finding]:
    """Ask a table what its kind of results is to show.

    Parameters
    ----------
    kind
        One of `ibl_mtm.experiments.kinds.KINDS`.
    rows
        What stands behind each row, by name: series, pretrained, animals, schemes, prompted.
    summary
        From `average_scores`.
    """
    means: dict[str, Scores] = {name: {} for name in rows}
    for row, task, mean in summary[["row", "task", "mean"]].itertuples(index=False):
        if row in means:
            means[row][task] = mean
    ask = {
        "ablation": _ablation,
        "generalization": _generalization,
        "scaling": _scaling,
        "recording": _recording,
        "sessions": _recording,
    }[kind]
    return ask(rows, means)


def _ablation(rows: Rows, means: Mapping[str, Scores]) -> list[Finding]:
    best: Scores = {
        task: max(scores[task] for scores in means.values())
        for task in ACTIVITY_TASKS
        if all(task in scores for scores in means.values())
    }
    behind = {name: _minus(best, scores) for name, scores in means.items()}
    own = {scheme: task for task, scheme in TASK_SCHEME.items() if task in best}
    findings = []
    for name, row in rows.items():
        if len(row["schemes"]) != 1 or row["schemes"][0] not in own:
            continue
        task = own[row["schemes"][0]]
        others = {other: value for other, value in behind[name].items() if other != task}
        poor = [other for other, value in others.items() if value > NEAR]
        findings += [
            Finding(
                f"{name} is best or near best on its own task, {_title(task)}",
                behind[name][task] <= NEAR,
                f"{digits(means[name][task])}; the best is {digits(best[task])}",
            ),
            Finding(
                f"{name} is poor on the other tasks",
                len(poor) == len(others),
                f"behind the best by more than {NEAR} on {len(poor)} of {len(others)}: "
                + _each(others),
            ),
        ]
    many = {name: row for name, row in rows.items() if set(row["schemes"]) >= _ALL_SCHEMES}
    for name in (name for name, row in many.items() if row["prompted"]):
        near = all(value <= NEAR for value in behind[name].values())
        numbers = "behind the best: " + _each(behind[name])
        findings.append(Finding(f"{name} is near the best on every task", near, numbers))
        for other in (other for other, row in many.items() if not row["prompted"]):
            gain = _minus(means[name], means[other])
            worse = any(value < -NEAR for value in gain.values())
            numbers = f"{name} minus {other}: " + _each(gain, "+")
            findings.append(Finding("Prompts are no worse than none", not worse, numbers))
    return findings


def _generalization(rows: Rows, means: Mapping[str, Scores]) -> list[Finding]:
    scratch = {row["series"]: name for name, row in rows.items() if not row["pretrained"]}
    baselines = [name for name, row in rows.items() if row["baseline"]]
    return [
        _better(f"{name}, is better than from scratch on unseen animals", means[name], means[other])
        for name, row in rows.items()
        for other in [scratch.get(row["series"])]
        if row["pretrained"] and other
    ] + [
        _better(f"{name}, is better than {other}", means[name], means[other])
        for name, row in rows.items()
        for other in baselines
        if row["pretrained"]
    ]


def _scaling(rows: Rows, means: Mapping[str, Scores]) -> list[Finding]:
    findings = []
    for series in dict.fromkeys(row["series"] for row in rows.values()):
        own = {row["animals"]: name for name, row in rows.items() if row["series"] == series}
        counts = [n for n in sorted(own) if n]
        if len(counts) > 1:
            few, most = counts[0], counts[-1]
            claim = f"{series}: {most} animals are better than {few}"
            findings.append(_better(claim, means[own[most]], means[own[few]]))
    return findings


def _recording(rows: Rows, means: Mapping[str, Scores]) -> list[Finding]:
    model, *others = rows
    return [
        _better(f"{model} is better than {other}", means[model], means[other]) for other in others
    ]


def _better(claim: str, scores: Scores, others: Scores) -> Finding:
    gain = _minus(scores, others)
    better = sum(value > 0 for value in gain.values())
    seen = bool(gain) and better == len(gain)
    return Finding(claim, seen, "difference: " + _each(gain, "+"), [better, len(gain)])


def _minus(scores: Scores, others: Scores) -> Scores:
    """Differences in the tasks that both have, in the order of tables."""
    shared = [task for task in TASK_TITLES if task in scores and task in others]
    return {task: scores[task] - others[task] for task in shared}


def _title(task: str) -> str:
    return TASK_TITLES[task][0].lower()


def _each(values: Scores, plus: str = "") -> str:
    if not values:
        return "no task that both have"
    return listed([f"{_title(t)} {plus if v >= 0 else ''}{digits(v)}" for t, v in values.items()])
