"""Predictions of a model with linear dynamics: that they take part, where, and with which gains."""

import numpy as np
import pytest
import torch
from synthetic import make_session

from ibl_mtm.evaluation.activity import predict as module
from ibl_mtm.evaluation.activity.predict import (
    population_of,
    predict_held_out,
    predict_items,
    predict_unmasked,
)
from ibl_mtm.evaluation.activity.tasks import HeldOut
from ibl_mtm.model.group import Group
from ibl_mtm.model.mtm import MtM
from ibl_mtm.model.scope import Scope
from ibl_mtm.model.settings import ModelSettings
from ibl_mtm.sessions.trial_format import trial_format

N_TIME, N_UNITS = 20, 7
SIZES = {"width": 16, "layers": 1, "heads": 2, "mlp": 16, "stitch_width": None}


@pytest.fixture(scope="module")
def ds():
    """Eight trials over some minutes, of which others were dropped."""
    ds = make_session(n_units=N_UNITS, n_trials=12, n_bins=N_TIME, seed=4)
    spikes = np.random.default_rng(0).poisson(0.8, ds.spikes.shape).astype(np.uint8)
    return ds.assign(spikes=(ds.spikes.dims, spikes)).isel(trial=[0, 1, 2, 5, 6, 8, 10, 11])


def make_model(ds, drifts=True, share=0.6):
    scope = Scope(
        tuple(ds.unit.values.tolist()), (ds.attrs["eid"],), (), trial_format(ds),
        ("neuron", "causal"),
    )  # fmt: skip
    torch.manual_seed(0)
    model = MtM(ModelSettings(**SIZES, dynamics=2, drift=drifts), scope).eval()
    with torch.no_grad():
        for table in (model.read_in, model.read_out, model.read_out_bias):
            table.normal_(std=0.3)
        model.dynamics_share.fill_(share)
        model.dynamics_offset.normal_(-0.5, 0.3)
        model.dynamics_loading.normal_(std=0.4)
        model.dynamics_course.normal_(std=0.2)
        model.dynamics_transition[:] = 0.9 * torch.eye(2)
        model.dynamics_noise[:] = 0.19 * torch.eye(2)
        if drifts:
            model.dynamics_gain.normal_(std=0.3)
            model.dynamics_gain_variance.fill_(0.1)
            model.dynamics_gain_spread.fill_(0.5)
            start = ds.window_start.values
            model.dynamics_span[:] = torch.tensor([start.min(), start.max() + 1])
    return model


def plain(model, ds, hidden, scheme):
    """The same by the model's own steps, all trials under one mask (T or 1, N or 1)."""
    counts, n = torch.from_numpy(ds.spikes.values), ds.sizes["trial"]
    times = torch.from_numpy(ds.window_start.values)
    mask = torch.from_numpy(hidden).expand(n, *hidden.shape)
    group = Group(
        counts, mask, torch.arange(N_UNITS), 0, scheme, causal=scheme == "causal", times=times
    )
    with torch.no_grad():
        return model.blend(model([group])[0], group).exp().numpy()


@pytest.mark.parametrize("drifts", [True, False])
def test_units_and_bins_are_predicted_by_both(ds, drifts):
    model = make_model(ds, drifts)
    population = population_of(model, ds)
    for held, rates in predict_held_out(population, "co_smoothing"):
        expected = plain(model, ds, held.hidden, "neuron")[..., held.outputs]
        np.testing.assert_allclose(rates, expected, rtol=5e-3)
    ((held, rates),) = predict_held_out(population, "forward_prediction")
    expected = plain(model, ds, held.hidden, "causal")
    np.testing.assert_allclose(rates[:, held.bins], expected[:, held.bins], rtol=5e-3)
    alone = make_model(ds, drifts, share=0)
    ((_, other),) = predict_held_out(population_of(alone, ds), "forward_prediction")
    assert np.abs(rates / other - 1)[:, held.bins].max() > 0.05


def test_bins_in_the_middle_are_the_transformers_under_the_causal_prompt(ds):
    """Dynamics would look at what comes after them."""
    model, alone = make_model(ds), make_model(ds, share=0)
    late, middle = np.zeros((2, N_TIME, 1), bool)
    late[12:], middle[5:8] = True, True
    units = np.arange(N_UNITS)
    found = {}
    for name, masks in (("middle", [middle]), ("late", [late]), ("both", [middle, late])):
        for key, of in (("with", model), ("without", alone)):
            items = [HeldOut(mask, units, slice(0, N_TIME), "") for mask in masks]
            asked = predict_items(population_of(of, ds), "causal", iter(items))
            found[name, key] = [rates for _, rates in asked]
    np.testing.assert_array_equal(found["middle", "with"], found["middle", "without"])
    np.testing.assert_array_equal(found["both", "with"], found["both", "without"])
    assert not np.allclose(found["late", "with"], found["late", "without"], rtol=0.01)
    # Under the other prompt they take part whatever is hidden.
    items = iter([HeldOut(middle, units, slice(0, N_TIME), "")])
    ((_, rates),) = predict_items(population_of(model, ds), "neuron", items)
    np.testing.assert_allclose(rates, plain(model, ds, middle, "neuron"), rtol=5e-3)


def test_nothing_hidden_is_predicted_by_both_at_the_trials_times(ds, monkeypatch):
    monkeypatch.setattr(module, "BATCH", 3)
    model = make_model(ds)
    rates = np.exp(predict_unmasked(population_of(model, ds), "neuron"))
    expected = plain(model, ds, np.zeros((1, 1), bool), "neuron")
    np.testing.assert_allclose(rates, expected, rtol=5e-3)
    moved = ds.assign_coords(window_start=("trial", ds.window_start.values[::-1]))
    again = np.exp(predict_unmasked(population_of(model, moved), "neuron"))
    assert np.abs(again / rates - 1).max() > 0.02
    backwards = population_of(model, ds.isel(trial=slice(None, None, -1)))
    np.testing.assert_allclose(
        np.exp(predict_unmasked(backwards, "neuron")), rates[::-1], rtol=5e-3
    )


@pytest.mark.parametrize(
    ("room", "batch", "sizes"),
    [(4.5, 32, [4, 3]), (0.5, 32, [1] * 7), (99, 32, [7]), (99, 3, [3, 3, 1])],
)
def test_so_many_items_are_predicted_together_as_there_is_room_for(
    ds, monkeypatch, room, batch, sizes
):
    """Room for predictions of one item: 8 trials of 20 bins of a unit, in single precision."""
    model, seen = make_model(ds, share=0), []
    monkeypatch.setattr(module, "_ROOM", int(room * 4 * 8 * N_TIME))
    monkeypatch.setattr(module, "BATCH", batch)
    monkeypatch.setattr(module, "_by_dynamics", lambda p, s, some: seen.append(len(some)))
    units = [held.outputs for held, _ in predict_held_out(population_of(model, ds), "co_smoothing")]
    assert seen == sizes
    assert np.concatenate(units).tolist() == list(range(N_UNITS))


def test_a_gpu_is_given_more_trials_at_a_time():
    assert module._batch(torch.device("cpu")) < module._batch(torch.device("cuda"))
