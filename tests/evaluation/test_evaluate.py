"""Evaluating a run: every score from the plain definition, and what cannot be had is said."""

import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
from scipy.stats import poisson
from synthetic import make_regions, make_session
from typer.testing import CliRunner

from ibl_mtm.cache.cache import open_cache
from ibl_mtm.cache.store import create_cache, write_session
from ibl_mtm.cli import app
from ibl_mtm.config.yaml_settings import validate_settings
from ibl_mtm.errors import UserError
from ibl_mtm.evaluation.activity.predictions import predict
from ibl_mtm.evaluation.activity.response import response_r2, trial_conditions
from ibl_mtm.evaluation.activity.tasks import ACTIVITY_TASKS
from ibl_mtm.evaluation.evaluate import evaluate
from ibl_mtm.evaluation.side_by_side import sessions_at_once
from ibl_mtm.sessions.conditions import condition_codes
from ibl_mtm.training.checkpoint.pretrained import load_model
from ibl_mtm.training.run import train
from ibl_mtm.training.settings import RunSettings

SETTINGS = validate_settings(
    {
        "model": {"width": 16, "layers": 1, "heads": 2, "mlp": 16, "stitch_width": None},
        "data": {"min_units_per_region": 3},
        "batch_size": 16,
        "sessions_per_batch": 2,  # every step touches every session
        "steps": 6,
        "validate_every": 3,
    },
    RunSettings,
    "test",
)


def build(root, *sessions):
    create_cache(root / "cache.zarr")
    for ds in sessions:
        write_session(root / "cache.zarr", ds, make_regions())
    cache = open_cache(root / "cache.zarr")
    train(SETTINGS, cache, root / "run", progress=False)
    return root / "run", cache


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    silent = make_session(n_units=15, n_trials=50, n_bins=20, seed=1)
    silent.spikes[{"unit": 3}] = 0
    other = make_session(n_units=20, n_trials=40, n_bins=20, seed=2)
    return build(tmp_path_factory.mktemp("evaluate"), silent, other)


@pytest.fixture(scope="module")
def evaluation(trained):
    run, cache = trained
    return evaluate(run, cache)


def plain_score(model, ds, task):
    """bits/spike of each unit by the Neural Latents Benchmark's formula, then their mean."""
    test = ds.isel(trial=np.flatnonzero(ds.split.values == "test"))
    rates = predict(model, test, task).values.astype(float)
    counts = test.spikes.values.astype(float)
    scores = []
    for unit in range(counts.shape[2]):
        seen = np.isfinite(rates[:, :, unit])
        y, r = counts[:, :, unit][seen], rates[:, :, unit][seen]
        if y.sum() == 0:
            continue
        gain = poisson.logpmf(y, r).sum() - poisson.logpmf(y, y.mean()).sum()
        scores.append(gain / y.sum() / np.log(2))
    return np.mean(scores), len(scores)


@pytest.mark.parametrize("task", ACTIVITY_TASKS)
def test_scores_are_means_over_units_then_sessions(trained, evaluation, task):
    run, cache = trained
    model = load_model(run)
    plain = {eid: plain_score(model, ds, task) for eid, ds in cache.items()}
    for eid, (score, n_units) in plain.items():
        found = evaluation.metrics["sessions"][eid][task]
        assert found["bits_per_spike"] == pytest.approx(score, abs=1e-5)
        assert found["n_units"] == n_units
    overall = evaluation.metrics["tasks"][task]
    assert overall["bits_per_spike"] == pytest.approx(
        np.mean([score for score, _ in plain.values()]), abs=1e-5
    )


def test_medians_and_errors_stand_beside_the_means(evaluation):
    units = evaluation.per_unit.query("task == 'co_smoothing'").dropna(subset="bits_per_spike")
    found = evaluation.metrics["tasks"]["co_smoothing"]
    bits = units["bits_per_spike"]
    assert found["median_units"] == pytest.approx(np.median(bits), abs=1e-6)
    assert found["sem_units"] == pytest.approx(bits.std() / np.sqrt(len(bits)), abs=1e-6)
    sessions = [s["co_smoothing"] for s in evaluation.metrics["sessions"].values()]
    means = [s["bits_per_spike"] for s in sessions]
    assert found["median_sessions"] == pytest.approx(np.median(means), abs=1e-6)
    assert found["sem_sessions"] == pytest.approx(np.std(means, ddof=1) / np.sqrt(2), abs=1e-6)
    assert "sem_sessions" not in sessions[0]  # of one session there is none
    whisker = [s["whisker_motion_energy"]["r2"] for s in evaluation.metrics["sessions"].values()]
    assert evaluation.metrics["tasks"]["whisker_motion_energy"]["median_sessions"] == pytest.approx(
        np.median(whisker), abs=1e-6
    )


def test_mean_responses_and_residuals_are_scored_on_the_same_entries(tmp_path):
    ds = make_session(n_units=12, n_trials=80, n_bins=20, seed=7)
    ds["probability_left"] = "trial", np.full(80, 0.5, np.float32)
    run, cache = build(tmp_path, ds)
    eid, tasks = next(iter(cache)), ["co_smoothing", "forward_prediction"]
    found = evaluate(run, cache, tasks=tasks)
    test = ds.isel(trial=np.flatnonzero(cache[eid].split.values == "test"))
    condition = trial_conditions(*(condition_codes(test, n) for n in ("choice", "block")))
    assert len(set(condition[condition >= 0])) == 2  # left and right, in the block without a side
    for task in tasks:
        rates = predict(load_model(run), test, task).values
        asked = np.isfinite(rates[0, :, 0])
        assert asked.sum() == (20 if task == "co_smoothing" else 2)
        counts = test.spikes.values[:, asked]
        expected = response_r2(rates[:, asked], counts, condition, 0.03 / 0.02)
        own = found.per_unit.query("task == @task").set_index("unit")
        own = own.loc[test.unit.values.astype(str)]
        for name, values in zip(("psth_r2", "residual_r2"), expected, strict=True):
            assert np.isfinite(values).any()
            assert own[name].to_numpy() == pytest.approx(values, abs=1e-4, nan_ok=True)
            assert found.metrics["tasks"][task][name] == pytest.approx(
                np.nanmedian(values), abs=1e-4
            )
        assert found.metrics["tasks"][task]["n_units_psth"] == np.isfinite(expected[0]).sum()


def test_silent_units_are_left_out_and_counted(trained, evaluation):
    _, cache = trained
    silent = {
        unit
        for ds in cache.values()
        for unit, n in zip(
            ds.unit.values.tolist(),
            ds.spikes.values[ds.split.values == "test"].sum((0, 1)),
            strict=True,
        )
        if n == 0
    }
    assert silent
    found = evaluation.metrics["tasks"]["co_smoothing"]
    assert (found["n_silent"], found["n_units"]) == (len(silent), 35 - len(silent))
    scores = evaluation.per_unit.query("task == 'co_smoothing'").set_index("unit").bits_per_spike
    assert set(scores[scores.isna()].index) == silent


def test_behaviour_stands_beside_raw_spikes_and_every_prompt(evaluation):
    choice = evaluation.metrics["tasks"]["choice"]
    whisker = evaluation.metrics["tasks"]["whisker_motion_energy"]
    prompts = {"neuron", "causal", "intra_region", "inter_region"}
    assert set(choice["by_prompt"]) == set(whisker["by_prompt"]) == prompts
    assert choice["prompt"] == "neuron"
    assert choice["accuracy"] == choice["by_prompt"]["neuron"]["accuracy"]
    assert 0 <= choice["raw_spikes"]["accuracy"] <= 1
    assert whisker["r2"] <= 1


def test_the_document_is_plain_json_and_files_are_written(trained, evaluation):
    run, cache = trained
    evaluation.write(run)
    evaluation.write(run)  # again: replaced
    assert json.loads((run / "metrics.json").read_text()) == evaluation.metrics
    assert pd.read_parquet(run / "per_unit.parquet").equals(evaluation.per_unit)
    eid = next(iter(cache))
    stored = xr.open_zarr(run / "evaluation.zarr" / eid)
    ds = cache[eid]
    left = ds.spikes.values[(ds.split.values == "test") & (ds.choice.values == 1)]
    assert stored.psth_observed.sel(condition="choice left").values == pytest.approx(
        left.mean(0) / 0.02, rel=1e-5
    )
    assert not [p for p in run.iterdir() if p.name.startswith(".evaluation")]


def test_some_tasks_and_sessions_can_be_asked_for(trained):
    run, cache = trained
    eid = list(cache)[1]
    one = evaluate(run, cache, tasks=["forward_prediction"], sessions=[eid])
    assert set(one.metrics["tasks"]) == {"forward_prediction"}
    assert set(one.metrics["sessions"]) == {eid}


def test_what_cannot_be_had_is_null_with_a_reason(tmp_path):
    run, cache = build(tmp_path, make_session(n_units=12, n_bins=20, contiguous=True, seed=3))
    found = evaluate(run, cache).metrics
    (skipped,) = found["skipped"].values()
    for task in ("intra_region", "inter_region", "choice", "whisker_motion_energy"):
        assert found["tasks"][task] is None
        assert skipped[task]
    assert np.isfinite(found["tasks"]["co_smoothing"]["bits_per_spike"])
    assert np.isfinite(found["tasks"]["forward_prediction"]["bits_per_spike"])
    assert found["tasks"]["co_smoothing"]["psth_r2"] is None
    assert found["tasks"]["co_smoothing"]["residual_r2"] is None
    assert "no trials" in skipped["psth_r2"]


def test_one_region_and_one_choice_leave_the_other_tasks(tmp_path):
    ds = make_session(n_units=12, n_trials=50, n_bins=20, seed=4)
    ds["beryl"] = "unit", np.full(12, "CA1")
    ds["choice"] = "trial", np.ones(50, np.int8)
    run, cache = build(tmp_path, ds.drop_vars("whisker_motion_energy"))
    found = evaluate(run, cache, tasks=["all"]).metrics
    (skipped,) = found["skipped"].values()
    assert "units outside" in skipped["inter_region"]
    assert "fewer than two classes" in skipped["choice"]
    assert "no whisker_motion_energy" in skipped["whisker_motion_energy"]
    assert found["region_pairs"] == []
    for task in ("intra_region", "co_smoothing", "wheel_velocity", "wheel_speed", "lick_rate"):
        assert found["tasks"][task] is not None


def test_every_behaviour_has_chance_and_an_interval_beside_it(trained):
    run, cache = trained
    # The other's few test trials with a block lie within what may be a single one: no chance there.
    (eid,) = cache.where("subject == 'SYN_002'")
    found = evaluate(run, cache, tasks=["block", "wheel_velocity"], sessions=[eid]).metrics
    for task, key in (("block", "accuracy"), ("wheel_velocity", "r2")):
        score = found["tasks"][task]
        low, high = score["intervals"][key]
        assert low <= score[key] <= high
        assert key in score["chance"]
    ds = cache[eid]
    test = (ds.split.values == "test") & ds.included.values & (ds.probability_left.values != 0.5)
    assert found["tasks"]["block"]["n_test"] == test.sum()
    assert found["tasks"]["block"]["share"] == pytest.approx(
        np.mean(ds.probability_left.values[test] > 0.5), abs=1e-6
    )


def test_region_pairs_are_means_over_sessions(trained, evaluation):
    _, cache = trained
    names = {"VISa", "CA1", "DG", "LP", "PO"}
    pairs = {(p["source"], p["target"]): p for p in evaluation.metrics["region_pairs"]}
    assert set(pairs) == {(a, b) for a in names for b in names if a != b}
    assert all(pair["n_sessions"] == len(cache) for pair in pairs.values())


def test_bad_requests_name_the_mend(trained, tmp_path):
    run, cache = trained
    with pytest.raises(UserError, match="unknown task 'sorting'"):
        evaluate(run, cache, tasks=["sorting"])
    with pytest.raises(UserError, match="no session 'nobody'"):
        evaluate(run, cache, sessions=["nobody"])
    with pytest.raises(UserError, match="no trained model"):
        evaluate(tmp_path, cache)
    with pytest.raises(UserError, match="none of the 2 sessions"):
        evaluate(run, cache.where("n_units > 1000"))


def test_sessions_side_by_side_fit_into_memory(trained, monkeypatch):
    """Each thread once held all prompts' rates of its session, however large."""
    run, cache = trained
    largest = max(ds.spikes.size for ds in cache.values())
    for n_sessions in (1, 2, 5):
        budget = n_sessions * largest * 4 * (4 + 3) / 1e9
        assert sessions_at_once(cache, list(cache), 4, budget * 1.01) == n_sessions
        assert sessions_at_once(cache, list(cache), 4, budget * 0.99) == max(1, n_sessions - 1)
    assert sessions_at_once(cache, ["of no cache"], 4, 1.0) == 1
    side_by_side = []

    def pool(workers):
        side_by_side.append(workers)
        return ThreadPoolExecutor(workers)

    monkeypatch.setattr("ibl_mtm.evaluation.side_by_side.ThreadPoolExecutor", pool)
    threads = []
    # What was asked for last is what is left when all is done: tests after this one would have it.
    monkeypatch.setattr("torch.get_num_threads", lambda: 8)
    monkeypatch.setattr("torch.set_num_threads", threads.append)
    for memory_gb in (1e-9, None):
        evaluate(run, cache, tasks=["forward_prediction"], memory_gb=memory_gb)
    assert side_by_side == [1, 2]
    assert threads == [8, 8, 4, 8]


def test_a_device_can_be_chosen_and_one_that_is_missing_is_told(trained):
    run, cache = trained
    words = ["eval", str(run), "--cache", str(cache.path), "--task", "co-smoothing", "--device"]
    if not torch.cuda.is_available():
        found = CliRunner().invoke(app, [*words, "cuda"])
        assert isinstance(found.exception, UserError)
        assert "device 'cuda' is not to be had" in str(found.exception)
