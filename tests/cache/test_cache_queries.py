"""Questions to sessions: what each function returns, held against loops and known rates."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from synthetic import make_regions, make_session

import ibl_mtm
from ibl_mtm.cache.store import create_cache, write_session
from ibl_mtm.errors import UserError
from ibl_mtm.sessions.text import as_text


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> ibl_mtm.Cache:
    """Two sessions of one animal with trials, and one of another animal without."""
    root = tmp_path_factory.mktemp("queries") / "cache.zarr"
    create_cache(root)
    for seed, of_session in enumerate(
        [{"subject": "A"}, {"subject": "A", "n_units": 17}, {"subject": "B", "contiguous": True}]
    ):
        write_session(root, make_session(seed=seed, n_trials=80, **of_session), make_regions())
    return ibl_mtm.open_cache(root)


@pytest.fixture
def ds(cache: ibl_mtm.Cache) -> xr.Dataset:
    return cache[make_session(seed=0, n_trials=80, subject="A").attrs["eid"]]


@pytest.fixture
def resting(cache: ibl_mtm.Cache) -> xr.Dataset:
    return cache[next(iter(cache.where("n_included == 0")))]


# ------------------------------------------------------------------------------------------- psth


@pytest.mark.parametrize("by", ["choice", "feedback", "probability_left", "contrast", "split"])
def test_psth_is_the_mean_over_included_trials_in_spikes_per_second(
    ds: xr.Dataset, by: str
) -> None:
    responses = ibl_mtm.psth(ds, by)

    assert responses.dims == (by, "time", "unit")
    assert responses.attrs["units"] == "spikes/s"
    kinds = ds[by].values.tolist()
    included = ds.included.values.tolist()
    assert responses[by].values.tolist() == sorted(
        {k for k, i in zip(kinds, included, strict=True) if i}
    )
    for kind in responses[by].values.tolist():
        rows = [row for row in range(80) if included[row] and kinds[row] == kind]
        expected = sum(ds.spikes.values[row].astype(float) for row in rows) / len(rows) / 0.02
        np.testing.assert_allclose(responses.sel({by: kind}), expected, rtol=1e-12)
        assert int(responses.n_trials.sel({by: kind})) == len(rows)


def test_psth_finds_the_rates_that_the_spikes_were_drawn_from() -> None:
    rng = np.random.default_rng(3)
    ds = make_session(n_units=4, n_trials=400)
    rate = np.where(ds.choice.values[:, None] > 0, 40.0, 10.0) * np.array([0.5, 1, 2, 1])
    drawn = rng.poisson(0.02 * rate[:, None], ds.spikes.shape).astype(np.uint8)
    ds = ds.assign(spikes=(ds.spikes.dims, drawn))

    means = ibl_mtm.psth(ds).mean("time")

    np.testing.assert_allclose(means.sel(choice=1), [20, 40, 80, 40], rtol=0.05)
    np.testing.assert_allclose(means.sel(choice=-1), [5, 10, 20, 10], rtol=0.05)


def test_psth_leaves_out_trials_that_lack_the_value() -> None:
    ds = make_session(n_trials=20)
    ds = ds.assign_coords(
        included=("trial", np.ones(20, bool)),
        choice=("trial", np.array([-128] * 5 + [1] * 15, np.int8)),
        contrast=("trial", np.array([np.nan] * 7 + [0.5] * 13, np.float32)),
    )

    assert ibl_mtm.psth(ds, "choice").choice.values.tolist() == [1]
    assert ibl_mtm.psth(ds, "contrast").n_trials.values.tolist() == [13]


def test_psth_takes_a_variable_of_ones_own(ds: xr.Dataset) -> None:
    fast = ds.firstMovement_times - ds.stimOn_times < 0.3

    responses = ibl_mtm.psth(ds.assign_coords(fast=fast), "fast")

    assert responses.n_trials.values.sum() == ds.included.values.sum()
    assert responses.fast.values.tolist() == [False, True]


def test_psth_takes_all_windows_of_a_session_without_trials(resting: xr.Dataset) -> None:
    assert ibl_mtm.psth(resting, "split").n_trials.values.sum() == resting.sizes["trial"]


def test_psth_names_the_nearest_variable(ds: xr.Dataset) -> None:
    with pytest.raises(UserError, match=r"no variable 'chioce'; did you mean 'choice'\? they have"):
        ibl_mtm.psth(ds, "chioce")


def test_psth_of_no_included_trial_is_refused(ds: xr.Dataset) -> None:
    with pytest.raises(UserError, match="no included trial has a value of 'choice'"):
        ibl_mtm.psth(ds.isel(trial=~ds.included.values))


# ----------------------------------------------------------------------------------- select_units


@pytest.mark.parametrize(
    ("regions", "beryl"),
    [
        ("CA1", {"CA1"}),
        (["CA1", "LP"], {"CA1", "LP"}),
        (["DG-mo"], {"DG"}),  # of the Allen atlas
        (["HPF"], {"CA1", "DG"}),  # of the Cosmos parcellation
        (["TH", "VISa5"], {"LP", "PO", "VISa"}),
    ],
)
def test_units_are_selected_by_region_in_any_map(
    ds: xr.Dataset, regions: Any, beryl: set[str]
) -> None:
    chosen = ibl_mtm.select_units(ds, regions=regions)

    inside = [str(b) in beryl for b in ds.beryl.values]
    expected = ds.unit.values[inside].tolist()
    assert chosen.unit.values.tolist() == expected
    np.testing.assert_array_equal(chosen.spikes, ds.spikes.sel(unit=expected))


@pytest.mark.parametrize("least", [0, 1 / 3, 2 / 3, 1])
def test_units_are_selected_by_label(ds: xr.Dataset, least: float) -> None:
    # Labels are thirds; rounding must not decide.
    passes = [round(3 * float(label)) >= round(3 * least) for label in ds.label.values]
    chosen = ibl_mtm.select_units(ds, min_label=least)
    assert chosen.unit.values.tolist() == ds.unit.values[passes].tolist()


def test_units_without_a_label_pass_none() -> None:
    ds = make_session(n_units=3).assign_coords(label=("unit", np.array([np.nan, 0, 1], "f4")))
    assert ibl_mtm.select_units(ds, min_label=0).sizes["unit"] == 2
    assert ibl_mtm.select_units(ds).sizes["unit"] == 3


def test_both_criteria_must_hold(ds: xr.Dataset) -> None:
    chosen = ibl_mtm.select_units(ds, min_label=2 / 3, regions=["HPF"])
    assert set(as_text(chosen.cosmos)) <= {"HPF"}
    assert (chosen.label.values > 0.6).all()
    assert chosen.sizes["unit"] < ibl_mtm.select_units(ds, regions=["HPF"]).sizes["unit"]


def test_units_are_selected_without_reading_spikes(ds: xr.Dataset) -> None:
    chosen = ibl_mtm.select_units(ds, min_label=1, regions=["CA1", "DG"])
    assert not chosen.spikes.variable._in_memory


def test_an_unknown_region_is_named_with_the_nearest_and_the_sessions_own(ds: xr.Dataset) -> None:
    with pytest.raises(UserError, match=r"'CA3'; did you mean 'CA1'\? its Beryl .* DG, LP, PO, VI"):
        ibl_mtm.select_units(ds, regions=["LP", "CA3"])


# ------------------------------------------------------------------------------ population_raster


def test_a_raster_goes_by_region_in_the_allen_order_and_then_from_top_to_bottom(
    ds: xr.Dataset,
) -> None:
    raster = ibl_mtm.population_raster(ds, trial=12)

    assert raster.dims == ("unit", "time")
    order = {"VISa": 297, "CA1": 455, "DG": 465, "LP": 650, "PO": 653}
    regions, depths = raster.beryl.values, raster.depth.values
    places = [(order[str(r)], -float(d)) for r, d in zip(regions, depths, strict=True)]
    assert places == sorted(places)
    assert sorted(raster.unit.values) == sorted(ds.unit.values)
    for unit in ds.unit.values:
        np.testing.assert_array_equal(raster.sel(unit=unit), ds.spikes.sel(trial=12, unit=unit))
    assert str(raster.color.values[0]) == "#009fac"


def test_a_raster_is_of_the_trial_by_its_number_not_its_place(ds: xr.Dataset) -> None:
    number = int(ds.trial[17])
    assert number != 17
    counts = ds.spikes.isel(trial=17).transpose("unit", "time")
    raster = ibl_mtm.population_raster(ds, number)
    np.testing.assert_array_equal(raster.sortby("unit"), counts.sortby("unit"))
    last = int(ds.trial[-1])
    with pytest.raises(UserError, match=rf"no trial 3; it has 80, of numbers 0 to {last}"):
        ibl_mtm.population_raster(ds, 3)


def test_units_without_a_region_come_last_and_have_a_color(ds: xr.Dataset) -> None:
    beryl = as_text(ds.beryl)
    beryl[0] = "unknown"
    raster = ibl_mtm.population_raster(ds.assign_coords(beryl=("unit", beryl)), 0)
    assert raster.unit.values[-1] == ds.unit.values[0]
    assert str(raster.color.values[-1]).startswith("#")


def test_regions_that_share_a_place_in_the_atlas_do_not_mix(ds: xr.Dataset) -> None:
    described = json.loads(ds.attrs["regions"])
    for acronym in described:
        described[acronym]["order"] = 1  # such as void and root
    raster = ibl_mtm.population_raster(ds.assign_attrs(regions=json.dumps(described)), 0)
    beryl = raster.beryl.values
    assert (beryl[1:] != beryl[:-1]).sum() == 4


# --------------------------------------------------------------------------------- region_summary


def test_regions_are_summed_up_over_sessions(cache: ibl_mtm.Cache) -> None:
    summary = ibl_mtm.region_summary(cache)

    assert summary.region.values.tolist() == ["VISa", "CA1", "DG", "LP", "PO", "unknown"]
    for region in summary.region.values.tolist():
        units = [
            (ds, k) for ds in cache.values() for k, b in enumerate(ds.beryl.values) if b == region
        ]
        row = summary.sel(region=region)
        rates = [ds.spikes.values[:, :, k].mean() / 0.02 for ds, k in units]
        assert row.n_units == len(units)
        assert row.n_good_units == sum(ds.label.values[k] == 1 for ds, k in units)
        assert row.n_sessions == len({ds.attrs["eid"] for ds, _ in units})
        assert row.n_subjects == len({ds.attrs["subject"] for ds, _ in units})
        assert float(row.mean_rate) == pytest.approx(np.mean(rates), rel=1e-6)
    assert summary.n_subjects.values.tolist() == [1, 1, 1, 1, 1, 1]
    assert summary.sel(region="CA1").color == "#7ed04b"


def test_a_part_of_a_cache_is_summed_up_alone(cache: ibl_mtm.Cache) -> None:
    summary = ibl_mtm.region_summary(cache.where("n_units == 17"))
    assert int(summary.n_units.sum()) == 17
    assert list(summary.to_pandas().index) == ["VISa", "CA1", "DG", "LP", "PO"]


def test_nothing_to_sum_up_is_told(tmp_path: Path) -> None:
    create_cache(tmp_path / "empty.zarr")
    with pytest.raises(UserError, match="no session"):
        ibl_mtm.region_summary(ibl_mtm.open_cache(tmp_path / "empty.zarr"))
