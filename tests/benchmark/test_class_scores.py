"""Scores of classes and traces by hand, beside balanced accuracy and R²."""

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.metrics import average_precision_score

from ibl_mtm.benchmark.metrics import PoissonSums, score_trials
from ibl_mtm.benchmark.tasks import TASKS

CHOICE, CONTRAST, WHEEL = (
    TASKS[f"ts1-{name}"] for name in ("choice", "stimulus_contrast", "wheel_speed")
)
TARGET = np.array([0, 0, 0, 1, 1])


def scores(said: np.ndarray, task=CHOICE, target: np.ndarray = TARGET) -> dict[str, float]:
    return score_trials(task, said[:, None], target[:, None, None].astype(np.float32))


def test_f1_and_precision_of_two_classes() -> None:
    """Of three windows of the first class two are told, and one of two of the second."""
    said = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.4, 0.6], [0.7, 0.3]])
    found = scores(said)
    assert found["bacc"] == pytest.approx((2 / 3 + 1 / 2) / 2)
    first, second = 2 * 2 / (3 + 3), 2 * 1 / (2 + 2)  # twice the hits, of the told and the true
    assert found["f1"] == pytest.approx((first + second) / 2)
    # Sorted by the odds of the first: right, right, wrong, wrong, right.
    of_first = (1 / 1 + 2 / 2 + 3 / 5) / 3
    # Of the second: wrong, right, right, wrong, wrong.
    of_second = (1 / 2 + 2 / 3) / 2
    assert found["ap"] == pytest.approx((of_first + of_second) / 2)


def test_a_class_that_never_occurs_has_no_precision_and_no_part_in_the_others() -> None:
    target = np.array([0, 1, 1])
    said = np.full((3, 5), -9.0)
    said[[0, 1, 2], target] = 5
    found = scores(said, CONTRAST, target)
    assert (found["bacc"], found["f1"]) == (1, 1)
    assert found["ap"] == pytest.approx(2 / 5)
    said[0, 3] = 9  # answered, though nobody asked
    assert scores(said, CONTRAST, target)["bacc"] == pytest.approx((0 + 1 + 0) / 3)


@pytest.mark.parametrize("highest", [1.0, 1.001])
def test_what_lies_between_nought_and_one_are_odds(highest: float) -> None:
    """Both included; anything else is made odds, which orders windows otherwise."""
    said = np.array([[0.0, 0.9], [highest, 0.0], [0.5, 0.1], [0.8, 1.0], [0.2, 0.15]])
    odds = said if highest == 1 else softmax(said, axis=1)
    expected = [average_precision_score(c == TARGET, odds[:, c]) for c in (0, 1)]
    other = said if highest > 1 else softmax(said, axis=1)
    assert np.mean(expected) != pytest.approx(
        np.mean([average_precision_score(c == TARGET, other[:, c]) for c in (0, 1)])
    )
    assert scores(said)["ap"] == pytest.approx(np.mean(expected), abs=1e-6)
    below = said - 0.001
    odds = softmax(below, axis=1)
    expected = [average_precision_score(c == TARGET, odds[:, c]) for c in (0, 1)]
    assert scores(below)["ap"] == pytest.approx(np.mean(expected), abs=1e-6)


def test_a_correlation_may_be_of_small_numbers_and_a_constant_has_none() -> None:
    y = np.array([0.0, 1, 2, 4]).reshape(1, 4, 1)
    p = np.array([1e-3, 2e-3, 2e-3, 3e-3]).reshape(1, 4, 1)
    expected = np.corrcoef(p.ravel(), y.ravel())[0, 1]
    assert score_trials(WHEEL, p, y)["pearson"] == pytest.approx(expected)
    assert np.isnan(score_trials(WHEEL, np.ones_like(y), y)["pearson"])


def test_a_trace_that_hardly_varies_has_no_r2() -> None:
    """Squared errors below a ten thousandth count as none."""
    y = np.array([0.0, 0.004, 0.0, 0.004]).reshape(1, 4, 1)  # spread: 1.6e-5
    assert score_trials(WHEEL, y + 1, y)["r2"] == 0
    assert score_trials(WHEEL, y + 0.001, y)["r2"] == 1
    y *= 10
    assert score_trials(WHEEL, y + 0.01, y)["r2"] == pytest.approx(1 - 4e-4 / 1.6e-3)


def test_sums_without_a_sample_have_no_score() -> None:
    sums = PoissonSums(2)
    sums.add(np.zeros((0, 50, 2)), np.zeros((0, 50, 2), np.uint8))
    assert np.isnan(sums.d2()).all()
    assert np.isnan(sums.bits_per_spike())
    sums.add(np.zeros((2, 2)), np.array([[1, 0], [0, 0]], np.float32))
    # One spike in two bins: said was 1, the mean is 1/2.
    deviance, left = 2 * np.log(2) / 2, 2 - 1
    assert sums.d2()[0] == pytest.approx(1 - left / deviance)
    gain = (1 * (1 - np.log(0.5))) - 2
    assert sums.bits_per_spike() == pytest.approx(gain / np.log(2))
