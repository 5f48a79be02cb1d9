"""Decoders against scikit-learn on the plain features, against known signals and against none."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.model_selection import GridSearchCV, KFold, StratifiedKFold
from sklearn.preprocessing import StandardScaler

from ibl_mtm.evaluation.behaviour.decodable_trials import FOLDS, Undecodable
from ibl_mtm.evaluation.behaviour.linear_decoders import (
    ALPHAS,
    INVERSE_PENALTIES,
    Features,
    decode_class,
    decode_trace,
)


@pytest.fixture
def session():
    """60 trials of 12 bins and 20 units; some units, at times, tell the choice and the trace."""
    rng = np.random.default_rng(0)
    choice = rng.choice([-1, 1], 60)
    trace = np.cumsum(rng.normal(size=(60, 12)), axis=1)
    features = rng.normal(size=(60, 12, 20))
    features[:, 4:8, :5] += 0.7 * choice[:, None, None]
    features[:, :, 5:9] += 0.5 * trace[:, :, None]
    features = rng.poisson(np.exp(0.5 * features)).astype(np.uint8)
    features[:, 3, 11] = 2  # a feature that never changes
    fit = np.arange(60) % 4 != 0
    return features, choice, trace, fit, ~fit


def standardised(features, fit, test):
    flat = features.reshape(len(features), -1).astype(float)
    scaler = StandardScaler().fit(flat[fit])
    return scaler.transform(flat[fit]), scaler.transform(flat[test])


def test_choice_is_decoded_as_by_a_grid_search_on_the_plain_features(session):
    features, choice, _, fit, test = session
    score = decode_class(Features(features), choice, fit, test, seed=3)
    plain = GridSearchCV(
        LogisticRegression(max_iter=20_000, tol=1e-8),
        {"C": INVERSE_PENALTIES},
        cv=StratifiedKFold(FOLDS, shuffle=True, random_state=3),
    )
    x_fit, x_test = standardised(features, fit, test)
    plain.fit(x_fit, choice[fit])
    assert score.chosen["C"] == plain.best_params_["C"]
    np.testing.assert_array_equal(score.predicted, plain.predict(x_test))
    np.testing.assert_array_equal(score.trials, np.flatnonzero(test))
    assert score.accuracy == np.mean(plain.predict(x_test) == choice[test])
    recalls = [np.mean(plain.predict(x_test)[choice[test] == c] == c) for c in (-1, 1)]
    assert score.balanced_accuracy == pytest.approx(np.mean(recalls))


def test_a_trace_is_decoded_as_by_cross_validated_ridge_on_the_plain_features(session):
    features, _, trace, fit, test = session
    score = decode_trace(Features(features), trace, fit, test, seed=3)
    folds = KFold(FOLDS, shuffle=True, random_state=3)
    plain = RidgeCV(ALPHAS, scoring="neg_mean_squared_error", cv=folds)
    x_fit, x_test = standardised(features, fit, test)
    plain.fit(x_fit, trace[fit])
    assert score.chosen["alpha"] == plain.alpha_
    np.testing.assert_allclose(score.predicted, plain.predict(x_test), atol=1e-8)
    error = ((trace[test] - score.predicted) ** 2).sum()
    assert score.r2 == pytest.approx(1 - error / ((trace[test] - trace[test].mean()) ** 2).sum())


def test_more_trials_than_features_make_no_difference(session):
    features, choice, trace, fit, test = session
    few = features[:, 4:6, :6]
    x_fit, x_test = standardised(few, fit, test)
    folds = KFold(FOLDS, shuffle=True, random_state=0)
    plain = RidgeCV(ALPHAS, scoring="neg_mean_squared_error", cv=folds).fit(x_fit, trace[fit])
    score = decode_trace(Features(few), trace, fit, test)
    np.testing.assert_allclose(score.predicted, plain.predict(x_test), atol=1e-8)
    assert decode_class(Features(few), choice, fit, test).n_test == 15


def test_the_features_of_test_trials_do_not_reach_the_fit(session):
    features, choice, trace, fit, test = session
    others = features.copy()
    others[np.flatnonzero(test)[1:]] = 200
    first, second = (decode_class(Features(x), choice, fit, test) for x in (features, others))
    assert first.chosen == second.chosen
    assert first.predicted[0] == second.predicted[0]
    first, second = (decode_trace(Features(x), trace, fit, test) for x in (features, others))
    assert first.chosen == second.chosen
    np.testing.assert_allclose(first.predicted[0], second.predicted[0])


def test_known_signals_decode_and_shuffled_ones_do_not():
    rng = np.random.default_rng(1)
    choice = rng.choice([-1, 1], 400, p=[0.4, 0.6])
    movement = rng.normal(size=(400, 10))
    features = rng.normal(size=(400, 10, 8))
    features[:, :, 0] += choice[:, None]
    features[:, :, 1] += 2 * movement
    test = np.arange(400) % 2 == 0
    known = decode_class(Features(features), choice, ~test, test)
    assert known.accuracy > 0.95
    assert known.majority == pytest.approx(np.mean(choice[test] == 1))
    assert decode_trace(Features(features), movement, ~test, test).r2 > 0.7

    shuffled = decode_class(Features(features), rng.permutation(choice), ~test, test)
    three_standard_errors = 3 * 0.5 / np.sqrt(test.sum())
    assert abs(shuffled.balanced_accuracy - 0.5) < three_standard_errors
    assert abs(decode_trace(Features(features), rng.permutation(movement), ~test, test).r2) < 0.05


def test_trials_without_a_choice_or_with_gaps_in_the_trace_are_left_out(session):
    features, choice, trace, fit, test = session
    choice, trace = choice.copy(), trace.copy()
    choice[[0, 1]] = 0, -128  # trial 0 is a test trial, trial 1 one to fit
    trace[[4, 5], 3] = np.nan
    decided = decode_class(Features(features), choice, fit, test)
    assert (decided.n_fit, decided.n_test) == (44, 14)
    assert 0 not in decided.trials
    traced = decode_trace(Features(features), trace, fit, test)
    assert (traced.n_fit, traced.n_test) == (44, 14)
    assert traced.predicted.shape == (14, 12)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda choice, fit, test: choice.__setitem__(fit, 1), "to fit hold fewer than two"),
        (lambda choice, fit, test: choice.__setitem__(test, 1), "test trials hold fewer than two"),
        (lambda choice, fit, test: choice.__setitem__(slice(None), 0), "the 0 trials to fit"),
        (
            lambda choice, fit, test: choice.__setitem__(np.flatnonzero(fit)[3:], 1),
            "only . trials to fit are of class -1",
        ),
    ],
)
def test_choices_that_cannot_be_decoded_are_named(session, change, reason):
    features, choice, _, fit, test = session
    choice[:3] = -1
    change(choice, fit, test)
    with pytest.raises(Undecodable, match=reason):
        decode_class(Features(features), choice, fit, test)


def test_traces_that_cannot_be_decoded_are_named(session):
    features, _, trace, fit, test = session
    with pytest.raises(Undecodable, match="0 trials to fit"):
        decode_trace(Features(features), np.full_like(trace, np.nan), fit, test)
    with pytest.raises(Undecodable, match="never changes"):
        decode_trace(Features(features), np.ones_like(trace), fit, test)
    with pytest.raises(Undecodable, match="no feature differs"):
        decode_trace(Features(np.ones_like(features)), trace, fit, test)


def test_shuffled_fits_and_resampled_trials_give_chance_and_intervals():
    rng = np.random.default_rng(3)
    choice = rng.choice([-1, 1], 300)
    movement = rng.normal(size=(300, 10))
    features = rng.normal(size=(300, 10, 8))
    features[:, :, 0] += 0.5 * choice[:, None]
    features[:, :, 1] += movement
    test = np.arange(300) % 2 == 0
    shared = Features(features)
    chosen = decode_class(shared, choice, ~test, test, shuffles=40)
    assert chosen.chance["balanced_accuracy"] == pytest.approx(0.5, abs=0.05)
    low, high = chosen.intervals["accuracy"]
    spread = np.sqrt(chosen.accuracy * (1 - chosen.accuracy) / chosen.n_test)  # of a binomial
    assert high - low == pytest.approx(2 * 1.96 * spread, rel=0.25)
    assert low <= chosen.accuracy <= high
    traced = decode_trace(shared, movement, ~test, test, shuffles=20)
    assert traced.chance["r2"] == pytest.approx(0, abs=0.05)
    low, high = traced.intervals["r2"]
    assert low < traced.r2 < high
    assert high - low < 0.2
