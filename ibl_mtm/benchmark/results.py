"""A page of a benchmark folder: scores of every submission, task by task, and who is ahead.

write_page(Path("predictions"), Path("benchmark.md"))

From what ``ibl-mtm benchmark score`` wrote; baselines are submissions like any other.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from ibl_mtm.benchmark.ranks import primary, rank, summarise
from ibl_mtm.benchmark.score_table import read_scores
from ibl_mtm.benchmark.tasks import SUITES, TASKS, tasks_of
from ibl_mtm.disk.replace import replace_file
from ibl_mtm.disk.targets import check_file
from ibl_mtm.errors import UserError
from ibl_mtm.sessions.text import counted

__all__ = ["benchmark_page", "write_page"]


def write_page(folder: Path, out: Path) -> None:
    """Write the page; one that is there is replaced, any other file is not.

    Raises
    ------
    UserError
        If there are no scores, or the file is no page of this kind.
    """
    text = benchmark_page(read_scores(folder))
    check_file(out)
    if out.is_file() and not out.read_text(errors="replace").startswith(_HEAD):
        raise UserError(f"{out} is no page of a benchmark and is not replaced; give another --out")
    replace_file(out, lambda aside: aside.write_text(text, encoding="utf-8"))


_HEAD = "# BrainWideBench\n"


def benchmark_page(scores: pd.DataFrame) -> str:
    """Markdown of the scores that `read_scores` reads."""
    labels = sorted(scores["label"].unique())
    n_recordings = scores.loc[scores["recording"] != "", "recording"].nunique()
    seeds = ", ".join(map(str, sorted(scores["seed"].unique())))
    parts = [
        _HEAD,
        f"{counted(len(labels), 'submission')}, {counted(n_recordings, 'recording')}, "
        f"seeds {seeds}. Scores are each task's primary metric: mean over seeds ± standard error, "
        "and in brackets the standard error over recordings. R² and D² count as 0 where they are "
        "below, before they are averaged.\n",
    ]
    summary = summarise(primary(scores)).set_index(["task", "label"])
    ranks = rank(scores)
    for suite, title in SUITES.items():
        scored = summary.index.get_level_values("task")
        tasks = [name for name in tasks_of(suite) if name in scored]
        if not tasks:
            continue
        rows = [["task", "metric", *labels]]
        for name in tasks:
            cells = [_cell(summary, name, label) for label in labels]
            rows.append([TASKS[name].title, TASKS[name].metric, *_best(cells)])
        parts.append(f"## {suite.upper()}: {title}\n\n{_table(rows)}")
    rows = [["submission", *(TASKS[name].title for name in ranks if name in TASKS), "all"]]
    for label, row in ranks.iterrows():
        rows.append([str(label), *("" if np.isnan(value) else f"{value:.2f}" for value in row)])
    parts.append(
        "## Ranks\n\nMean over recordings, 1 is best; who is not significantly behind (one-sided "
        f"Welch test over seeds, 5 %) shares the place.\n\n{_table(rows)}"
    )
    parts.append(_by_recording(primary(scores), labels))
    return "\n".join(parts)


def _cell(summary: pd.DataFrame, task: str, label: str) -> tuple[float, str]:
    if (task, label) not in summary.index:
        return np.nan, "–"
    score, sem, sem_recordings = (
        float(summary[name].to_dict()[task, label]) for name in ("score", "sem", "sem_recordings")
    )
    text = f"{score:.3f}"
    if not np.isnan(sem):
        text += f" ± {sem:.3f}"
    if not np.isnan(sem_recordings):
        text += f" ({sem_recordings:.3f})"
    return score, text


def _best(cells: list[tuple[float, str]]) -> list[str]:
    known = [score for score, _ in cells if not np.isnan(score)]
    most = max(known, default=np.nan) if len(known) > 1 else np.nan
    return [f"**{text}**" if score == most else text for score, text in cells]


def _by_recording(scores: pd.DataFrame, labels: list[str]) -> str:
    means = scores.groupby(["task", "recording", "label"])["score"].mean().unstack("label")
    rows = [["task", "recording", *labels]]
    for task in TASKS:
        if task not in means.index.get_level_values("task"):
            continue
        for recording, row in means.loc[task].iterrows():
            values = ["–" if np.isnan(v) else f"{v:.3f}" for v in row.reindex(labels)]
            rows.append([TASKS[task].title, str(recording) or "all", *values])
    return f"## Each recording\n\nMean over seeds, not cut off at 0.\n\n{_table(rows)}"


def _table(rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    lines.insert(1, "| " + " | ".join("---" for _ in rows[0]) + " |")
    return "\n".join(lines) + "\n"
