"""Baselines: fitted as said, blind to what they predict, and as good as they ought to be."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from short_fits import shorten
from sklearn.linear_model import PoissonRegressor
from synthetic import make_regions, make_session
from typer.testing import CliRunner

from ibl_mtm.cache.cache import open_cache
from ibl_mtm.cache.store import create_cache, write_session
from ibl_mtm.cli import app
from ibl_mtm.errors import UserError
from ibl_mtm.evaluation.activity import by_dynamics
from ibl_mtm.evaluation.activity.tasks import ACTIVITY_TASKS, held_out
from ibl_mtm.evaluation.baselines import autoregressive, poisson_lds
from ibl_mtm.evaluation.baselines.poisson import LowRank
from ibl_mtm.evaluation.baselines.registry import BASELINES, BaselinePredictor
from ibl_mtm.evaluation.baselines.session_data import BaselineData
from ibl_mtm.evaluation.evaluate import evaluate_baseline
from ibl_mtm.evaluation.metrics import bits_per_spike
from ibl_mtm.model.poisson_regression import PoissonRegression
from ibl_mtm.training.settings import DataSettings

CASES = [(name, task) for name, baseline in BASELINES.items() for task in baseline.tasks]


@pytest.fixture(scope="module")
def ds():
    """15 units in five regions that follow one slow signal, three of them in each region."""
    ds = make_session(n_units=15, n_trials=60, n_bins=20, seed=5)
    rng = np.random.default_rng(0)
    signal = np.cumsum(rng.normal(0, 0.4, (60, 20)), axis=1)
    rates = 0.5 * np.exp(signal[:, :, None] * rng.normal(0.6, 0.2, 15))
    ds["spikes"] = ds.spikes.dims, rng.poisson(rates).clip(0, 50).astype(np.uint8)
    return ds


def predictions(name, ds, task):
    """Predictions of test trials, NaN where the task asks for none."""
    split, region = ds.split.values.astype(str), ds.beryl.values.astype(str)
    predictor = BaselinePredictor(name, ds, split, region)
    rates = np.full((int((split == "test").sum()), 20, 15), np.nan)
    for held, predicted in predictor.held_out(task):
        rates[:, held.bins, held.outputs] = predicted[:, held.bins]
    return rates


@pytest.mark.parametrize(("name", "task"), CASES)
def test_baselines_predict_every_entry_and_see_none_that_is_held_out(ds, name, task, monkeypatch):
    shorten(monkeypatch)
    before = predictions(name, ds, task)
    region, rng = ds.beryl.values.astype(str), np.random.default_rng(1)
    held = list(held_out(task, region, 20))[-1]
    hidden = np.broadcast_to(held.hidden, (20, 15)) & (
        ds.split.values.astype(str) == "test"
    ).reshape(-1, 1, 1)
    noise = rng.integers(0, 40, ds.spikes.shape).astype(np.uint8)
    changed = ds.assign(spikes=(ds.spikes.dims, np.where(hidden, noise, ds.spikes.values)))
    entries = np.s_[:, held.bins, held.outputs]
    assert (before[entries] > 0).all()
    np.testing.assert_allclose(
        predictions(name, changed, task)[entries], before[entries], rtol=1e-6
    )


@pytest.mark.parametrize("name", ["pca_poisson", "poisson_regression", "reduced_rank"])
@pytest.mark.parametrize("task", ["co_smoothing", "inter_region"])
def test_a_shared_signal_is_found_in_the_other_units(ds, name, task):
    counts = ds.spikes.values[ds.split.values == "test"]
    score = np.mean(bits_per_spike(predictions(name, ds, task), counts))
    mean = np.mean(bits_per_spike(predictions("unit_mean", ds, task), counts))
    assert score > mean + 0.2


@pytest.mark.parametrize("name", ["pca_poisson", "poisson_regression", "reduced_rank"])
def test_independent_units_tell_nothing_of_each_other(name):
    ds = make_session(n_units=15, n_trials=120, n_bins=20, seed=6)
    rates = np.full(15, 0.4)
    ds["spikes"] = ds.spikes.dims, np.random.default_rng(2).poisson(
        rates, ds.spikes.shape).astype(np.uint8)  # fmt: skip
    counts = ds.spikes.values[ds.split.values == "test"]
    assert abs(np.mean(bits_per_spike(predictions(name, ds, "co_smoothing"), counts))) < 0.02


def test_a_unit_that_copies_another_is_predicted_near_its_oracle(ds):
    """Two units share one rate that no other unit knows; a smooth rate can be told from one."""
    rng = np.random.default_rng(3)
    rate = np.exp(np.sin(np.linspace(0, 6, 20)) * rng.normal(0, 0.6, (60, 1)))
    spikes = ds.spikes.values.copy()
    spikes[:, :, 0] = rng.poisson(rate)
    spikes[:, :, 1] = rng.poisson(20 * rate)
    copied = ds.assign(spikes=(ds.spikes.dims, spikes))
    test = ds.split.values == "test"
    found = bits_per_spike(
        predictions("poisson_regression", copied, "co_smoothing")[..., 0],
        spikes[test][..., 0],
        (0, 1),
    )
    oracle = bits_per_spike(rate[test], spikes[test][..., 0], (0, 1))
    assert 0.5 * oracle < found < 1.1 * oracle


def test_the_unit_mean_is_the_mean_of_the_trials_to_fit(ds):
    fit = ds.spikes.values[ds.split.values != "test"].reshape(-1, 15)
    expected = (fit.sum(0) + 0.5) / len(fit)
    found = predictions("unit_mean", ds, "co_smoothing")
    assert found[0, 0] == pytest.approx(expected, rel=1e-5)


def test_the_poisson_fit_is_scikit_learns(ds):
    """Penalties weigh relative to a unit's mean count here, absolutely there."""
    rng = np.random.default_rng(4)
    x = rng.normal(size=(800, 6)).astype(np.float32)
    y = rng.poisson(np.exp(x @ rng.normal(0, 0.3, (6, 3)) - 1)).astype(np.float32)
    fit = PoissonRegression(x, y).fit(penalty=0.2)
    for unit in range(3):
        mean = (y[:, unit].sum() + 0.5) / len(y)
        plain = PoissonRegressor(alpha=0.2 * mean, tol=1e-9, max_iter=1000)
        plain.fit(x, y[:, unit])
        np.testing.assert_allclose(fit.weights[:, unit], plain.coef_, atol=1e-3)
        assert fit.intercept[unit] == pytest.approx(plain.intercept_, abs=1e-3)
    allowed = rng.random((6, 3)) < 0.5
    assert not PoissonRegression(x, y, allowed).fit(0.2).weights[~allowed].any()
    low = LowRank(x, y, np.ones((6, 3), bool)).fit(0.2, 1, fit)
    assert np.linalg.matrix_rank(low.weights, tol=1e-4) == 1


def test_a_task_shows_what_its_definition_says(ds):
    data = BaselineData.of(ds, ds.split.values.astype(str), ds.beryl.values.astype(str))
    region = ds.beryl.values.astype(str)
    same = region[:, None] == region
    alone = np.eye(15, dtype=bool)
    assert (data.allowed("co_smoothing") == ~alone).all()
    assert (data.allowed("intra_region") == (same & ~alone)).all()
    assert (data.allowed("inter_region") == ~same).all()
    assert data.allowed("forward_prediction").all()
    assert data.bins("forward_prediction") == slice(18, 20)


@pytest.fixture(scope="module")
def cache(tmp_path_factory, ds):
    root = tmp_path_factory.mktemp("baselines") / "cache.zarr"
    create_cache(root)
    write_session(root, ds, make_regions())
    return root


def test_the_command_gives_the_document_of_a_run_and_files_to_compare(cache, tmp_path, monkeypatch):
    shorten(monkeypatch)
    command = ["eval", "--cache", str(cache), "--json"]
    for task in ("co_smoothing", "forward_prediction", "choice", "wheel_speed"):
        command += ["--task", task]
    out = tmp_path / "psth"
    result = CliRunner().invoke(app, [*command, "--baseline", "psth", "--out", str(out)])
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    assert found["baseline"] == "psth"
    assert set(found["tasks"]) == {"co_smoothing", "forward_prediction", "choice", "wheel_speed"}
    assert np.isfinite(found["tasks"]["co_smoothing"]["bits_per_spike"])
    assert json.loads((out / "metrics.json").read_text()) == found
    for task in ("choice", "wheel_speed"):
        assert {"raw_spikes", "reduced_rank", "recurrent", "chance"} <= set(found["tasks"][task])


@pytest.mark.parametrize("name", [n for n, b in BASELINES.items() if b.pairs])
def test_a_region_is_predicted_from_another_one_alone(ds, name, monkeypatch):
    shorten(monkeypatch)
    ds = ds.isel(unit=np.isin(ds.beryl, np.unique(ds.beryl)[:3]))
    split, region = ds.split.values.astype(str), ds.beryl.values.astype(str)
    test = (split == "test")[:, None, None]
    own, other = np.unique(region)[:2]
    shown = ds.spikes.values
    noise = np.random.default_rng(3).integers(0, 40, shown.shape).astype(np.uint8)

    def pairs(hidden):
        changed = np.where(test & hidden, noise, shown)
        found = BaselinePredictor(
            name, ds.assign(spikes=(ds.spikes.dims, changed)), split, region
        ).region_pairs()
        return {(held.source, held.region): (held, rates) for held, rates in found}

    before, blind, seen = (pairs(h) for h in (region == "", region != other, region == other))
    names = np.unique(region)
    assert set(before) == {(a, b) for a in names for b in names if a != b}
    held, rates = before[other, own]
    assert (region[held.outputs] == own).all()
    np.testing.assert_allclose(blind[other, own][1], rates, rtol=1e-6)
    assert not np.allclose(seen[other, own][1], rates, rtol=0.1)


def test_pairs_of_regions_are_scored_as_those_of_runs_are(cache):
    """Units follow one signal here, so that any region tells of any other one."""
    found = evaluate_baseline("poisson_regression", open_cache(cache), tasks=["inter_region"],
                              settings=DataSettings(min_units_per_region=3))  # fmt: skip
    pairs = found.metrics["region_pairs"]
    assert len(pairs) == 20
    assert all(pair["n_units"] == 3 and pair["n_sessions"] == 1 for pair in pairs)
    mean = evaluate_baseline("unit_mean", open_cache(cache), tasks=["inter_region"],
                             settings=DataSettings(min_units_per_region=3)).metrics  # fmt: skip
    assert mean["region_pairs"] is None
    (skipped,) = mean["skipped"].values()
    assert "pairs of regions" in skipped["region_pairs"]
    score = mean["tasks"]["inter_region"]["bits_per_spike"]
    assert np.mean([pair["bits_per_spike"] for pair in pairs]) > score + 0.1


def test_the_past_tells_the_future_where_latents_are_slow_and_nothing_where_there_are_none():
    """Rates follow two latents with a time constant of a trial, or are constant."""
    rng = np.random.default_rng(4)
    ds = make_session(n_units=12, n_trials=150, n_bins=40, seed=8)
    z = rng.normal(size=(150, 1, 2)) + 0.1 * np.cumsum(rng.normal(size=(150, 40, 2)), axis=1)
    truth = 0.6 * np.exp(0.5 * z @ rng.normal(size=(2, 12)))
    split = ds.split.values.astype(str)
    scores = {}
    for kind, rates in (("slow", truth), ("none", np.full_like(truth, 0.4))):
        spikes = rng.poisson(rates).clip(0, 50).astype(np.uint8)
        counts = spikes[split == "test"][:, 36:]
        known = ds.assign(spikes=(ds.spikes.dims, spikes))
        for name in ("unit_mean", "autoregressive"):
            predictor = BaselinePredictor(name, known, split, np.full(12, ""))
            ((_, found),) = predictor.held_out("forward_prediction")
            scores[kind, name] = np.mean(bits_per_spike(found[:, 36:], counts))
        scores[kind, "truth"] = np.mean(bits_per_spike(rates[split == "test"][:, 36:], counts))
    gain = scores["slow", "autoregressive"] - scores["slow", "unit_mean"]
    possible = scores["slow", "truth"] - scores["slow", "unit_mean"]
    assert 0.5 * possible < gain < possible
    assert scores["none", "autoregressive"] > scores["none", "unit_mean"] - 0.01


def test_a_task_that_a_baseline_is_not_made_for_is_skipped_with_a_reason(cache):
    found = evaluate_baseline("autoregressive", open_cache(cache), tasks=ACTIVITY_TASKS).metrics
    (skipped,) = found["skipped"].values()
    assert found["tasks"]["co_smoothing"] is None
    assert "does not predict" in skipped["co_smoothing"]
    assert np.isfinite(found["tasks"]["forward_prediction"]["bits_per_spike"])


def test_a_baseline_that_drifts_knows_when_each_trial_was(monkeypatch):
    """Rates of the test trials are the system's at their times, in batches too."""
    monkeypatch.setattr(by_dynamics, "_BATCH", 2)
    ds = make_session(n_units=6, n_trials=20, n_bins=12, seed=3)
    # One component cannot tell what six units do, each by itself, over the session.
    monkeypatch.setattr(poisson_lds, "COMPONENTS", 1)
    waves = np.sin(2 * np.pi * np.arange(20)[:, None] / 20 + np.arange(6))
    rates = 2 * np.exp(waves[:, None] * np.ones((1, 12, 1)))
    ds["spikes"] = ds.spikes.dims, np.random.default_rng(0).poisson(rates).astype(np.uint8)
    ds = ds.isel(trial=np.r_[0:5, 7:20])  # dropped in the middle
    split = np.array(["train", "val", "test"])[np.arange(18) % 3]
    data = BaselineData.of(ds, split, np.full(6, "CA1"))
    assert set(data.start) == set(data.counts)
    for name, rows in (("test", split == "test"), ("fit", split != "test")):
        np.testing.assert_array_equal(data.start[name], ds.window_start.values[rows])
    rates = BASELINES["poisson_lds_drift"].predict(data, "forward_prediction")
    system = poisson_lds.fitted(data, drift=True)
    times = torch.from_numpy(ds.window_start.values[split == "test"])
    counts = torch.from_numpy(ds.spikes.values[split == "test"].astype(np.float32))
    first = 12 - rates.shape[1]
    visible = torch.ones(1, 12, 1, dtype=torch.bool)
    visible[:, first:] = False
    gains = system.gains(times, len(times))
    assert (gains.mean[0] - gains.mean[-1]).abs().max() > 0.1
    expected = system.log_rates(system.infer(counts, visible, None, gains)).exp()[:, first:]
    np.testing.assert_allclose(rates, expected, rtol=1e-3)


def test_an_unknown_baseline_is_refused_with_those_there_are(cache):
    with pytest.raises(UserError, match="unknown baseline 'gru'; known: unit_mean, psth"):
        evaluate_baseline("gru", open_cache(cache))


def test_features_of_a_unit_whose_spikes_are_far_from_the_bins_stay_small():
    spikes = np.zeros((4, 100, 2), np.float32)
    spikes[::2, 70] = 1
    data = BaselineData({"train": spikes}, {"train": np.zeros(4, int)}, np.array(["a", "a"]))
    x = data.to_predict("train", 3.0, "forward_prediction")
    assert np.abs(x).max() < 10


def reference(shared_data):
    """The reference session, without conditions."""
    held = np.load(shared_data / "simulated_session.npz")
    spikes = held["spikes"].astype(np.float32)
    trials = {name: held[name] for name in ("train", "val", "test")}
    trials["fit"] = np.sort(np.concatenate([trials["train"], trials["val"]]))
    return BaselineData(
        {name: spikes[rows] for name, rows in trials.items()},
        {name: np.zeros(len(rows), int) for name, rows in trials.items()},
        held["regions"],
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "expected"),
    [("co_smoothing", 0.33), ("forward_prediction", -0.01), ("intra_region", 0.28),
     ("inter_region", 0.17)],
)  # fmt: skip
def test_poisson_regression_on_the_reference_session(shared_data, task, expected):
    data = reference(shared_data)
    baseline = BASELINES["poisson_regression"]
    rates = baseline.predict(data, task, *baseline.choose(data, task))
    assert data.score(rates, "test", task) == pytest.approx(expected, abs=0.015)


@pytest.mark.slow
def test_the_past_tells_the_future_of_the_reference_session(shared_data):
    """The true rates score 0.43, knowing the past exactly 0.28, the mean count -0.13."""
    data = reference(shared_data)
    task, scores = "forward_prediction", {}
    for name in ("unit_mean", "autoregressive"):
        baseline = BASELINES[name]
        rates = baseline.predict(data, task, *baseline.choose(data, task))
        scores[name] = data.score(rates, "test", task)
    assert scores["unit_mean"] == pytest.approx(-0.13, abs=0.01)
    assert 0 < scores["autoregressive"] < 0.28


def test_no_rate_that_is_fed_back_exceeds_what_a_unit_ever_did():
    """Or rates would grow from bin to bin, without end."""
    rng = np.random.default_rng(0)
    counts = rng.poisson([0.1, 2.0], (30, 20, 2)).astype(np.float32)
    model = autoregressive._Model(counts)
    wild = model.fit(1.0)
    wild = replace(wild, weights=np.full_like(wild.weights, 2.0), highest=20.0)
    bins = slice(15, 20)
    rates = model.roll_out(wild, counts, bins)
    # The fastest that smoothed counts (with a decay of 0.8) ever were, unit by unit.
    state, fastest = np.zeros((30, 2)), np.zeros(2)
    for t in range(19):
        state = 0.8 * state + 0.2 * counts[:, t]
        fastest = np.maximum(fastest, state.max(0))
    assert (rates <= fastest + 0.011).all()
    assert rates.max(axis=(0, 1)) == pytest.approx(fastest + 0.01, abs=1e-4)
