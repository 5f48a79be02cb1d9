"""True rates: exact integrals, and what the spikes were really drawn from."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from one.alf.cache import load_tables
from one.alf.io import iter_sessions
from scipy.stats import kstest

from ibl_mtm.errors import UserError
from ibl_mtm.simulate.truth import (
    GRID,
    MAX_RATE,
    Truth,
    open_truth,
    to_fixed_point,
    unit_dtype,
)

N_STEPS, PADDING = 400, 3


@pytest.fixture(scope="module")
def small() -> Truth:
    """Four seconds of six units of two populations, with three columns of latents."""
    rng = np.random.default_rng(0)
    units = np.zeros(6, unit_dtype(3))
    units["uuid"] = list("abcdef")
    units["population"] = [0, 1, 0, 1, 0, 1]
    units["baseline"] = [5, 20, 0, 1, 60, 8]
    units["weights"] = to_fixed_point(rng.normal(0, 0.6, (6, 3)), "weights")
    latents = to_fixed_point(rng.standard_normal((N_STEPS + 2 * PADDING, 3)), "latents")
    lags = np.array([[0, 2, -3], [1, 0, 0]], np.int16)
    return Truth(latents, lags, units, PADDING)


def rate_by_hand(truth: Truth, unit: int, step: int) -> float:
    """The rate of one unit in one step, written out."""
    if not 0 <= step < N_STEPS:
        return 0.0
    record = truth.units[unit]
    log_gain = 0.0
    for column, lag in enumerate(truth.lags[record["population"]]):
        latent = truth.latents[step + PADDING - lag, column] / 1024
        log_gain += latent * record["weights"][column] / 4096
    return min(record["baseline"] * np.exp(log_gain), MAX_RATE)


def test_a_rate_is_the_exponential_of_lagged_latents_times_weights(small):
    steps = np.array([-1, 0, 17, N_STEPS - 1, N_STEPS])
    by_hand = [[rate_by_hand(small, unit, step) for unit in range(6)] for step in steps]
    np.testing.assert_allclose(small.rates(steps), by_hand, rtol=1e-12)
    assert small.rates(np.arange(N_STEPS)).max() == MAX_RATE


def test_a_lagging_population_follows_later():
    latents = np.zeros((20, 1), np.int16)
    latents[PADDING + 8] = 1024
    units = np.zeros(2, unit_dtype(1))
    units["population"], units["baseline"], units["weights"] = [0, 1], 1, 4096
    truth = Truth(latents, np.array([[0], [3]], np.int16), units, PADDING)
    assert truth.rates(np.arange(14)).argmax(0).tolist() == [8, 11]


def test_rates_do_not_depend_on_how_they_are_blocked(small):
    steps = np.arange(N_STEPS)
    parts = [small.rates(part) for part in np.array_split(steps, 7)]
    np.testing.assert_array_equal(np.concatenate(parts), small.rates(steps))


@settings(max_examples=60, deadline=None)
@given(
    start=st.floats(-0.5, 4.5),
    n_bins=st.integers(1, 30),
    bin_size=st.sampled_from([0.02, 0.01, 0.005, 0.0137, 0.1]),
    units=st.lists(st.sampled_from("abcdef"), min_size=1, max_size=8),
)
def test_expected_counts_are_the_integral_of_the_rate(small, start, n_bins, bin_size, units):
    expected = small.expected_counts(units, np.array([start, 1.0]), n_bins, bin_size)
    assert expected.shape == (2, n_bins, len(units))
    assert expected.dtype == np.float32
    left = np.arange(N_STEPS) * GRID
    for row, name in enumerate(units):
        unit = "abcdef".index(name)
        rate = np.array([rate_by_hand(small, unit, step) for step in range(N_STEPS)])
        for k in {0, n_bins // 2, n_bins - 1}:
            begin = start + k * bin_size
            overlap = np.minimum(left + GRID, begin + bin_size) - np.maximum(left, begin)
            integral = np.sum(np.clip(overlap, 0, None) * rate)
            assert expected[0, k, row] == pytest.approx(integral, rel=1e-5, abs=1e-9)


def test_latents_are_means_over_the_steps_of_a_bin(small):
    latents = small.latents_in([0.1, 0.503], 3, 0.02)
    assert latents.shape == (2, 3, 3)
    for trial, step in ((0, 10), (1, 50)):  # 0.503 s is in the middle of a step
        for k in range(3):
            rows = PADDING + step + 2 * k + np.arange(2)
            by_hand = small.latents[rows].astype(float).mean(0) / 1024
            np.testing.assert_allclose(latents[trial, k], by_hand, rtol=1e-12)
    beyond = small.latents_in([3.99], 2, 0.02)
    np.testing.assert_allclose(beyond[0, 1], small.latents[PADDING + N_STEPS - 1] / 1024)
    (coarser,) = small.latents_in([0.1], 1, 0.06)
    np.testing.assert_allclose(coarser[0], latents[0].mean(0), rtol=1e-12)


def test_without_a_column_its_part_is_the_mean_of_what_it_multiplies_by(small):
    less = small.without([1, 2])
    inside = small.latents[PADDING:-PADDING].astype(float) / 1024
    for unit, record in enumerate(small.units):
        weights = record["weights"] / 4096
        mean = np.exp(inside[:, 1:] @ weights[1:]).mean()
        lag = small.lags[record["population"], 0]
        known = small.latents[PADDING + 17 - lag, 0] / 1024 * weights[0]
        by_hand = min(record["baseline"] * mean * np.exp(known), MAX_RATE)
        assert less.rates(np.array([17]))[0, unit] == pytest.approx(by_hand, rel=1e-9)
    assert small.units["weights"][:, 1:].any()  # the other one is as it was


def test_spikes_are_poisson_with_the_expected_counts(experiment):
    for eid in experiment.eids:
        spikes, truth = experiment.spikes(eid), experiment.truth(eid)
        assert set(spikes) == set(truth.units["uuid"])
        n_bins = int(truth.n_steps * GRID / 0.05)
        expected = truth.expected_counts(list(spikes), np.zeros(1), n_bins, 0.05)[0].astype(float)
        edges = np.arange(n_bins + 1) * 0.05
        counts = np.stack([np.histogram(t, edges)[0] for t in spikes.values()], axis=1)
        assert counts.sum() == sum(map(len, spikes.values())) > 100_000

        total = expected.sum(0)
        silent = total == 0
        assert 0 < silent.sum() < 5
        assert not counts[:, silent].any()
        z = (counts.sum(0) - total)[~silent] / np.sqrt(total[~silent])
        assert abs(z.mean()) < 4 / np.sqrt(len(z))
        assert kstest(z, "norm").pvalue > 1e-4
        # Pearson's dispersion is 1 only if every bin, not just every sum, has the right mean.
        dispersion = np.sum((counts - expected) ** 2) / expected.sum()
        assert dispersion == pytest.approx(1, abs=0.01)
        shuffled = np.sum((counts - np.roll(expected, 20, axis=0)) ** 2) / expected.sum()
        assert shuffled > 1.05


def test_spikes_fall_anywhere_within_a_step_and_on_different_units_independently(experiment):
    eid = experiment.eids[0]
    spikes = list(experiment.spikes(eid).values())
    phase = np.concatenate(spikes) / GRID % 1
    assert kstest(phase[::97], "uniform").pvalue > 1e-4
    truth = experiment.truth(eid)
    edges = np.arange(truth.n_steps // 2 + 1) * 2 * GRID
    counts = np.stack([np.histogram(t, edges)[0] for t in spikes])
    expected = truth.expected_counts(list(experiment.spikes(eid)), [0.0], len(edges) - 1, 0.02)[0].T
    active = expected.sum(1) > 200
    noise = np.corrcoef((counts - expected)[active])
    off = noise[np.triu_indices_from(noise, 1)] * np.sqrt(counts.shape[1])
    assert off.std() == pytest.approx(1, abs=0.1)


def test_one_does_not_see_the_true_rates(experiment):
    assert (experiment.root / "true_rates").is_dir()
    assert len(list(iter_sessions(experiment.root))) == 4
    tables = load_tables(experiment.root)
    assert not tables["datasets"]["rel_path"].str.contains("true_rates|latents|units").any()


def test_an_unknown_unit_session_or_folder_is_named(experiment, tmp_path):
    truth = experiment.truth(experiment.eids[0])
    with pytest.raises(UserError, match="'nobody'"):
        truth.expected_counts(["nobody"], np.zeros(1), 1, 0.02)
    with pytest.raises(UserError, match="'no-such-session'"):
        open_truth(experiment.root, "no-such-session")
    with pytest.raises(UserError, match="no simulated experiment"):
        open_truth(tmp_path, experiment.eids[0])


def test_an_older_sorting_has_no_truth(experiment):
    eid = experiment.eids[2]
    (newer,) = experiment.sortings(eid)
    older = (newer.parent / "clusters.uuids.csv").read_text().split()[1:]
    with pytest.raises(UserError, match=f"{len(older)} of {len(older)} units"):
        experiment.truth(eid).expected_counts(older, np.zeros(1), 1, 0.02)


def test_reading_the_truth_needs_neither_one_nor_torch():
    code = (
        "import sys, ibl_mtm.simulate.truth;"
        "heavy = {'one', 'brainbox', 'iblatlas', 'torch', 'pandas', 'scipy'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
