"""Wheel, licks and camera agree with the trials they belong to."""

import numpy as np
import pandas as pd
import pytest


@pytest.fixture(scope="module")
def alf(experiment):
    return experiment.alf(experiment.eids[0])


@pytest.fixture(scope="module")
def trials(experiment) -> pd.DataFrame:
    return experiment.trials(experiment.eids[0])


def test_the_wheel_turns_clockwise_for_a_choice_of_plus_one(alf, trials):
    times = np.load(alf / "_ibl_wheel.timestamps.npy")
    position = np.load(alf / "_ibl_wheel.position.npy")
    assert (np.diff(times) > 0).all()
    answered = trials[trials.choice != 0]
    turn = np.diff(
        np.interp(answered[["firstMovement_times", "response_times"]], times, position), axis=1
    )[:, 0]
    # Anti-clockwise is positive; the stimulus is moved after about 0.28 rad.
    np.testing.assert_array_equal(np.sign(turn), -answered.choice)
    assert np.abs(turn) == pytest.approx(0.28, abs=0.03)


def test_a_still_wheel_has_no_samples(alf, trials):
    times = np.load(alf / "_ibl_wheel.timestamps.npy")
    assert np.diff(times).max() > 10
    until = trials.firstMovement_times.fillna(trials.feedback_times)
    waiting = np.searchsorted(times, until) - np.searchsorted(times, trials.stimOn_times)
    assert not waiting.any()
    ticks = np.load(alf / "_ibl_wheel.position.npy") / (2 * np.pi / 4096)
    assert np.abs(ticks - np.rint(ticks)).max() < 1e-6
    assert (np.diff(np.rint(ticks)) != 0).all()


def test_the_recording_outlasts_the_trials_by_a_minute(experiment, alf, trials):
    truth = experiment.truth(experiment.eids[0])
    end = trials.intervals_1.max() + 60
    assert truth.n_steps * 0.01 >= end
    last = [t[-1] for t in experiment.spikes(experiment.eids[0]).values() if len(t)]
    assert max(last) > end - 1
    assert np.load(alf / "_ibl_leftCamera.times.npy")[-1] > end - 1


def test_licks_follow_rewards(alf, trials):
    licks = np.load(alf / "licks.times.npy")
    assert (np.diff(licks) >= 0).all()
    after = np.searchsorted(licks, trials.feedback_times + 1.5)
    number = after - np.searchsorted(licks, trials.feedback_times)
    assert number[trials.feedbackType == 1].mean() > 3
    assert number[trials.feedbackType == -1].mean() < 0.5


def test_whisking_follows_movement_and_the_brain(experiment, alf, trials):
    times = np.load(alf / "_ibl_leftCamera.times.npy")
    energy = np.load(alf / "leftCamera.ROIMotionEnergy.npy")
    assert times.shape == energy.shape
    assert 1 / np.diff(times).mean() == pytest.approx(60, rel=1e-3)
    assert (energy > 0).all()

    moved = trials.firstMovement_times.dropna().to_numpy()
    moving, before = (np.interp(moved + shift, times, energy).mean() for shift in (0.15, -0.1))
    assert moving > 1.15 * before

    truth = experiment.truth(experiment.eids[0])
    steps = np.arange(0, truth.n_steps, 5)
    log_rates = np.log(truth.rates(steps)[:, truth.units["baseline"] > 0])
    log_rates -= log_rates.mean(0)
    target = np.log(np.interp((steps + 0.5) * 0.01, times, energy))
    half = len(steps) // 2
    known, penalty = log_rates[:half], 100 * np.eye(log_rates.shape[1])
    weights = np.linalg.solve(known.T @ known + penalty, known.T @ (target - target.mean())[:half])
    explained = np.corrcoef(log_rates[half:] @ weights, target[half:])[0, 1] ** 2
    assert explained > 0.4
