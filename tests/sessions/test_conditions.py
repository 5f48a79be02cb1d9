"""Codes of what mean responses are conditioned on, of the IBL's task and of others."""

import numpy as np
import pytest
import xarray as xr

from ibl_mtm.sessions.conditions import combine, condition_codes, conditions_of


@pytest.fixture
def ds():
    return xr.Dataset(
        {
            "choice": ("trial", np.array([1, -1, 0, -128, 1], np.int8)),
            "stimulus_side": ("trial", np.array([-1, 1, -128, 1, -1], np.int8)),
            "feedback": ("trial", np.array([-128, 1, -1, 1, 1], np.int8)),
            "probability_left": ("trial", np.array([0.8, 0.5, np.nan, 0.2, 0.8], np.float32)),
            "outcome": ("trial", np.array(["miss", "hit", "", "hit", "a"], dtype=object)),
            "n_pulses": ("trial", np.array([3, 0, 7, 0, 3])),
            "level": ("trial", np.array([0.5, np.nan, 0.0, np.inf, 0.5])),
            "pupil": (("trial", "time"), np.zeros((5, 2))),
        }
    )


@pytest.mark.parametrize(
    ("name", "codes", "known"),
    [
        ("choice", [3, 1, 2, 0, 3], [1, 1, 0, 0, 1]),  # no no-go, none that is missing
        ("stimulus_side", [1, 2, 0, 2, 1], [1, 1, 0, 1, 1]),
        ("feedback", [0, 2, 1, 2, 2], [0, 1, 1, 1, 1]),
        ("block", [1, 0, 0, -1, 1], [1, 1, 0, 1, 1]),  # the sign of the prior
        ("outcome", [3, 2, 0, 2, 1], [1, 1, 0, 1, 1]),
        ("n_pulses", [1, 0, 2, 0, 1], [1, 1, 1, 1, 1]),  # where 0 is a value like any other
        ("level", [1, 3, 0, 2, 1], [1, 0, 1, 0, 1]),
    ],
)
def test_values_are_numbered_in_their_order(ds, name, codes, known):
    found, there = condition_codes(ds, name)
    assert found.tolist() == codes
    assert there.tolist() == [bool(k) for k in known]
    assert found.dtype == np.int64


def test_a_tasks_own_block_comes_before_the_prior(ds):
    own = ds.assign(block=("trial", np.array([2, 5, 5, 2, 9])))
    assert condition_codes(own, "block")[0].tolist() == [0, 1, 1, 0, 2]
    assert condition_codes(own, "block")[1].all()
    without = own.drop_vars("probability_left")
    assert condition_codes(without, "block")[0].tolist() == [0, 1, 1, 0, 2]


def test_what_is_no_variable_of_trials_has_no_codes(ds):
    assert condition_codes(ds, "tone") is None
    assert condition_codes(ds, "pupil") is None
    assert condition_codes(ds.drop_vars("probability_left"), "block") is None


def test_combinations_are_numbered_in_their_order():
    first, second = np.array([2, 0, 2, 0, 1]), np.array([1, 5, 0, 5, 1])
    assert combine([first, second]).tolist() == [3, 0, 2, 0, 1]
    assert combine([second]).tolist() == [1, 2, 0, 2, 1]


def test_a_session_may_name_its_own_conditions(ds):
    assert conditions_of(ds) == ("choice", "block")
    assert conditions_of(ds.assign_attrs(conditions=[])) == ("choice", "block")
    assert conditions_of(ds.assign_attrs(conditions=["outcome"])) == ("outcome",)
