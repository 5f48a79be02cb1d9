"""Predictions of a trial, of a session from some regions, and of a whole cache into Zarr."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from synthetic import make_regions, make_session
from training_runs import make_cache, tiny_settings

import ibl_mtm
from ibl_mtm.cache.store import create_cache, write_session
from ibl_mtm.errors import SessionError, UserError
from ibl_mtm.evaluation.activity import stored_predictions
from ibl_mtm.evaluation.activity.predict import population_of, predict_region_pairs, select_known
from ibl_mtm.model.group import Group
from ibl_mtm.model.mtm import MtM
from ibl_mtm.sessions.trial_format import trial_format
from ibl_mtm.training.checkpoint.build import build_model
from ibl_mtm.training.checkpoint.pretrained import model_digest, save_model
from ibl_mtm.training.data.describe import describe_sessions


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> ibl_mtm.Cache:
    """Two sessions that the model knows, and one that it does not."""
    root = make_cache(tmp_path_factory.mktemp("predictions") / "cache.zarr")
    write_session(root, make_session(n_units=6, n_trials=30, n_bins=20, seed=9), make_regions())
    return ibl_mtm.open_cache(root)


@pytest.fixture(scope="module")
def model(cache: ibl_mtm.Cache) -> MtM:
    known = cache.where("n_units > 10")
    settings = tiny_settings()
    torch.manual_seed(0)
    sessions = describe_sessions(known, settings.data)
    model = build_model(settings, sessions, trial_format(next(iter(known.values()))))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()


@pytest.fixture(scope="module")
def ds(cache: ibl_mtm.Cache, model: MtM) -> xr.Dataset:
    return cache[model.scope.sessions[1]].load()


@pytest.mark.parametrize("task", [None, "co_smoothing", "inter_region"])
def test_one_trial_is_predicted_as_among_others(model: MtM, ds: xr.Dataset, task: Any) -> None:
    all_of_it = ibl_mtm.predict(model, ds, task)
    one = ibl_mtm.predict(model, ds.isel(trial=17), task)
    assert one.dims == ("time", "unit")
    assert one.trial.item() == ds.trial.values[17]
    assert one.choice.item() == ds.choice.values[17]
    assert np.allclose(one, all_of_it.isel(trial=17), rtol=1e-5, equal_nan=True)
    assert np.array_equal(one, ibl_mtm.predict(model, ds.isel(trial=[17]), task)[0], equal_nan=True)


def test_rates_of_a_session_are_what_netcdf_has(model: MtM, ds: xr.Dataset, tmp_path: Path) -> None:
    rates = ibl_mtm.predict(model, ds)
    rates.to_netcdf(tmp_path / "rates.nc", engine="scipy")
    again = xr.open_dataarray(tmp_path / "rates.nc", engine="scipy")
    assert np.array_equal(again.values, rates.values)
    assert list(again.beryl.values) == list(rates.beryl.values)


def test_one_source_is_a_pair_of_regions(model: MtM, ds: xr.Dataset) -> None:
    known = select_known(model, ds)
    region = known.beryl.values.astype(str)
    pairs = [(h, r) for h, r in predict_region_pairs(population_of(model, known))]
    source = pairs[0][0].source
    rates = ibl_mtm.predict(model, ds, source=source)
    assert rates.attrs["source"] == source
    told = np.zeros(len(region), bool)
    for held, expected in pairs:
        if held.source == source:
            assert np.allclose(rates.values[..., held.outputs], expected, rtol=1e-5)
            told[held.outputs] = True
    assert told.sum() > 2
    assert np.isnan(rates.values[..., ~told]).all()
    assert np.isnan(rates.values[..., region == source]).all()


def test_units_from_two_regions_by_the_plain_definition(model: MtM, ds: xr.Dataset) -> None:
    region = ds.beryl.values.astype(str)
    counts = np.unique(region, return_counts=True)
    names = [str(name) for name, n in zip(*counts, strict=True) if n >= 2]
    source, target = names[:2], names[2]
    rates = ibl_mtm.predict(model, ds, source=source)
    hidden = torch.from_numpy(~np.isin(region, source))[None, None].expand(3, 1, -1)
    rows = model.scope.rows_of(ds.unit.values.astype(str))
    session = model.scope.sessions.index(ds.attrs["eid"])
    prompt = torch.full((3,), model.scope.regions.index(target))
    group = Group(torch.from_numpy(ds.spikes.values[:3]), hidden, rows, session, "inter_region",
                  False, prompt)  # fmt: skip
    with torch.no_grad():
        (log_rate,) = model([group])
        expected = model.blend(log_rate, group).exp().numpy()
    inside = region == target
    assert np.allclose(rates.values[:3][..., inside], expected[..., inside], rtol=1e-4)
    # Nothing but the source is seen.
    noise = np.random.default_rng(0).integers(0, 99, ds.spikes.shape).astype(np.uint8)
    changed = ds.assign(
        spikes=(ds.spikes.dims, np.where(np.isin(region, source), ds.spikes.values, noise))
    )
    again = ibl_mtm.predict(model, changed, source=source)
    assert np.array_equal(again.values, rates.values, equal_nan=True)


def test_requests_that_cannot_be(model: MtM, ds: xr.Dataset, tmp_path: Path) -> None:
    for what, said in (
        ({"source": ["Narnia"]}, r"no region 'Narnia' to predict from: of beryl, with 2 units"),
        ({"source": []}, "another one is to be predicted"),
        ({"source": ["CA1"], "task": "co_smoothing"}, "leave one of them out"),
        ({"source": ["CA1"], "targets": ["spikes"]}, "leave one of them out"),
        ({"source": sorted({*ds.beryl.values.tolist()})}, "another one is to be predicted"),
        ({"given": ["spikes"]}, "the model knows spikes alone"),
        ({"targets": ["spikes"]}, "the model knows spikes alone"),
        ({"into": tmp_path}, "'into' is for a cache"),
    ):
        with pytest.raises(UserError, match=said):
            ibl_mtm.predict(model, ds, **what)
    with pytest.raises(UserError, match="need a place: into="):
        ibl_mtm.predict(model, "cache.zarr")  # type: ignore[call-overload]
    with pytest.raises(UserError, match="a model needs trials, bins and units"):
        ibl_mtm.predict(model, ds.isel(trial=0).drop_vars("trial"))


def test_rates_say_what_they_were_asked_for(model: MtM, ds: xr.Dataset) -> None:
    few = ds.isel(trial=[1, 2])
    for task in (None, "co_smoothing"):
        rates = ibl_mtm.predict(model, few, task)
        assert rates.attrs == {"units": "spikes/bin", "task": task or "none"}


def test_a_folder_of_predictions_is_made_where_it_is_to_be(
    model: MtM, cache: ibl_mtm.Cache, tmp_path: Path
) -> None:
    """Below folders that are not there, or one that is empty; and says what it is."""
    one, empty = cache.where("n_units == 15"), tmp_path / "empty"
    empty.mkdir()
    for path in (tmp_path / "not" / "there", empty):
        found = ibl_mtm.predict(model, one, "forward_prediction", into=path)
        assert len(found) == 1
        text = json.loads((path / "zarr.json").read_text())["attributes"]
        assert (text["format"], text["format_version"]) == ("ibl-mtm predictions", 1)
        assert text["ibl_mtm"] == ibl_mtm.__version__
    told = repr(found)
    assert told.startswith(f"<ibl-mtm predictions {empty}> 1 session; task forward_prediction")
    assert "model" not in told
    assert "None" not in told
    assert 5 not in found
    text = (empty / "zarr.json").read_text()
    (empty / "zarr.json").write_text(text.replace('"format_version": 1', '"format_version": 2'))
    with pytest.raises(UserError, match="was written by a newer ibl-mtm"):
        ibl_mtm.open_predictions(empty)


def test_a_whole_cache(
    model: MtM, cache: ibl_mtm.Cache, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    said: list[str] = []
    path = tmp_path / "rates.zarr"
    found = ibl_mtm.predict(model, cache, "co_smoothing", into=path, say=said.append)
    assert set(found) == set(model.scope.sessions)
    assert "1 session of" in caplog.text
    assert len(said) == 2
    assert found.asked["task"] == "co_smoothing"
    assert "co_smoothing" in repr(found)
    opened = ibl_mtm.open_predictions(str(path))
    for eid in found:
        rates, expected = opened[eid], ibl_mtm.predict(model, cache[eid], "co_smoothing")
        assert isinstance(rates, xr.DataArray)
        xr.testing.assert_identical(rates.load(), expected)
        ca1 = rates.sel(unit=rates.beryl == "CA1")
        assert ca1.sizes["unit"] == (cache[eid].beryl == "CA1").sum()
    # Any reader of Zarr has them.
    tree = xr.open_datatree(path, engine="zarr", consolidated=False)
    assert set(tree.children) == set(found)
    assert found.left_out == {}
    with pytest.raises(KeyError):
        found["nobody"]


def test_the_digest_is_that_of_the_folder(model: MtM, tmp_path: Path) -> None:
    save_model(model, tmp_path / "model")
    assert stored_predictions._digest(model) == model_digest(tmp_path / "model")


def test_what_is_there_is_not_made_again(
    model: MtM, cache: ibl_mtm.Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped after the first session, the same call makes the second alone."""
    path, known = tmp_path / "rates.zarr", [eid for eid in cache if eid in model.scope.sessions]
    write = stored_predictions._write

    def stop(into: Path, eid: str, *others: Any) -> None:
        if eid == known[1]:
            raise KeyboardInterrupt
        write(into, eid, *others)

    with monkeypatch.context() as patch:
        patch.setattr(stored_predictions, "_write", stop)
        with pytest.raises(KeyboardInterrupt):
            ibl_mtm.predict(model, cache, into=path)
    assert list(ibl_mtm.open_predictions(path)) == known[:1]
    before = (path / known[0] / "zarr.json").stat()
    said: list[str] = []
    found = ibl_mtm.predict(model, str(cache.path), into=path, say=said.append)
    assert [line.split()[-1] for line in said] == known[1:]
    assert (path / known[0] / "zarr.json").stat().st_mtime_ns == before.st_mtime_ns
    assert len(found) == 2


def test_other_predictions_and_other_folders_stay_as_they_are(
    model: MtM, cache: ibl_mtm.Cache, tmp_path: Path
) -> None:
    path = tmp_path / "rates.zarr"
    part = cache.where("n_units == 15")
    ibl_mtm.predict(model, part, into=path)
    with pytest.raises(UserError, match="holds predictions with task None; give these a folder"):
        ibl_mtm.predict(model, part, "co_smoothing", into=path)
    with torch.no_grad():
        first = next(model.parameters())
        first += 1
        with pytest.raises(UserError, match="of another model"):
            ibl_mtm.predict(model, part, into=path)
        first -= 1
    for name in ("mine", "cache.zarr"):
        there = tmp_path / name if name == "mine" else Path(str(cache.path))
        if name == "mine":
            there.mkdir()
            (there / "thesis.txt").write_text("mine")
        before = sorted(there.rglob("*"))
        with pytest.raises(UserError, match="holds no predictions"):
            ibl_mtm.predict(model, part, into=there)
        assert sorted(there.rglob("*")) == before
    with pytest.raises(UserError, match="no predictions at"):
        ibl_mtm.open_predictions(tmp_path / "nowhere")


def test_a_session_of_other_trials_is_not_mixed_in(
    model: MtM, cache: ibl_mtm.Cache, tmp_path: Path
) -> None:
    path = tmp_path / "rates.zarr"
    found = ibl_mtm.predict(model, cache.where("n_units == 15"), into=path)
    (eid,) = found
    document = json.loads((path / eid / "zarr.json").read_text())
    document["attributes"]["data"] = "otherwise"
    (path / eid / "zarr.json").write_text(json.dumps(document))
    with pytest.raises(UserError, match="of other units or trials than the cache has now"):
        ibl_mtm.predict(model, cache, into=path)


def test_a_session_is_known_by_its_definition_units_and_trials(ds: xr.Dataset) -> None:
    others = (
        ds.isel(trial=slice(1, None)),
        ds.isel(unit=slice(1, None)),
        ds.assign_coords(trial=ds.trial + 1),
        ds.assign_attrs(definition_hash="another"),
    )
    digests = {stored_predictions._data_of(one) for one in (ds, ds.copy(), *others)}
    assert len(digests) == 1 + len(others)


def test_sessions_that_lack_the_source_are_left_out(
    model: MtM, cache: ibl_mtm.Cache, tmp_path: Path
) -> None:
    """Of regions that a session has too few units of, and of a session that is damaged."""
    root = tmp_path / "own.zarr"
    create_cache(root)
    first, second = (eid for eid in cache if eid in model.scope.sessions)
    write_session(root, cache[second].load(), make_regions())
    ds = cache[first].load()
    few = ds.assign_coords(beryl=("unit", np.array(["LP"] * ds.sizes["unit"], dtype=object)))
    write_session(root, few, make_regions())
    found = ibl_mtm.predict(model, root, source="CA1", into=tmp_path / "a.zarr")
    assert list(found) == [second]
    assert "no region 'CA1'" in found.left_out[first]
    for chunk in (root / second / "spikes").glob("c/*/*/*"):
        chunk.write_bytes(b"x" * 40)
    found = ibl_mtm.predict(model, root, into=tmp_path / "b.zarr")
    assert list(found) == [first]
    assert "ibl-mtm check CACHE --repair" in found.left_out[second]
    with pytest.raises((UserError, SessionError)):
        ibl_mtm.predict(model, root, source="CA1", into=tmp_path / "c.zarr")


@pytest.mark.slow
def test_memory_is_that_of_a_session(tmp_path: Path) -> None:
    """Of twelve sessions no more than of three: each is given back once it is written."""
    code = f"""
import sys; sys.path.insert(0, {str(Path(__file__).parents[2] / "helpers")!r})
import resource, torch
from pathlib import Path
import ibl_mtm
from synthetic import make_regions, make_session
from training_runs import tiny_settings
from ibl_mtm.cache.store import create_cache, write_session
from ibl_mtm.sessions.trial_format import trial_format
from ibl_mtm.training.checkpoint.build import build_model
from ibl_mtm.training.data.describe import describe_sessions
root, n = Path({str(tmp_path)!r}) / sys.argv[1], int(sys.argv[1])
create_cache(root)
for seed in range(n):
    ds = make_session(n_units=150, n_trials=400, n_bins=100, seed=seed)
    write_session(root, ds, make_regions())
cache = ibl_mtm.open_cache(root)
settings = tiny_settings()
model = build_model(settings, describe_sessions(cache, settings.data), trial_format(ds)).eval()
ibl_mtm.predict(model, cache, into=root.with_suffix(".rates"))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""
    peaks = [
        float(
            subprocess.run(
                [sys.executable, "-c", code, str(n)], capture_output=True, text=True, check=True,
                env=os.environ,
            ).stdout
        )
        for n in (3, 12)
    ]  # fmt: skip
    assert peaks[1] < peaks[0] + 60  # MB; the rates of the nine others are 216
