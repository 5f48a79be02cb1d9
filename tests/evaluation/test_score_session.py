"""Scores of one session, of a predictor whose predictions are known."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import poisson
from synthetic import make_session

from ibl_mtm.evaluation import score_session as module
from ibl_mtm.evaluation.activity.tasks import held_out, region_pairs
from ibl_mtm.evaluation.behaviour.decode_session import DecodedSession
from ibl_mtm.evaluation.behaviour.decoding_scores import score_trace
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


def test_units_are_numbered_through_over_tasks(scored):
    table = scored[0].per_unit
    assert table.index.tolist() == list(range(len(table)))
    assert table["n_spikes"].dtype == np.int64


@pytest.mark.parametrize(
    ("region", "intra", "inter"),
    [
        (["A", "A", ""], True, True),
        (["A", "A", "B", "B"], True, True),
        (["A", "A"], True, False),  # and nothing outside of it
        (["", ""], False, False),
    ],
)
def test_tasks_that_regions_allow(region, intra, inter):
    can = {task: module._cannot(task, np.array(region)) is None for task in module.UNIT_TASKS}
    assert (can.pop("intra_region"), can.pop("inter_region")) == (intra, inter)
    assert all(can.values())  # others need none


@pytest.mark.parametrize(("n_left", "has_response"), [(5, True), (4, False)])
def test_one_condition_with_five_trials_has_a_mean_response(n_left, has_response):
    """Beside trials of none."""
    ds = make_session(n_units=3, n_trials=9, n_bins=5)
    ds["choice"][:] = np.where(np.arange(9) < n_left, -1, 0)
    ds["probability_left"][:] = 0.5
    condition, reason = module._conditions(ds)
    assert (condition >= 0).tolist() == (np.arange(9) < n_left * has_response).tolist()
    told = None if has_response else "no choice and block has 5 test trials"
    assert reason == told


def test_averages_are_of_the_four_commonest_kinds_of_trials():
    """In their order; of trials without a value there is none."""
    names = ["c", "a", "e", "b", "d", "b", "a", "", "b", "c", "e", "d", "d", "c"]
    ds = make_session(n_units=3, n_trials=len(names), n_bins=5)
    ds = ds.assign(odour=("trial", np.array(names, dtype=object)))
    found = module._kinds_of_trials(ds.assign_attrs(conditions=["odour", "choice"]))
    assert list(found) == ["odour a", "odour b", "odour c", "odour d"]  # of a and e, the first
    for name, trials in found.items():
        assert trials.tolist() == [name == f"odour {each}" for each in names]
    right = module._kinds_of_trials(ds.assign(choice=ds.choice * 0 - 1))
    assert list(right) == ["choice right"]
    assert right["choice right"].all()
    assert module._kinds_of_trials(ds.drop_vars("choice")) == {}


def test_example_trials_have_their_traces_and_those_that_were_not_decoded_none():
    trial = np.array([3, 5, 8, 9, 12])
    observed = np.arange(10.0).reshape(5, 2)
    test_at = np.array([1, 3, 4])
    score = score_trace(observed, np.array([0, 2]), test_at, observed[test_at] + 0.5, {})
    found = DecodedSession(targets={"pupil": observed}, decoded={"pupil": score})
    examples = module.xr.Dataset(coords={"example": [5, 8, 12]})
    shown = module._add_traces(examples, trial, found)
    assert shown.pupil_observed.values.tolist() == observed[[1, 2, 4]].tolist()
    assert shown.pupil_observed.dtype == shown.pupil_predicted.dtype == np.float32
    assert shown.pupil_predicted.values[[0, 2]].tolist() == (observed[[1, 4]] + 0.5).tolist()
    assert np.isnan(shown.pupil_predicted.values[1]).all()


def test_it_is_said_how_each_task_and_behaviour_went(scored):
    *_, ds, test = scored
    rates, said = np.full((len(test), N_TIME, 9), 0.4, np.float32), []
    predictor = Known(rates, ds.beryl.values.astype(str))
    found = score_session(
        predictor, ds, ds.split.values.astype(str), ["co_smoothing"], say=said.append
    )
    mean = found.per_unit["bits_per_spike"].mean()
    assert said == [f"co_smoothing: {mean:.3f} bits/spike of 9 units"]


def test_it_is_said_how_well_each_behaviour_was_decoded(monkeypatch):
    ds, said = make_session(n_units=3, n_trials=12, n_bins=5), []
    scores = {"choice": {"accuracy": 0.75}, "wheel_speed": {"r2": 0.25, "n_test": 3}}
    monkeypatch.setattr(module, "decode_behaviour", lambda *a: DecodedSession(scores=scores))
    predictor = Known(np.zeros(0), ds.beryl.values.astype(str))
    found = score_session(
        predictor, ds, ds.split.values.astype(str), ["choice", "wheel_speed"], say=said.append
    )
    assert said == ["choice: accuracy 0.750", "wheel_speed: r2 0.250"]
    assert (len(found.per_unit), len(found.region_pairs), len(found.examples)) == (0, 0, 0)
