"""Linear dynamics of a run: fitted to its sessions, weighed on validation, blind to the test."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from training_runs import tiny_settings

from ibl_mtm.evaluation.activity.predict import (
    population_of,
    predict_held_out,
    predict_unmasked,
)
from ibl_mtm.evaluation.activity.predictions import predict
from ibl_mtm.evaluation.activity.tasks import ACTIVITY_TASKS, TASK_SCHEME, held_out
from ibl_mtm.model.dynamics.fit import fit_dynamics
from ibl_mtm.model.dynamics.system import HIGHEST
from ibl_mtm.model.group import Group
from ibl_mtm.model.masking import SCHEMES, draw_mask, mask_last_bins
from ibl_mtm.model.mtm import MtM
from ibl_mtm.training.checkpoint.pretrained import load_model
from ibl_mtm.training.data.describe import describe_sessions
from ibl_mtm.training.loop.dynamics import SHARES, USUAL_SECONDS, USUAL_SHARE, choose_shares
from ibl_mtm.training.objective.draw_tasks import SessionRows
from ibl_mtm.training.run import train

K = 3


def settings():
    chosen = tiny_settings()
    own = {"dynamics": K, "drift": True}
    return chosen.model_copy(update={"model": chosen.model.model_copy(update=own)})


@pytest.fixture(scope="module")
def run(cache, tmp_path_factory):
    folder = tmp_path_factory.mktemp("dynamics") / "run"
    said = []
    train(settings(), cache, folder, progress=False, say=said.append)
    assert sum("linear dynamics of the train and val trials" in line for line in said) == len(cache)
    return folder


def test_systems_are_fitted_to_all_but_test_trials_and_shares_lie_between_tried_and_usual(
    cache, run
):
    model = load_model(run)
    sessions = describe_sessions(cache, settings().data)
    for session, rows in zip(sessions, SessionRows.of(sessions, model.scope), strict=True):
        train_, val = (torch.from_numpy(session.read(split)) for split in ("train", "val"))
        times = [torch.from_numpy(session.start[session.trials_in(s)]) for s in ("train", "val")]
        with torch.no_grad():
            known = torch.cat(times)
            expected = fit_dynamics(torch.cat([train_, val]), K, times=known)
        found = model.dynamics_of(rows.units, rows.session)
        for name in ("mean", "variance", "spread", "span"):
            of_run, own = (getattr(system.drift, name) for system in (found, expected))
            torch.testing.assert_close(of_run, own, atol=1e-3, rtol=1e-2)
        assert found.drift.span[0] == known.min()
        torch.testing.assert_close(found.loading, expected.loading, atol=1e-4, rtol=1e-3)
        torch.testing.assert_close(found.course, expected.course, atol=1e-3, rtol=1e-2)
        torch.testing.assert_close(found.highest, expected.highest, atol=1e-2, rtol=1e-2)
    tasks = [SCHEMES.index(s) for s in ("neuron", "causal", "intra_region", "inter_region")]
    n_val = sum(len(session.trials_in("val")) for session in sessions)
    known = n_val * model.scope.trial_format.n_time * model.scope.trial_format.bin_size
    drawn = (known * SHARES + USUAL_SECONDS * USUAL_SHARE) / (known + USUAL_SECONDS)
    assert np.isclose(model.dynamics_share[tasks, None].numpy(), drawn, atol=1e-6).any(1).all()


def test_a_run_of_before_rates_were_bound_is_read(run, tmp_path):
    folder = tmp_path / "earlier"
    shutil.copytree(run, folder)
    weights = load_file(folder / "model.safetensors")
    save_file(
        {name: table for name, table in weights.items() if name != "dynamics_highest"},
        folder / "model.safetensors",
    )
    model = load_model(folder)
    assert model.dynamics_highest.tolist() == [HIGHEST] * len(model.scope.units)
    torch.testing.assert_close(model.dynamics_loading, weights["dynamics_loading"])
    assert (weights["dynamics_highest"] < HIGHEST).all()


def test_shares_are_chosen_at_the_times_of_validation_trials(cache, run, monkeypatch):
    model, asked, infer = load_model(run), [], MtM.infer_dynamics
    monkeypatch.setattr(
        MtM, "infer_dynamics", lambda self, group: (asked.append(group), infer(self, group))[1]
    )
    sessions = describe_sessions(cache, settings().data)
    choose_shares(model, sessions, settings())
    for number, session in enumerate(sessions):
        rows = session.trials_in("val")
        np.testing.assert_array_equal(
            session.trial[rows], cache[session.eid].trial.values[session.trial_positions[rows]]
        )
        groups = [group for group in asked if group.session == number]
        assert groups
        for group in groups:
            np.testing.assert_array_equal(group.times, session.start[rows])


def test_shares_do_not_depend_on_how_many_trials_are_looked_at_at_a_time(cache, run, monkeypatch):
    model, found = load_model(run), []
    sessions = describe_sessions(cache, settings().data)[:1]
    for batch in (32, 3):
        monkeypatch.setattr("ibl_mtm.training.loop.dynamics._BATCH", batch)
        choose_shares(model.train(), sessions, settings())
        assert not model.training
        found.append(model.dynamics_share.clone())
    assert torch.equal(*found)


def test_without_validation_trials_all_shares_are_the_usual_one(cache, run):
    model = load_model(run)
    sessions = [
        replace(session, split=np.where(session.split == "val", "test", session.split))
        for session in describe_sessions(cache, settings().data)
    ]
    choose_shares(model, sessions, settings())
    assert model.dynamics_share.tolist() == [USUAL_SHARE] * len(SCHEMES)


def test_a_resumed_run_that_had_ended_ends_alike(cache, run):
    before = (run / "model.safetensors").read_bytes()
    train(settings(), cache, run, resume=True, progress=False)
    assert (run / "model.safetensors").read_bytes() == before


def test_log_rates_are_averaged_by_the_share(cache, run):
    model = load_model(run)
    model.dynamics_share.fill_(0.25)
    ds = next(iter(cache.values())).load()
    population = population_of(model, ds)
    with torch.inference_mode():
        nothing = torch.zeros(4, 1, 1, dtype=torch.bool)
        group = population.group(nothing, torch.arange(4), "neuron")
        (own,) = model([group])
        posterior = model.infer_dynamics(group)
        other = model.dynamics_of(group.units, group.session).log_rates(posterior)
    found = predict_unmasked(population, "neuron")[:4]
    # The transformer does not know what time it is: gains are added to what it says.
    own = own + posterior.gain[:, None]
    np.testing.assert_allclose(found, (0.75 * own + 0.25 * other).numpy(), atol=1e-4)
    assert posterior.gain.abs().max() > 1e-3
    np.testing.assert_array_equal(group.times, ds.window_start[:4])
    with torch.inference_mode():
        (prior, _) = model.dynamics_of(group.units, group.session).drift.at(group.times, 4)
        unknown = model.infer_dynamics(replace(group, times=None))
    assert not torch.equal(prior[0], prior[3])
    assert not torch.equal(unknown.gain, posterior.gain)
    # Under causal attention and nothing hidden the system would see later bins.
    with torch.inference_mode():
        (alone,) = model([population.group(nothing, torch.arange(4), "causal")])
    np.testing.assert_array_equal(predict_unmasked(population, "causal")[:4], alone.numpy())


@pytest.mark.parametrize("at_once", [1, 3])
@pytest.mark.parametrize("task", ACTIVITY_TASKS)
def test_what_is_held_out_is_predicted_by_the_average_too(cache, run, task, at_once, monkeypatch):
    """Item by item or several together as on a GPU, each from what it shows, in any order, and
    trial by trial at its time.
    """
    module = "ibl_mtm.evaluation.activity.by_dynamics"
    monkeypatch.setattr(f"{module}._BATCH", 5)
    monkeypatch.setattr(f"{module}._at_once", lambda device: at_once)
    model = load_model(run)
    model.dynamics_share.fill_(0.25)
    model.dynamics_gain.normal_(std=0.5, generator=torch.Generator().manual_seed(0))
    population = population_of(model, next(iter(cache.values())).load())
    trials, n_time = torch.arange(len(population.counts)), population.counts.shape[1]
    row = {name: at for at, name in enumerate(model.scope.regions)}
    found = list(predict_held_out(population, task))
    assert len(found) == len(list(held_out(task, population.region, n_time)))
    for held, rates in found:
        with torch.inference_mode():
            region = torch.full((len(trials),), row.get(held.region, -1))
            hidden, outputs = torch.from_numpy(held.hidden)[None], torch.from_numpy(held.outputs)
            group = population.group(hidden, trials, TASK_SCHEME[task], region, outputs)
            expected = model.blend(model([group])[0], group).exp()
        # Where a search begins may move the curvature that covariances are taken at.
        np.testing.assert_allclose(rates, expected.numpy(), rtol=0.02)


@pytest.mark.parametrize("scheme", [s for s in SCHEMES if s != "temporal"])
def test_what_a_scheme_hides_never_reaches_a_prediction(cache, run, scheme):
    """To the bit, of the blended log rates, for a mask of each scheme."""
    model = load_model(run)
    model.dynamics_share.fill_(0.5)
    ds = next(iter(cache.values())).load()
    population = population_of(model, ds)
    n_time, key = ds.sizes["time"], torch.arange(5)
    regions = torch.tensor([model.scope.regions.index(r) if r else -1 for r in population.region])
    mask = draw_mask(scheme, key, n_time, regions)
    if scheme == "causal":
        mask = mask_last_bins(5, n_time)
    predicted = []
    for more in (0, 9):
        counts = population.counts[:5].to(torch.int64) + more * mask.hidden
        group = Group(
            counts, mask.hidden, population.rows, population.session, scheme, scheme == "causal"
        )
        with torch.inference_mode():
            predicted.append(model.blend(model([group])[0], group))
    assert torch.equal(*predicted)


@pytest.mark.parametrize("task", ACTIVITY_TASKS)
def test_what_a_task_holds_out_never_reaches_its_prediction(cache, run, task):
    """Wherever the search for components begins: with 32 units hidden, or with one."""
    model = load_model(run)
    model.dynamics_share.fill_(0.5)
    ds = next(iter(cache.values())).load()
    population = population_of(model, ds)
    held = list(held_out(task, population.region, ds.sizes["time"]))[1 if "co" in task else 0]
    hidden = np.broadcast_to(held.hidden, ds.spikes.shape[1:])
    changed = ds.copy()
    changed["spikes"] = ds.spikes.dims, np.where(hidden, ds.spikes.values + 5, ds.spikes.values)
    before, after = (predict(model, each, task).values for each in (ds, changed))
    entries = np.s_[:, held.bins, held.outputs]
    assert np.isfinite(before[entries]).all()
    np.testing.assert_array_equal(after[entries], before[entries])
