"""Encoding baselines: their design by hand, and that they find what behaviour tells of spikes."""

import numpy as np
import pytest
from synthetic import make_session

from ibl_mtm.evaluation.baselines.encoding import LAGS, N_BUMPS, design
from ibl_mtm.evaluation.baselines.registry import BASELINES, BaselinePredictor
from ibl_mtm.evaluation.baselines.session_data import BaselineData
from ibl_mtm.evaluation.metrics import bits_per_spike
from ibl_mtm.sessions.modalities import ModalityValues, variables_in

NAMES = ("encoding_regression", "encoding_reduced_rank")
SPLIT = np.array(["train", "train", "test", "train", "val"])[np.arange(120) % 5]


def make_ds():
    """Spikes follow the wheel's speed three bins before, and the choice; four units neither."""
    ds = make_session(n_units=10, n_trials=120, n_bins=20, seed=4)
    rng = np.random.default_rng(0)
    speed = np.abs(ds.wheel_velocity.values)
    before = np.roll(speed, 3, 1)
    before[:, :3] = 0
    log_rate = np.full(ds.spikes.shape, -1.5)
    log_rate[..., :3] += 0.8 * before[..., None]
    log_rate[..., 3:6] += 0.7 * ds.choice.values[:, None, None]
    ds["spikes"] = ds.spikes.dims, rng.poisson(np.exp(log_rate)).clip(0, 50).astype(np.uint8)
    return ds


def test_the_design_by_hand():
    traces = np.arange(12, dtype=np.float32).reshape(2, 6, 1)
    traces[1, 2, 0] = np.nan
    x = design(ModalityValues(traces, np.array([[1], [-1]], np.int8)))
    n_bumps = min(N_BUMPS, 6)
    assert x.shape == (2, 6, len(LAGS) + 2 * n_bumps)
    for at, lag in enumerate(LAGS):
        for trial in range(2):
            for bin_ in range(6):
                there = bin_ + lag
                inside = 0 <= there < 6 and (trial, there) != (1, 2)
                expected = traces[trial, there, 0] if inside else 0
                assert x[trial, bin_, at] == expected
    course, by_class = np.split(x[:, :, len(LAGS) :], 2, axis=2)
    np.testing.assert_array_equal(course[0], course[1])
    assert course[0].argmax(0).tolist() == list(range(6))
    np.testing.assert_array_equal(by_class[0], course[0])
    np.testing.assert_array_equal(by_class[1], -course[0])


@pytest.mark.parametrize("name", NAMES)
def test_they_find_what_behaviour_tells(name):
    ds = make_ds()
    predictor = BaselinePredictor(name, ds, SPLIT, ds.beryl.values.astype(str))
    ((held, rates),) = predictor.held_out("encoding")
    assert held.hidden.all()
    counts = ds.spikes.values[SPLIT == "test"]
    score = bits_per_spike(rates, counts)
    assert (score[:6] > 0.05).all()
    assert score[:6].min() > score[6:].max() + 0.02
    assert score[6:].mean() < 0.02
    assert predictor.cannot("co_smoothing")


@pytest.mark.parametrize("name", NAMES)
def test_without_what_units_follow_they_are_predicted_no_more(name):
    ds = make_ds()
    predictor = BaselinePredictor(name, ds, SPLIT, ds.beryl.values.astype(str))
    ((_, rates),) = predictor.held_out("encoding")
    counts = ds.spikes.values[SPLIT == "test"]
    bits = bits_per_spike(rates, counts)
    lost = {what: bits - bits_per_spike(r, counts) for what, r in predictor.without_modality()}
    assert len(lost) == len({*variables_in(predictor.data.modalities)}) > 3
    speed, choice = lost.pop("wheel_velocity+wheel_speed"), lost.pop("choice")
    assert speed[:3].min() > 0.05
    assert choice[3:6].min() > 0.05
    others = np.concatenate([speed[3:], choice[:3], choice[6:], *lost.values()])
    assert np.abs(others).mean() < 0.02


@pytest.mark.parametrize("name", NAMES)
def test_neither_spikes_nor_behaviour_of_test_trials_reach_other_predictions(name):
    ds, other = make_ds(), make_ds()
    tested = np.flatnonzero(SPLIT == "test")
    other.spikes[tested] = 40
    for variable in ("wheel_velocity", "whisker_motion_energy", "choice"):
        other[variable][tested[1:]] = -other[variable].values[tested[1:]] * 3
    found = []
    for each in (ds, other):
        data = BaselineData.of(each, SPLIT, each.beryl.values.astype(str))
        chosen = BASELINES[name].choose(data, "encoding")
        found.append((chosen, BASELINES[name].predict(data, "encoding", *chosen)[0]))
    assert found[0][0] == found[1][0]
    np.testing.assert_allclose(found[0][1], found[1][1], rtol=1e-5)


def test_a_session_without_behaviour_has_none():
    ds = make_session(contiguous=True, n_units=4, n_trials=120, n_bins=10)
    predictor = BaselinePredictor(NAMES[0], ds, SPLIT, np.full(4, ""))
    assert predictor.cannot("encoding") == "the session has no behaviour"
