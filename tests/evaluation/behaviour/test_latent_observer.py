"""What simulated latents tell of behaviour: classes by rule, traces by regression."""

import numpy as np
import pytest
from synthetic import make_session
from test_decode_session import Known

from ibl_mtm.evaluation.baselines.registry import BaselinePredictor
from ibl_mtm.evaluation.behaviour import decode_session, latent_observer
from ibl_mtm.evaluation.behaviour.decode_session import decode_behaviour
from ibl_mtm.evaluation.behaviour.latent_observer import observe
from ibl_mtm.evaluation.metrics import bits_per_spike
from ibl_mtm.evaluation.score_session import score_session
from ibl_mtm.simulate.brain import BEHAVING, COLUMNS, FAST
from ibl_mtm.simulate.truth import GRID, Truth, to_fixed_point, unit_dtype

N, N_TIME = 120, 40
SPLIT = np.array(["train", "train", "val", "test"])[np.arange(N) % 4]


def make_latents():
    """Trials with a choice, an outcome and a block each; the wheel turns as the choice says."""
    rng = np.random.default_rng(0)
    latents = rng.normal(0, 1, (N, N_TIME, len(COLUMNS)))
    column = {name: latents[:, :, at] for at, name in enumerate(COLUMNS)}
    for name in COLUMNS[-9:]:
        column[name][:] = 0
    choice, feedback, block = (rng.choice([-1, 1], N) for _ in range(3))
    bump = np.exp(-(((np.arange(N_TIME) - 15) / 4) ** 2))
    for sign, names in ((1, ("move_left", "reward")), (-1, ("move_right", "error"))):
        for name, of in zip(names, (choice, feedback), strict=True):
            column[name][of == sign] = bump
    column["prior"][:] = block[:, None]
    column["wheel_speed"][:] = bump * rng.uniform(0.5, 1.5, (N, 1))
    targets = {
        "choice": choice,
        "feedback": feedback,
        "block": block,
        "contrast_side": np.where(feedback == 1, -choice, choice),
        "wheel_speed": 2 * column["wheel_speed"],
        "wheel_velocity": -2 * choice[:, None] * column["wheel_speed"],
        "whisker_motion_energy": np.exp(
            0.8 * (column["shared_0"] + column["shared_1"]) + rng.normal(0, 0.3, (N, N_TIME))
        ),
    }
    return latents, targets


def test_what_the_latents_hold_is_told():
    latents, targets = make_latents()
    told = observe(latents, targets, SPLIT)
    for name in ("choice", "feedback", "block", "contrast_side"):
        assert (np.sign(told[name]) == targets[name]).all()
    test = SPLIT == "test"
    for name in ("wheel_speed", "wheel_velocity", "whisker_motion_energy"):
        left = (told[name] - targets[name])[test].var() / targets[name][test].var()
        assert left < (0.3 if name == "whisker_motion_energy" else 0.05), name
    # Its mean is told, not its median.
    energy = targets["whisker_motion_energy"]
    assert told["whisker_motion_energy"].mean() == pytest.approx(energy.mean(), rel=0.02)


def test_a_bin_is_told_from_what_is_up_to_twelve_bins_away():
    """Latents, how fast ones are felt, and the wheel's speed with the sign of the choice."""
    latents, _ = make_latents()
    latents = latents[:3, :20]
    column = {name: latents[:, :, at] for at, name in enumerate(COLUMNS)}
    found = latent_observer._features(latents, column).reshape(3, 20, 13, -1)
    turns = column["move_right"].sum(1) - column["move_left"].sum(1)
    for trial in range(3):
        for t in (0, 5, 12, 19):
            for lag in range(13):
                at = min(max(t - 12 + 2 * lag, 0), 19)
                moved = np.sign(turns[trial]) * column["wheel_speed"][trial, at]
                sure = max(column["move_left"][trial, at], column["move_right"][trial, at])
                own = latents[trial, at]
                expected = [*own, *np.exp(own[: len(FAST)] / 2), moved * sure, moved]
                np.testing.assert_allclose(found[trial, t, lag], expected)


def test_an_event_that_the_window_does_not_hold_tells_nothing():
    latents, targets = make_latents()
    latents[3, :, [COLUMNS.index("move_left"), COLUMNS.index("move_right")]] = 0
    told = observe(latents, targets, SPLIT)
    assert told["choice"][3] == told["contrast_side"][3] == 0
    assert told["feedback"][3] != 0


def test_neither_test_trials_nor_missing_samples_reach_the_regression():
    latents, targets = make_latents()
    spoilt = {name: values.astype(float).copy() for name, values in targets.items()}
    spoilt["wheel_speed"][SPLIT == "test"] = 99
    spoilt["whisker_motion_energy"][SPLIT == "test"] = 1e3
    found, other = (observe(latents, each, SPLIT) for each in (targets, spoilt))
    for name in targets:
        np.testing.assert_array_equal(found[name], other[name])
    spoilt["wheel_speed"][0, 5] = np.nan
    assert np.isfinite(observe(latents, spoilt, SPLIT)["wheel_speed"]).all()


def test_it_stands_beside_what_is_decoded(monkeypatch):
    monkeypatch.setattr(decode_session, "SHUFFLES", 1)
    monkeypatch.setattr(decode_session, "GRADIENT_DECODERS", ())
    latents, targets = make_latents()
    ds = make_session(n_units=5, n_trials=N, n_bins=N_TIME, seed=2)
    ds["choice"][:] = targets["choice"]
    ds["wheel_velocity"][:] = targets["wheel_velocity"]
    tasks = ["choice", "wheel_velocity"]
    found = decode_behaviour(Known({}), ds, SPLIT, tasks, latents=latents).scores
    assert found["choice"]["oracle"]["accuracy"] == 1
    assert "calibration_error" not in found["choice"]["oracle"]
    assert found["wheel_velocity"]["oracle"]["r2"] > 0.9
    assert found["choice"]["oracle"]["n_test"] == found["choice"]["n_test"]
    assert "oracle" not in decode_behaviour(Known({}), ds, SPLIT, tasks).scores["choice"]


def test_behaviour_follows_no_column_that_is_private_or_slow():
    assert set(BEHAVING) < set(COLUMNS)
    assert not any("drift" in name for name in BEHAVING)


def test_encoding_stands_beside_rates_of_what_behaviour_follows():
    _, targets = make_latents()
    ds = make_session(n_units=4, n_trials=N, n_bins=N_TIME, seed=2)
    ds["wheel_velocity"][:] = targets["wheel_velocity"]
    rng = np.random.default_rng(1)
    units = np.zeros(4, unit_dtype(len(COLUMNS)))
    units["uuid"], units["baseline"] = ds.unit.values, 20
    units["weights"] = to_fixed_point(rng.normal(0, 0.2, (4, len(COLUMNS))), "weights")
    n_steps = int(ds.window_start.max() / GRID) + 200
    whole = to_fixed_point(rng.normal(0, 1, (n_steps, len(COLUMNS))), "latents")
    truth = Truth(whole, np.zeros((1, len(COLUMNS)), np.int16), units, 0)
    windows = (ds.window_start.values, N_TIME, 0.02)
    rates = truth.expected_counts(ds.unit.values.tolist(), *windows)
    ds["spikes"] = ds.spikes.dims, rng.poisson(rates).clip(0, 255).astype(np.uint8)
    predictor = BaselinePredictor("encoding_regression", ds, SPLIT, np.full(4, ""))
    (scores,) = [score_session(predictor, ds, SPLIT, ["encoding"], truth).per_unit]
    test = SPLIT == "test"
    counts = ds.spikes.values[test]
    known = truth.without([at for at, name in enumerate(COLUMNS) if name not in BEHAVING])
    expected = known.expected_counts(ds.unit.values.tolist(), *windows)[test]
    assert scores["oracle"].to_numpy() == pytest.approx(bits_per_spike(expected, counts), rel=1e-4)
    assert (scores["oracle"].to_numpy() < bits_per_spike(rates[test], counts)).all()
    assert (scores["oracle"] > 0).all()
