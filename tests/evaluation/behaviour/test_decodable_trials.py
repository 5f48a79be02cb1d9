"""How many trials are enough to decode from, to the trial."""

import numpy as np
import pytest

from ibl_mtm.evaluation.behaviour.decodable_trials import Undecodable, class_trials, trace_trials
from ibl_mtm.evaluation.behaviour.linear_decoders import Features, decode_class, decode_trace


@pytest.mark.parametrize(("n_first", "enough"), [(4, True), (3, False)])
def test_a_class_needs_a_trial_for_each_fold(n_first, enough):
    label = np.r_[np.full(n_first, -1), np.full(9, 1), -1, 1]
    fit = np.arange(len(label)) < n_first + 9
    if enough:
        _, fit_at, test_at = class_trials(label, fit, ~fit)
        assert (len(fit_at), len(test_at)) == (13, 2)
    else:
        with pytest.raises(Undecodable, match="only 3 trials to fit are of class -1, 4 are needed"):
            class_trials(label, fit, ~fit)


@pytest.mark.parametrize(
    ("n_fit", "n_test", "reason"),
    [
        (4, 1, None),
        (3, 5, "3 trials to fit and 5 to test have a complete trace, 4 and 1 are needed"),
        (9, 0, "9 trials to fit and 0 to test have a complete trace"),
    ],
)
def test_a_trace_needs_four_trials_to_fit_and_one_to_test(n_fit, n_test, reason):
    trace = np.random.default_rng(0).normal(size=(n_fit + n_test + 2, 3))
    trace[-2:, 1] = np.nan
    at = np.arange(len(trace))
    fit, test = (at < n_fit) | (at == len(trace) - 1), (at >= n_fit) & (at < len(trace) - 1)
    if reason is None:
        _, fit_at, test_at = trace_trials(trace, fit, test)
        assert (fit_at.tolist(), test_at.tolist()) == ([0, 1, 2, 3], [4])
    else:
        with pytest.raises(Undecodable, match=reason):
            trace_trials(trace, fit, test)


@pytest.mark.parametrize("constant", ["fit", "test"])
def test_a_trace_must_change_in_both_parts(constant):
    trace = np.random.default_rng(0).normal(size=(9, 3))
    fit = np.arange(9) < 6
    trace[fit if constant == "fit" else ~fit] = 2.0
    with pytest.raises(Undecodable, match="never changes"):
        trace_trials(trace, fit, ~fit)


@pytest.fixture
def features():
    return Features(np.random.default_rng(1).normal(size=(40, 3, 4)))


FIT = np.arange(40) % 4 != 3


def test_made_up_classes_of_which_one_is_missing_count_in_no_null(features):
    """Neither where none of it is fitted to nor where none is tested; 0 takes no part."""
    label = np.where(np.arange(40) % 3 == 0, 1, -1)
    good = np.where(np.arange(40) % 5 < 2, 1, -1)
    good[[0, 3, 7]] = 0
    of_fit, of_test = good.copy(), good.copy()
    of_fit[FIT], of_test[~FIT] = 1, -1
    found = decode_class(features, label, FIT, ~FIT, surrogates=[of_fit, good, of_test])
    alone = decode_class(features, label, FIT, ~FIT, surrogates=[good])
    assert found.chance == alone.chance
    assert found.p == alone.p
    assert found.p["accuracy"] in (1 / 2, 1)
    assert found.null == "pseudo-sessions"


@pytest.mark.parametrize("lacks", ["changes to fit", "changes to test", "test trials"])
def test_made_up_traces_with_nothing_to_decode_count_in_no_null(features, lacks):
    rng = np.random.default_rng(2)
    trace, good, poor = rng.normal(size=(3, 40, 5))
    if lacks == "changes to fit":
        poor[FIT] = 1.0
    elif lacks == "changes to test":
        poor[~FIT] = 1.0
    else:
        poor[~FIT, 2] = np.nan
    found = decode_trace(features, trace, FIT, ~FIT, surrogates=[poor, good])
    alone = decode_trace(features, trace, FIT, ~FIT, surrogates=[good])
    assert found.chance == alone.chance
    assert found.p == alone.p
