"""Other sessions' traces as the null of a slow one."""

import numpy as np
import pytest
from synthetic import make_session

from ibl_mtm.errors import SessionError
from ibl_mtm.evaluation.behaviour.behaviours import BEHAVIOURS
from ibl_mtm.evaluation.behaviour.decode_session import decode_behaviour
from ibl_mtm.evaluation.behaviour.imposters import FEWEST, MOST, Imposters
from ibl_mtm.evaluation.behaviour.linear_decoders import Features, decode_trace
from ibl_mtm.evaluation.metrics import r2

WHISKERS = BEHAVIOURS["whisker_motion_energy"]
N_TRIALS, N_BINS = 60, 5


def drifting(seed, n_trials=N_TRIALS):
    """A trace that wanders from trial to trial, (trial, bin)."""
    rng = np.random.default_rng(seed)
    slow = np.cumsum(rng.normal(0, 0.3, n_trials))[:, None]
    return slow + rng.normal(0, 0.05, (n_trials, N_BINS))


def session(seed, n_trials=N_TRIALS, **attrs):
    ds = make_session(n_units=4, n_trials=n_trials, n_bins=N_BINS, seed=seed)
    ds["whisker_motion_energy"] = ("trial", "time"), drifting(seed, n_trials)
    return ds.assign_attrs(eid=f"s{seed}", **attrs)


class Sessions(dict):
    """As a cache is asked; those in `damaged` cannot be read."""

    damaged = ()

    def __getitem__(self, eid):
        if eid in self.damaged:
            raise SessionError(eid, "a chunk is damaged")
        return super().__getitem__(eid)


@pytest.fixture
def cache():
    """The session 0, twenty-one others, some shorter, longer, or without a value here and there."""
    found = Sessions({f"s{i}": session(i, 50 + i) for i in range(1, 22)})
    found["s0"] = session(0)
    found["s3"]["whisker_motion_energy"].values[7] = np.nan
    return found


def test_imposters_are_the_other_sessions_traces_trial_by_trial(cache):
    found = Imposters(cache).traces(WHISKERS, cache["s0"])
    assert len(found) == 21
    firsts = {trace[0, 0]: trace for trace in found}
    for i in range(1, 22):
        other = cache[f"s{i}"].whisker_motion_energy.values
        trace = firsts[other[0, 0]]
        n = min(len(other), N_TRIALS)
        assert trace.shape == (N_TRIALS, N_BINS)
        np.testing.assert_array_equal(trace[:n], other[:n])
        assert np.isnan(trace[n:]).all()
    assert cache["s0"].whisker_motion_energy.values[0, 0] not in firsts


@pytest.mark.parametrize("how", ["short", "without", "simulated", "other bins", "damaged"])
def test_a_session_that_is_no_stand_in_is_passed_over(cache, how):
    if how == "short":
        cache["s4"] = session(4, 30)
    elif how == "without":
        cache["s4"] = cache["s4"].drop_vars("whisker_motion_energy")
    elif how == "simulated":
        cache["s4"] = cache["s4"].assign_attrs(simulated=1)
    elif how == "other bins":
        cache["s4"] = cache["s4"].isel(time=slice(0, 4))
    else:
        cache.damaged = ("s4",)
    assert len(Imposters(cache).traces(WHISKERS, cache["s0"])) == 20


def test_a_session_of_seven_tenths_of_the_trials_will_do(cache):
    cache["s4"], cache["s5"] = session(4, 42), session(5, 41)
    found = Imposters(cache).traces(WHISKERS, cache["s0"])
    assert len(found) == 20
    assert sorted(np.isnan(trace[:, 0]).sum() for trace in found)[-1] == N_TRIALS - 42


def test_too_few_sessions_are_no_null(cache):
    assert FEWEST == 19  # 1 / (19 + 1) is 0.05
    for i in range(FEWEST, 22):
        del cache[f"s{i}"]
    assert Imposters(cache).traces(WHISKERS, cache["s0"]) == []
    cache["s19"] = session(19)
    assert len(Imposters(cache).traces(WHISKERS, cache["s0"])) == FEWEST


def test_of_many_sessions_so_many_are_drawn_alike_each_time():
    cache = Sessions({f"s{i}": session(i) for i in range(MOST + 9)})
    first, again = (Imposters(cache).traces(WHISKERS, cache["s0"]) for _ in range(2))
    other = Imposters(cache).traces(WHISKERS, cache["s1"])
    assert len(first) == MOST == 49
    np.testing.assert_array_equal(first, again)
    assert {t[0, 0] for t in first} != {t[0, 0] for t in other}


def test_a_drift_passes_for_a_code_among_shuffled_trials_and_not_among_imposters():
    """Spikes drift on their own; what they share with the trace is being slow."""
    rng = np.random.default_rng(5)
    drift = np.stack([drifting(100 + i)[:, 0] for i in range(6)], axis=-1)
    features = Features(np.repeat(drift[:, None], N_BINS, axis=1) + rng.normal(0, 0.05, (60, 5, 6)))
    test = np.arange(N_TRIALS) % 3 == 1
    others = [drifting(i) for i in range(1, 40)]
    trace = drifting(0)
    shuffled = decode_trace(features, trace, ~test, test, shuffles=39)
    imposters = decode_trace(features, trace, ~test, test, surrogates=others)
    assert shuffled.r2 == imposters.r2 > 0.3
    assert (shuffled.null, imposters.null) == ("shuffled trials", "imposters")
    assert shuffled.p["r2"] == 1 / 40
    assert imposters.p["r2"] > 0.1
    assert imposters.chance["r2"] > shuffled.chance["r2"] + 0.3
    told = Features(np.repeat(trace[..., None], 3, axis=-1))
    assert decode_trace(told, trace, ~test, test, surrogates=others).p["r2"] == 1 / 40


def test_an_imposters_score_is_that_of_decoding_it_where_it_has_values():
    """By hand: the same decoder, told of the trials that the imposter has."""
    features = Features(
        np.random.default_rng(1).normal(size=(N_TRIALS, N_BINS, 3)) + drifting(7)[..., None]
    )
    test = np.arange(N_TRIALS) % 3 == 1
    whole, holes = drifting(1), drifting(2)
    holes[[3, 4, 7, 50]] = np.nan
    own = drifting(0)
    scores = []
    for other in (whole, holes):
        kept = ~np.isnan(other).any(axis=1)
        # Standardised by the trials that the session's own trace is fitted to.
        kernel, kernel_test = features.kernel(np.flatnonzero(~test), np.flatnonzero(test))
        alone = decode_trace(_Given(kernel, kernel_test, kept, test), other, ~test, test)
        assert alone.r2 == pytest.approx(float(r2(other[test & kept], alone.predicted)))
        scores.append(alone.r2)
    found = decode_trace(features, own, ~test, test, surrogates=[whole, holes])
    assert found.chance["r2"] == pytest.approx(np.mean(scores))
    np.testing.assert_array_equal(
        found.predicted, decode_trace(features, own, ~test, test).predicted
    )


def test_an_imposter_counts_that_has_a_trial_for_each_fold():
    trace, test = drifting(0), np.arange(N_TRIALS) % 3 == 1
    three, four = drifting(1), drifting(2)
    for other, n_known in ((three, 3), (four, 4)):
        other[np.flatnonzero(~test)[n_known:]] = np.nan
    told = Features(np.repeat(trace[..., None], 3, axis=-1))
    found = decode_trace(told, trace, ~test, test, surrogates=[three, four])
    assert found.p["r2"] == 1 / 2  # one of them, which scores less


class _Given:
    """Inner products of some trials, taken from those of all."""

    def __init__(self, kernel, kernel_test, kept, test):
        fit, asked = kept[~test], kept[test]
        self.parts = kernel[np.ix_(fit, fit)], kernel_test[np.ix_(asked, fit)]

    def kernel(self, fit, test):
        return self.parts


class Spikes:
    prompt = None
    features = staticmethod(dict)
    answers = staticmethod(dict)


@pytest.mark.parametrize("n_others", [FEWEST, FEWEST - 1])
def test_a_session_is_scored_against_imposters_where_there_are_enough(n_others):
    cache = Sessions({f"s{i}": session(i) for i in range(n_others + 1)})
    split = np.array(["train", "test", "val"])[np.arange(N_TRIALS) % 3]
    found = decode_behaviour(
        Spikes(), cache["s0"], split, ["whisker_motion_energy", "choice"], Imposters(cache)
    )
    enough = n_others == FEWEST
    trace = found.scores["whisker_motion_energy"]
    assert trace["null"] == ("imposters" if enough else "shuffled trials")
    assert 0 < trace["p"]["r2"] <= 1
    assert found.scores["choice"]["null"] == "shuffled trials"
