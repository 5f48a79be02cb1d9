"""How well a class of trials or a trace of behaviour was decoded, whatever decoded it.

y, fit_at, test_at = class_trials(ds.choice, fit, test)
score = score_class(y, fit_at, test_at, logit, chosen={"C": 0.1})
score.balanced_accuracy, score.intervals["balanced_accuracy"]
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit

from ibl_mtm.evaluation.behaviour.decodable_trials import Trials
from ibl_mtm.evaluation.behaviour.pseudo_sessions import p_value
from ibl_mtm.evaluation.metrics import balanced_accuracy, r2

__all__ = [
    "ClassScore",
    "TraceScore",
    "against_chance",
    "calibration_error",
    "interval",
    "resampled",
    "score_class",
    "score_trace",
]

_RESAMPLES = 500


@dataclass(frozen=True)
class ClassScore:
    """How well one of two classes is decoded on test trials.

    Attributes
    ----------
    accuracy, balanced_accuracy
        Share of test trials that are right, and its mean over the classes.
    majority
        Accuracy of always saying what is commonest among the fitted trials.
    share
        Share of the class +1 among the test trials.
    n_fit, n_test
        Number of trials.
    intervals
        95 % intervals of the first two: test trials drawn with replacement.
    chance
        Their means after fitting to shuffled or made-up classes; empty if not asked for.
    p
        Share of those scores, and this one, that are no smaller; empty likewise.
    null
        Where those classes come from: shuffled trials, or pseudo-sessions.
    chosen
        Hyper-parameters that the fitted trials chose.
    trials, logit
        Positions of the test trials, and the log odds of +1 that were decoded (n_test,).
    """

    accuracy: float
    balanced_accuracy: float
    majority: float
    share: float
    n_fit: int
    n_test: int
    intervals: dict[str, list[float]]
    chance: dict[str, float]
    p: dict[str, float]
    null: str
    chosen: dict[str, float]
    trials: Trials = field(repr=False)
    logit: NDArray[np.float64] = field(repr=False)

    @property
    def predicted(self) -> Trials:
        """The class decoded for each test trial, -1 or +1."""
        return np.where(self.logit > 0, 1, -1)

    def to_json(self) -> dict[str, Any]:
        """As plain Python."""
        return {
            "accuracy": self.accuracy,
            "balanced_accuracy": self.balanced_accuracy,
            "majority": self.majority,
            "share": self.share,
            "n_test": self.n_test,
            "intervals": self.intervals,
            **({"chance": self.chance, "p": self.p, "null": self.null} if self.chance else {}),
        }


@dataclass(frozen=True)
class TraceScore:
    """How well a trace of behaviour is decoded on test trials.

    Attributes
    ----------
    r2
        Coefficient of determination over all test entries at once.
    n_fit, n_test
        Number of trials.
    intervals
        95 % interval of it: test trials drawn with replacement.
    chance
        Its mean after fitting to shuffled trials or to other sessions' traces; empty if that was
        not asked for.
    p
        Share of those scores, and this one, that are no smaller; empty likewise.
    null
        Where those traces come from: shuffled trials, or imposters.
    chosen
        Hyper-parameters that the fitted trials chose.
    trials, predicted
        Positions of the test trials, and the trace decoded for each (n_test, time).
    """

    r2: float
    n_fit: int
    n_test: int
    intervals: dict[str, list[float]]
    chance: dict[str, float]
    p: dict[str, float]
    null: str
    chosen: dict[str, float]
    trials: Trials = field(repr=False)
    predicted: NDArray[np.float64] = field(repr=False)

    def to_json(self) -> dict[str, Any]:
        """As plain Python."""
        return {
            "r2": self.r2,
            "n_test": self.n_test,
            "intervals": self.intervals,
            **({"chance": self.chance, "p": self.p, "null": self.null} if self.chance else {}),
        }


def calibration_error(label: ArrayLike, logit: ArrayLike, n_bins: int = 10) -> float:
    """Expected calibration error of decoded log odds (Guo et al., ICML 2017).

    Trials are cut into bins of equal numbers by the probability that was decoded; in each the
    mean probability is compared with the share of trials that are of the class.

    Parameters
    ----------
    label
        (n_test,), -1 or +1.
    logit
        (n_test,), log odds of +1.
    n_bins
        At most.

    Examples
    --------
    >>> round(calibration_error([-1, -1, 1, 1], [-9.0, -9.0, 9.0, 9.0]), 3)
    0.0
    >>> round(calibration_error([-1, 1, -1, 1], [9.0, 9.0, 9.0, 9.0], n_bins=1), 2)
    0.5
    """
    share = expit(np.asarray(logit, np.float64))
    order = np.argsort(share, kind="stable")
    true = (np.asarray(label) > 0)[order].astype(np.float64)
    bins = np.array_split(np.arange(len(order)), min(n_bins, len(order)))
    gaps = [len(b) * abs(share[order][b].mean() - true[b].mean()) for b in bins]
    return float(np.sum(gaps) / len(order))


def score_class(
    y: Trials,
    fit_at: Trials,
    test_at: Trials,
    logit: NDArray[np.float64],
    chosen: dict[str, float],
    chance: Sequence[tuple[Trials, NDArray[np.float64]]] = (),
    seed: int = 0,
    null: str = "shuffled trials",
) -> ClassScore:
    """Score decoded log odds of the class +1.

    Parameters
    ----------
    y, fit_at, test_at
        From `ibl_mtm.evaluation.behaviour.decodable_trials.class_trials`.
    logit
        (n_test,)
    chosen
        Hyper-parameters that the fitted trials chose.
    chance
        Classes of test trials and decoded log odds of each fit to shuffled or made-up classes.
    seed
        Of the resampling.
    null
        Where the classes of `chance` come from.
    """
    truth, right = y[test_at], (logit > 0) == (y[test_at] > 0)
    scores = {"accuracy": float(right.mean()), "balanced_accuracy": balanced_accuracy(truth, right)}
    by_chance = {
        "accuracy": [float(np.mean((o > 0) == (t > 0))) for t, o in chance],
        "balanced_accuracy": [balanced_accuracy(t, (o > 0) == (t > 0)) for t, o in chance],
    }
    draws = resampled(len(truth), seed)
    accuracies = right[draws].mean(axis=1)
    balanced = [balanced_accuracy(truth[rows], right[rows]) for rows in draws]
    classes, counts = np.unique(y[fit_at], return_counts=True)
    return ClassScore(
        accuracy=scores["accuracy"],
        balanced_accuracy=scores["balanced_accuracy"],
        majority=float(np.mean(truth == classes[counts.argmax()])),
        share=float(np.mean(truth > 0)),
        n_fit=len(fit_at),
        n_test=len(test_at),
        intervals={"accuracy": interval(accuracies), "balanced_accuracy": interval(balanced)},
        **against_chance(scores, by_chance, null),
        chosen=chosen,
        trials=test_at,
        logit=logit,
    )


def score_trace(
    y: NDArray[np.float64],
    fit_at: Trials,
    test_at: Trials,
    predicted: NDArray[np.float64],
    chosen: dict[str, float],
    chance: Sequence[tuple[NDArray[np.float64], NDArray[np.float64]]] = (),
    seed: int = 0,
    null: str = "shuffled trials",
) -> TraceScore:
    """Score decoded traces.

    Parameters
    ----------
    y, fit_at, test_at
        From `trace_trials`.
    predicted
        (n_test, time)
    chosen
        Hyper-parameters that the fitted trials chose.
    chance
        Traces of test trials and what is decoded of them, of each fit to shuffled trials or to
        another session's trace.
    seed
        Of the resampling.
    null
        Where the traces of `chance` come from.
    """
    truth = y[test_at]
    # What each trial adds to the sums that R² is made of, so that resampling costs little.
    error, total = ((truth - predicted) ** 2).sum(axis=1), truth.sum(axis=1)
    square, n_bins = (truth**2).sum(axis=1), truth.shape[1]
    draws = resampled(len(truth), seed)
    spread = square[draws].sum(axis=1) - total[draws].sum(axis=1) ** 2 / (len(truth) * n_bins)
    with np.errstate(divide="ignore", invalid="ignore"):
        r2s = 1 - error[draws].sum(axis=1) / spread
    score = float(r2(truth, predicted))
    by_chance = [float(r2(other, answers)) for other, answers in chance]
    return TraceScore(
        r2=score,
        n_fit=len(fit_at),
        n_test=len(test_at),
        intervals={"r2": interval(r2s[np.isfinite(r2s)])},
        **against_chance({"r2": score}, {"r2": by_chance}, null),
        chosen=chosen,
        trials=test_at,
        predicted=predicted,
    )


def against_chance(
    scores: Mapping[str, float], by_chance: Mapping[str, list[float]], null: str
) -> dict[str, Any]:
    """Fields `chance`, `p` and `null` of a score, from its values and those of each null fit."""
    asked = {key: values for key, values in by_chance.items() if values}
    return {
        "chance": {key: float(np.mean(values)) for key, values in asked.items()},
        "p": {key: p_value(scores[key], values) for key, values in asked.items()},
        "null": null if asked else "",
    }


def resampled(n: int, seed: int) -> Trials:
    """Test trials drawn with replacement, (draw, n)."""
    return np.random.default_rng(seed).integers(0, n, (_RESAMPLES, n))


def interval(values: ArrayLike) -> list[float]:
    """What 95 % of the values lie in."""
    low, high = np.quantile(np.asarray(values), [0.025, 0.975])
    return [float(low), float(high)]
