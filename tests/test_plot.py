"""Figures for a notebook: what they draw is what the session holds."""

import numpy as np
import pytest
from matplotlib import pyplot as plt
from synthetic import make_regions, make_session

import ibl_mtm
from ibl_mtm.cache.store import create_cache, write_session
from ibl_mtm.errors import UserError


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """Trial numbers are not positions."""
    root = tmp_path_factory.mktemp("plot") / "cache.zarr"
    create_cache(root)
    for seed, n_units, n_trials in ((2, 6, 20), (3, 9, 12)):
        session = make_session(n_units=n_units, n_trials=n_trials, n_bins=10, seed=seed)
        session = session.assign_coords(trial=np.arange(n_trials) * 2 + 5)
        write_session(root, session, make_regions())
    return ibl_mtm.open_cache(root)


@pytest.fixture
def ds(cache):
    return next(ds for ds in cache.values() if ds.sizes["unit"] == 6)


@pytest.fixture(autouse=True)
def _closed():
    yield
    plt.close("all")


def test_a_raster_holds_the_trials_spikes_by_region(ds):
    axes = ibl_mtm.plot.raster(ds, 11)
    image = axes.collections[0].get_array()
    expected = ibl_mtm.population_raster(ds, 11)
    np.testing.assert_array_equal(np.asarray(image).reshape(expected.shape), expected)
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names == list(dict.fromkeys(expected.beryl.values.tolist()))
    with pytest.raises(UserError, match="no trial 12"):
        ibl_mtm.plot.raster(ds, 12)


def test_a_response_has_a_line_for_each_kind_of_trial(ds):
    unit = str(ds.unit.values[3])
    axes = ibl_mtm.plot.psth(ds, unit, by="feedback")
    expected = ibl_mtm.psth(ds, by="feedback").sel(unit=unit)
    drawn = [line for line in axes.lines if len(line.get_ydata()) == 10]
    assert len(drawn) == expected.sizes["feedback"]
    for line, one in zip(drawn, expected, strict=True):
        np.testing.assert_allclose(line.get_ydata(), one)
    assert f"({int(expected.n_trials[0])})" in axes.get_legend().get_texts()[0].get_text()
    with pytest.raises(UserError, match="no unit 'x'"):
        ibl_mtm.plot.psth(ds, "x")


def test_a_prediction_stands_over_the_units_spikes_in_that_trial(ds):
    _, own = plt.subplots()
    rates = ds.spikes.astype(float) * 0.5 + 0.1
    unit = str(ds.unit.values[4])
    axes = ibl_mtm.plot.prediction(ds, rates.isel(unit=[4, 1]), unit, 25, ax=own)
    assert axes is own
    counts = ds.spikes.sel(trial=25).isel(unit=4).values
    assert [bar.get_height() for bar in axes.patches] == counts.tolist()
    np.testing.assert_allclose(axes.lines[0].get_ydata(), counts * 0.5 + 0.1)
    with pytest.raises(UserError, match="the rates of"):
        ibl_mtm.plot.prediction(ds, rates.isel(trial=[0]), unit, 25)


def test_regions_are_counted_in_a_session_and_in_several(ds, cache):
    axes = ibl_mtm.plot.regions(ds)
    assert sum(bar.get_width() for bar in axes.patches) == 6
    axes = ibl_mtm.plot.regions(cache)
    assert sum(bar.get_width() for bar in axes.patches) == 15
    assert axes.get_title() == "2 sessions"
