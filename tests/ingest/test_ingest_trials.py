"""Trials in the cache's encodings, and the rules of inclusion."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ibl_mtm.config.dataset import TrialRules
from ibl_mtm.ingest.trials import TRIAL_COLUMNS, encode_trials, included
from ibl_mtm.sessions.schema import MISSING

GOOD = {
    "stimOn_times": 10.0,
    "goCue_times": 10.01,
    "firstMovement_times": 10.3,
    "response_times": 10.6,
    "feedback_times": 10.61,
    "choice": 1.0,
    "feedbackType": 1.0,
    "contrastLeft": 0.25,
    "contrastRight": np.nan,
    "probabilityLeft": 0.5,
}


def table(*changes):
    return pd.DataFrame([{**GOOD, **change} for change in changes], dtype=float)


def test_the_table_has_the_columns_that_are_asked_for():
    assert set(GOOD) == set(TRIAL_COLUMNS)


@pytest.mark.parametrize(
    ("left", "right", "contrast", "side"),
    [
        (0.25, np.nan, -0.25, -1),
        (np.nan, 1.0, 1.0, 1),
        (0.0, np.nan, 0.0, -1),
        (np.nan, 0.0, 0.0, 1),
        (np.nan, np.nan, np.nan, MISSING),
        (0.5, 0.5, np.nan, MISSING),
    ],
)
def test_the_side_survives_zero_contrast(left, right, contrast, side):
    encoded = encode_trials(table({"contrastLeft": left, "contrastRight": right}))
    np.testing.assert_equal(encoded["contrast"][0], np.float32(contrast))
    assert encoded["stimulus_side"][0] == side
    assert not np.signbit(encoded["contrast"][0]) or left > 0


def test_no_go_is_not_missing():
    choices = encode_trials(table(*({"choice": c} for c in (-1, 0, 1, np.nan))))["choice"]
    assert choices.tolist() == [-1, 0, 1, -128]


def test_dtypes_are_those_of_the_cache():
    encoded = encode_trials(table({"feedbackType": np.nan}))
    assert encoded["feedback"].tolist() == [-128]
    kinds = {name: array.dtype.name for name, array in encoded.items()}
    assert kinds == {
        **dict.fromkeys(
            ("stimOn_times", "firstMovement_times", "response_times", "feedback_times"), "float64"
        ),
        **dict.fromkeys(("choice", "stimulus_side", "feedback"), "int8"),
        **dict.fromkeys(("contrast", "probability_left"), "float32"),
    }


maybe = st.sampled_from([np.nan, 0.0, 0.079, 0.08, 0.5, 2.0, 2.01, 9.99, 10.0, 10.01])


@given(maybe, maybe, st.sampled_from([-1.0, 0.0, 1.0, np.nan]), st.booleans(), st.booleans())
def test_included_follows_the_rules_read_out_loud(reaction, length, choice, has_prior, has_type):
    row = {
        **GOOD,
        "stimOn_times": 0.0,
        "goCue_times": 0.0,
        "firstMovement_times": reaction,
        "feedback_times": length,
        "choice": choice,
        "probabilityLeft": 0.5 if has_prior else np.nan,
        "feedbackType": 1.0 if has_type else np.nan,
    }
    keep = True
    if math.isnan(reaction) or reaction < 0.08 or reaction > 2.0:
        keep = False
    if math.isnan(length) or length > 10.0:
        keep = False
    if math.isnan(choice) or choice == 0 or not has_prior or not has_type:
        keep = False
    assert included(table(row), TrialRules()).tolist() == [keep]


@pytest.mark.parametrize("event", ["stimOn_times", "goCue_times"])
def test_a_missing_event_excludes(event):
    assert included(table({}, {event: np.nan}), TrialRules()).tolist() == [True, False]
