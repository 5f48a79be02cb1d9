"""Trials obey the IBL's task and its encodings."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ibl_mtm.simulate.trials import FULL_PACING, SMALL_PACING, draw_trials


def draw(n_trials=2000, seed=0, pacing=SMALL_PACING):
    return draw_trials(np.random.default_rng(seed), n_trials, pacing)


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return draw().table


@settings(deadline=None)
@given(n_trials=st.integers(1, 300), seed=st.integers(0, 1000))
def test_times_are_in_order(n_trials, seed):
    trials = draw(n_trials, seed)
    table = trials.table.astype(float)
    assert len(table) == n_trials
    answered = table[table.choice != 0]
    assert (answered.stimOn_times < answered.firstMovement_times).all()
    assert (answered.firstMovement_times < answered.response_times).all()
    order = ["intervals_0", "stimOn_times", "goCue_times", "response_times", "feedback_times"]
    assert (np.diff(table[[*order, "intervals_1"]].to_numpy(), axis=1) > 0).all()
    assert (table.intervals_0.to_numpy()[1:] > table.intervals_1.to_numpy()[:-1]).all()
    assert trials.end == table.intervals_1.max()
    assert all(values.shape == (n_trials,) for values in trials.extra.values())


def test_columns_have_the_names_and_types_of_the_ibl(table):
    floats = [name for name, dtype in table.dtypes.items() if dtype == np.float64]
    integers = [name for name, dtype in table.dtypes.items() if dtype == np.int64]
    assert integers == ["choice", "feedbackType"]
    assert set(floats) == {
        "intervals_0",
        "intervals_1",
        "goCue_times",
        "response_times",
        "stimOn_times",
        "contrastLeft",
        "contrastRight",
        "feedback_times",
        "rewardVolume",
        "probabilityLeft",
        "firstMovement_times",
    }


def test_one_side_has_the_contrast_and_the_other_is_nan(table):
    assert (table.contrastLeft.isna() ^ table.contrastRight.isna()).all()
    contrast = table.contrastLeft.fillna(table.contrastRight)
    assert set(contrast) == {0, 0.0625, 0.125, 0.25, 1}
    assert (contrast == 0).mean() == pytest.approx(1 / 9, abs=0.03)


def test_a_correct_choice_is_plus_one_for_a_left_stimulus(table):
    left = table.contrastLeft.notna()
    correct = (left & (table.choice == 1)) | (~left & (table.choice == -1))
    assert (table.feedbackType == np.where(correct, 1, -1)).all()
    assert (table.rewardVolume == np.where(correct, 1.5, 0)).all()
    assert (table.feedbackType[table.choice == 0] == -1).all()


def test_blocks_follow_ninety_unbiased_trials(table):
    prior = table.probabilityLeft.to_numpy()
    assert (prior[:90] == 0.5).all()
    assert set(prior[90:]) == {0.2, 0.8}
    switches = 90 + np.flatnonzero(np.diff(prior[90:])) + 1
    lengths = np.diff(switches)
    assert lengths.min() >= 20
    assert lengths.max() <= 100
    left = table.contrastLeft.notna()
    for probability in (0.2, 0.5, 0.8):
        of_block = left[prior == probability]
        error = np.sqrt(probability * (1 - probability) / len(of_block))
        assert of_block.mean() == pytest.approx(probability, abs=4 * error)


def test_the_psychometric_curve_rises_with_contrast_and_shifts_with_the_block(table):
    signed = table.contrastLeft.fillna(-table.contrastRight)
    answered = table.choice != 0
    chose_left = (table.choice == 1).astype(float)[answered].groupby(signed[answered]).mean()
    assert chose_left.loc[1.0] > 0.9
    assert chose_left.loc[-1.0] < 0.1
    assert chose_left.loc[-0.125] < chose_left.loc[0.125]
    weak = answered & (signed.abs() <= 0.0625)
    shift = [(table.choice == 1)[weak & (table.probabilityLeft == p)].mean() for p in (0.2, 0.8)]
    assert shift[1] - shift[0] > 0.15


def test_some_trials_break_each_rule_for_inclusion(table):
    reaction = table.firstMovement_times - table.stimOn_times
    assert (table.choice == 0).sum() == 40
    assert reaction.isna().sum() == 40
    assert (reaction < 0.08).sum() == 60
    assert (reaction > 2).sum() == 60
    assert (table.feedback_times - table.goCue_times > 10).sum() >= 40
    assert 0.15 < reaction.median() < 0.35


@pytest.mark.parametrize("n_trials", [5, 90, 240])
def test_even_a_short_session_has_each_kind(n_trials):
    table = draw(n_trials).table
    reaction = table.firstMovement_times - table.stimOn_times
    assert (table.choice == 0).any()
    assert (reaction < 0.08).any()
    assert (reaction > 2).any()


def test_a_trial_takes_four_to_five_seconds_or_as_long_as_a_real_one():
    assert 4 < draw(400).end / 400 < 5
    assert 6 < draw(600, pacing=FULL_PACING).end / 600 < 8
