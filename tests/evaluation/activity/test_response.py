"""R² of mean responses and of what single trials add, against scikit-learn and known truth."""

import numpy as np
import pytest
import xarray as xr
from scipy.ndimage import gaussian_filter1d
from sklearn.metrics import r2_score

from ibl_mtm.evaluation.activity.response import FEWEST_TRIALS, response_r2, trial_conditions
from ibl_mtm.sessions.conditions import condition_codes, conditions_of


def _conditions(choice, prior):
    ds = xr.Dataset(
        {
            "choice": ("trial", choice.astype(np.int8)),
            "probability_left": ("trial", prior.astype(np.float32)),
        }
    )
    return trial_conditions(*(condition_codes(ds, name) for name in conditions_of(ds)))


def test_conditions_are_choice_and_block_with_enough_trials():
    choice = np.repeat([-1, 1, 1, 0, 1, -1], [6, 6, 6, 6, 6, FEWEST_TRIALS - 1])
    prior = np.repeat([0.2, 0.2, 0.8, 0.8, np.nan, 0.5], [6, 6, 6, 6, 6, FEWEST_TRIALS - 1])
    found = _conditions(choice, prior)
    groups = [set(found[at : at + 6].tolist()) for at in range(0, 18, 6)]
    assert all(len(group) == 1 for group in groups)
    assert len(set.union(*groups)) == 3
    assert -1 not in set.union(*groups)
    # No-go trials, trials of no known block, and a condition with too few trials.
    assert set(found[18:].tolist()) == {-1}


@pytest.fixture(scope="module")
def trials():
    """Three conditions with responses of their own, and a gain that differs between trials."""
    rng = np.random.default_rng(0)
    condition = np.repeat([0, 2, 5, -1], [100, 150, 130, 20])
    rng.shuffle(condition)
    response = 1 + rng.gamma(2, 1, (6, 20, 4))
    gain = np.exp(rng.normal(-0.045, 0.3, (400, 1, 4)))  # one, on average
    rates = response[condition] * gain
    return rng.poisson(rates), rates, response[condition], condition


def smooth(values):
    return gaussian_filter1d(values.astype(float), 1.5, axis=1, mode="nearest")


def test_both_are_scikit_learns_r2_of_what_the_docstring_says(trials):
    counts, rates, _, condition = trials
    psth, residual = response_r2(rates, counts, condition, smoothing=1.5)
    y, p = smooth(counts), smooth(rates)
    for unit in range(4):
        means, parts = [], []
        for c in (0, 2, 5):
            own = condition == c
            means.append((y[own, :, unit].mean(0), p[own, :, unit].mean(0)))
            parts.append((y[own, :, unit] - means[-1][0], p[own, :, unit] - means[-1][1]))
        observed, predicted = (np.concatenate(side) for side in zip(*means, strict=True))
        assert psth[unit] == pytest.approx(r2_score(observed, predicted))
        observed, predicted = (np.concatenate(s).ravel() for s in zip(*parts, strict=True))
        assert residual[unit] == pytest.approx(r2_score(observed, predicted))


def test_the_average_trial_has_the_psth_but_nothing_of_the_residual(trials):
    counts, rates, average, condition = trials
    psth, residual = response_r2(average, counts, condition, smoothing=1.5)
    assert (psth > 0.3).all()
    assert residual == pytest.approx(np.zeros(4), abs=1e-12)
    true_psth, true_residual = response_r2(rates, counts, condition, smoothing=1.5)
    assert (true_psth > psth).all()
    # Of the variance between trials, the share that is of the rates: law of total variance.
    spread = [
        sum((v[condition == c].var(0) * (condition == c).sum()).sum(0) for c in (0, 2, 5))
        for v in map(smooth, (rates, counts))
    ]
    assert true_residual == pytest.approx(spread[0] / spread[1], abs=0.06)


def test_the_mean_rate_has_neither(trials):
    counts, _, _, condition = trials
    flat = np.broadcast_to(counts[condition >= 0].mean((0, 1)), counts.shape)
    psth, residual = response_r2(flat, counts, condition, smoothing=1.5)
    assert (psth <= 0).all()
    assert (psth > -0.1).all()
    assert residual == pytest.approx(np.zeros(4), abs=1e-12)


def test_a_silent_unit_and_trials_without_conditions_have_no_score(trials):
    counts, rates, _, condition = trials
    silent = counts.copy()
    silent[condition >= 0, :, 2] = 0
    psth, residual = response_r2(rates, silent, condition, smoothing=1.5)
    assert np.isnan([psth[2], residual[2]]).all()
    assert np.isfinite(np.delete(psth, 2)).all()
    for scores in response_r2(rates, counts, np.full(400, -1), smoothing=1.5):
        assert np.isnan(scores).all()


def test_five_trials_are_a_condition_and_four_are_none():
    assert FEWEST_TRIALS == 5
    choice, prior = np.repeat([1, -1], [5, 4]), np.full(9, 0.8)
    found = _conditions(choice, prior)
    assert (found[:5] >= 0).all()
    assert (found[5:] == -1).all()


def test_by_hand():
    """Two trials of one condition, two bins, no smoothing."""
    counts = np.array([[[0.0], [4.0]], [[2.0], [2.0]]])  # mean response 1, 3
    rates = np.array([[[1.0], [2.0]], [[1.0], [3.0]]])  # mean response 1, 2.5
    psth, residual = response_r2(rates, counts, [3, 3], smoothing=1e-6)
    # Of the mean response: missed by 0.5 once, about its mean it spreads 1 + 1.
    assert psth[0] == pytest.approx(1 - 0.25 / 2)
    # Of single trials: -1, 1, 1, -1 were 0, -0.5, 0, 0.5.
    assert residual[0] == pytest.approx(1 - (1 + 2.25 + 1 + 2.25) / 4)


def test_conditions_of_ones_own_task():
    """Text, numbers and booleans; what is missing is no condition."""
    outcome = np.array(["hit", "miss", "", "hit", "miss"] * 20, dtype=object)[:96]
    tone = np.where(np.arange(96) % 7 == 0, np.nan, np.arange(96) % 2)
    ds = xr.Dataset(
        {"outcome": ("trial", outcome), "tone": ("trial", tone)},
        attrs={"conditions": ["outcome", "tone"]},
    )
    found = trial_conditions(*(condition_codes(ds, name) for name in conditions_of(ds)))
    for a in range(96):
        for b in range(96):
            lacks = outcome[a] == "" or np.isnan(tone[a])
            same = outcome[a] == outcome[b] and tone[a] == tone[b]
            if lacks:
                assert found[a] == -1
            elif found[a] >= 0 and found[b] >= 0:
                assert (found[a] == found[b]) == same
    assert len(set(found[found >= 0])) == 4
    assert condition_codes(ds, "block") is None
