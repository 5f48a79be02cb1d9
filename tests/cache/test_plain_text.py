"""What people do with strings works with those of a cache, which are read when asked for."""

import re
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from synthetic import make_regions, make_session

import ibl_mtm
from ibl_mtm.cache.plain_text import _PlainText
from ibl_mtm.cache.store import create_cache, write_session

TEXT = ("unit", "region", "beryl", "cosmos", "pid", "probe", "split")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("text") / "cache.zarr"
    create_cache(root)
    for seed, n_units in ((1, 14), (2, 9)):
        ds = make_session(n_units=n_units, n_trials=30, seed=seed, simulated=True, notes=["ä", "b"])
        write_session(root, ds.isel(trial=np.arange(30) != 4), make_regions())
    return root


@pytest.fixture(params=["lazy", "dask", "tree"])
def ds(root, request):
    cache = ibl_mtm.open_cache(root)
    eid = next(iter(cache))
    if request.param == "tree":
        return cache.to_datatree()[eid].to_dataset()
    return cache.open(eid, chunks={} if request.param == "dask" else None)


def test_strings_are_ordinary_ones(ds):
    for name in TEXT:
        assert ds[name].dtype == object
        assert ds[name].values.astype(str).dtype.kind == "U"
        assert all(isinstance(value, str) for value in ds[name].values)


def test_questions_to_strings_are_answered(ds):
    beryl = ds.beryl.values.astype(str)
    assert ds.beryl.isin(["CA1", "DG"]).sum() == np.isin(beryl, ["CA1", "DG"]).sum()
    assert ds.beryl.str.startswith("C").sum() == np.char.startswith(beryl, "C").sum()
    assert ds.firing_rate.groupby("beryl").mean().beryl.values.tolist() == sorted(set(beryl))
    assert ds.sortby("beryl").beryl.values.tolist() == sorted(beryl)
    assert ds.set_index(unit="beryl").sel(unit="CA1").sizes["unit"] == (beryl == "CA1").sum()
    table = ds[["beryl", "label"]].to_dataframe()
    assert table["beryl"].tolist() == beryl.tolist()
    assert (ds.beryl == "CA1").sum() == (beryl == "CA1").sum()
    assert ds.sel(unit=ds.unit.values[3]).beryl.item() == beryl[3]
    both = xr.concat([ds, ds.isel(unit=[0])], "unit", data_vars="minimal")
    assert both.beryl.values.tolist() == [*beryl, beryl[0]]
    assert ds.beryl[::-2].values.tolist() == beryl[::-2].tolist()


def test_text_is_read_when_it_is_asked_for(root):
    cache = ibl_mtm.open_cache(root)
    ds = cache[next(iter(cache))]
    data = ds.variables["beryl"]._data
    while not isinstance(data, _PlainText):
        if not hasattr(data, "array"):
            pytest.skip("this xarray reads text at once")
        data = data.array
    assert not ds.variables["beryl"]._in_memory


@pytest.mark.parametrize("engine", ["scipy", "netcdf4", "h5netcdf"])
def test_a_session_is_written_as_netcdf(root, tmp_path, engine):
    if engine != "scipy":
        pytest.importorskip({"netcdf4": "netCDF4"}.get(engine, engine))
    cache = ibl_mtm.open_cache(root)
    ds = cache[next(iter(cache))].load()
    if engine == "scipy":  # which has no lists of strings
        del ds.attrs["notes"]
    ds.to_netcdf(tmp_path / "x.nc", engine=engine)
    again = xr.load_dataset(tmp_path / "x.nc", engine=engine)
    assert again.beryl.values.tolist() == ds.beryl.values.tolist()
    assert (again.spikes.values == ds.spikes.values).all()
    assert again.attrs["simulated"] == 1


def test_attributes_are_what_netcdf_has(root):
    for ds in ibl_mtm.open_cache(root).values():
        assert not any(isinstance(value, bool | dict) for value in ds.attrs.values())


def test_plain_xarray_needs_two_lines_of_the_docs(root, tmp_path):
    page = (Path(__file__).parents[2] / "docs" / "cache-format.md").read_text(encoding="utf-8")
    (recipe,) = re.findall(r"```python\n(text = .*?)```", page, flags=re.DOTALL)
    eid = next(iter(ibl_mtm.open_cache(root)))
    found = {"ds": xr.open_zarr(root / eid, chunks=None)}
    exec(recipe, found)
    test_questions_to_strings_are_answered(found["ds"])
    tree = xr.open_datatree(root, engine="zarr", consolidated=False)
    found = {"ds": tree[eid].to_dataset()}
    exec(recipe, found)
    test_questions_to_strings_are_answered(found["ds"])
    assert found["ds"].choice.groupby("choice").count().sizes["choice"] >= 2
