"""Modalities of a session: in which units, what is missing, and scales of training trials alone."""

import numpy as np
import pytest
from synthetic import make_session

from ibl_mtm.sessions.behaviours import Behaviour, Undecodable
from ibl_mtm.sessions.modalities import (
    GAUSSIAN_NULL,
    describe_modalities,
    read_modalities,
    variables_in,
)
from ibl_mtm.sessions.selection import SelectionSettings
from ibl_mtm.sessions.view import describe_session

NAMES = ("choice", "wheel_speed", "lick_rate", "block", "whisker_motion_energy")


@pytest.fixture
def ds():
    return make_session(n_units=4, n_trials=30, n_bins=10, seed=3)


def test_values_are_as_measured_traces_first(ds):
    ds["choice"][4] = 0
    ds["whisker_motion_energy"][2, 5] = np.nan
    values = read_modalities(ds, NAMES)
    speed, licks, whisker = np.moveaxis(values.traces, 2, 0)
    np.testing.assert_array_equal(speed, np.abs(ds.wheel_velocity))
    np.testing.assert_allclose(licks, ds.lick_count, rtol=1e-6)  # in each bin, not per second
    np.testing.assert_array_equal(whisker, ds.whisker_motion_energy)
    choice, block = values.classes.T
    np.testing.assert_array_equal(choice, ds.choice)
    np.testing.assert_array_equal(block, np.sign(ds.probability_left.values - 0.5))


def test_what_a_session_does_not_have_is_missing():
    ds = make_session(contiguous=True, n_trials=6, n_bins=10)
    values = read_modalities(ds, NAMES)
    assert np.isnan(values.traces).all()
    assert not values.classes.any()
    statistics = describe_modalities(values, np.arange(6), NAMES)
    assert statistics.null.tolist() == [0] * 5
    assert all(np.isfinite(kind).all() for kind in vars(statistics).values())


def test_a_column_of_the_sessions_own_task_is_another_thing(ds):
    ds.attrs["kept"] = ["choice"]
    assert not read_modalities(ds, ["choice"]).classes.any()


def test_scales_by_hand(ds):
    ds["choice"][:] = np.where(np.arange(30) < 3, 1, -1)
    ds["choice"][29] = -128
    ds["lick_count"][:] = 0
    ds["lick_count"][:4, 0] = 2
    values = read_modalities(ds, NAMES)
    values.traces[1, 3, 2] = np.nan
    train = np.array([0, 1, 5, 7, 9, 29])
    found = describe_modalities(values, train, NAMES)
    whisker = values.traces[train, :, 2].astype(float)
    assert found.offset[2] == pytest.approx(np.nanmean(whisker))
    assert found.scale[2] == pytest.approx(np.nanstd(whisker))
    assert found.null[[0, 2]] == pytest.approx(GAUSSIAN_NULL)
    # Two of six trials have two licks in one of ten bins: 4 of 60.
    mean = 4 / 60
    assert found.offset[1] == pytest.approx(mean)
    assert found.null[1] == pytest.approx(mean + (-4 * np.log(mean) + 2 * np.log(2)) / 60)
    # Two of five trials with a class were +1.
    assert found.log_odds[0] == pytest.approx(np.log(2 / 3))
    assert found.null[3] == pytest.approx(-0.4 * np.log(0.4) - 0.6 * np.log(0.6))


def test_what_never_changes_in_training_is_missing(ds):
    ds["wheel_velocity"][:20] = -1.5
    ds["choice"][:20] = 1
    statistics = describe_modalities(read_modalities(ds, NAMES), np.arange(20), NAMES)
    assert (statistics.null > 0).tolist() == [False, True, True, False, True]


def test_scales_see_training_trials_alone(ds):
    session = describe_session(ds, SelectionSettings(), modalities=NAMES)
    other = ds.copy(deep=True)
    left = ds.split.values != "train"
    other["wheel_velocity"][left] = 1e6
    other["choice"][left] = 1
    changed = describe_session(other, SelectionSettings(), modalities=NAMES)
    for name, kind in vars(session.behaviour.statistics).items():
        np.testing.assert_array_equal(kind, getattr(changed.behaviour.statistics, name))
    assert describe_session(ds, SelectionSettings()).behaviour is None


def test_modalities_of_one_variable_are_left_out_together(ds):
    assert variables_in(("wheel_velocity", "choice", "wheel_speed")) == {
        "wheel_velocity+wheel_speed": ("wheel_velocity", "wheel_speed"),
        "choice": ("choice",),
    }
    whole = read_modalities(ds, NAMES)
    left = whole.without(NAMES, ("choice", "lick_rate"))
    assert np.isnan(left.traces[..., 1]).all()
    assert not left.classes[:, 0].any()
    np.testing.assert_array_equal(left.traces[..., [0, 2]], whole.traces[..., [0, 2]])
    np.testing.assert_array_equal(left.classes[:, 1], whole.classes[:, 1])
    assert whole.classes[:, 0].any()  # which is as it was


@pytest.mark.parametrize(
    ("classes", "score", "unit", "n_levels", "dims", "kind"),
    [
        (None, "r2", "R²", 0, ("trial", "time"), "trace"),
        (("right", "left"), "accuracy", "accuracy", 0, ("trial",), "class"),
        (("low", "middle", "high"), "accuracy", "accuracy, 3 classes", 3, ("trial",), "class"),
    ],
)
def test_behaviours_are_traces_or_of_two_or_more_classes(
    ds, classes, score, unit, n_levels, dims, kind
):
    behaviour = Behaviour("Own", "own", classes, convert=lambda values, width: values / width)
    assert (behaviour.score, behaviour.unit) == (score, unit)
    assert len(behaviour.levels) == n_levels
    with pytest.raises(Undecodable, match="the session has no own"):
        behaviour.target(ds)
    values = np.ones([ds.sizes[dim] for dim in dims])
    found = behaviour.target(ds.assign(own=(dims, values)))
    np.testing.assert_allclose(found, values / ds.attrs["bin_size"])
    with pytest.raises(Undecodable, match=f"own has dimensions .*unit.*: no {kind}"):
        behaviour.target(ds.assign(own=("unit", np.ones(4))))
