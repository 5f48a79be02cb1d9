"""Scores against the published formula, closed forms and small tables worked out by hand."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import poisson
from sklearn.metrics import d2_tweedie_score

from ibl_mtm.evaluation.metrics import ZERO_RATE, bits_per_spike, poisson_d2, r2, summarise


def neural_latents_benchmark(rates, counts):
    """`bits_per_spike` of nlb_tools, for the entries of one unit."""
    mean = np.full_like(rates, np.mean(counts))
    null = -poisson.logpmf(counts, mean).sum()
    model = -poisson.logpmf(counts, rates).sum()
    return (null - model) / counts.sum() / np.log(2)


@given(
    seed=st.integers(0, 2**32 - 1),
    trials=st.integers(1, 8),
    bins=st.integers(1, 12),
    units=st.integers(1, 5),
    scale=st.floats(0.02, 20),
)
def test_bits_per_spike_equals_the_neural_latents_benchmark(seed, trials, bins, units, scale):
    rng = np.random.default_rng(seed)
    rates = rng.gamma(2, scale, (trials, bins, units)) + 1e-6
    counts = rng.poisson(rates)
    bits = bits_per_spike(rates, counts)
    assert bits.shape == (units,)
    for unit in range(units):
        if counts[..., unit].sum() == 0:
            assert np.isnan(bits[unit])
        else:
            expected = neural_latents_benchmark(rates[..., unit], counts[..., unit])
            assert bits[unit] == pytest.approx(expected, abs=1e-9)


def test_the_mean_count_scores_zero_and_the_true_rate_what_theory_says():
    rng = np.random.default_rng(0)
    low, high = 0.1, 0.9
    rates = np.where(np.arange(200_000) % 2, high, low)[:, None]
    counts = rng.poisson(rates)
    assert bits_per_spike(np.full_like(rates, counts.mean()), counts)[0] == pytest.approx(0)
    # The mutual information of a spike and the two equally long states.
    expected = (0.1 * np.log2(low / 0.5) + 0.9 * np.log2(high / 0.5)) / 1
    assert bits_per_spike(rates, counts)[0] == pytest.approx(expected, abs=0.01)


def test_a_spike_at_a_rate_of_zero_costs_what_the_benchmark_charges():
    counts = np.array([[1], [1]])
    bits = bits_per_spike([[1.0], [0.0]], counts)
    assert bits[0] == neural_latents_benchmark(np.array([1.0, ZERO_RATE]), counts[:, 0])
    assert np.isfinite(bits[0])


def test_scores_can_be_taken_per_trial_and_counts_may_be_small_integers():
    rng = np.random.default_rng(1)
    rates = rng.gamma(2, 1, (6, 10, 3)).astype(np.float32)
    counts = rng.poisson(200 * rates).clip(0, 255).astype(np.uint8)
    bits = bits_per_spike(rates, counts, axis=1)
    assert bits.shape == (6, 3)
    assert bits.dtype == np.float64
    assert bits[2, 1] == bits_per_spike(rates[2], counts[2])[1]


@pytest.mark.parametrize(
    ("rates", "counts", "message"),
    [
        ([[-0.1], [1]], [[0], [1]], "1 rates are negative"),
        ([[np.nan], [np.inf]], [[0], [1]], "2 rates are negative or not finite"),
        ([[0.1], [1]], [[0], [np.nan]], "1 counts are negative or not finite"),
        ([[0.1, 1]], [[0], [1]], "do not fit"),
    ],
)
def test_what_is_no_rate_or_count_is_refused(rates, counts, message):
    with pytest.raises(ValueError, match=message):
        bits_per_spike(rates, counts)


def test_r2_is_one_for_the_truth_zero_for_the_mean_and_unknown_for_a_constant():
    rng = np.random.default_rng(2)
    y = rng.normal(3, 1, (20, 50))
    y[:, 7] = 0.1
    assert r2(y, y) == 1
    assert r2(y, np.full_like(y, y.mean())) == pytest.approx(0)
    noise = rng.normal(0, 0.5, y.shape)
    assert r2(y, y + noise) == pytest.approx(1 - (noise**2).sum() / ((y - y.mean()) ** 2).sum())
    per_bin = r2(y, np.zeros_like(y), axis=0)
    assert np.isnan(per_bin[7])
    assert np.isfinite(np.delete(per_bin, 7)).all()


def table(rows):
    return pd.DataFrame(rows, columns=["eid", "unit", "task", "bits_per_spike", "oracle"])


def test_every_session_counts_alike_however_many_units_it_has():
    scores = summarise(
        table(
            [
                ("a", "1", "co_smoothing", 0.1, 0.5),
                ("a", "2", "co_smoothing", 0.3, 0.5),
                ("a", "3", "co_smoothing", np.nan, np.nan),
                ("b", "4", "co_smoothing", 0.6, 0.5),
                ("a", "1", "forward_prediction", -0.2, 0.1),
                ("a", "2", "forward_prediction", 0.4, np.nan),
            ]
        )
    )
    assert list(scores.index) == ["co_smoothing", "forward_prediction"]
    both = scores.loc["co_smoothing"]
    assert both["bits_per_spike"] == pytest.approx(0.4)
    assert both["sem"] == pytest.approx(np.std([0.2, 0.6], ddof=1) / np.sqrt(2))
    assert (both["n_units"], both["n_sessions"], both["n_silent"]) == (3, 2, 1)
    assert both["fraction_of_oracle"] == pytest.approx(0.4 / 0.5)
    assert both["mean_units"] == pytest.approx(1 / 3)
    assert both["median_units"] == pytest.approx(0.3)
    assert both["sem_units"] == pytest.approx(np.std([0.1, 0.3, 0.6], ddof=1) / np.sqrt(3))
    assert both["median_sessions"] == pytest.approx(0.4)
    assert both["sem_sessions"] == both["sem"]
    one = scores.loc["forward_prediction"]
    assert one["sem"] == pytest.approx(0.3)  # of a single session: over its two units
    assert one["sem_units"] == one["sem"]
    assert np.isnan(one["sem_sessions"])
    assert one["fraction_of_oracle"] == pytest.approx(-2)  # of the unit whose oracle is known


def test_without_an_oracle_there_is_no_fraction_of_it():
    rows = table([("a", "1", "intra_region", 0.1, np.nan), ("a", "2", "intra_region", 0.3, np.nan)])
    for known in (rows, rows.drop(columns="oracle")):
        score = summarise(known).loc["intra_region"]
        assert score["bits_per_spike"] == pytest.approx(0.2)
        assert np.isnan(score["oracle"])
        assert np.isnan(score["fraction_of_oracle"])


def test_of_an_oracle_that_gains_nothing_there_is_no_fraction():
    rows = table([("a", "1", "intra_region", 0.1, 0.25), ("a", "2", "intra_region", 0.3, -0.25)])
    score = summarise(rows).loc["intra_region"]
    assert score["oracle"] == 0
    assert np.isnan(score["fraction_of_oracle"])


def test_a_deviance_may_be_small():
    assert poisson_d2([[1.0], [2.0]], [[1], [2]]) == pytest.approx(1)
    assert poisson_d2([[1.5], [1.5]], [[1], [2]]) == pytest.approx(0)


def test_a_task_in_which_no_unit_has_a_score_is_reported_as_such():
    score = summarise(table([("a", "1", "inter_region", np.nan, np.nan)])).loc["inter_region"]
    assert np.isnan(score["bits_per_spike"])
    assert (score["n_units"], score["n_silent"]) == (0, 1)


def test_r2_of_responses_are_medians_over_units_averaged_over_sessions():
    rows = table(
        [(eid, str(unit), "co_smoothing", 0.1, np.nan) for eid in "ab" for unit in range(3)]
    )
    rows["psth_r2"] = [0.1, 0.5, -40.0, 0.7, 0.9, np.nan]
    rows["residual_r2"] = [0.0, 0.2, 0.1, 0.3, 0.3, np.nan]
    score = summarise(rows).loc["co_smoothing"]
    assert score["psth_r2"] == pytest.approx((0.1 + 0.8) / 2)
    assert score["residual_r2"] == pytest.approx((0.1 + 0.3) / 2)
    assert score["n_units_psth"] == 5


def test_the_explained_deviance_is_scikit_learns():
    """Unit by unit, on entries of unequal rates; a silent unit and a certain one have none."""
    rng = np.random.default_rng(8)
    rates = rng.gamma(1.0, 0.3, (12, 7, 4)) + 0.01
    counts = rng.poisson(rates)
    counts[..., 2] = 0
    counts[..., 3] = 1
    found = poisson_d2(rates, counts)
    for unit in (0, 1):
        y, r = counts[..., unit].ravel(), rates[..., unit].ravel()
        assert found[unit] == pytest.approx(d2_tweedie_score(y, r, power=1), abs=1e-12)
    assert np.isnan(found[2:]).all()
    means = np.broadcast_to(counts.mean((0, 1)), counts.shape)
    np.testing.assert_allclose(poisson_d2(means, counts)[:2], 0, atol=1e-12)


def test_pooled_scores_sum_likelihoods_before_they_divide():
    """Against plain sums of scipy's log-likelihoods, over two sessions of unequal size."""
    rng = np.random.default_rng(9)
    tables, expected = [], []
    for eid, n_units in (("a", 3), ("b", 5)):
        rates = rng.gamma(1.0, 0.5, (9, 6, n_units)) * np.geomspace(0.2, 3, n_units)
        counts = rng.poisson(rates)
        bits = bits_per_spike(rates, counts)
        tables.append(
            pd.DataFrame(
                {
                    "eid": eid,
                    "unit": range(n_units),
                    "task": "co_smoothing",
                    "bits_per_spike": bits,
                    "poisson_d2": poisson_d2(rates, counts),
                    "n_spikes": counts.sum((0, 1)),
                }
            )
        )
        null = np.broadcast_to(counts.mean((0, 1)), counts.shape)
        gain = poisson.logpmf(counts, rates).sum() - poisson.logpmf(counts, null).sum()
        expected.append(gain / (counts.sum() * np.log(2)))
    found = summarise(pd.concat(tables)).loc["co_smoothing"]
    assert found.pooled_bits_per_spike == pytest.approx(np.mean(expected), abs=1e-12)
    assert found.poisson_d2 == pytest.approx(np.mean([t.poisson_d2.mean() for t in tables]))
