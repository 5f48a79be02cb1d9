"""Bins are as wide as their times are apart, and rates are per second however bins were joined."""

import numpy as np
import pytest
import xarray as xr
from synthetic import make_session

import ibl_mtm
from ibl_mtm.errors import UserError
from ibl_mtm.sessions.bins import bin_width, rebin
from ibl_mtm.sessions.trial_format import trial_format


@pytest.fixture
def ds():
    """Trials with numbers that are no positions."""
    return make_session(n_units=6, n_trials=40, seed=3).isel(trial=[*range(7), *range(9, 40)])


def test_rates_of_joined_bins_are_per_second(ds):
    """xarray carries the attribute bin_size along: rates were wrong by the number of bins."""
    fine = ibl_mtm.psth(ds)
    expected = fine.coarsen(time=5).mean().values
    for joined in (ds.coarsen(time=5).sum(), rebin(ds, 0.1)):
        found = ibl_mtm.psth(joined.assign_attrs(bin_size=0.02))
        np.testing.assert_allclose(found.values, expected, rtol=1e-12)
    assert trial_format(ds.coarsen(time=5).sum()).bin_size == 0.1


def test_joined_bins_hold_sums_of_counts_and_means_of_traces(ds):
    ds["whisker_motion_energy"][0, 12] = np.nan
    joined = ibl_mtm.rebin(ds, 0.1)
    assert joined.sizes == {"trial": 38, "time": 20, "unit": 6}
    assert joined.attrs["bin_size"] == pytest.approx(0.1)
    assert joined.time.values == pytest.approx(ds.time.values[::5])
    assert list(joined.data_vars) == list(ds.data_vars)
    assert set(joined.coords) == set(ds.coords)
    counts = ds.spikes.values.reshape(38, 20, 5, 6).sum(2)
    assert (joined.spikes.values == counts).all()
    assert joined.spikes.values.sum() == ds.spikes.values.sum()
    assert joined.spikes.dtype == np.uint16
    whisker = ds.whisker_motion_energy.values.reshape(38, 20, 5).mean(2)
    np.testing.assert_allclose(joined.whisker_motion_energy.values, whisker, rtol=1e-6)
    assert np.isnan(whisker[0, 2])
    loud = ds.spikes.astype(np.uint8) * 0 + np.uint8(255)
    assert (rebin(loud, 0.1).values == 5 * 255).all()
    assert rebin(ds, 0.02).spikes.equals(ds.spikes)


@pytest.mark.parametrize("width", [0.03, 0.01, 0.06, 3.0])
def test_widths_that_cannot_be_had_are_told_with_those_that_can(ds, width):
    with pytest.raises(UserError, match=r"100 bins of 0\.02 s cannot be joined.*0\.04, 0\.08"):
        rebin(ds, width)


def test_bins_without_a_width_are_refused(ds):
    assert bin_width(ds.isel(time=[3])) == 0.02
    with pytest.raises(UserError, match="not evenly spaced"):
        ibl_mtm.psth(ds.isel(time=[0, 1, 5]))
    with pytest.raises(UserError, match="single time bin is not known"):
        bin_width(xr.DataArray([1.0], coords={"time": [0.0]}))


def test_predictions_have_responses_too(ds):
    rates = ds.spikes.astype(np.float32).rename("rate").assign_attrs(units="spikes/bin")
    np.testing.assert_allclose(ibl_mtm.psth(rates).values, ibl_mtm.psth(ds).values, rtol=1e-6)


def test_a_single_trial_is_no_set_of_trials(ds):
    with pytest.raises(UserError, match=r"isel\(trial=\[17\]\)"):
        ibl_mtm.psth(ds.isel(trial=17))
