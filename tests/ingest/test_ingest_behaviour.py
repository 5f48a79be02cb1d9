"""Wheel, camera and licks of known shape come out as they went in."""

import numpy as np
import pytest

from ibl_mtm.ingest.align import bin_edges, sample
from ibl_mtm.ingest.on_disk.folder import open_folder
from ibl_mtm.ingest.through_one.behaviour import load_behaviour


@pytest.fixture
def behaviour(experiment, tmp_path):
    """Writes files into a copy of a session and loads its behaviour anew."""

    def load(**files):
        def write(alf):
            for name, array in files.items():
                np.save(alf / f"{name.replace('__', '.')}.npy", array)

        eid = experiment.copy_session(tmp_path / "ONE", 1, spoil=write)
        with open_folder(tmp_path / "ONE") as folder:
            return load_behaviour(folder.one(), eid)

    return load


def test_wheel_velocity_is_the_derivative_and_zero_where_the_wheel_stood_still(behaviour):
    times = np.sort(np.random.default_rng(0).uniform(10, 40, 30 * 400))
    times = times[(times < 20) | (times > 30)]  # an encoder reports movement only
    radians = np.where(times < 25, np.cos(2 * times), np.cos(2 * times) - np.cos(60) + np.cos(40))
    found = behaviour(_ibl_wheel__timestamps=times, _ibl_wheel__position=radians)
    signal = found.wheel_velocity
    moving = (np.abs(signal.times - 15) < 4) | (np.abs(signal.times - 35) < 4)
    expected = -2 * np.sin(2 * signal.times[moving])
    np.testing.assert_allclose(signal.values[moving], expected, atol=0.05)
    still = np.abs(signal.times - 25) < 4
    np.testing.assert_allclose(signal.values[still], 0, atol=1e-6)
    beyond = sample(signal.times, signal.values, bin_edges(np.array([0.0]), 0, 1, 5), outside=0.0)
    assert (beyond == 0).all()


def test_one_tick_after_a_long_stand_is_no_slow_drift(behaviour):
    tick = 2 * np.pi / 4096
    times = np.r_[np.arange(0, 1, 0.01), np.arange(60, 61, 0.01)]
    radians = np.r_[np.zeros(100), np.full(100, tick)]
    signal = behaviour(_ibl_wheel__timestamps=times, _ibl_wheel__position=radians).wheel_velocity
    between = (signal.times > 2) & (signal.times < 59)
    assert np.abs(signal.values[between]).max() < 1e-9
    assert signal.values.max() > 0.01


def test_the_right_camera_stands_in_for_the_left(behaviour, experiment):
    times = np.arange(0, 100, 1 / 150)
    found = behaviour(
        _ibl_leftCamera__times=np.empty(0),
        _ibl_rightCamera__times=times,
        rightCamera__ROIMotionEnergy=np.sin(times),
    )
    np.testing.assert_array_equal(found.whisker_motion_energy.times, times)
    assert found.notes == ["left: Camera times empty for leftCamera."]


def test_frames_without_a_value_are_dropped(behaviour, experiment):
    energy = np.load(experiment.alf(0) / "leftCamera.ROIMotionEnergy.npy")
    energy[10:20] = np.nan
    signal = behaviour(leftCamera__ROIMotionEnergy=energy).whisker_motion_energy
    assert len(signal.times) == len(energy) - 10
    assert np.isfinite(signal.values).all()


def test_licks_at_one_time_are_one_lick(behaviour):
    licks = behaviour(licks__times=np.array([1.0, 2.0, 2.0, 3.0])).licks
    assert licks.tolist() == [1.0, 2.0, 3.0]
