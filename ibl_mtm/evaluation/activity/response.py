"""How well predictions tell a unit's mean response to the task, and what differs between trials.

    condition = trial_conditions(condition_codes(ds, "choice"))      # (trial,)
    psth, residual = response_r2(rates, counts, condition, smoothing=1.5)

Bits/spike mixes the two: a model that only knows the average trial scores well with units that
follow the task. Pure functions of arrays.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import gaussian_filter1d

from ibl_mtm.evaluation.metrics import r2
from ibl_mtm.sessions.conditions import combine

__all__ = ["FEWEST_TRIALS", "SMOOTHING", "response_r2", "trial_conditions"]

FEWEST_TRIALS = 5
"""Trials of a condition from which on it has a mean response."""
SMOOTHING = 0.03
"""Standard deviation (s) of the Gaussian that counts and predictions are smoothed by."""


def trial_conditions(*labels: tuple[ArrayLike, ArrayLike]) -> NDArray[np.int64]:
    """Number the combinations of what trials are conditioned on, among trials of any number.

    Parameters
    ----------
    *labels
        Of each variable, numbers (trial,) that are alike where its values are, and booleans
        (trial,) that say where there is a value (`ibl_mtm.sessions.conditions.condition_codes`).

    Returns
    -------
    (trial,) from 0, and -1 for a trial that lacks a value, or is of a condition with fewer than
    `FEWEST_TRIALS` trials.
    """
    known = np.logical_and.reduce([np.asarray(there, bool) for _, there in labels])
    number = np.where(known, combine([np.asarray(codes, np.int64) for codes, _ in labels]), -1)
    for condition in np.unique(number[known]):
        if (number == condition).sum() < FEWEST_TRIALS:
            number[number == condition] = -1
    return number


def response_r2(
    rates: ArrayLike, counts: ArrayLike, condition: ArrayLike, smoothing: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """R² of the trial-averaged response, and of what single trials add to it, for each unit.

    Counts y(i, t) and predictions p(i, t) of trial i and bin t are smoothed over time by the same
    Gaussian. With Y(c, t) and P(c, t) their means over the trials of condition c, and Ȳ the mean
    of Y over conditions and bins,

    - psth = 1 − Σ_ct (Y − P)² / Σ_ct (Y − Ȳ)²
    - residual = 1 − Σ_it ((y − Y) − (p − P))² / Σ_it (y − Y)², with the condition c of trial i

    Every condition counts alike in the first, every trial in the second. A prediction that is the
    same in all trials of a condition has a residual R² of 0. Counts are noisy: not even the true
    rates reach 1.

    Parameters
    ----------
    rates, counts
        (trial, time, unit), spikes per bin.
    condition
        (trial,) from `trial_conditions`; trials with -1 are left out.
    smoothing
        Standard deviation of the Gaussian, bins; beyond its ends a trial goes on as it ends.

    Returns
    -------
    psth, residual : ndarray (unit,)
        NaN for a unit without a spike in these trials, and for all units if no trial is left.
    """
    y, p, group = np.asarray(counts), np.asarray(rates), np.asarray(condition)
    names = np.unique(group[group >= 0])
    nothing = np.full(y.shape[-1], np.nan)
    if not len(names):
        return nothing, nothing.copy()
    error, spread = np.zeros(y.shape[-1]), np.zeros(y.shape[-1])
    observed, predicted = [], []
    for name in names:  # one condition at a time, which bounds the memory
        own_y, own_p = (_smoothed(values[group == name], smoothing) for values in (y, p))
        observed.append(own_y.mean(0))
        predicted.append(own_p.mean(0))
        own_y -= observed[-1]
        own_p -= predicted[-1]
        spread += (own_y**2).sum((0, 1))
        error += ((own_y - own_p) ** 2).sum((0, 1))
    with np.errstate(invalid="ignore", divide="ignore"):
        residual = np.where(spread > 0, 1 - error / spread, np.nan)
    return r2(np.concatenate(observed), np.concatenate(predicted), axis=0), residual


def _smoothed(values: NDArray[np.generic], width: float) -> NDArray[np.float64]:
    smooth: NDArray[np.float64] = gaussian_filter1d(
        values.astype(np.float64), width, axis=1, mode="nearest"
    )
    return smooth
