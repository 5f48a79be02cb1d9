"""Is this run better than that one, and where: paired differences with intervals and tests.

    for pair in compare_runs([Path("runs/mtm"), Path("runs/temporal")]):
        pair.task, pair.difference, pair.low, pair.high, pair.p_sessions

Only units (for behaviour: sessions) that both runs were scored on count, each against itself.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.stats import wilcoxon

from ibl_mtm.errors import UserError
from ibl_mtm.evaluation.activity.tasks import ACTIVITY_TASKS
from ibl_mtm.evaluation.behaviour.behaviours import behaviours_in
from ibl_mtm.evaluation.metrics import pooled
from ibl_mtm.evaluation.scored_run import ScoredRun, read_scored_runs

__all__ = ["Pair", "compare_activity", "compare_runs", "paired_interval", "paired_p"]

_RESAMPLES = 2000
_FEWEST_UNITS = 5  # that make a region worth a row


@dataclass(frozen=True)
class Pair:
    """How much better run `a` is than run `b` in one task.

    Attributes
    ----------
    a, b
        The runs.
    task
        An activity task (bits/spike) or a behaviour (accuracy or R²).
    difference, low, high
        Mean over sessions of the sessions' mean differences over units, and its 95 % interval:
        sessions, and units within them, drawn with replacement.
    p_sessions
        Of a Wilcoxon signed-rank test over the sessions' means; None where there are too few.
    p
        Of the same test over units (for behaviour: over sessions), as if they were independent,
        which units of one session are not; None where there are too few.
    n_units, n_sessions
        How many there are of each; no units for behaviour.
    better
        Share of the units (for behaviour: sessions) in which `a` is better.
    by_session, by_region
        Mean difference by eid, and by region (mean over units) where 5 units are compared.
    pooled, poisson_d2
        Mean over sessions of the differences in other scores of activity: bits/spike of all
        spikes of a session taken together, and the units' mean Poisson D² (see
        `ibl_mtm.evaluation.metrics`). None for behaviour, and where an evaluation of an earlier
        version has no D².
    """

    a: str
    b: str
    task: str
    difference: float
    low: float | None
    high: float | None
    p: float | None
    p_sessions: float | None
    n_units: int
    n_sessions: int
    better: float
    by_session: dict[str, float]
    by_region: dict[str, float]
    pooled: float | None = None
    poisson_d2: float | None = None

    def to_json(self) -> dict[str, Any]:
        """As plain Python."""
        return asdict(self)


def compare_runs(paths: Sequence[str | Path]) -> list[Pair]:
    """Compare every pair of runs in every task that both were scored in.

    Parameters
    ----------
    paths
        Two or more folders that `ibl-mtm eval` wrote to: runs, or baselines.

    Raises
    ------
    UserError
        If there are fewer than two, one was not evaluated, or two were scored on different trials
        or have nothing in common.
    """
    if len({Path(path).resolve() for path in paths}) < 2:
        raise UserError("name at least two different runs to compare")
    runs = read_scored_runs([Path(path) for path in paths])
    pairs = []
    for a, b in combinations(runs, 2):
        _check_alike(a, b)
        found = [*compare_activity(a, b), *_behaviour(a, b)]
        if not found:
            raise UserError(f"{a.name} and {b.name} have no unit, session and task in common")
        pairs += found
    return pairs


def _check_alike(a: ScoredRun, b: ScoredRun) -> None:
    """Refuse what does not compare; of old evaluations `compare_activity` finds it by spikes."""
    distances = [run.scores.get("min_distance_um", 0) for run in (a, b)]
    if distances[0] != distances[1]:
        raise UserError(
            f"{a.name} was scored with neighbours hidden up to {distances[0]} um, {b.name} up to "
            f"{distances[1]} um (--min-distance); score both alike to compare them"
        )
    rows = [run.scores.get("provenance", {}).get("sessions", {}) for run in (a, b)]
    for eid in rows[0]:
        digests = {row[eid].get("test_trials") for row in rows if eid in row} - {None}
        if len(digests) > 1:
            raise UserError(_other_trials(a, b, eid))


def _other_trials(a: ScoredRun, b: ScoredRun, eid: str) -> str:
    return (
        f"{a.name} and {b.name} were not scored on the same trials: they split session {eid} "
        "differently; give both the same data.split, and a baseline --like RUN"
    )


def compare_activity(a: ScoredRun, b: ScoredRun) -> list[Pair]:
    """Compare two runs in every activity task that both were scored in.

    Raises
    ------
    UserError
        If they were scored on different trials.
    """
    keys = ["eid", "unit", "task"]
    columns = [*keys, "bits_per_spike", "n_spikes", "poisson_d2"]
    if a.units.empty or b.units.empty:
        return []
    tables = [run.units.reindex(columns=[*columns, "region"]) for run in (a, b)]
    both = tables[0].merge(tables[1][columns], on=keys, suffixes=("_a", "_b"))
    other = both[both["n_spikes_a"] != both["n_spikes_b"]]
    if len(other):
        raise UserError(_other_trials(a, b, str(other["eid"].iloc[0])))
    both = both.assign(
        difference=both["bits_per_spike_a"] - both["bits_per_spike_b"],
        d2=both["poisson_d2_a"] - both["poisson_d2_b"],
        n_spikes=both["n_spikes_a"],
    )
    both = both[both["difference"].notna()]
    return [
        _pair(a, b, task, both[both["task"] == task])
        for task in ACTIVITY_TASKS
        if (both["task"] == task).any()
    ]


def _behaviour(a: ScoredRun, b: ScoredRun) -> list[Pair]:
    pairs = []
    for task, behaviour in behaviours_in(run.scores["tasks"] for run in (a, b)).items():
        scores = [_by_session(run, task, behaviour.score) for run in (a, b)]
        shared = [eid for eid in scores[0] if eid in scores[1]]
        if shared:
            table = pd.DataFrame(
                {"eid": shared, "difference": [scores[0][eid] - scores[1][eid] for eid in shared]}
            )
            pairs.append(_pair(a, b, task, table))
    return pairs


def _by_session(run: ScoredRun, task: str, key: str) -> dict[str, float]:
    sessions = run.scores.get("sessions", {}).items()
    return {eid: scores[task][key] for eid, scores in sessions if scores.get(task)}


def _pair(a: ScoredRun, b: ScoredRun, task: str, table: pd.DataFrame) -> Pair:
    by_session = table.groupby("eid", sort=False)["difference"].mean()
    of_units = "unit" in table
    low, high = paired_interval(table["eid"], table["difference"])
    regions = table.groupby("region")["difference"].agg(["mean", "size"]) if of_units else None
    return Pair(
        a=a.name,
        b=b.name,
        task=task,
        difference=round(float(by_session.mean()), 6),
        low=low,
        high=high,
        p=paired_p(table["difference"]),
        p_sessions=paired_p(by_session),
        n_units=len(table) if of_units else 0,
        n_sessions=len(by_session),
        better=round(float((table["difference"] > 0).mean()), 4),
        by_session={str(eid): round(float(d), 6) for eid, d in by_session.items()},
        by_region={}
        if regions is None
        else {
            str(name): round(float(row["mean"]), 6)
            for name, row in regions.sort_values("mean", ascending=False).iterrows()
            if row["size"] >= _FEWEST_UNITS
        },
        pooled=_known(pooled(table, "difference")) if of_units else None,
        poisson_d2=_known(table.groupby("eid")["d2"].mean().mean()) if of_units else None,
    )


def _known(mean: float) -> float | None:
    return None if np.isnan(mean) else round(float(mean), 6)


def paired_interval(
    session: ArrayLike, difference: ArrayLike, seed: int = 0
) -> tuple[float | None, float | None]:
    """95 % interval of the mean over sessions of mean differences.

    Sessions are drawn with replacement, then units within each, so that units of one session do
    not pass for independent ones. Of a single session, units alone are drawn; of a single unit
    there is no interval.

    Parameters
    ----------
    session, difference
        (unit,) the session of each unit, and its difference.

    Examples
    --------
    >>> differences = [0.02, 0.05, 0.03, 0.04, 0.06, 0.03]
    >>> low, high = paired_interval(["a", "a", "a", "b", "b", "b"], differences)
    >>> 0 < low < 0.0383 < high
    True
    """
    values = np.asarray(difference, dtype=np.float64)
    if len(values) < 2:
        return None, None
    codes, names = pd.factorize(np.asarray(session))
    rng = np.random.default_rng(seed)
    # The mean of each session in each resample, units drawn within it.
    means = np.stack(
        [_resampled_means(values[codes == at], rng) for at in range(len(names))], axis=1
    )
    chosen = rng.integers(0, len(names), means.shape)
    totals = np.take_along_axis(means, chosen, axis=1).mean(axis=1)
    low, high = np.quantile(totals, [0.025, 0.975])
    return round(float(low), 6), round(float(high), 6)


def _resampled_means(values: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    means: NDArray[np.float64] = values[rng.integers(0, len(values), (_RESAMPLES, len(values)))]
    return means.mean(axis=1)


def paired_p(difference: ArrayLike) -> float | None:
    """Two-sided p of Wilcoxon's signed-rank test; None for fewer than 5 differences from zero."""
    values = np.asarray(difference, dtype=np.float64)
    values = values[values != 0]
    return float(wilcoxon(values).pvalue) if len(values) >= 5 else None
