"""How well predicted rates explain spikes, and how scores of units become the score of a task.

    bits = bits_per_spike(rates, counts)             # (trial, time, unit) -> (unit,)
    table = pd.DataFrame({"eid": eid, "unit": units, "task": task, "bits_per_spike": bits})
    summarise(table).loc["co_smoothing", "bits_per_spike"]

Pure functions of arrays and tables: nothing is read, written or drawn at random.
"""

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.special import xlogy

__all__ = [
    "ZERO_RATE",
    "balanced_accuracy",
    "bits_per_spike",
    "poisson_d2",
    "pooled",
    "r2",
    "summarise",
]

ZERO_RATE = 1e-9
"""Spikes per bin that a predicted rate of exactly zero stands for, as in the Neural Latents
Benchmark: a spike where none was thought possible costs 30 bits instead of infinitely many."""

Axis = int | tuple[int, ...] | None


def bits_per_spike(rates: ArrayLike, counts: ArrayLike, axis: Axis = None) -> NDArray[np.float64]:
    """Information that predicted rates carry about spikes, beyond each unit's mean count.

    (NLL_null − NLL_model) / (n_spikes · ln 2), with Poisson likelihoods and the unit's mean over
    the evaluated entries as null model: `bits_per_spike` of the Neural Latents Benchmark
    (Pei, Ye et al., NeurIPS Datasets and Benchmarks 2021, section 3.2), for each unit on its own.

    Parameters
    ----------
    rates
        Predicted rates (..., unit), spikes per bin.
    counts
        Observed counts of the same shape, spikes per bin.
    axis
        The axes to sum over; by default all but the last.

    Returns
    -------
    float64 scores of the remaining axes, by default (unit,); NaN for a unit without a spike.

    Raises
    ------
    ValueError
        If shapes differ, or a rate or count is negative or not finite.

    Examples
    --------
    >>> counts = [[0], [1], [0], [3]]                # four bins of one unit
    >>> bits_per_spike([[1], [1], [1], [1]], counts).round(3)          # its mean count
    array([0.])
    >>> bits_per_spike([[0.2], [1], [0.2], [2.6]], counts).round(3)
    array([1.034])
    """
    r = np.asarray(rates, dtype=np.float64)
    y = np.asarray(counts, dtype=np.float64)
    if r.shape != y.shape:
        raise ValueError(f"rates of shape {r.shape} do not fit counts of shape {y.shape}")
    for name, values in (("rate", r), ("count", y)):
        bad = ~(np.isfinite(values) & (values >= 0))
        if bad.any():
            raise ValueError(f"{bad.sum()} {name}s are negative or not finite")
    over = tuple(range(r.ndim - 1)) if axis is None else axis
    r = np.where(r == 0, ZERO_RATE, r)
    n_spikes = y.sum(over)
    null_rate = y.mean(over)
    # The terms log(count!) of both likelihoods cancel.
    model = (xlogy(y, r) - r).sum(over)
    null = xlogy(n_spikes, null_rate) - n_spikes
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(n_spikes > 0, (model - null) / (n_spikes * np.log(2)), np.nan)


def poisson_d2(rates: ArrayLike, counts: ArrayLike, axis: Axis = None) -> NDArray[np.float64]:
    """Share of the Poisson deviance that predicted rates explain, for each unit on its own.

    1 - D(y, r) / D(y, mean of y), with D the deviance: what `sklearn.metrics.d2_tweedie_score` of
    power 1 gives, and the D² of the IBL's benchmark. Bits/spike divide the same gain by the spikes;
    here it is divided by the most that any rates could gain, so a constant scores 0 and 1 is out
    of reach of any model of single trials.

    Parameters
    ----------
    rates, counts, axis
        As for `bits_per_spike`.

    Returns
    -------
    float64 scores of the remaining axes; NaN where there is no spike, or nothing to explain.

    Examples
    --------
    >>> poisson_d2([[1.0], [3.0]], [[1], [3]])
    array([1.])
    """
    y = np.asarray(counts, dtype=np.float64)
    over = tuple(range(y.ndim - 1)) if axis is None else axis
    n_spikes = y.sum(over)
    gain = bits_per_spike(rates, counts, axis) * n_spikes * np.log(2)
    deviance = xlogy(y, y).sum(over) - xlogy(n_spikes, y.mean(over))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(deviance > 1e-9, gain / deviance, np.nan)


def r2(observed: ArrayLike, predicted: ArrayLike, axis: Axis = None) -> NDArray[np.float64]:
    """Coefficient of determination: 1 − squared error / squared deviation from the mean.

    Parameters
    ----------
    observed, predicted
        Arrays of the same shape.
    axis
        The axes over which errors are summed and the mean is taken; by default all of them.

    Returns
    -------
    float64 of the remaining axes; NaN where the observed values are constant.

    Examples
    --------
    >>> float(r2([1.0, 2.0, 3.0], [1.0, 2.0, 2.0]))
    0.5
    """
    y = np.asarray(observed, dtype=np.float64)
    p = np.asarray(predicted, dtype=np.float64)
    if y.shape != p.shape:
        raise ValueError(f"observed of shape {y.shape} does not fit predicted of shape {p.shape}")
    # Ratios of rounding errors are no scores, so that a constant is recognised as such.
    constant = y.max(axis) == y.min(axis)
    error = ((y - p) ** 2).sum(axis)
    spread = ((y - y.mean(axis, keepdims=True)) ** 2).sum(axis)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(constant, np.nan, 1 - error / spread)


def balanced_accuracy(truth: ArrayLike, right: ArrayLike) -> float:
    """Share of right answers, averaged over the classes.

    Parameters
    ----------
    truth
        (trial,) the class of each trial.
    right
        (trial,) whether it was decoded.

    Examples
    --------
    >>> balanced_accuracy([-1, 1, 1, 1], [True, True, True, False])
    0.8333333333333333
    """
    y, hit = np.asarray(truth), np.asarray(right)
    return float(np.mean([hit[y == c].mean() for c in np.unique(y)]))


def summarise(per_unit: pd.DataFrame) -> pd.DataFrame:
    """Scores of tasks from scores of units: the mean over units, then over sessions.

    Parameters
    ----------
    per_unit
        One row per unit and task with columns eid, unit, task, bits_per_spike and, where they are
        known, oracle, psth_r2 and residual_r2. Units with a score of NaN are left out.

    Returns
    -------
    One row per task, in order of appearance, with columns

    - bits_per_spike: mean over sessions of the sessions' means over units
    - sem: its standard error over sessions; of a single session, over its units
    - mean_units, median_units, sem_units: over all units, of whatever session
    - median_sessions, sem_sessions: over the sessions' means; sem_sessions of several sessions only
    - n_units, n_sessions: how many have a score
    - n_silent: units left out because they have none
    - oracle, fraction_of_oracle: the same mean of the oracle and the ratio of the two means, over
      the units that have both; NaN where there is no oracle or it is not above zero
    - psth_r2, residual_r2: mean over sessions of the sessions' medians over units (medians, because
      the R² of a quiet unit knows no lower limit); NaN where there are none
    - n_units_psth: units that have them
    - pooled_bits_per_spike: mean over sessions of the bits/spike of all their units' spikes taken
      together: likelihoods are summed over units before they are divided, so loud units weigh more
    - poisson_d2: mean over sessions of the sessions' means over units (see `poisson_d2`); NaN where
      the table has no such column
    - whatever columns the table has whose names begin with ``published_``: mean over sessions of
      the sessions' means over all units, those without a score of their own too
    """
    rows = {task: _summarise_task(scores) for task, scores in per_unit.groupby("task", sort=False)}
    table = pd.DataFrame.from_dict(rows, orient="index", columns=_SUMMARY).rename_axis("task")
    for name in (str(name) for name in per_unit.columns if str(name).startswith("published_")):
        sessions = per_unit.groupby(["task", "eid"])[name].mean()
        table[name] = sessions.groupby("task").mean().reindex(table.index)
    return table


_SUMMARY = [
    "bits_per_spike",
    "sem",
    "mean_units",
    "median_units",
    "sem_units",
    "median_sessions",
    "sem_sessions",
    "n_units",
    "n_sessions",
    "n_silent",
    "oracle",
    "fraction_of_oracle",
    "psth_r2",
    "residual_r2",
    "n_units_psth",
    "pooled_bits_per_spike",
    "poisson_d2",
]


def _summarise_task(scores: pd.DataFrame) -> list[float]:
    scored = scores[scores["bits_per_spike"].notna()]
    units = scored["bits_per_spike"]
    sessions = scored.groupby("eid")["bits_per_spike"].mean()
    oracle = fraction = float("nan")
    if "oracle" in scored and scored["oracle"].notna().any():
        known = scored[scored["oracle"].notna()]
        means = known.groupby("eid")[["bits_per_spike", "oracle"]].mean().mean()
        oracle = means["oracle"]
        fraction = means["bits_per_spike"] / oracle if oracle > 0 else float("nan")
    responses = scored.reindex(columns=["eid", "psth_r2", "residual_r2"])
    explained = scored.reindex(columns=["eid", "poisson_d2"])
    psth, residual = responses.groupby("eid")[["psth_r2", "residual_r2"]].median().mean()
    return [
        float(sessions.mean()),
        _sem(sessions if len(sessions) > 1 else units),
        float(units.mean()),
        float(units.median()),
        _sem(units),
        float(sessions.median()),
        _sem(sessions),
        len(scored),
        len(sessions),
        len(scores) - len(scored),
        oracle,
        fraction,
        float(psth),
        float(residual),
        int(responses["psth_r2"].notna().sum()),
        pooled(scored),
        float(explained.groupby("eid")["poisson_d2"].mean().mean()),
    ]


def pooled(scored: pd.DataFrame, column: str = "bits_per_spike") -> float:
    """Bits/spike, or their differences, of all spikes of a session, averaged over sessions.

    A unit's bits/spike times its spikes is what its spikes gain. NaN where spikes are not known.

    Parameters
    ----------
    scored
        Units, with columns eid, n_spikes and `column`.
    """
    if "n_spikes" not in scored or scored.empty:
        return float("nan")
    gains = (scored[column] * scored["n_spikes"]).groupby(scored["eid"]).sum()
    return float((gains / scored.groupby("eid")["n_spikes"].sum()).mean())


def _sem(values: pd.Series) -> float:
    return float(values.std() / np.sqrt(len(values)))
