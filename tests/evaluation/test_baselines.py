"""Baselines: fitted as said, blind to what they predict, and as good as they ought to be."""

import json

import numpy as np
import pytest
from sklearn.linear_model import PoissonRegressor
from synthetic import make_regions, make_session
from typer.testing import CliRunner

from ibl_mtm.cache.cache import open_cache
from ibl_mtm.cache.store import create_cache, write_session
from ibl_mtm.cli import app
from ibl_mtm.errors import UserError
from ibl_mtm.evaluation.baseline_data import BaselineData
from ibl_mtm.evaluation.baselines import BASELINES, BaselinePredictor
from ibl_mtm.evaluation.evaluate import evaluate_baseline
from ibl_mtm.evaluation.metrics import bits_per_spike
from ibl_mtm.evaluation.poisson import fit_poisson, fit_reduced_rank
from ibl_mtm.evaluation.tasks import ACTIVITY_TASKS, held_out

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
def test_baselines_predict_every_entry_and_see_none_that_is_held_out(ds, name, task):
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
    fit = fit_poisson(x, y, penalty=0.2)
    for unit in range(3):
        mean = (y[:, unit].sum() + 0.5) / len(y)
        plain = PoissonRegressor(alpha=0.2 * mean, tol=1e-9, max_iter=1000)
        plain.fit(x, y[:, unit])
        np.testing.assert_allclose(fit.weights[:, unit], plain.coef_, atol=2e-3)
        assert fit.intercept[unit] == pytest.approx(plain.intercept_, abs=2e-3)
    allowed = rng.random((6, 3)) < 0.5
    assert not fit_poisson(x, y, 0.2, allowed).weights[~allowed].any()
    low = fit_reduced_rank(x, y, 0.2, 1, fit, np.ones((6, 3), bool))
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


def test_the_command_gives_the_document_of_a_run_and_files_to_compare(cache, tmp_path):
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


def test_a_task_that_a_baseline_is_not_made_for_is_skipped_with_a_reason(cache):
    found = evaluate_baseline("autoregressive", open_cache(cache), tasks=ACTIVITY_TASKS).metrics
    (skipped,) = found["skipped"].values()
    assert found["tasks"]["co_smoothing"] is None
    assert "does not predict" in skipped["co_smoothing"]
    assert np.isfinite(found["tasks"]["forward_prediction"]["bits_per_spike"])


def test_an_unknown_baseline_is_refused_with_those_there_are(cache):
    with pytest.raises(UserError, match="unknown baseline 'gru'; known: unit_mean, psth"):
        evaluate_baseline("gru", open_cache(cache))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "expected"),
    [("co_smoothing", 0.33), ("forward_prediction", -0.01), ("intra_region", 0.28),
     ("inter_region", 0.17)],
)  # fmt: skip
def test_poisson_regression_on_the_reference_session(shared_data, task, expected):
    held = np.load(shared_data / "simulated_session.npz")
    spikes = held["spikes"].astype(np.float32)
    trials = {name: held[name] for name in ("train", "val", "test")}
    trials["fit"] = np.sort(np.concatenate([trials["train"], trials["val"]]))
    data = BaselineData(
        {name: spikes[rows] for name, rows in trials.items()},
        {name: np.zeros(len(rows), int) for name, rows in trials.items()},
        held["regions"],
    )
    rates = BASELINES["poisson_regression"].predict(data, task)
    assert data.score(rates, "test", task) == pytest.approx(expected, abs=0.015)
