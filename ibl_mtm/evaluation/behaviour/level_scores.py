"""How well a class of three or more is decoded, whatever decoded it.

trials = level_trials(level, ("4 kHz", "8 kHz", "16 kHz"), fit, test)
score = score_levels(trials, logit, chosen={})
score.accuracy, score.confusion
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ibl_mtm.evaluation.behaviour.decodable_trials import FOLDS, Trials
from ibl_mtm.evaluation.behaviour.decoding_scores import against_chance, interval, resampled
from ibl_mtm.evaluation.metrics import balanced_accuracy
from ibl_mtm.sessions.behaviours import Undecodable

__all__ = ["LevelScore", "LevelTrials", "level_trials", "score_levels"]


@dataclass(frozen=True)
class LevelScore:
    """How well one of three or more classes is decoded on test trials.

    Attributes
    ----------
    accuracy, balanced_accuracy
        Share of test trials that are right, and its mean over the classes of the test trials.
    majority
        Accuracy of always saying what is commonest among the fitted trials.
    levels
        Names of the classes, in their order.
    too_few
        Names of those that take no part: they have too few trials to fit.
    confusion
        (K, K): of the test trials of each class (row), how many were decoded as each (column).
    n_fit, n_test
        Number of trials.
    intervals, chance, p, null
        As of `ClassScore`.
    chosen
        Hyper-parameters that the fitted trials chose.
    trials, logit
        Positions of the test trials, and a log odds of each class (n_test, K).
    """

    accuracy: float
    balanced_accuracy: float
    majority: float
    levels: tuple[str, ...]
    too_few: tuple[str, ...]
    confusion: list[list[int]]
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
        """The class decoded for each test trial, as its place in `levels`."""
        return self.logit.argmax(axis=1)

    def to_json(self) -> dict[str, Any]:
        """As plain Python."""
        return {
            "accuracy": self.accuracy,
            "balanced_accuracy": self.balanced_accuracy,
            "majority": self.majority,
            "levels": list(self.levels),
            **({"too_few": list(self.too_few)} if self.too_few else {}),
            "confusion": self.confusion,
            "n_test": self.n_test,
            "intervals": self.intervals,
            **({"chance": self.chance, "p": self.p, "null": self.null} if self.chance else {}),
        }


class LevelTrials(NamedTuple):
    """The trials that have a class which can be decoded.

    Attributes
    ----------
    y
        (trial,) 0 to K - 1; -1 for none.
    levels, too_few
        Names of the K classes, and of those that have too few trials to fit.
    fit_at, test_at
        Positions of trials.
    """

    y: Trials
    levels: tuple[str, ...]
    too_few: tuple[str, ...]
    fit_at: Trials
    test_at: Trials


def level_trials(
    level: ArrayLike, names: Sequence[str], fit: ArrayLike, test: ArrayLike
) -> LevelTrials:
    """Which trials a class can be decoded from. Classes with too few to fit take no part.

    Parameters
    ----------
    level
        (trial,), the place of a trial's class in `names`; -1 for none.
    names
        Of all classes.
    fit, test
        (trial,) booleans: the trials to fit to, and those to score.

    Raises
    ------
    Undecodable
        If fewer than two classes have enough trials to fit, or are among the test trials.
    """
    given = np.asarray(level).astype(np.int64)
    to_fit, to_test = np.asarray(fit, bool), np.asarray(test, bool)
    counts = np.bincount(given[to_fit & (given >= 0)], minlength=len(names))
    enough = np.flatnonzero(counts >= FOLDS)
    if len(enough) < 2:
        raise Undecodable(
            f"of {len(names)} classes {len(enough)} have {FOLDS} trials to fit, two are needed"
        )
    place = np.full(len(names) + 1, -1)
    place[enough] = np.arange(len(enough))
    y = place[given]  # the last place is that of -1
    fit_at, test_at = (np.flatnonzero(trials & (y >= 0)) for trials in (to_fit, to_test))
    if len(np.unique(y[test_at])) < 2:
        raise Undecodable(f"the {len(test_at)} test trials hold fewer than two classes")
    few = [names[int(at)] for at in np.flatnonzero(counts < FOLDS)]
    return LevelTrials(y, tuple(names[int(at)] for at in enough), tuple(few), fit_at, test_at)


def score_levels(
    of: LevelTrials,
    logit: NDArray[np.float64],
    chosen: dict[str, float],
    chance: Sequence[NDArray[np.float64]] = (),
    seed: int = 0,
) -> LevelScore:
    """Score decoded log odds of classes.

    Parameters
    ----------
    of
        The trials, from `level_trials`.
    logit
        (n_test, K); the largest one is what was decoded.
    chosen
        Hyper-parameters that the fitted trials chose.
    chance
        The same of each fit to shuffled trials.
    seed
        Of the resampling.
    """
    truth, n_levels = of.y[of.test_at], len(of.levels)
    decoded = logit.argmax(axis=1)
    right = decoded == truth
    scores = {"accuracy": float(right.mean()), "balanced_accuracy": balanced_accuracy(truth, right)}
    others = [answers.argmax(axis=1) == truth for answers in chance]
    by_chance = {
        "accuracy": [float(hit.mean()) for hit in others],
        "balanced_accuracy": [balanced_accuracy(truth, hit) for hit in others],
    }
    draws = resampled(len(truth), seed)
    balanced = [balanced_accuracy(truth[rows], right[rows]) for rows in draws]
    confusion = np.zeros((n_levels, n_levels), np.int64)
    np.add.at(confusion, (truth, decoded), 1)
    return LevelScore(
        accuracy=scores["accuracy"],
        balanced_accuracy=scores["balanced_accuracy"],
        majority=float(np.mean(truth == np.bincount(of.y[of.fit_at]).argmax())),
        levels=of.levels,
        too_few=of.too_few,
        confusion=confusion.tolist(),
        n_fit=len(of.fit_at),
        n_test=len(of.test_at),
        intervals={
            "accuracy": interval(right[draws].mean(axis=1)),
            "balanced_accuracy": interval(balanced),
        },
        **against_chance(scores, by_chance, "shuffled trials"),
        chosen=chosen,
        trials=of.test_at,
        logit=logit,
    )
