"""R² of predicted activity by the rules of the paper's published code, to compare with its tables.

    condition = published_conditions(ds.choice, ds.feedback, ds.probability_left)       # (trial,)
    psth, trial = published_r2(rates, counts, condition)                                # (unit,)

Nothing is smoothed there, every condition counts, of however few trials, and so does a unit without
a spike (as 0); a task's score is the mean over units. The scores that stand by default are other
ones, of `ibl_mtm.evaluation.activity.response`. Pure functions of arrays.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import r2_score

__all__ = ["PUBLISHED_R2", "published_conditions", "published_r2"]

PUBLISHED_R2 = ("published_psth_r2", "published_trial_r2")
"""What the two are called in tables."""


def published_conditions(
    choice: ArrayLike, feedback: ArrayLike, probability_left: ArrayLike
) -> NDArray[np.int64]:
    """Number the combinations of choice, reward and block that there are.

    Parameters
    ----------
    choice, feedback, probability_left
        (trial,) of each trial.

    Returns
    -------
    (trial,) from 0; -1 for a trial of which one of them is missing (NaN).
    """
    columns = [np.asarray(c, dtype=np.float64) for c in (choice, feedback, probability_left)]
    rows = np.stack(columns, axis=1)
    known = np.isfinite(rows).all(1)
    number = np.full(len(rows), -1)
    if known.any():
        number[known] = np.unique(rows[known], axis=0, return_inverse=True)[1].ravel()
    return number


def published_r2(
    rates: ArrayLike, counts: ArrayLike, condition: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """R² of the mean responses, over conditions and bins, and of all single bins, for each unit.

    Both as `sklearn.metrics.r2_score` has them, which gives 0 where there is nothing to explain
    (and 1 where that is predicted exactly).

    Parameters
    ----------
    rates, counts
        (trial, time, unit), spikes per bin.
    condition
        (trial,) from `published_conditions`.

    Returns
    -------
    psth, trial : ndarray (unit,)
        `psth` is NaN if no trial has a condition.
    """
    y, p, group = (
        np.asarray(counts, np.float64),
        np.asarray(rates, np.float64),
        np.asarray(condition),
    )
    psth = np.full(y.shape[-1], np.nan)
    names = np.unique(group[group >= 0])
    if len(names):
        observed, predicted = (
            np.concatenate([values[group == name].mean(0) for name in names]) for values in (y, p)
        )
        psth = r2_score(observed, predicted, multioutput="raw_values")
    flat = (values.reshape(-1, values.shape[-1]) for values in (y, p))
    return psth, r2_score(*flat, multioutput="raw_values")
