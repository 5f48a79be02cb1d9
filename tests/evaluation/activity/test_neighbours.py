"""A unit can be predicted without those beside it on the probe, which share its noise."""

import numpy as np
import pytest
from synthetic import make_regions, make_session
from training_runs import tiny_settings

import ibl_mtm
from ibl_mtm.cache.store import create_cache, write_session
from ibl_mtm.errors import UserError
from ibl_mtm.evaluation.activity.tasks import held_out, neighbours
from ibl_mtm.training.run import train


def test_neighbours_are_of_the_same_probe_and_near_or_of_one_channel():
    probe = np.array(["a", "a", "a", "b", "b", "a"])
    depth = np.array([0.0, 40.0, 100.0, 40.0, np.nan, np.nan])
    channel = np.array([1, 5, 9, 5, 7, 9])
    near = neighbours(probe, depth, channel, 50)
    expected = np.eye(6, dtype=bool)
    for a, b in ((0, 1), (2, 5)):
        expected[a, b] = expected[b, a] = True
    assert (near == expected).all()
    assert not neighbours(probe, depth, channel, 0).any()
    assert neighbours(probe, depth, channel, 60.001)[1, 2]
    assert not neighbours(probe, depth, channel, 60)[1, 2]  # as far as that is not nearer
    region = np.array(["CA1"] * 4 + [""] * 2)
    for held in held_out("co_smoothing", region, 10, near):
        assert (held.hidden[0] == expected[held.outputs[0]]).all()
    for held in held_out("intra_region", region, 10, near):
        unit = held.outputs[0]
        assert (held.hidden[0] == (expected[unit] | (region != region[unit]))).all()
    alone = [held.hidden.sum() for held in held_out("co_smoothing", region, 10)]
    assert alone == [1] * 6


def test_one_channel_makes_neighbours_of_units_of_any_depth_if_it_is_known():
    probe, depth = np.array(["a", "a", "a", "a", "b"]), np.array([0.0, 900, 50, 400, 0])
    near = neighbours(probe, depth, np.array([0, 0, -1, -1, 0]), 1)
    expected = np.eye(5, dtype=bool)
    expected[0, 1] = expected[1, 0] = True
    assert (near == expected).all()


def test_hidden_neighbours_tell_nothing(tmp_path):
    """Predictions do not change with the counts of a neighbour, nor scores stand beside others."""
    create_cache(tmp_path / "cache.zarr")
    ds = make_session(n_units=12, n_trials=40, n_bins=20, seed=1)
    ds = ds.assign_coords(depth=("unit", np.repeat([0, 20, 300, 600], 3).astype(np.float32)))
    write_session(tmp_path / "cache.zarr", ds, make_regions())
    cache, run = ibl_mtm.open_cache(tmp_path / "cache.zarr"), tmp_path / "run"
    train(tiny_settings(steps=4), cache, run, progress=False)
    model, (ds,) = ibl_mtm.load_model(run), cache.values()
    loud = ds.load().copy(deep=True)
    loud.spikes[{"unit": 4}] = 200
    for distance, same in ((100, True), (0, False)):
        a, b = (
            ibl_mtm.predict(model, d, "co_smoothing", min_distance_um=distance).values[:, :, :3]
            for d in (ds, loud)
        )
        assert np.array_equal(a, b) is same
    task = ["co_smoothing"]
    ibl_mtm.evaluate(run, cache, tasks=task).write(run)
    far = ibl_mtm.evaluate(run, cache, tasks=task, min_distance_um=100)
    assert far.metrics["min_distance_um"] == 100
    with pytest.raises(UserError, match="neighbours were hidden up to 0 um, not 100"):
        far.write(run)
    far.write(tmp_path / "far")
    with pytest.raises(UserError, match="--min-distance"):
        ibl_mtm.compare_runs([run, tmp_path / "far"])
