"""Which behaviours there are and what their values mean; what each modality adds, by hand."""

import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from synthetic import make_session

from ibl_mtm.evaluation.activity.modality_gains import modality_gains, summarise_gains
from ibl_mtm.evaluation.behaviour.behaviours import (
    BEHAVIOURS,
    DEFAULT_BEHAVIOURS,
    behaviours_in,
    behaviours_of,
    own_behaviour,
)
from ibl_mtm.evaluation.metrics import bits_per_spike
from ibl_mtm.sessions.schema import DECODE, KEPT


def test_of_two_values_one_is_the_first_and_of_three_each_has_its_name():
    two = own_behaviour("side_of_lever", "class", np.array([2.0, 7.0, np.nan, 2.0]))
    assert two.title == "Side of lever"
    assert two.classes == ("the first value", "the second")
    three = own_behaviour("odour", "class", np.array([7.0, 2.5, np.nan, 7.0, 1.0]))
    assert three.classes == ("1", "2.5", "7")
    words = own_behaviour("odour", "class", np.array(["b", "a", "", "c"]))
    assert words.classes == ("a", "b", "c")
    assert own_behaviour("odour", "class").classes == ("the first value", "the second")
    assert own_behaviour("pupil", "trace", np.array([1.0, 2, 3])).classes is None
    assert own_behaviour("choice", "trace").title == BEHAVIOURS["choice"].title


def test_levels_are_numbered_in_their_order():
    values = np.array([7.0, 2.5, np.nan, 7.0, 1.0])
    ds = make_session(n_units=2, n_trials=5, n_bins=4, seed=0)
    ds["odour"] = "trial", values
    assert own_behaviour("odour", "class", values).target(ds).tolist() == [2, 1, -1, 2, 0]


def test_what_a_session_declares_stands_beside_what_is_built_in():
    ds = make_session(n_units=2, n_trials=5, n_bins=4, seed=0)
    assert behaviours_of(ds).keys() == BEHAVIOURS.keys()
    ds["odour"] = "trial", np.arange(5.0)
    declared = {"odour": "class", "choice": "trace", "wheel_speed": "class"}
    ds.attrs |= {DECODE: json.dumps(declared), KEPT: ["odour", "wheel_speed"]}
    found = behaviours_of(ds)
    assert found["odour"].classes == ("0", "1", "2", "3", "4")
    assert found["choice"] is BEHAVIOURS["choice"]  # nobody made it their own
    assert found["wheel_speed"].classes == ("the first value", "the second")


def test_what_was_decoded_is_told_by_its_scores():
    documents = [
        {"choice": {"accuracy": 1}, "co_smoothing": {"bits_per_spike": 1}, "odour": None},
        {"pupil": {"r2": 0.1}, "lever": {"accuracy": 0.5}},
        {"odour": {"accuracy": 0.5, "levels": ["a", "b", "c"]}, "pupil": {"accuracy": 1}},
    ]
    found = behaviours_in(documents)
    assert found.keys() - BEHAVIOURS.keys() == {"pupil", "lever", "odour"}
    assert found["odour"].classes == ("a", "b", "c")
    assert found["pupil"].classes is None  # as it was first
    assert len(found["lever"].classes) == 2
    both = behaviours_in([{"x": {"accuracy": 1, "r2": 1}}])["x"]
    assert both.classes is None
    assert set(DEFAULT_BEHAVIOURS) == {"choice", "whisker_motion_energy"}


def test_a_gain_is_what_is_lost_without_it():
    rng = np.random.default_rng(0)
    counts = rng.poisson(1.0, (6, 5, 3))
    rates = {name: rng.uniform(0.5, 2, counts.shape) for name in ("choice", "a+b")}
    predictor = SimpleNamespace(without_modality=lambda: rates.items())
    found = modality_gains(predictor, counts, np.array([0.5, 0.25, 0.1]))
    assert list(found) == ["adds_choice", "adds_a+b"]
    lost = np.array([0.5, 0.25, 0.1]) - bits_per_spike(rates["choice"], counts)
    np.testing.assert_allclose(found["adds_choice"], lost)


def test_gains_are_means_over_sessions_of_means_over_units():
    table = pd.DataFrame(
        {
            "eid": ["a", "a", "a", "b", "b"],
            "region": ["X", "X", "Y", "X", "Y"],
            "bits_per_spike": 1.0,
            "adds_one": [0.1, 0.3, 0.2, 0.6, np.nan],
            "adds_two": [np.nan, np.nan, np.nan, 0.2, 0.4],
            "adds_none": np.nan,
        }
    )
    found = summarise_gains(table)
    assert list(found) == ["one", "two"]
    one, two = found["one"], found["two"]
    assert one["bits_per_spike"] == pytest.approx((0.2 + 0.6) / 2)
    assert one["sem"] == pytest.approx(np.std([0.2, 0.6], ddof=1) / np.sqrt(2), abs=1e-6)
    assert (one["n_units"], one["n_sessions"]) == (4, 2)
    assert one["regions"] == {
        "X": {"bits_per_spike": pytest.approx((0.2 + 0.6) / 2), "n_units": 3},
        "Y": {"bits_per_spike": pytest.approx(0.2), "n_units": 1},
    }
    # Of a single session the error is over its units; of a single unit there is none.
    assert two["sem"] == pytest.approx(np.std([0.2, 0.4], ddof=1) / np.sqrt(2), abs=1e-6)
    assert (two["bits_per_spike"], two["n_sessions"]) == (pytest.approx(0.3), 1)
    assert "sem" not in summarise_gains(table[3:4])["two"]


def test_gains_have_six_digits():
    table = pd.DataFrame({"eid": "a", "region": "X", "adds_one": [0.0, 0.0, 1.0]})
    found = summarise_gains(table)["one"]
    assert (found["bits_per_spike"], found["sem"]) == (0.333333, 0.333333)
    assert found["regions"]["X"] == {"bits_per_spike": 0.333333, "n_units": 3}
