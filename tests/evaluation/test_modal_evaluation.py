"""A run with modalities is evaluated: encoding, decoding by the model, and what it cannot."""

import numpy as np
import pandas as pd
import pytest
import torch
from short_fits import shorten
from synthetic import make_regions, make_session
from training_runs import TINY, tiny_settings

import ibl_mtm
from ibl_mtm.cache.cache import open_cache
from ibl_mtm.cache.store import create_cache, write_session
from ibl_mtm.errors import UserError
from ibl_mtm.evaluation.activity.modality_gains import summarise_gains
from ibl_mtm.evaluation.activity.predict import population_of, predict_held_out
from ibl_mtm.evaluation.behaviour.decode_by_model import ask_trials, decode_by_model
from ibl_mtm.evaluation.metrics import bits_per_spike
from ibl_mtm.evaluation.predictors import ModelPredictor
from ibl_mtm.sessions.trial_format import trial_format
from ibl_mtm.sessions.view import describe_session
from ibl_mtm.training.checkpoint.build import build_model

NAMES = ["wheel_speed", "choice"]
SCHEMES = {"neuron": 1.0, "decoding": 1.0, "encoding": 1.0, "mixed": 1.0, "behaviour": 1.0}


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """Two sessions, the second without behaviour."""
    root = tmp_path_factory.mktemp("modal") / "cache.zarr"
    create_cache(root)
    for seed, n_units in ((1, 8), (2, 6)):
        ds = make_session(n_units=n_units, n_trials=60, n_bins=10, seed=seed)
        if seed == 2:
            ds = ds.drop_vars(["wheel_velocity", "whisker_motion_energy", "lick_count"])
            ds["choice"][:] = -128
        write_session(root, ds, make_regions())
    return open_cache(root)


@pytest.fixture(scope="module")
def run(cache, tmp_path_factory):
    run = tmp_path_factory.mktemp("runs") / "modal"
    settings = tiny_settings(
        model=TINY["model"] | {"modalities": NAMES},
        masks=TINY["masks"] | {"schemes": SCHEMES},
        optimizer={"learning_rate": 0.03},
        steps=20,
        validate_every=20,
    )
    ibl_mtm.train(settings, cache, run, progress=False)
    return run


@pytest.fixture(scope="module")
def session(cache):
    return next(ds.load() for ds in cache.values() if "wheel_velocity" in ds)


@pytest.fixture(scope="module")
def without(cache):
    return next(ds.load() for ds in cache.values() if "wheel_velocity" not in ds)


def test_scores(run, cache, session, without, tmp_path):
    found = ibl_mtm.evaluate(run, cache)
    tasks, eid = found.metrics["tasks"], without.attrs["eid"]
    assert {"co_smoothing", "encoding", *NAMES} <= set(tasks)  # unless others are asked for
    assert tasks["encoding"]["n_units"] <= 8
    assert {"bits_per_spike", "psth_r2", "residual_r2"} <= set(tasks["encoding"])
    own = found.per_unit[found.per_unit["task"] == "encoding"]
    assert own["eid"].unique().tolist() == [session.attrs["eid"]]
    assert own["region"].nunique() > 1
    by_model = tasks["choice"]["by_model"]
    assert by_model["n_test"] == tasks["choice"]["n_test"]
    assert 0 <= by_model["calibration_error"] <= 1
    assert np.isfinite(tasks["wheel_speed"]["by_model"]["r2"])
    assert found.metrics["skipped"][eid]["encoding"] == (
        "the session has no behaviour that the model knows"
    )
    found.write(tmp_path / "scores")
    again = ibl_mtm.evaluate(run, cache, tasks=["encoding"])  # joins those that are there
    again.write(tmp_path / "scores")
    assert again.metrics["tasks"]["encoding"] == tasks["encoding"]


def test_what_a_modality_adds_is_what_is_lost_without_it(run, cache, session):
    found = ibl_mtm.evaluate(run, cache, tasks=["encoding"])
    test = session.isel(trial=np.flatnonzero(session.split == "test"))
    model, adds = ibl_mtm.load_model(run), found.metrics["tasks"]["encoding"]["adds"]
    table = found.per_unit.set_index("unit").loc[session.unit.values.tolist()]
    assert list(adds) == NAMES
    for name, other in zip(NAMES, NAMES[::-1], strict=True):
        bits = [
            bits_per_spike(
                ibl_mtm.predict(model, test, given=given, targets=["spikes"]).spikes, test.spikes
            )
            for given in (NAMES, [other])
        ]
        np.testing.assert_allclose(table[f"adds_{name}"], bits[0] - bits[1], atol=2e-5)
        assert adds[name]["bits_per_spike"] == pytest.approx(np.mean(bits[0] - bits[1]), abs=2e-5)
        assert adds[name]["bits_per_spike"] != 0
        # Each region has units 0 and 5, 1 and 6, ... of eight.
        region = str(session.beryl.values[0])
        own = (bits[0] - bits[1])[[0, 5]].mean()
        assert adds[name]["regions"][region]["bits_per_spike"] == pytest.approx(own, abs=2e-5)
        assert adds[name]["regions"][region]["n_units"] == 2
        assert sum(of["n_units"] for of in adds[name]["regions"].values()) == adds[name]["n_units"]


def test_a_mean_over_sessions_counts_each_of_them_alike():
    table = pd.DataFrame(
        {
            "eid": ["a", "a", "a", "b", "c"],
            "region": ["CA1", "CA1", "DG", "CA1", "CA1"],
            "adds_choice": [0.1, 0.3, 0.8, 0.6, np.nan],
            "adds_block": np.nan,
        }
    )
    found = summarise_gains(table)
    assert list(found) == ["choice"]  # no session has the other
    assert found["choice"]["bits_per_spike"] == pytest.approx((0.4 + 0.6) / 2)
    assert found["choice"]["sem"] == pytest.approx(0.1)
    assert (found["choice"]["n_units"], found["choice"]["n_sessions"]) == (4, 2)
    assert found["choice"]["regions"] == {
        "CA1": {"bits_per_spike": pytest.approx((0.2 + 0.6) / 2), "n_units": 3},
        "DG": {"bits_per_spike": 0.8, "n_units": 1},
    }


@pytest.mark.parametrize("name", ["encoding_regression", "encoding_reduced_rank"])
def test_baselines_of_encoding_are_scored_by_name_alone(name, cache, session, monkeypatch):
    shorten(monkeypatch)
    found = ibl_mtm.evaluate_baseline(name, cache, sessions=[session.attrs["eid"]])
    encoding = found.metrics["tasks"]["encoding"]
    assert np.isfinite(encoding["bits_per_spike"])
    assert found.metrics["tasks"]["co_smoothing"] is None
    # Those that a session has, the wheel's speed and velocity together: one tells of the other.
    assert {"wheel_velocity+wheel_speed", "choice", "whisker_motion_energy"} <= set(
        encoding["adds"]
    )
    assert all(np.isfinite(of["bits_per_spike"]) for of in encoding["adds"].values())


def test_encoding_sees_behaviour_and_no_spike(run, session):
    model = ibl_mtm.load_model(run)
    rates = ibl_mtm.predict(model, session, task="encoding")
    assert rates.notnull().all()
    spikes = session.copy(deep=True)
    spikes.spikes[:] = 7
    np.testing.assert_array_equal(ibl_mtm.predict(model, spikes, task="encoding"), rates)
    wheel = session.copy(deep=True)
    wheel.wheel_velocity[3] = 5
    changed = (ibl_mtm.predict(model, wheel, task="encoding") != rates).any(("time", "unit"))
    assert np.flatnonzero(changed).tolist() == [3]


@pytest.mark.parametrize("task", ["co_smoothing", "forward_prediction", "intra_region"])
def test_tasks_of_activity_see_no_behaviour(task, run, session):
    model, other = ibl_mtm.load_model(run), session.copy(deep=True)
    other.wheel_velocity[:] = 9
    other.choice[:] = -other.choice
    found = [
        [rates for _, rates in predict_held_out(population_of(model, ds), task)]
        for ds in (session, other)
    ]
    for one, two in zip(*found, strict=True):
        np.testing.assert_array_equal(one, two)


def test_a_model_without_modalities_says_why_it_has_no_encoding(cache, tmp_path):
    settings = tiny_settings(steps=1, validate_every=1)
    ibl_mtm.train(settings, cache, tmp_path / "plain", progress=False)
    found = ibl_mtm.evaluate(tmp_path / "plain", cache, tasks=["encoding"]).metrics
    assert found["tasks"]["encoding"] is None
    assert {reasons["encoding"] for reasons in found["skipped"].values()} == {
        "the model was not trained to predict spikes from behaviour"
    }


def test_any_from_any(run, session):
    model = ibl_mtm.load_model(run)
    found = ibl_mtm.predict(model, session, given=["wheel_speed", "choice"], targets=["spikes"])
    rates = ibl_mtm.predict(model, session, task="encoding")
    np.testing.assert_allclose(found.spikes, rates, rtol=1e-5)
    assert found.spikes.attrs["units"] == "spikes/bin"
    assert found.attrs == {"eid": session.attrs["eid"], "given": "wheel_speed, choice"}
    assert ibl_mtm.predict(model, session, targets=["spikes"]).attrs["given"] == "nothing"
    decoded = ibl_mtm.predict(model, session, given=["spikes"], targets=["choice", "wheel_speed"])
    by_model = decode_by_model(model, session)
    np.testing.assert_allclose(decoded.wheel_speed, by_model["wheel_speed"], rtol=1e-4)
    share = 1 / (1 + np.exp(-by_model["choice"]))
    np.testing.assert_allclose(decoded.choice, share, rtol=1e-4)
    assert decoded.choice.attrs["units"] == "probability of left"
    assert decoded.wheel_speed.attrs["units"] == "rad/s"
    assert decoded.choice.dims == ("trial",)
    np.testing.assert_array_equal(decoded.trial, session.trial)
    some = ibl_mtm.predict(
        model, session.isel(trial=[5, 7]), given=["spikes", "choice"], targets=["wheel_speed"]
    )
    assert some.wheel_speed.shape == (2, 10)


@pytest.mark.parametrize(
    ("given", "targets", "hidden"),
    [
        (["choice"], ["spikes", "wheel_speed"], ["spikes", "wheel_velocity"]),
        (["spikes"], ["choice"], ["choice", "wheel_velocity"]),
        (["spikes", "wheel_speed"], ["choice"], ["choice"]),
        ([], ["spikes"], ["spikes", "choice", "wheel_velocity"]),
    ],
)
def test_only_what_is_given_is_seen(given, targets, hidden, run, session):
    model = ibl_mtm.load_model(run)
    found = ibl_mtm.predict(model, session, given=given, targets=targets)
    other = session.copy(deep=True)
    for name in hidden:
        other[name][:] = other[name].values[::-1] + (name == "spikes")
    for name, values in ibl_mtm.predict(model, other, given=given, targets=targets).items():
        np.testing.assert_array_equal(values, found[name])
    shown = {"spikes": "spikes", "choice": "choice", "wheel_speed": "wheel_velocity"}
    for name in given:
        other = session.copy(deep=True)
        other[shown[name]][:] = other[shown[name]].values[::-1]
        changed = ibl_mtm.predict(model, other, given=given, targets=targets)
        assert not changed[targets[0]].equals(found[targets[0]])


@pytest.mark.parametrize(
    ("given", "targets", "message"),
    [
        (["spikes"], ["block"], "knows no 'block'; it knows spikes, wheel_speed, choice"),
        (["spikes", "choice"], ["choice"], "choice is given and asked for"),
        (["spikes"], [], "nothing is asked for"),
    ],
)
def test_what_cannot_be_asked_is_refused(given, targets, message, run, session):
    with pytest.raises(UserError, match=message):
        ibl_mtm.predict(ibl_mtm.load_model(run), session, given=given, targets=targets)


@pytest.mark.parametrize(
    ("schemes", "of_states"),
    [(("decoding",), True), (("decoding", "behaviour"), True), (("mixed", "decoding"), False)],
)
def test_a_model_that_no_spike_was_asked_of_is_read_from_its_states(schemes, of_states, session):
    settings = tiny_settings(
        model=TINY["model"] | {"modalities": NAMES},
        masks=TINY["masks"] | {"schemes": dict.fromkeys(schemes, 1.0)},
    )
    torch.manual_seed(3)
    described = describe_session(session, settings.data, modalities=NAMES)
    model = build_model(settings, [described], trial_format(session)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.3 * torch.randn_like(parameter))
    test = np.flatnonzero(session.split == "test")
    features = ModelPredictor(model, session, test).features()
    if not of_states:
        assert all(each.values.shape[2] == session.sizes["unit"] for each in features.values())
        return
    asked = ask_trials(model, session, "decoding")
    with torch.inference_mode():
        expected = torch.cat([h for h, _ in asked]).numpy()
    assert list(features) == ["decoding"]
    np.testing.assert_allclose(features["decoding"].values, expected, rtol=1e-4, atol=1e-5)


def test_a_task_or_a_session_that_does_not_fit_is_refused(run, session, without):
    model = ibl_mtm.load_model(run)
    with pytest.raises(UserError, match="has its own of what is given"):
        ibl_mtm.predict(model, session, task="encoding", given=["choice"], targets=["spikes"])
    with pytest.raises(UserError, match=f"{without.attrs['eid']} had no choice in its training"):
        ibl_mtm.predict(model, without, given=["choice"], targets=["spikes"])
