"""Means and standard errors over sessions and runs, and paired differences.

    summary = average_scores(lines)                # row, task, mean, sem, n_sessions, n_runs, best
    paired_difference(lines, "MtM, pre-trained", "MtM, from scratch")

A score is first averaged over the runs (seeds, splits) of a session, then over sessions. Its
standard error is that of the sessions' means; of a single session, that of its runs; of a single
run of a single session there is none.
"""

import numpy as np
import pandas as pd

from ibl_mtm.experiments.read import OTHER_SCORES
from ibl_mtm.report.tables import digits

__all__ = ["HOW", "average_scores", "paired_difference"]

HOW = (
    "Mean over sessions of the mean over runs; ± is the standard error over sessions, or over the "
    "runs where there is one session"
)
"""How the numbers of a table came about, for its caption."""


def average_scores(lines: pd.DataFrame) -> pd.DataFrame:
    """Average the lines of `score_lines` by row and task.

    Returns
    -------
    Columns row, task, mean, sem (NaN where there is none), n_sessions, n_runs, reference, best:
    whether no row but a reference does better in the task, as printed, and the means of
    `OTHER_SCORES`. Rows and tasks are in their order of appearance, references last.
    """
    records = []
    for (row, task), group in lines.groupby(["row", "task"], sort=False):
        mean, sem = _mean_and_error(group)
        reference = bool(group["reference"].iloc[0])
        sessions, runs = group["eid"].nunique(), group.groupby("eid")["replicate"].size().max()
        n_runs = 0 if reference else int(runs)
        by_session = group.reindex(columns=["eid", *OTHER_SCORES]).groupby("eid").mean()
        others = by_session.astype(float).mean()
        records.append((row, task, mean, sem, sessions, n_runs, reference, *others))
    columns = ["row", "task", "mean", "sem", "n_sessions", "n_runs", "reference", *OTHER_SCORES]
    table = pd.DataFrame(records, columns=columns).sort_values("reference", kind="stable")
    rows = table[~table["reference"]]
    best = rows.groupby("task")["mean"].max().map(digits)
    several = rows["task"].value_counts() > 1
    table["best"] = (
        ~table["reference"]
        & table["task"].map(several).fillna(False).astype(bool)
        & (table["mean"].map(digits) == table["task"].map(best))
    )
    return table.reset_index(drop=True)


def paired_difference(lines: pd.DataFrame, row: str, against: str) -> pd.DataFrame:
    """Difference of two rows, task by task, over the sessions and replicates that both have.

    Returns
    -------
    Columns task, difference, sem, n_pairs and n_sessions; a task without pairs has no line.
    """
    keys = ["task", "eid", "replicate"]
    scores = lines.groupby([*keys, "row"], sort=False)["score"].mean().unstack("row")
    both = (scores[row] - scores[against]).dropna().rename("score").reset_index()
    records = []
    for task, group in both.groupby("task", sort=False):
        mean, sem = _mean_and_error(group)
        records.append((task, mean, sem, len(group), group["eid"].nunique()))
    return pd.DataFrame(records, columns=["task", "difference", "sem", "n_pairs", "n_sessions"])


def _mean_and_error(group: pd.DataFrame) -> tuple[float, float]:
    by_session = group.groupby("eid")["score"].mean()
    spread = by_session if len(by_session) > 1 else group["score"]
    sem = float(spread.std(ddof=1) / np.sqrt(len(spread))) if len(spread) > 1 else float("nan")
    return float(by_session.mean()), sem
