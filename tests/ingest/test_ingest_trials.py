"""Trials in the cache's encodings, and the rules of inclusion."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ibl_mtm.config.dataset import TrialRules
from ibl_mtm.errors import SessionError
from ibl_mtm.ingest.trials import (
    TRIAL_COLUMNS,
    check_trials,
    encode_trials,
    included,
    keep_columns,
)
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
    passed, notes = included(table(row), TrialRules())
    assert (passed.tolist(), notes) == ([keep], [])


@pytest.mark.parametrize("event", ["stimOn_times", "goCue_times"])
def test_a_missing_event_excludes(event):
    assert included(table({}, {event: np.nan}), TrialRules())[0].tolist() == [True, False]


@pytest.mark.parametrize(
    ("lacks", "still"),
    [
        (["firstMovement_times"], {"slow": True, "long": False, "no go": False, "no block": False}),
        (["goCue_times"], {"slow": False, "long": True, "no go": False, "no block": False}),
        (["choice"], {"slow": False, "long": False, "no go": True, "no block": False}),
        (["probabilityLeft"], {"slow": False, "long": False, "no go": False, "no block": True}),
        (list(GOOD), {"slow": True, "long": True, "no go": True, "no block": True}),
    ],
)
def test_rules_whose_columns_are_missing_are_left_out_and_told(lacks, still):
    rows = {
        "slow": {"firstMovement_times": 13.0},
        "long": {"feedback_times": 30.0},
        "no go": {"choice": 0.0},
        "no block": {"probabilityLeft": np.nan},
    }
    full = table({}, *rows.values())
    assert included(full, TrialRules())[0].tolist() == [True, False, False, False, False]
    passed, (note,) = included(full.drop(columns=lacks), TrialRules())
    assert dict(zip(rows, passed[1:].tolist(), strict=True)) == still
    assert passed[0]
    used = [n for n in lacks if n not in ("response_times", "contrastLeft", "contrastRight")]
    assert all(name in note for name in used)
    assert note.count(";") == (4 if len(lacks) > 1 else 0)


def test_a_task_without_a_column_has_no_such_variable():
    whole = set(encode_trials(table({})))
    for column, variables in {
        "choice": {"choice"},
        "feedbackType": {"feedback"},
        "probabilityLeft": {"probability_left"},
        "contrastLeft": {"contrast", "stimulus_side"},
        "stimOn_times": {"stimOn_times"},
        "goCue_times": set(),
    }.items():
        assert set(encode_trials(table({}).drop(columns=column))) == whole - variables


def test_columns_of_ones_own_are_kept_as_they_are():
    odd = pd.DataFrame(
        {
            "tone": [440.0, np.nan, 880.0],
            "n": np.array([1, 2, 3], np.uint8),
            "go": [True, False, True],
            "maybe": pd.array([True, None, False], dtype="boolean"),
            "outcome": ["hit", None, "miss"],
            "kind": pd.Categorical(["a", "b", "a"]),
            "when": pd.to_datetime(["2024-01-01"] * 3),
            "3rd": [1, 2, 3],
            "contrast": [1.0, 2.0, 3.0],
            "choice": [1.0, -1.0, 1.0],
        }
    )
    kept, notes = keep_columns(odd, ("outcome", "lost", "choice"), everything=True)
    expected = {
        "outcome": ["hit", "", "miss"],
        "tone": [440.0, np.nan, 880.0],
        "n": [1, 2, 3],
        "go": [True, False, True],
        "maybe": [1.0, np.nan, 0.0],
        "kind": ["a", "b", "a"],
    }
    assert set(kept) == set(expected)
    for name, values in expected.items():
        np.testing.assert_equal(kept[name].tolist(), values)
    kinds = {name: values.dtype.kind for name, values in kept.items()}
    assert list(kinds.items()) == list(zip(expected, "UfibfU", strict=True))
    assert [note.split(":")[1].strip() for note in notes] == [
        "no column lost to keep",
        "when",
        "3rd",
        "contrast",
    ]
    assert list(keep_columns(odd, ("n",))[0]) == ["n"]


def test_only_the_event_is_required():
    bare = pd.DataFrame({"cue": [1.0, 2.0, np.nan, 3.0]})
    assert list(check_trials("x", "t.csv", bare, "cue").columns) == ["cue"]
    for broken, said in (
        (bare.rename(columns={"cue": "que"}), "t.csv: no column cue to align to; there are que"),
        (bare.assign(cue=[2.0, 1.0, 3.0, 4.0]), "cue are not in ascending order"),
        (bare.assign(choice=[1, 2, 0, -1]), "choice: 2 in row 1, expected -1, 0, 1, as the IBL"),
        (bare.assign(cue=["a", "b", "c", "d"]), "cue: 'a' in row 0, expected a number"),
    ):
        with pytest.raises(SessionError, match=said):
            check_trials("x", "t.csv", broken, "cue")
