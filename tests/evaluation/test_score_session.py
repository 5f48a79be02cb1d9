"""Scores of one session, of a predictor whose predictions are known."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import poisson
from synthetic import make_session

from ibl_mtm.evaluation import score_session as module
from ibl_mtm.evaluation.activity.tasks import held_out, region_pairs
from ibl_mtm.evaluation.score_session import score_session

N_TIME = 20


class Known:
    """Predicts given rates, whatever it is asked."""

    prompt = None

    def __init__(self, rates: np.ndarray, region: np.ndarray) -> None:
        self.rates, self.region = rates, region

    def cannot(self, what: str) -> None:
        return None

    def held_out(self, task):
        for held in held_out(task, self.region, N_TIME):
            yield held, self.rates[..., held.outputs]

    def region_pairs(self):
        for held in region_pairs(self.region, N_TIME):
            yield held, self.rates[..., held.outputs]

    def answers(self) -> dict:
        return {}

    def features(self) -> dict:
        return {}


def bits(rates: np.ndarray, counts: np.ndarray) -> float:
    gain = poisson.logpmf(counts, rates).sum() - poisson.logpmf(counts, counts.mean()).sum()
    return gain / counts.sum() / np.log(2)


@pytest.fixture(scope="module")
def scored():
    """Nine units in regions of four, three and two; one of them, and one region, silent in test."""
    ds = make_session(n_units=9, n_trials=50, n_bins=N_TIME, seed=7)
    region = np.array(["CA1", "DG", "CA1", "LP", "DG", "CA1", "DG", "LP", "CA1"])
    ds["beryl"] = "unit", region
    ds = ds.isel(trial=np.delete(np.arange(50), [4, 17, 18])).assign_coords(
        trial=np.delete(np.arange(50), [4, 17, 18])
    )
    split = ds.split.values.astype(str)
    test = np.flatnonzero(split == "test")
    counts = np.random.default_rng(0).poisson(0.4, ds.spikes.shape).astype(np.uint8)
    counts[np.ix_(test, np.arange(N_TIME), [0, 3, 7])] = 0
    ds["spikes"] = ds.spikes.dims, counts
    rates = np.random.default_rng(1).gamma(4, 0.1, (len(test), N_TIME, 9)).astype(np.float32)
    tasks = ["co_smoothing", "forward_prediction", "inter_region"]
    return score_session(Known(rates, region), ds, split, tasks), rates, counts[test], ds, test


def test_a_pair_of_regions_is_the_mean_over_units_that_have_a_score(scored):
    found, rates, counts, _, _ = scored
    pairs = found.region_pairs.set_index(["source", "target"])
    # Of LP, all units are silent: it is no target, but a source.
    assert set(pairs.index) == {("DG", "CA1"), ("LP", "CA1"), ("CA1", "DG"), ("LP", "DG")}
    expected = np.mean([bits(rates[..., u], counts[..., u]) for u in (2, 5, 8)])  # 0 is silent
    for source in ("DG", "LP"):
        assert pairs.loc[(source, "CA1"), "bits_per_spike"] == pytest.approx(expected, abs=1e-5)
        assert pairs.loc[(source, "CA1"), "n_units"] == 3


def test_a_unit_without_a_spike_has_a_row_without_a_score(scored):
    found, rates, counts, _, _ = scored
    units = found.per_unit[found.per_unit["task"] == "forward_prediction"]
    assert len(units) == 9
    for at, row in enumerate(units.itertuples()):
        spikes = counts[:, 18:, at].sum()
        assert row.n_spikes == spikes
        if spikes:
            expected = bits(rates[:, 18:, at], counts[:, 18:, at])
            assert row.bits_per_spike == pytest.approx(expected, abs=1e-5)
        else:
            assert np.isnan(row.bits_per_spike)
    assert pd.isna(units["oracle"]).all()


def test_examples_are_trials_by_their_number_and_averages_by_choice(scored):
    found, rates, counts, ds, test = scored
    examples = found.examples
    at = [int(i) for i in np.linspace(0, len(test) - 1, 4)]
    assert examples.example.values.tolist() == ds.trial.values[test][at].tolist()
    assert (examples.example_spikes.values == counts[at]).all()
    left = ds.choice.values[test] == 1
    shown = examples.sel(condition="choice left")
    assert shown.n_trials == left.sum()
    assert shown.psth_predicted.values == pytest.approx(rates[left].mean(0) / 0.02, rel=1e-5)
    assert shown.psth_observed.values == pytest.approx(counts[left].mean(0) / 0.02, rel=1e-5)
    assert found.n_test == len(test)
    assert found.time == pytest.approx(ds.time.values + 0.01)


def test_published_conditions_need_all_three_of_their_variables(monkeypatch):
    ds, seen = make_session(n_units=3, n_trials=12, n_bins=5), []
    monkeypatch.setattr(
        module, "published_r2", lambda rates, counts, condition: seen.append(condition) or (1, 2)
    )
    assert module._published("own", ds, None, None) == {}
    found = module._published("published", ds, None, None)
    assert list(found.values()) == [1, 2]
    assert (seen[0] >= 0).any()
    for name in ("choice", "feedback", "probability_left"):
        module._published("published", ds.drop_vars(name), None, None)
        assert seen[-1].tolist() == [-1] * 12
