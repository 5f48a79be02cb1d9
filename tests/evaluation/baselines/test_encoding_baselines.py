"""Encoding baselines: their design by hand, and that they find what behaviour tells of spikes."""

import numpy as np
import pytest
from synthetic import make_session

from ibl_mtm.evaluation.baselines import encoding, regression
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


@pytest.mark.parametrize(("n_time", "n_bumps"), [(21, 10), (4, 4), (1, 1)])
def test_bumps_are_as_wide_as_they_are_apart(n_time, n_bumps):
    """And a bin at least."""
    values = ModalityValues(np.zeros((2, n_time, 1), np.float32), np.array([[1], [-1]], np.int8))
    course = design(values)[0, :, len(LAGS) : len(LAGS) + n_bumps]
    assert course.shape == (n_time, n_bumps)
    apart = (n_time - 1) / (n_bumps - 1) if n_bumps > 1 else 1.0
    for bump in range(n_bumps):
        for t in range(n_time):
            away = (t - bump * apart) / max(1.0, apart)
            assert course[t, bump] == pytest.approx(np.exp(-(away**2) / 2), abs=1e-6)


def test_features_are_standardised_by_the_training_trials_and_missing_values_are_their_mean():
    ds = make_ds()
    ds["whisker_motion_energy"][5, 7] = np.nan  # of a training trial
    data = BaselineData.of(ds, SPLIT, ds.beryl.values.astype(str))
    train = encoding._features(data, "train")
    spread = train.std((0, 1))
    np.testing.assert_allclose(train.mean((0, 1)), 0, atol=1e-4)
    np.testing.assert_allclose(spread[spread > 0.5], 1, rtol=1e-3)
    assert (spread[spread <= 0.5] == 0).all()  # what is the same in every trial and bin
    filled = ds.copy(deep=True)
    energy = ds.whisker_motion_energy.values[SPLIT == "train"]
    filled["whisker_motion_energy"][5, 7] = np.nanmean(energy)
    other = BaselineData.of(filled, SPLIT, ds.beryl.values.astype(str))
    for name in ("train", "val", "test"):
        found, expected = encoding._features(data, name), encoding._features(other, name)
        np.testing.assert_allclose(found, expected, atol=1e-3)


@pytest.mark.parametrize(
    ("n_units", "ranks"), [(2, [1]), (3, [2]), (4, [2]), (5, [2, 4]), (9, [2, 4, 8])]
)
def test_ranks_to_choose_from_are_below_the_number_of_units(monkeypatch, n_units, ranks):
    """Each under the penalty of the full weights and under less; the best on val is taken."""
    split = np.array(["train", "val", "test"] * 4)
    ds = make_session(n_units=n_units, n_trials=12, n_bins=6, seed=3)
    data = BaselineData.of(ds, split, np.full(n_units, "A"))
    grids, best = [], (ranks[-1], 0.3)

    class Fit:
        def __init__(self, at):
            self.at = at

        def rates(self, x):
            return self.at

    def of_ranks(data, split, penalty, grid):
        grids.append((split, penalty, list(grid)))
        return [Fit(at) for at in grid]

    def score(self, at, split, task):
        return float(at == best)

    monkeypatch.setattr(BaselineData, "score", score)
    monkeypatch.setattr(encoding, "choose_regression", lambda data, task: (3.0,))
    monkeypatch.setattr(encoding, "_of_ranks", of_ranks)
    grid = [(rank, share) for rank in ranks for share in (1.0, 0.3)]
    assert encoding.choose_reduced_rank(data, "encoding") == (3.0, *best)
    assert grids == [("train", 3.0, grid)]
    asked = []
    monkeypatch.setattr(regression, "choose_poisson", lambda data, task: (5.0, 3.0))
    monkeypatch.setattr(
        regression,
        "_rank_fitter",
        lambda data, task, known, width, penalty: (
            lambda *at: asked.append((known, width, penalty, at)) or Fit(at)
        ),
    )
    assert regression.choose_reduced_rank(data, "co_smoothing") == (5.0, 3.0, *best)
    assert asked == [("train", 5.0, 3.0, at) for at in grid]


@pytest.mark.parametrize(("n_units", "components"), [(2, [1]), (6, [3]), (7, [3, 6])])
def test_components_to_choose_from_are_fewer_than_units(monkeypatch, n_units, components):
    split = np.array(["train", "val", "test"] * 4)
    ds = make_session(n_units=n_units, n_trials=12, n_bins=6, seed=3)
    data, asked = BaselineData.of(ds, split, np.full(n_units, "A")), []

    def predicted(data, task, width, n_components, known, split):
        assert (known, split) == ("train", "val")
        asked.append((width, n_components))
        return width == 5.0 and n_components == components[0]

    monkeypatch.setattr(regression, "pca_poisson", predicted)
    monkeypatch.setattr(BaselineData, "score", lambda self, rates, split, task: float(rates))
    assert regression.choose_pca(data, "co_smoothing") == (5.0, components[0])
    assert asked == [(width, k) for width in (3.0, 5.0) for k in components]
