"""Predictions of held-out activity: exactly what a task asks for, and nothing that it hides."""

import dataclasses

import numpy as np
import pytest
import torch
from synthetic import make_session

from ibl_mtm.errors import UserError
from ibl_mtm.evaluation.activity import by_dynamics as dynamics
from ibl_mtm.evaluation.activity.predict import (
    BATCH,
    Population,
    population_of,
    predict_region_pairs,
    uses_bf16,
)
from ibl_mtm.evaluation.activity.predictions import predict
from ibl_mtm.evaluation.activity.tasks import ACTIVITY_TASKS, held_out
from ibl_mtm.evaluation.metrics import bits_per_spike
from ibl_mtm.model.dynamics.fit import fit_dynamics
from ibl_mtm.model.group import Group
from ibl_mtm.model.mtm import MtM
from ibl_mtm.model.scope import Scope
from ibl_mtm.model.settings import ModelSettings
from ibl_mtm.sessions.trial_format import TrialFormat, trial_format
from ibl_mtm.sessions.view import eligible_regions

N_TIME = 20
SETTINGS = ModelSettings(
    width=16,
    layers=2,
    heads=2,
    mlp=16,
    stitch_width=None,
    convolution=2,
    mask_indicator=True,
    prompt_region=True,
)


@pytest.fixture(scope="module")
def ds():
    return make_session(n_units=15, n_trials=12, n_bins=N_TIME, seed=4)


@pytest.fixture(scope="module")
def model(ds):
    torch.manual_seed(0)
    regions = tuple(sorted(set(ds.beryl.values.tolist())))
    scope = Scope(
        units=("other", *ds.unit.values.tolist()),
        sessions=("another", ds.attrs["eid"]),
        regions=regions,
        trial_format=trial_format(ds),
        schemes=("neuron", "causal", "intra_region", "inter_region"),
        min_units_per_region=2,
    )
    model = MtM(SETTINGS, scope)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()


def one_by_one(model, ds, task):
    """The same by the plain definition: one item, one trial, one forward pass at a time."""
    counts = torch.from_numpy(ds.spikes.values)
    region = ds.beryl.values.astype(str)
    rows = torch.arange(1, 16)
    rates = np.full(counts.shape, np.nan)

    def forward(trial, hidden, scheme, name=None):
        group = Group(
            counts[trial : trial + 1],
            hidden[None],
            rows,
            1,
            scheme,
            causal=scheme == "causal",
            region=torch.tensor([model.scope.regions.index(name) if name else -1]),
        )
        with torch.no_grad():
            return model([group])[0][0].exp().numpy()

    for trial in range(len(counts)):
        if task == "forward_prediction":
            hidden = torch.zeros(N_TIME, 15, dtype=torch.bool)
            hidden[18:] = True  # a tenth of twenty bins
            rates[trial, 18:] = forward(trial, hidden, "causal")[18:]
        for unit in range(15):
            hidden = torch.zeros(N_TIME, 15, dtype=torch.bool)
            if task == "co_smoothing":
                hidden[:, unit] = True
                rates[trial, :, unit] = forward(trial, hidden, "neuron")[:, unit]
            if task == "intra_region":
                hidden[:, torch.from_numpy(region != region[unit])] = True
                hidden[:, unit] = True
                rates[trial, :, unit] = forward(trial, hidden, task, region[unit])[:, unit]
            if task == "inter_region":
                hidden[:, torch.from_numpy(region == region[unit])] = True
                rates[trial, :, unit] = forward(trial, hidden, task, region[unit])[:, unit]
    return rates


@pytest.mark.parametrize("batch", [4, BATCH])  # fewer than there are units, and more
@pytest.mark.parametrize("task", ACTIVITY_TASKS)
def test_predictions_are_those_of_the_plain_definition(model, ds, task, batch, monkeypatch):
    monkeypatch.setattr("ibl_mtm.evaluation.activity.predict.BATCH", batch)
    rates = predict(model, ds, task)
    assert rates.dims == ("trial", "time", "unit")
    expected = one_by_one(model, ds, task)
    assert np.array_equal(np.isnan(rates.values), np.isnan(expected))
    assert rates.values == pytest.approx(expected, rel=1e-4, nan_ok=True)


@pytest.mark.parametrize("task", ACTIVITY_TASKS)
def test_predictions_do_not_change_with_what_is_held_out(model, ds, task):
    """Change the held-out entries of one item arbitrarily: its prediction stays, to the bit."""
    before = predict(model, ds, task).values
    rng = np.random.default_rng(0)
    region = eligible_regions(ds.beryl.values.astype(str), 2)
    items = list(held_out(task, region, N_TIME))
    for held in [items[0], items[-1]]:
        changed = ds.copy(deep=True)
        hidden = np.broadcast_to(held.hidden, (N_TIME, 15))
        noise = rng.integers(0, 200, ds.spikes.shape).astype(np.uint8)
        changed["spikes"] = ds.spikes.dims, np.where(hidden, noise, ds.spikes.values)
        assert not np.array_equal(changed.spikes.values, ds.spikes.values)
        entries = np.s_[:, held.bins, held.outputs]
        assert np.array_equal(predict(model, changed, task).values[entries], before[entries])


@pytest.mark.parametrize("task", ACTIVITY_TASKS)
def test_predictions_do_change_with_what_is_shown(model, ds, task):
    before = predict(model, ds, task).values
    changed = ds.copy(deep=True)
    changed["spikes"] = ds.spikes + 1
    assert not np.allclose(predict(model, changed, task).values, before, equal_nan=True)


def test_regions_are_predicted_from_one_other_region_alone(model, ds):
    """A pair's prediction is that of a session which has no other units."""
    population = population_of(model, ds)
    counts, region = ds.spikes.values, ds.beryl.values.astype(str)
    pairs = {(h.source, h.region): (h, r) for h, r in predict_region_pairs(population)}
    assert len(pairs) == 5 * 4
    held, rates = pairs["CA1", "LP"]
    assert (region[held.outputs] == "LP").all()
    silenced = ds.assign(spikes=(ds.spikes.dims, np.where(region == "CA1", counts, 99)))
    again = {
        (h.source, h.region): r for h, r in predict_region_pairs(population_of(model, silenced))
    }
    assert np.array_equal(again["CA1", "LP"], rates)
    assert not np.allclose(again["DG", "LP"], pairs["DG", "LP"][1])


def test_bfloat16_moves_scores_by_less_than_a_thousandth(ds):
    """At a width where it is used; with as many spikes as a test split has."""
    many = make_session(n_units=6, n_trials=60, n_bins=50, seed=8)
    scope = Scope(
        units=tuple(many.unit.values.tolist()),
        sessions=(many.attrs["eid"],),
        regions=(),
        trial_format=trial_format(many),
        schemes=("neuron",),
    )
    torch.manual_seed(0)
    model = MtM(
        SETTINGS.model_copy(update={"width": 256, "heads": 8, "prompt_region": False}), scope
    ).eval()
    null = torch.from_numpy(np.log(many.spikes.values.mean((0, 1)) + 1e-4)).float()
    model.start_units(torch.arange(6), torch.zeros(6), torch.ones(6), null)
    torch.nn.init.normal_(model.read_out, std=0.02)
    counts = many.spikes.values
    exact, fast = (
        bits_per_spike(predict(model, many, "co_smoothing", precision=p).values, counts)
        for p in ("32", "bf16")
    )
    assert 0 < np.abs(exact - fast).max() < 1e-3


def test_forward_prediction_sees_the_past_only(model, ds):
    before = predict(model, ds, "forward_prediction").values
    changed = ds.copy(deep=True)
    changed.spikes[{"time": 17}] += 3  # the last bin that is shown
    after = predict(model, changed, "forward_prediction").values
    assert not np.array_equal(after[:, 18:], before[:, 18:])


def test_held_out_items_cover_each_tasks_entries_once(ds):
    region = np.array(["CA1"] * 3 + ["DG"] * 4 + [""] * 2)
    covered = {}
    for task in ACTIVITY_TASKS:
        times = np.zeros((N_TIME, len(region)), int)
        for held in held_out(task, region, N_TIME):
            entries = np.zeros_like(times)
            entries[held.bins, held.outputs] = 1
            assert np.broadcast_to(held.hidden, times.shape)[entries == 1].all()
            times += entries
        covered[task] = times
    assert (covered["co_smoothing"] == 1).all()
    assert covered["forward_prediction"].sum(0).tolist() == [2] * 9
    for task in ("intra_region", "inter_region"):
        assert (covered[task] == (region != "")).all()


def test_a_single_region_cannot_be_predicted_from_others():
    assert not list(held_out("inter_region", np.array(["CA1"] * 4), N_TIME))


def test_nothing_hidden_gives_rates_of_every_entry(model, ds):
    rates = predict(model, ds)
    assert np.isfinite(rates.values).all()
    assert rates.unit.values.tolist() == ds.unit.values.tolist()
    assert not np.allclose(predict(model, ds, prompt="intra_region"), rates)


def test_units_that_the_model_does_not_know_are_left_out(model, ds):
    known = ds.unit.values[1:].tolist()
    renamed = ds.assign_coords(unit=["new", *known])
    assert predict(model, renamed, "co_smoothing").unit.values.tolist() == known


def test_bad_requests_name_the_mend(model, ds):
    with pytest.raises(UserError, match="unknown task 'cosmoothing'; known: co_smoothing"):
        predict(model, ds, "cosmoothing")
    with pytest.raises(UserError, match="unknown prompt"):
        predict(model, ds, prompt="none")
    with pytest.raises(UserError, match="was not trained on session"):
        predict(model, ds.assign_attrs(eid="elsewhere"), "co_smoothing")
    coarse = ds.assign_coords(time=ds.time.values[0] + 0.05 * np.arange(ds.sizes["time"]))
    with pytest.raises(UserError, match="another format"):
        predict(model, coarse, "co_smoothing")


def test_attention_is_causal_only_where_that_was_trained(model, ds):
    """A model that never saw a causal mask is asked for the future with all bins in view."""
    for schemes in (("neuron",), ("neuron", "causal")):
        scope = dataclasses.replace(model.scope, schemes=schemes)
        own = MtM(SETTINGS, scope).eval()
        own.load_state_dict(
            {name: value[: len(own.state_dict()[name])] if value.ndim else value
             for name, value in model.state_dict().items()}
        )  # fmt: skip
        rates = predict(own, ds, "forward_prediction").values[:, 18:]
        hidden = torch.zeros(len(ds.trial), N_TIME, 1, dtype=torch.bool)
        hidden[:, 18:] = True
        counts = torch.from_numpy(ds.spikes.values)
        expected = {}
        for causal in (False, True):
            group = Group(
                counts, hidden, torch.arange(1, 16), 1, "causal", causal,
                torch.full((len(counts),), -1),
            )  # fmt: skip
            with torch.no_grad():
                expected[causal] = own([group])[0][:, 18:].exp().numpy()
        assert not np.allclose(expected[True], expected[False], rtol=1e-3)
        assert rates == pytest.approx(expected["causal" in schemes], rel=1e-4)


def test_bfloat16_is_for_wide_models_on_a_cpu_that_has_it(monkeypatch):
    narrow, wide = (
        MtM(ModelSettings(width=width, heads=8, layers=0, stitch_width=None), Scope(
            ("u",), ("s",), (), TrialFormat(4, 0.02, "stimOn_times", -0.5), ("neuron",)))
        for width in (128, 256)
    )  # fmt: skip
    for has_it in (True, False):
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda has_it=has_it: has_it)
        assert uses_bf16(wide, "auto") is has_it
        assert uses_bf16(narrow, "auto") is False
        assert uses_bf16(narrow, "bf16") is True
        assert uses_bf16(wide, "32") is False
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    assert uses_bf16(wide.to("meta"), "auto") is False  # on any other device


@pytest.mark.parametrize("task", ["co_smoothing", "inter_region", "forward_prediction"])
@pytest.mark.parametrize("drifts", [True, False])
def test_items_together_as_on_a_gpu_are_predicted_as_one_by_one(ds, task, drifts, monkeypatch):
    counts = torch.from_numpy(ds.spikes.values).float()
    times = torch.from_numpy(ds.window_start.values) if drifts else None
    system = fit_dynamics(counts, 2, iterations=5, times=times)
    items = list(held_out(task, ds.beryl.values.astype(str), N_TIME))
    assert dynamics._at_once(torch.device("cpu")) == 1
    assert dynamics._at_once(torch.device("cuda")) > 1
    monkeypatch.setattr(dynamics, "_BATCH", 5)  # of 12 trials
    found = {}
    for at_once in (1, 3):
        monkeypatch.setattr(dynamics, "_at_once", lambda device, n=at_once: n)
        found[at_once] = dynamics.by_dynamics(system, counts, items, times)
    for item, alone, together in zip(items, found[1], found[3], strict=True):
        assert alone[0].shape == (12, N_TIME, len(item.outputs))
        torch.testing.assert_close(alone[0], together[0], atol=2e-3, rtol=1e-3)
        assert (alone[1] is None) == (not drifts)
        if drifts:
            torch.testing.assert_close(alone[1], together[1], atol=2e-3, rtol=1e-3)


def test_behaviour_that_was_not_given_is_none(model, ds):
    region = ds.beryl.values.astype(str)
    population = Population(model, ds.spikes.values, ds.attrs["eid"], ds.unit.values, region)
    assert not population.has_behaviour
