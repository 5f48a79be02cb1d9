"""Training for one behaviour: nothing else is asked for, and any trained run can be begun from."""

import numpy as np
import pytest
import torch
from synthetic import make_regions, make_session
from training_runs import TINY, read_logs, tiny_settings

import ibl_mtm
from ibl_mtm.cache.cache import open_cache
from ibl_mtm.cache.store import create_cache, write_session
from ibl_mtm.errors import UserError
from ibl_mtm.evaluation.behaviour import decode_session
from ibl_mtm.sessions.trial_format import trial_format
from ibl_mtm.training.checkpoint.build import build_model
from ibl_mtm.training.checkpoint.initialise import initialise
from ibl_mtm.training.checkpoint.pretrained import load_model
from ibl_mtm.training.data.describe import describe_sessions
from ibl_mtm.training.run import train

NAMES = ["lick_rate", "wheel_speed", "block", "choice"]
SCHEMES = {"neuron": 1.0, "decoding": 1.0, "mixed": 1.0}


def make(root, change=lambda ds: ds, first=0):
    """Half of the units follow the choice, the others the wheel's speed."""
    create_cache(root)
    ds = make_session(n_units=8, n_trials=80, n_bins=10, seed=first)
    rng = np.random.default_rng(first)
    rate = np.full(ds.spikes.shape, 0.5)
    rate[:, :, :4] *= np.exp(0.8 * ds.choice.values[:, None, None])
    rate[:, :, 4:] += np.abs(ds.wheel_velocity.values)[:, :, None]
    ds["spikes"] = ds.spikes.dims, rng.poisson(rate).clip(0, 255).astype(np.uint8)
    write_session(root, change(ds), make_regions())
    return open_cache(root)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return make(tmp_path_factory.mktemp("target") / "cache.zarr")


def settings_of(names=NAMES, **changes):
    values = {
        "model": TINY["model"] | {"modalities": names},
        "masks": TINY["masks"] | {"schemes": SCHEMES if names else {"neuron": 1.0}},
        "optimizer": {"learning_rate": 0.01},
        "steps": 8,
        "validate_every": 4,
        "average": 0,
    }
    return tiny_settings(**values | changes)


@pytest.fixture(scope="module")
def begun(cache, tmp_path_factory):
    run = tmp_path_factory.mktemp("runs") / "begun"
    train(settings_of(), cache, run, progress=False)
    return run


def test_a_new_animal_has_no_rates_and_is_read_from_what_the_transformer_makes(
    begun, tmp_path, monkeypatch
):
    monkeypatch.setattr(decode_session, "SHUFFLES", 1)
    other = make(tmp_path / "other.zarr", first=5)
    settings = settings_of(target="choice", steps=60, validate_every=10)
    train(settings, other, tmp_path / "run", init=begun, progress=False)
    model = load_model(tmp_path / "run")
    assert not model.read_out.any()
    found = ibl_mtm.evaluate(tmp_path / "run", other, tasks=["choice"]).metrics
    assert found["skipped"] == {}
    choice = found["tasks"]["choice"]
    assert choice["prompt"] == "decoding"
    assert choice["accuracy"] > 0.7
    assert choice["by_model"]["accuracy"] > 0.7


@pytest.mark.parametrize("target", ["choice", "wheel_speed"])
def test_a_model_learns_what_it_is_trained_for(target, cache, begun, tmp_path):
    settings = settings_of(target=target, steps=80, validate_every=10)
    report = train(settings, cache, tmp_path / "run", init=begun, progress=False)
    gain = read_logs(tmp_path / "run", f"val_behaviour/{target}")
    assert gain.max() > 0.1
    score = read_logs(tmp_path / "run", "val/score")
    assert score.values.tolist() == pytest.approx(gain.values.tolist())
    assert report.best_step == score.index[score.argmax()] + 1
    assert set(report.val) == {"decoding"}
    model = load_model(tmp_path / "run")
    assert model.scope.schemes == ("decoding",)
    found = ibl_mtm.evaluate(tmp_path / "run", cache, tasks=[target]).metrics["tasks"][target]
    if target == "choice":
        assert found["by_model"]["accuracy"] > 0.8
    else:
        assert found["by_model"]["r2"] > 0.1


def test_nothing_else_that_is_known_of_trials_changes_anything(cache, tmp_path):
    def spoil(ds):
        ds = ds.copy(deep=True)
        ds.wheel_velocity[:] = ds.wheel_velocity.values[::-1] * 3
        ds.lick_count[:] = ds.lick_count.values[::-1] + 1
        ds.probability_left[:] = 1 - ds.probability_left.values
        return ds

    runs = []
    for name, each in (("a", cache), ("b", make(tmp_path / "spoilt.zarr", spoil))):
        train(settings_of(target="choice"), each, tmp_path / name, progress=False)
        runs.append(load_model(tmp_path / name).state_dict())
    scales = {"behaviour_offset", "behaviour_scale", "behaviour_log_odds", "behaviour_null"}
    for name, tensor in runs[0].items():
        if name not in scales:
            torch.testing.assert_close(tensor, runs[1][name], rtol=0, atol=0)
    at = load_model(tmp_path / "a").modalities.classes.index("choice")
    changed = runs[0]["modalities.class_read_out"].any(1)
    assert changed.tolist() == [each == at for each in range(2)]
    assert not runs[0]["modalities.read_out"].any()


def test_validations_that_are_no_better_end_it(cache, begun, tmp_path):
    settings = settings_of(
        target="choice",
        steps=200,
        validate_every=5,
        patience=2,
        optimizer={"learning_rate": 0.2},
    )
    report = train(settings, cache, tmp_path / "run", init=begun, progress=False)
    assert report.steps == report.best_step + 10 < 200


@pytest.mark.parametrize(
    ("names", "target", "message"),
    [
        (NAMES, "feedback", r"none of model.modalities .*set model.modalities=\[lick_rate, .*feed"),
        ([], "choice", r"model.modalities \(none\): set model.modalities=\[choice\]"),
        (NAMES, "chioce", "target 'chioce' is no modality; known: choice, block"),
    ],
)
def test_a_target_that_the_model_does_not_know_is_refused(names, target, message):
    with pytest.raises(UserError, match=message):
        settings_of(names, target=target)


def test_a_session_without_it_is_named(tmp_path):
    def without(ds):
        ds = ds.copy(deep=True)
        ds.choice[:] = 1
        return ds

    cache = make(tmp_path / "cache.zarr", without)
    with pytest.raises(UserError, match=f"session {next(iter(cache))} has no choice in its train"):
        train(settings_of(target="choice"), cache, tmp_path / "run", progress=False)
    assert not (tmp_path / "run" / "config.yaml").exists()
    train(settings_of(target="block"), cache, tmp_path / "run", progress=False)


def build(cache, names, seed=5):
    settings = settings_of(names)
    sessions = describe_sessions(cache, settings.data, {}, names)
    torch.manual_seed(seed)
    return build_model(settings, sessions, trial_format(cache[next(iter(cache))])).eval()


def test_a_model_that_knew_no_behaviour_can_be_begun_from(cache, tmp_path):
    train(settings_of([]), cache, tmp_path / "plain", progress=False)
    said = []
    settings = settings_of(target="choice")
    report = train(
        settings, cache, tmp_path / "run", init=tmp_path / "plain", progress=False, say=said.append
    )
    assert report.init["modalities"] == {"matched": 0, "new": 4, "left_out": 0}
    assert any("modalities taken over from" in line and "0, new: 4" in line for line in said)
    # Before it is trained it predicts spikes as the other one does.
    trained, model = load_model(tmp_path / "plain"), build(cache, NAMES)
    fresh = {n: t.clone() for n, t in model.modalities.named_parameters()}
    initialise(model, trained, "plain")
    ds = cache[next(iter(cache))].load()
    rates = [ibl_mtm.predict(each, ds, task="co_smoothing") for each in (model, trained)]
    np.testing.assert_allclose(*rates, rtol=1e-5)
    for name, parameter in model.modalities.named_parameters():
        torch.testing.assert_close(parameter, fresh[name], rtol=0, atol=0)


def test_modalities_are_taken_over_by_name(cache):
    few = ["choice", "wheel_speed", "block"]
    trained, model = build(cache, few), build(cache, NAMES, seed=6)
    with torch.no_grad():
        for parameter in trained.parameters():
            parameter.copy_(0.2 * torch.randn_like(parameter))
        trained.behaviour_scale.mul_(2)
        trained.behaviour_log_odds.add_(0.5)
    report = initialise(model, trained, "few")
    assert report.modalities is not None
    assert set(report.modalities.matched) == set(few)
    assert report.modalities.new == ("lick_rate",)
    ds = cache[next(iter(cache))].load()
    for given, targets in (
        (["spikes", "choice"], ["wheel_speed", "block"]),
        (["wheel_speed", "block"], ["choice", "spikes"]),
    ):
        found, expected = (
            ibl_mtm.predict(each, ds, given=given, targets=targets) for each in (model, trained)
        )
        for name in targets:
            np.testing.assert_allclose(found[name], expected[name], rtol=2e-4, atol=1e-6)


def test_modalities_that_the_body_was_trained_with_cannot_be_left_out(cache):
    trained, model = build(cache, NAMES), build(cache, ["choice"])
    with pytest.raises(UserError, match=r"trained with lick_rate, wheel_speed, block among model"):
        initialise(model, trained, "all")
