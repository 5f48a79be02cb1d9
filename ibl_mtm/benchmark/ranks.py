"""Scores of submissions put together, and who is ahead: as BrainWideBench does both.

summary = summarise(scores.table)                   # by label and task: mean, sem over seeds
rank(scores.table)                                  # label x task: mean rank over recordings

Scores that may fall without end (R², D², bits/spike) count as 0 where they are below it, before
anything is averaged. Source: `ibl_bwb_eval.scoring.aggregation` of `ibl-bwb-eval` 0.1.0.
"""

from collections.abc import Sequence
from typing import cast

import numpy as np
import pandas as pd
from scipy import stats

from ibl_mtm.benchmark.tasks import CLIPPED, TASKS

__all__ = ["ALPHA", "competition_ranks", "primary", "rank", "summarise"]

ALPHA = 0.05
"""Level of the test by which one submission is ahead of another."""


def primary(table: pd.DataFrame) -> pd.DataFrame:
    """Rows of each task's primary metric."""
    metric = table["task"].map({name: task.metric for name, task in TASKS.items()})
    return table[table["metric"] == metric]


def summarise(table: pd.DataFrame) -> pd.DataFrame:
    """Scores of each label, task and metric.

    Parameters
    ----------
    table
        As `ibl_mtm.benchmark.score.Scores` has it.

    Returns
    -------
    One row each, with columns

    - score, sem: mean over seeds of the means over recordings, and its standard error
    - sem_recordings: standard error over recordings of the means over seeds
    - n_seeds, n_recordings
    """
    clipped = _clip(table)
    keys = ["label", "task", "metric"]
    rows = []
    for key, scores in clipped.groupby(keys, sort=False):
        by_seed = scores.groupby("seed")["score"].apply(_mean)
        by_recording = scores.groupby("recording")["score"].apply(_mean)
        rows.append(
            (
                *key,
                _mean(by_seed),
                _sem(by_seed),
                _sem(by_recording),
                len(by_seed),
                len(by_recording),
            )
        )
    columns = [*keys, "score", "sem", "sem_recordings", "n_seeds", "n_recordings"]
    return pd.DataFrame(rows, columns=columns)


def rank(table: pd.DataFrame, alpha: float = ALPHA) -> pd.DataFrame:
    """Mean rank over recordings, (label, task), and over tasks in column ``overall``.

    A label without scores of a task has NaN there, and no overall rank.
    """
    ranks: dict[str, dict[str, float]] = {}
    clipped = _clip(primary(table))
    for task, scores in clipped.groupby("task", sort=False):
        found: dict[str, list[int]] = {}
        for _, rows in scores.groupby("recording"):
            by_label = rows.groupby("label")["score"]
            means, sems, ns = by_label.apply(_mean), by_label.apply(_sem), by_label.size()
            order = competition_ranks(list(means), list(sems), list(ns), alpha)
            for label, place in zip(means.index, order, strict=True):
                found.setdefault(label, []).append(place)
        ranks[str(task)] = {label: float(np.mean(places)) for label, places in found.items()}
    frame = pd.DataFrame(ranks)
    return frame.assign(overall=frame.mean(axis=1, skipna=False)).sort_values("overall")


def competition_ranks(
    means: Sequence[float], sems: Sequence[float], ns: Sequence[int], alpha: float = ALPHA
) -> list[int]:
    """Ranks such as 1, 2, 2, 4: who is not significantly worse shares the place.

    Walking down from the best, each is compared with the one that holds the current place, by a
    one-sided Welch test; where there is no spread to test against, a higher mean is ahead.
    """
    ranks, place, tied = [0] * len(means), 1, 0
    anchor: int | None = None
    for at in sorted(range(len(means)), key=lambda i: -means[i]):
        if anchor is None:
            anchor = at
        elif _is_ahead(anchor, at, means, sems, ns, alpha):
            place, tied, anchor = place + tied + 1, 0, at
        else:
            tied += 1
        ranks[at] = place
    return ranks


def _is_ahead(
    a: int,
    b: int,
    means: Sequence[float],
    sems: Sequence[float],
    ns: Sequence[int],
    alpha: float,
) -> bool:
    if means[a] <= means[b]:
        return False
    variance = sems[a] ** 2 + sems[b] ** 2
    if np.isnan(variance) or variance == 0:
        return True
    first, second = ((means[i], sems[i] * np.sqrt(ns[i]), ns[i]) for i in (a, b))
    test = stats.ttest_ind_from_stats(*first, *second, equal_var=False, alternative="greater")
    return bool(test.pvalue < alpha)


def _clip(table: pd.DataFrame) -> pd.DataFrame:
    floor = np.where(table["metric"].isin(CLIPPED), 0.0, -np.inf)
    return table.assign(score=np.maximum(table["score"], floor))  # NaN stays


def _mean(values: pd.Series) -> float:
    return float(values.mean(skipna=False))  # of NaN, NaN: as the benchmark has it


def _sem(values: pd.Series) -> float:
    return cast("float", values.sem(skipna=False))
