"""The autoregressive baseline beside plain loops, and the folds that it chooses its penalty by."""

from dataclasses import replace

import numpy as np
import pytest

from ibl_mtm.evaluation.baselines import autoregressive
from ibl_mtm.evaluation.baselines.autoregressive import DECAYS, PENALTIES, TIME_BUMPS
from ibl_mtm.evaluation.baselines.session_data import BaselineData

TASK = "forward_prediction"
N_TIME = 20  # of which the last two are asked for


def data_of(counts):
    """Trials to choose by, those of train and val together."""
    parts = {name: counts.astype(np.float32) for name in ("train", "fit", "test")}
    condition = {name: np.zeros(len(of), int) for name, of in parts.items()}
    return BaselineData(parts, condition, np.array(["A"] * counts.shape[2]))


def states_of(counts):
    """What each exponential filter holds before each bin, (trial, bin, filter, unit)."""
    n, n_time, n_units = counts.shape
    states = np.zeros((n, n_time, len(DECAYS), n_units))
    for trial in range(n):
        for at, decay in enumerate(DECAYS):
            for t in range(1, n_time):
                seen = (1 - decay) * counts[trial, t - 1]
                states[trial, t, at] = decay * states[trial, t - 1, at] + seen
    return states


@pytest.fixture(scope="module")
def counts():
    rng = np.random.default_rng(0)
    return rng.poisson([0.3, 1.5, 4.0], (9, N_TIME, 3)).astype(np.float32)


def test_features_are_the_filtered_past_and_the_time_in_the_trial(counts):
    """Standardised over trials and bins; a Gaussian at each tenth of the trial."""
    model = autoregressive._Model(counts)
    past = states_of(counts).reshape(9, N_TIME, -1)
    found = model.features(past.astype(np.float32), slice(None))
    found = found.reshape(9, N_TIME, -1)
    expected = (past - past.mean((0, 1))) / past.std((0, 1))
    np.testing.assert_allclose(found[..., : past.shape[2]], expected, atol=1e-4)
    bumps = found[..., past.shape[2] :]
    assert bumps.shape[2] == TIME_BUMPS == 10
    for bump in range(10):
        centre = bump * N_TIME / 9
        for t in range(N_TIME):
            away = (t - centre) / (N_TIME / 10)
            assert bumps[4, t, bump] == pytest.approx(10 * np.exp(-(away**2) / 2), abs=1e-5)


def test_expected_counts_are_fed_back_bin_by_bin(counts):
    """From the states that the last bin which is seen leaves."""
    model = autoregressive._Model(counts)
    rng = np.random.default_rng(1)
    fitted = model.fit(1.0)
    fitted = replace(fitted, weights=rng.normal(0, 0.1, fitted.weights.shape).astype(np.float32))
    bins = slice(15, N_TIME)
    found = model.roll_out(fitted, counts, bins)
    assert found.shape == (9, 5, 3)
    fed = counts.astype(float).copy()
    for t in range(15, N_TIME):
        state = states_of(fed[:, : t + 1])[:, t].reshape(9, 1, -1)
        rates = fitted.rates(model.features(state.astype(np.float32), slice(t, t + 1)))
        fed[:, t] = np.minimum(rates, model.highest)
    np.testing.assert_allclose(found, fed[:, 15:], rtol=1e-4)
    assert found.std() > 0.1


def test_a_silent_unit_tells_nothing():
    silent = np.random.default_rng(2).poisson(1.0, (9, N_TIME, 2)).astype(np.float32)
    silent[..., 1] = 0
    rates = autoregressive.predict(data_of(silent), TASK, 1.0)
    assert rates.shape == (9, 2, 2)
    assert np.isfinite(rates).all()
    assert rates[..., 1].max() < 0.02


def slow(n_trials):
    """Units that follow one gain which differs between trials: the past tells the future."""
    rng = np.random.default_rng(3)
    gain = np.exp(rng.normal(0, 0.8, (n_trials, 1, 1)))
    return rng.poisson(gain * np.ones((n_trials, N_TIME, 4))).astype(np.float32)


def test_trials_without_a_spike_to_predict_do_not_choose():
    """Every third trial is silent where it is asked for: its fold has no score to add."""
    counts = slow(60)
    (penalty,) = autoregressive.choose(data_of(counts), TASK)
    assert penalty < PENALTIES[0]
    counts[::3, -2:] = 0
    (penalty,) = autoregressive.choose(data_of(counts), TASK)
    assert PENALTIES[-1] <= penalty < PENALTIES[0]


@pytest.mark.parametrize("n_trials", [0, 1])
def test_without_trials_to_choose_by_the_past_is_left_out(n_trials):
    assert autoregressive.choose(data_of(slow(60)[:n_trials]), TASK) == (PENALTIES[0],)


def test_of_penalties_the_best_over_all_folds_is_chosen(monkeypatch):
    """Folds of every third trial; and the search ends where two more are no better."""
    asked = []

    class Model:
        def __init__(self, known):
            self.known = known[:, 0, 0].astype(int).tolist()

        def fit(self, penalty, start, tolerance):
            return penalty

        def roll_out(self, fit, seen, bins):
            trials = seen[:, 0, 0].astype(int).tolist()
            asked.append((fit, trials))
            assert sorted(trials + self.known) == list(range(1, 8))
            # The nearer to what is observed, the better; of folds one likes another penalty most.
            best = {2: 30.0, 1: 10.0}.get(trials[0] % 3, 10.0)
            return seen[:, bins] * (1 + abs(np.log(fit / best)))

    monkeypatch.setattr(autoregressive, "_Model", Model)
    counts = np.tile(np.arange(1.0, 8.0)[:, None, None], (1, N_TIME, 1))
    assert autoregressive.choose(data_of(counts), TASK) == (10.0,)
    assert [trials for _, trials in asked[:3]] == [[1, 4, 7], [2, 5], [3, 6]]
    assert [fit for fit, _ in asked[::3]] == [1000.0, 100.0, 30.0, 10.0, 3.0, 1.0]
