"""R² by the published code's rules, written out unit by unit, and where `eval` puts them."""

import json

import numpy as np
import pandas as pd
import pytest
from synthetic import make_regions, make_session
from training_runs import tiny_settings
from typer.testing import CliRunner

import ibl_mtm
from ibl_mtm.cache.store import create_cache, write_session
from ibl_mtm.cli import app
from ibl_mtm.errors import UserError
from ibl_mtm.evaluation.activity.published_r2 import published_conditions, published_r2
from ibl_mtm.evaluation.metrics import summarise

pytestmark = pytest.mark.usefixtures("short")


def test_conditions_are_those_that_there_are():
    choice = np.array([1, 1, -1, 0, 1, 1, -1])
    reward = np.array([1, -1, 1, -1, 1, 1, 1])
    block = np.array([0.5, 0.5, 0.2, 0.2, 0.8, np.nan, 0.2])
    found = published_conditions(choice, reward, block)
    # No choice is a choice there; a trial without a block has no condition.
    assert found[5] == -1
    assert found[2] == found[6]
    assert len(set(found[[0, 1, 2, 3, 4]])) == 5
    assert set(published_conditions(choice, reward, np.full(7, np.nan))) == {-1}


def test_scores_worked_out_by_hand():
    """Two trials of one condition and one of another; the last unit never fires."""
    y = np.array([[[0, 1, 0], [2, 1, 0]], [[2, 0, 0], [0, 3, 0]], [[1, 1, 0], [1, 4, 0]]])
    p = np.array(
        [[[1.0, 1, 0.1], [1, 1, 0.1]], [[1, 0, 0.1], [1, 2, 0.1]], [[1, 2, 0.1], [2, 3, 0.1]]]
    )
    psth, trial = published_r2(p, y, [0, 0, 1])
    for unit in range(2):
        observed = [(y[0, t, unit] + y[1, t, unit]) / 2 for t in range(2)]
        observed += [y[2, t, unit] for t in range(2)]
        predicted = [(p[0, t, unit] + p[1, t, unit]) / 2 for t in range(2)]
        predicted += [p[2, t, unit] for t in range(2)]
        whole = y[..., unit].ravel(), p[..., unit].ravel()
        for found, (a, b) in ((psth[unit], (observed, predicted)), (trial[unit], whole)):
            a, b = np.array(a, float), np.array(b)
            spread = ((a - a.mean()) ** 2).sum()
            expected = 0.0 if spread == 0 else 1 - ((a - b) ** 2).sum() / spread
            assert found == pytest.approx(expected)
    assert (psth[2], trial[2]) == (0, 0)
    assert np.isnan(published_r2(p, y, [-1, -1, -1])[0]).all()


def test_a_trial_may_be_a_condition_of_its_own_and_nothing_is_smoothed():
    rng = np.random.default_rng(0)
    y, p = rng.poisson(0.4, (6, 9, 4)), rng.gamma(2, 0.2, (6, 9, 4))
    psth, trial = published_r2(p, y, np.arange(6))
    np.testing.assert_allclose(psth, trial)
    shuffled = rng.permutation(9)
    np.testing.assert_allclose(
        published_r2(p[:, shuffled], y[:, shuffled], np.arange(6)), [psth, trial]
    )


def test_the_mean_is_over_all_units_then_over_sessions():
    rows = pd.DataFrame({"eid": ["a", "a", "a", "b"], "task": "co_smoothing",
                         "bits_per_spike": [0.1, np.nan, 0.3, 0.2],
                         "published_psth_r2": [0.3, 0.0, -3.0, 0.5],
                         "published_trial_r2": [0.1, 0.0, 0.2, np.nan]})  # fmt: skip
    found = summarise(rows).loc["co_smoothing"]
    assert found["published_psth_r2"] == pytest.approx((-0.9 + 0.5) / 2)
    assert found["published_trial_r2"] == pytest.approx(0.1)
    assert "published_psth_r2" not in summarise(rows.drop(columns=["published_psth_r2"]))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rules")
    create_cache(folder / "cache.zarr")
    for seed, n in ((1, 40), (2, 52)):
        ds = make_session(n_units=12, n_trials=n, n_bins=20, seed=seed)
        write_session(folder / "cache.zarr", ds, make_regions())
    cache = ibl_mtm.open_cache(folder / "cache.zarr")
    ibl_mtm.train(tiny_settings(steps=2, validate_every=2), cache, folder / "run", progress=False)
    return cache, folder / "run"


def test_eval_has_them_on_request_beside_our_own(trained):
    cache, run = trained
    tasks = ["co_smoothing", "forward_prediction"]
    without = ibl_mtm.evaluate(run, cache, tasks=tasks)
    found = ibl_mtm.evaluate(run, cache, tasks=tasks, r2="published")
    assert not any("published" in column for column in without.per_unit)
    shared = without.per_unit.columns
    pd.testing.assert_frame_equal(found.per_unit[shared], without.per_unit)
    model = ibl_mtm.load_model(run)
    means = []
    for eid, ds in cache.items():
        test = ds.isel(trial=np.flatnonzero(ds.split.values == "test"))
        rates = ibl_mtm.predict(model, test, "forward_prediction").values[:, -2:]
        number = published_conditions(test.choice, test.feedback, test.probability_left)
        psth, trial = published_r2(rates, test.spikes.values[:, -2:], number)
        own = found.per_unit.query("task == 'forward_prediction'")
        own = own[own.eid == eid]
        np.testing.assert_allclose(own["published_psth_r2"], psth, rtol=1e-5)
        np.testing.assert_allclose(own["published_trial_r2"], trial, rtol=1e-5)
        means.append(psth.mean())
    score = found.metrics["tasks"]["forward_prediction"]["published_psth_r2"]
    assert score == pytest.approx(np.mean(means), abs=1e-5)


def test_the_command_prints_and_keeps_them(trained, tmp_path):
    cache, _ = trained
    arguments = ["eval", "--baseline", "unit_mean", "--cache", str(cache.path),
                 "--task", "co_smoothing", "--out", str(tmp_path / "mean")]  # fmt: skip
    done = CliRunner().invoke(app, [*arguments, "--r2", "published"])
    assert done.exit_code == 0, done.output
    assert "R² by the published rules: psth" in done.stdout
    kept = json.loads((tmp_path / "mean" / "metrics.json").read_text())["tasks"]["co_smoothing"]
    assert kept["published_trial_r2"] < 0  # a mean of other trials explains nothing
    refused = CliRunner().invoke(app, [*arguments, "--r2", "paper"])
    assert isinstance(refused.exception, UserError)
    assert "known: own, published" in str(refused.exception)
