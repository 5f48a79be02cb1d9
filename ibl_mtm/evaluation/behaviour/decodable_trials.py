"""Which trials a class or a trace of behaviour can be decoded from, whatever decodes it.

y, fit_at, test_at = class_trials(ds.choice, fit, test)
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ibl_mtm.sessions.behaviours import Undecodable
from ibl_mtm.sessions.schema import MISSING

__all__ = ["FOLDS", "Trials", "Undecodable", "class_trials", "trace_trials"]

FOLDS = 4
"""Of cross-validation: the fewest trials to fit that a class, or a trace, needs."""

_NO_CLASS = (0, MISSING)  # a no-go, and a value that is missing

Trials = NDArray[np.int64]
"""Positions of trials."""


def class_trials(
    label: ArrayLike, fit: ArrayLike, test: ArrayLike
) -> tuple[Trials, Trials, Trials]:
    """The trials that have a class: all labels, and the positions to fit to and to test.

    Parameters
    ----------
    label
        (trial,), -1 or +1, and 0 or -128 for none.
    fit, test
        (trial,) booleans: the trials to fit to, and those to score.

    Raises
    ------
    Undecodable
        If a class has too few trials to fit or the test trials hold a single class.
    """
    y = np.asarray(label).astype(np.int64)
    known = ~np.isin(y, _NO_CLASS)
    fit_at, test_at = _trials(fit, known), _trials(test, known)
    classes, counts = np.unique(y[fit_at], return_counts=True)
    if len(classes) < 2:
        raise Undecodable(f"the {len(fit_at)} trials to fit hold fewer than two classes")
    if counts.min() < FOLDS:
        raise Undecodable(
            f"only {counts.min()} trials to fit are of class {classes[counts.argmin()]}, "
            f"{FOLDS} are needed"
        )
    if len(np.unique(y[test_at])) < 2:
        raise Undecodable(f"the {len(test_at)} test trials hold fewer than two classes")
    return y, fit_at, test_at


def trace_trials(
    trace: ArrayLike, fit: ArrayLike, test: ArrayLike
) -> tuple[NDArray[np.float64], Trials, Trials]:
    """The trials that have a complete trace: all traces, and the positions to fit to and to test.

    Parameters
    ----------
    trace
        (trial, time), in any unit; NaN where missing.
    fit, test
        (trial,) booleans: the trials to fit to, and those to score.

    Raises
    ------
    Undecodable
        If there are too few trials with a complete trace, or the trace never changes.
    """
    y = np.asarray(trace, dtype=np.float64)
    complete = ~np.isnan(y).any(axis=1)
    fit_at, test_at = _trials(fit, complete), _trials(test, complete)
    if len(fit_at) < FOLDS or len(test_at) < 1:
        raise Undecodable(
            f"{len(fit_at)} trials to fit and {len(test_at)} to test have a complete trace, "
            f"{FOLDS} and 1 are needed"
        )
    if np.ptp(y[fit_at]) == 0 or np.ptp(y[test_at]) == 0:
        raise Undecodable("the trace never changes")
    return y, fit_at, test_at


def _trials(wanted: ArrayLike, usable: ArrayLike) -> Trials:
    return np.flatnonzero(np.asarray(wanted, dtype=bool) & np.asarray(usable))
