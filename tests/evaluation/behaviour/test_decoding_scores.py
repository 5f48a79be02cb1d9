"""Scores of decoded behaviour, worked out by hand."""

import numpy as np
import pytest
from scipy.stats import binom
from synthetic import make_session

from ibl_mtm.evaluation.behaviour.behaviours import BEHAVIOURS
from ibl_mtm.evaluation.behaviour.decoding_scores import score_class, score_trace
from ibl_mtm.evaluation.behaviour.level_scores import level_trials, score_levels

#: Ten trials: the first four are fitted to, two take no part, the last four are tested.
Y = np.array([-1, -1, -1, 1, 1, -1, 1, 1, 1, -1])
FIT, TEST = np.arange(4), np.arange(6, 10)


def test_of_a_class():
    """Right: the first and the third +1 and the only -1; two of three, and one of one."""
    logit = np.array([2.0, -0.1, 0.3, -5.0])
    score = score_class(Y, FIT, TEST, logit, {"C": 1.0}, [(Y[TEST], logit), (Y[TEST], -logit)])
    assert score.accuracy == 3 / 4
    assert score.balanced_accuracy == pytest.approx((2 / 3 + 1) / 2)
    assert score.majority == 1 / 4  # -1 is commonest among those to fit, and one test trial is it
    assert score.share == 3 / 4
    assert (score.n_fit, score.n_test) == (4, 4)
    assert score.predicted.tolist() == [1, -1, 1, -1]
    assert score.chance["accuracy"] == (3 / 4 + 1 / 4) / 2
    assert score.chance["balanced_accuracy"] == pytest.approx(1 / 2)
    assert score.p["accuracy"] == (1 + 1) / (1 + 2)  # one of two is as good
    assert score.null == "shuffled trials"


def test_of_a_class_against_classes_that_might_have_been():
    """Each made-up session is scored against its own classes, on the trials that have one."""
    logit = np.array([2.0, 0.1, 0.3, -5.0])
    made_up = [(np.array([1, 1, -1]), np.array([-1.0, 1.0, -1.0])), (-Y[TEST], logit)]
    score = score_class(Y, FIT, TEST, logit, {}, made_up, null="pseudo-sessions")
    assert score.accuracy == 1
    assert score.chance["accuracy"] == pytest.approx((2 / 3 + 0) / 2)
    assert score.chance["balanced_accuracy"] == pytest.approx((3 / 4 + 0) / 2)
    assert score.p == {"accuracy": 1 / 3, "balanced_accuracy": 1 / 3}
    assert score.to_json()["null"] == "pseudo-sessions"


def test_of_a_trace():
    """Values 0, 1, 2, 3 about a mean of 1.5 (spread 5), missed by 1 once and by 0.5 twice."""
    y = np.array([[9.0, 9.0], [0.0, 1.0], [2.0, 3.0]])
    predicted = np.array([[0.0, 2.0], [2.5, 2.5]])
    score = score_trace(
        y, np.array([0]), np.array([1, 2]), predicted, {}, [(y[1:], np.full((2, 2), 1.5))]
    )
    assert score.r2 == pytest.approx(1 - (1 + 0.25 + 0.25) / 5)
    assert score.chance["r2"] == pytest.approx(0)
    assert score.p["r2"] == 1 / 2  # itself, of itself and the one that is worse
    assert (score.n_fit, score.n_test) == (1, 2)


@pytest.mark.parametrize("share", [0.5, 0.8])
def test_an_interval_is_one_of_95_percent(share):
    """Trials drawn with replacement give the binomial distribution of their accuracy."""
    n = 400
    y = np.ones(2 * n, int)
    logit = np.where(np.arange(n) < share * n, 1.0, -1.0)
    score = score_class(y, np.arange(n), np.arange(n, 2 * n), logit, {})
    low, high = score.intervals["accuracy"]
    expected = binom.ppf([0.025, 0.975], n, share) / n
    # 500 draws; an interval of 90 % would be narrower by a sixth, one of 99 % wider by a third.
    assert high - low == pytest.approx(expected[1] - expected[0], rel=0.1)
    assert (low + high) / 2 == pytest.approx(share, abs=0.01)


def test_what_is_decoded_is_in_the_units_that_are_said():
    ds = make_session(n_units=3, n_trials=4, n_bins=2, seed=0)
    ds["lick_count"] = ds.lick_count.dims, np.array([[0, 1], [2, 0], [3, 3], [0, 0]], np.uint8)
    ds["wheel_velocity"] = ds.wheel_velocity.dims, np.float32([[-2, 1], [0, -0.5], [3, -3], [0, 0]])
    ds["probability_left"] = "trial", np.float32([0.2, 0.5, 0.8, np.nan])
    licks = BEHAVIOURS["lick_rate"]
    assert licks.measured == "licks/s"
    # Bins of 20 ms: a lick in one of them is 50 in a second.
    assert licks.target(ds).tolist() == [[0, 50], [100, 0], [150, 150], [0, 0]]
    speed = BEHAVIOURS["wheel_speed"].target(ds)
    assert speed.tolist() == [[2, 1], [0, 0.5], [3, 3], [0, 0]]
    velocity = BEHAVIOURS["wheel_velocity"].target(ds)
    assert velocity.tolist() == [[-2, 1], [0, -0.5], [3, -3], [0, 0]]
    block = BEHAVIOURS["block"]
    assert block.target(ds).tolist() == [-1, 0, 1, 0]
    assert block.classes == ("right likelier", "left likelier")
    for name in ("choice", "feedback"):
        assert BEHAVIOURS[name].target(ds).tolist() == ds[name].values.tolist()
    side = BEHAVIOURS["contrast_side"].target(ds)
    assert side.tolist() == ds.stimulus_side.values.tolist()


def test_of_three_classes():
    """Of which one has too few trials to fit, and one test trial none of those that are left."""
    level = np.array([0] * 5 + [1] * 4 + [2] * 3 + [3] * 6 + [0, 1, 1, 3, 2, -1, 3])
    fit = np.arange(25) < 18
    of = level_trials(level, ("a", "b", "c", "d"), fit, ~fit)
    assert (of.levels, of.too_few) == (("a", "b", "d"), ("c",))
    assert of.test_at.tolist() == [18, 19, 20, 21, 24]
    said = np.eye(3)[[0, 1, 2, 2, 0]]  # right, right, wrong, right, wrong
    score = score_levels(of, said, {"C": 1.0}, [said, said[::-1]])
    assert score.accuracy == 3 / 5
    assert score.balanced_accuracy == pytest.approx((1 + 1 / 2 + 1 / 2) / 3)
    assert score.majority == 2 / 5  # the last class is commonest among those to fit
    assert score.confusion == [[1, 0, 0], [0, 1, 1], [1, 0, 1]]
    assert (score.n_fit, score.n_test) == (15, 5)
    assert score.chance["accuracy"] == pytest.approx((3 / 5 + 1 / 5) / 2)
    assert score.p["accuracy"] == 2 / 3
    for key in ("accuracy", "balanced_accuracy"):
        low, high = score.intervals[key]
        assert 0 <= low < getattr(score, key) < high <= 1
    told = score.to_json()
    assert (told["too_few"], told["null"]) == (["c"], "shuffled trials")
    alone = score_levels(of._replace(too_few=()), said, {}).to_json()
    assert alone.keys() & {"too_few", "chance", "p", "null"} == set()
