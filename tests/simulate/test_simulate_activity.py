"""Simulated activity has the statistics of recorded activity, and something to learn."""

import numpy as np
import pytest

BIN, N_BINS = 0.02, 100


@pytest.fixture(scope="module", params=[0, 1, 2, 3])
def session(request, experiment):
    """True rates (trial, time, unit), Hz, around the stimulus, and the spikes counted there."""
    eid = experiment.eids[request.param]
    spikes = {uuid: times for uuid, times in experiment.spikes(eid).items() if len(times)}
    start = experiment.trials(eid)["stimOn_times"].to_numpy() - 0.5
    expected = experiment.truth(eid).expected_counts(list(spikes), start, N_BINS, BIN)
    edges = start[:, None] + np.arange(N_BINS + 1) * BIN
    counts = [np.diff(np.searchsorted(times, edges), axis=1) for times in spikes.values()]
    return expected.astype(float) / BIN, np.stack(counts, axis=-1)


def test_rates_are_log_normal_around_four_hertz(session):
    rates, _ = session
    low, median, high = np.percentile(rates.mean((0, 1)), [10, 50, 90])
    assert 2.5 < median < 6.5
    assert 0.8 < low < 2.2
    assert 8 < high < 25


def test_log_rates_vary_as_recorded_ones(session):
    log_rates = np.log(session[0])
    assert 0.75 < log_rates.std((0, 1)).mean() < 1.05
    psth = log_rates.mean(0)
    assert 0.12 < psth.std(0).mean() < 0.3
    residual = log_rates - psth
    assert 0.35 < residual.mean(1).std(0).mean() < 0.55


def test_activity_is_remembered_for_some_hundred_milliseconds(session):
    residual = np.log(session[0])
    residual -= residual.mean(0)
    for lag, target in {1: 0.93, 2: 0.86, 5: 0.61, 10: 0.29, 20: 0.19, 40: 0.12}.items():
        pairs = zip(
            residual[:, :-lag].reshape(-1, residual.shape[2]).T,
            residual[:, lag:].reshape(-1, residual.shape[2]).T,
            strict=True,
        )
        assert np.mean([np.corrcoef(a, b)[0, 1] for a, b in pairs]) == pytest.approx(
            target, abs=0.12
        )


def test_a_dozen_dimensions_hold_most_of_the_variance(session):
    residual = np.log(session[0])
    residual -= residual.mean(0)
    variance = np.linalg.eigvalsh(np.corrcoef(residual.reshape(-1, residual.shape[2]).T))[::-1]
    explained = np.cumsum(variance) / variance.sum()
    assert 0.55 < explained[5] < 0.75
    assert 0.80 < explained[11] < 0.93


def test_the_oracle_scores_about_six_tenths_of_a_bit_per_spike(session):
    rates, counts = session
    expected = rates * BIN
    mean = np.maximum(counts.mean((0, 1)), 1e-9)
    gain = (counts * np.log(expected / mean) - expected + mean).sum((0, 1))
    spikes = counts.sum((0, 1))
    bits = gain[spikes > 0] / spikes[spikes > 0] / np.log(2)
    assert 0.45 < bits.mean() < 0.75
    assert np.percentile(bits, 10) > 0.05


def test_choices_can_be_read_from_the_spikes(session, experiment, request):
    _, counts = session
    eid = experiment.eids[request.node.callspec.params["session"]]
    choice = experiment.trials(eid)["choice"].to_numpy()
    answered = choice != 0
    features = np.sqrt(counts[answered, 25:75].reshape(answered.sum(), 5, 10, -1).sum(2))
    features = features.reshape(answered.sum(), -1)
    features -= features.mean(0)
    target = choice[answered].astype(float)
    # Ridge regression by its kernel, leaving every fifth trial out in turn.
    kernel = features @ features.T
    fold = np.arange(len(target)) % 5
    correct = []
    for k in range(5):
        train, test = fold != k, fold == k
        weights = np.linalg.solve(
            kernel[np.ix_(train, train)] + 300 * np.eye(train.sum()), target[train]
        )
        correct += list(np.sign(kernel[np.ix_(test, train)] @ weights) == target[test])
    assert np.mean(correct) > 0.75
