"""The brain-wide map in a cache: counts, windows, trials, behaviour and splits as in its files."""

import json
import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import xarray as xr

from ibl_mtm.brainsets.intervals import inside
from ibl_mtm.brainsets.layout import file_of, recordings_in
from ibl_mtm.brainsets.recording import Recording, open_recording
from ibl_mtm.cache.cache import open_cache
from ibl_mtm.cache.card import session_card
from ibl_mtm.cache.check import check
from ibl_mtm.config.dataset import Dataset
from ibl_mtm.errors import SessionError, UserError
from ibl_mtm.ingest.align import bin_edges, count_from_start, count_spikes
from ibl_mtm.ingest.brainsets.load_file import load_file
from ibl_mtm.ingest.run import ingest

EVENT = {"event": "stimOn_times", "window": [-0.5, 1.5], "bin": 0.02}
NOBODY = "00000000-0000-4000-8000-000000000000"
SECOND = {"contiguous": 1.0, "bin": 0.02}


def dataset(root: Path, **settings: Any) -> Dataset:
    """A dataset of the simulated map: recordings for evaluation, all units, unless told."""
    source = {"kind": "brainsets", "path": root, "regime": "eval", **settings.pop("source", {})}
    rules = {"align": EVENT, "split": {"kind": "file"}}
    return Dataset.model_validate({"source": source, **rules, **settings})


@pytest.fixture(scope="module")
def caches(wide_map: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Both regimes: those for evaluation around the stimulus, the others in whole seconds."""
    folder = tmp_path_factory.mktemp("caches")
    made = {}
    for name, chosen in {
        "eval": dataset(wide_map),
        "pretrain": dataset(wide_map, source={"regime": "pretrain"}, align=SECOND),
    }.items():
        report = ingest(chosen, name, folder / f"{name}.zarr", workers=1)
        assert report.failed == {}
        made[name] = open_cache(report.cache)
    return made


def _open(root: Path, eid: str, regime: str = "eval") -> Any:
    return open_recording(file_of(root, "all_units", regime, eid))


def _counts_by_hand(recording: Recording, starts: np.ndarray, n_bins: int) -> np.ndarray:
    """One spike after the other, by the benchmark's formula."""
    spikes = recording.spikes()
    counts = np.zeros((len(starts), n_bins, len(recording.units)), int)
    for trial, start in enumerate(starts):
        for t, unit in zip(spikes.times, spikes.units, strict=True):
            if start <= t < start + n_bins * 0.02:
                counts[trial, min(int(np.floor((t - start) * 50)), n_bins - 1), unit] += 1
    return counts


def test_counts_are_those_of_the_benchmarks_formula(caches: dict[str, Any], wide_map: Path) -> None:
    for regime, cache in caches.items():
        eid = next(iter(cache))
        ds = cache[eid]
        chosen = np.linspace(0, ds.sizes["trial"] - 1, 3).astype(int)
        with _open(wide_map, eid, regime) as recording:
            assert list(ds.unit.values) == list(recording.unit_ids)
            starts = ds.window_start.values[chosen]
            expected = _counts_by_hand(recording, starts, ds.sizes["time"])
        assert np.array_equal(ds.spikes.values[chosen], expected)
        assert expected.sum() > 100


def test_spikes_on_an_edge_but_for_rounding() -> None:
    rng = np.random.default_rng(0)
    starts = rng.uniform(0, 4000, 400)
    edges = bin_edges(starts, 0.0, 0.02, 50)
    # Spikes exactly where others put edges: added up, multiplied, and a bit to either side.
    exact = np.concatenate([edges.ravel(), (starts[:, None] + np.arange(50) / 50).ravel()])
    times = np.sort(np.concatenate([exact, np.nextafter(exact, 0), np.nextafter(exact, 1e9)]))
    units = np.zeros(len(times), int)
    counts = count_from_start(times, units, 1, starts, 0.02, 50)
    for trial, start in enumerate(starts):
        inside_ = times[(times >= start) & (times < start + 50 * 0.02)]
        cells = np.floor((inside_ - start) * 50.0).astype(int)
        assert np.array_equal(counts[trial, :, 0], np.bincount(cells, minlength=50))
    # By the edges of bins some are counted elsewhere: the two are not the same.
    assert not np.array_equal(counts, count_spikes(times, units, 1, edges))


def test_windows_follow_each_other_within_the_domains(
    caches: dict[str, Any], wide_map: Path
) -> None:
    for eid in caches["pretrain"]:
        ds = caches["pretrain"][eid]
        with _open(wide_map, eid, "pretrain") as recording:
            domains = {s: recording.domain(f"pretrain_{s}") for s in ("train", "val")}
            times = recording.spikes().times
        starts = ds.window_start.values
        for split, domain in domains.items():
            own = starts[ds.split.values == split]
            assert inside(np.stack([own, own + 1.0], axis=1), domain).all()
            assert np.allclose(np.diff(own), 1.0, rtol=0, atol=1e-9)
            assert len(own) >= int((domain[0, 1] - domain[0, 0]) - 2)
        assert set(ds.split.values) == {"train", "val"}
        assert ds.attrs["role"] == "pretrain"
        assert "choice" not in ds
        assert starts[0] >= times[0]


def test_event_windows_outside_of_the_domains_are_left_out(
    caches: dict[str, Any], wide_map: Path
) -> None:
    for eid in caches["eval"]:
        ds = caches["eval"][eid]
        with _open(wide_map, eid) as recording:
            stim_on = recording.trials["stim_on_time"].to_numpy()
            windows = np.stack([stim_on - 0.5, stim_on + 1.5], axis=1)
            split = np.full(len(stim_on), "", "<U5")
            for name in ("train", "val", "test"):
                split[inside(windows, recording.domain(f"ts1_{name}"))] = name
        trial = ds.trial.values
        assert list(trial) == list(np.flatnonzero(split != ""))
        assert list(ds.split.values) == list(split[trial])
        assert ds.attrs["trials_outside_domains"] == (split == "").sum() > 0
        assert np.array_equal(ds.window_start.values, stim_on[trial] - 0.5)
        assert ds.attrs["role"] == "finetune"


def test_windows_across_the_edge_of_a_domain_are_left_out(wide_map: Path, tmp_path: Path) -> None:
    """Windows longer than trials: some begin in one domain and end beyond it."""
    align = {"event": "stimOn_times", "window": [-4.0, 6.0], "bin": 0.1}
    report = ingest(dataset(wide_map, align=align), "long", tmp_path / "c.zarr", workers=1)
    assert report.failed == {}
    crossing = 0
    for eid, ds in open_cache(report.cache).items():
        with _open(wide_map, eid) as recording:
            domains = {s: recording.domain(f"ts1_{s}") for s in ("train", "val", "test")}
            stim_on = recording.trials["stim_on_time"].to_numpy()
        starts = ds.window_start.values
        windows = np.stack([starts, starts + 10.0], axis=1)
        for split in domains:
            own = windows[ds.split.values == split]
            assert inside(own, domains[split]).all()
        both = np.concatenate(list(domains.values()))
        begun = inside(np.stack([stim_on - 4.0] * 2, axis=1), both)
        crossing += (begun & ~inside(np.stack([stim_on - 4.0, stim_on + 6.0], axis=1), both)).sum()
    assert crossing > 0


def test_chunks_are_another_split(wide_map: Path, tmp_path: Path) -> None:
    eid = recordings_in(wide_map, "all_units", "eval")[0]
    chosen = dataset(wide_map, split={"kind": "file", "domains": "ts2"}, align=SECOND)
    cache = ingest(chosen, "chunks", tmp_path / "c.zarr", sessions=[eid], workers=1).cache
    ds = open_cache(cache)[eid]
    starts, splits = ds.window_start.values, ds.split.values
    with _open(wide_map, eid) as recording:
        for split in ("train", "val", "test"):
            own = starts[splits == split]
            domain = recording.domain(f"ts2_{split}")
            assert inside(np.stack([own, own + 1.0], axis=1), domain).all()
            n = sum(int((end - start) // 1.0) for start, end in domain)
            assert abs(len(own) - n) <= len(domain)


def test_trials_in_the_caches_codes(caches: dict[str, Any], wide_map: Path) -> None:
    ds = caches["eval"][next(iter(caches["eval"]))]
    with _open(wide_map, ds.attrs["eid"]) as recording:
        table = recording.trials.iloc[ds.trial.values].reset_index(drop=True)
    codes = {0: -1, 1: 1, 2: 0}
    assert list(ds.choice.values) == [codes[c] for c in table["choice"]]
    assert list(ds.stimulus_side.values) == [{0: 1, 1: -1}[s] for s in table["stimulus_side"]]
    signed = np.array([0, 0.0625, 0.125, 0.25, 1])[table["stimulus_contrast"]]
    signed *= np.where(table["stimulus_side"] == 1, -1, 1)
    assert np.allclose(ds.contrast.values, signed)
    assert list(ds.feedback.values) == list(2 * table["reward"] - 1)
    assert np.allclose(ds.probability_left.values, table["probability_left"])
    assert np.array_equal(
        ds.firstMovement_times.values, table["movement_onset_time"], equal_nan=True
    )
    assert np.array_equal(ds.feedback_times.values, table["feedback_time"])


def test_the_benchmarks_valid_trials_by_rules_of_the_catalog(
    wide_map: Path, tmp_path: Path
) -> None:
    rules = {"min_reaction": 0.0, "max_reaction": 10.0, "max_length": 1e6, "keep": ["is_valid"]}
    report = ingest(dataset(wide_map, trials=rules), "valid", tmp_path / "c.zarr", workers=1)
    for eid, ds in open_cache(report.cache).items():
        with _open(wide_map, eid) as recording:
            valid = recording.trials["is_valid"].to_numpy()[ds.trial.values]
        assert list(ds.included.values) == list(ds.is_valid.values) == list(valid)
        assert not valid.all()


def test_behaviour_is_the_files_own_samples(caches: dict[str, Any], wide_map: Path) -> None:
    ds = caches["eval"][next(iter(caches["eval"]))]
    with _open(wide_map, ds.attrs["eid"]) as recording:
        for name, group, own, factor in (
            ("wheel_velocity", "wheel", "wheel_vel", 1),
            ("whisker_motion_energy", "whisker", "whisker_motion_energy", 1),
            ("lick_count", "licks", "licking_rate", 0.02),
        ):
            series = recording.series(group)
            assert series is not None
            for trial in (5, 40, 80):
                start = ds.window_start.values[trial]
                # The samples in [start, start + 2), by their times.
                at = (series.times >= start - 1e-12) & (series.times < start + 2.0 - 1e-9)
                expected = series.values[own][at] * factor
                assert np.allclose(ds[name].values[trial], expected, rtol=1e-6)
    assert ds.lick_count.values.sum() > 50


def test_behaviour_that_is_not_there(caches: dict[str, Any], wide_map: Path) -> None:
    """No whisker, no licks, a gap, and cameras that start late: NaN, absent, NaN, NaN."""
    by_date = sorted(caches["pretrain"].values(), key=lambda ds: ds.attrs["date"])
    _, no_licks, gap, no_whisker = by_date
    assert "lick_count" not in no_licks
    assert no_licks.attrs["notes"] == ["licks: not in the file (quality FAIL)"]
    assert np.isnan(no_whisker.whisker_motion_energy.values).all()
    lost = np.isnan(gap.whisker_motion_energy.values).all(axis=1).sum()
    assert 11 <= lost <= 30  # 12 s, and before and after the camera ran
    late = caches["eval"][recordings_in(wide_map, "all_units", "eval")[1]]
    early = caches["eval"][recordings_in(wide_map, "all_units", "eval")[0]]
    first = [np.isnan(ds.wheel_velocity.values[0]).any() for ds in (late, early)]
    assert sorted(first) == [False, True]


def test_behaviour_in_longer_bins(wide_map: Path, tmp_path: Path) -> None:
    eid = recordings_in(wide_map, "all_units", "eval")[0]
    align = {"event": "feedback_times", "window": [0.0, 2.0], "bin": 0.04}
    cache = ingest(
        dataset(wide_map, align=align), "long", tmp_path / "c.zarr", sessions=[eid], workers=1
    ).cache
    ds = open_cache(cache)[eid]
    with _open(wide_map, eid) as recording:
        licks, wheel = recording.series("licks"), recording.series("wheel")
    assert licks is not None
    assert wheel is not None
    start = ds.window_start.values[50]
    middle = start + (np.arange(50) + 0.5) * 0.04
    expected = np.interp(middle, wheel.times, wheel.values["wheel_vel"])
    assert np.allclose(ds.wheel_velocity.values[50], expected, atol=1e-5)
    # A lick lies somewhere in its sample: in the middle of it, as far as anybody knows.
    counts = np.round(licks.values["licking_rate"] / 50)
    for trial, start in enumerate(ds.window_start.values):
        edges = start + np.arange(51) * 0.04
        expected, _ = np.histogram(licks.times + 0.01, edges, weights=counts)
        assert np.array_equal(ds.lick_count.values[trial], expected)
    assert ds.lick_count.values.sum() > 50


def test_what_stands_in_a_gap_is_no_behaviour(wide_map: Path, tmp_path: Path) -> None:
    """Between two intervals of its domain a file may hold anything."""
    for eid in recordings_in(wide_map, "all_units", "pretrain"):
        with _open(wide_map, eid, "pretrain") as recording:
            series = recording.series("whisker")
        if series is not None and not series.recorded.all():
            break
    place = tmp_path / f"{eid}.h5"
    shutil.copy(file_of(wide_map, "all_units", "pretrain", eid), place)
    with h5py.File(place, "r+") as file:
        values = file["whisker/whisker_motion_energy"][:]
        values[~series.recorded] = 5.0
        file["whisker/whisker_motion_energy"][:] = values
    chosen = dataset(wide_map, source={"regime": "pretrain"}, align=SECOND)
    signal = load_file(place, eid, chosen).behaviour.whisker_motion_energy
    assert signal is not None
    assert np.array_equal(np.isnan(signal.values), ~series.recorded)
    assert 0 < np.isnan(signal.values).sum() < len(signal.values) / 2


def test_units_and_what_is_told_of_them(caches: dict[str, Any], wide_map: Path) -> None:
    for eid, ds in caches["eval"].items():
        with _open(wide_map, eid) as recording:
            units, probes = recording.units, recording.probes
        names = dict(zip(probes["id"], probes["name"], strict=True))
        assert list(ds.region.values) == list(units["region_allen"])
        assert list(ds.beryl.values) == list(units["region_beryl"])
        assert list(ds.cosmos.values) == list(units["region_cosmos"])
        assert list(ds.probe_qc.values) == list(units["qc_neural"])
        assert list(ds.probe.values) == [names[pid] for pid in units["probe_id"]]
        assert np.allclose(ds.label.values, units["label"])
        assert np.allclose(ds.depth.values, units["depths"])
        assert json.loads(ds.attrs["brainset"])["derived_version"] == "0.1.0"
        assert ds.attrs["simulated"]
        assert ds.attrs["source"].endswith(f"all_units/ibl_brain_wide_bench_2026/eval/{eid}.h5")
    assert {"PASS", "FAIL"} <= {q for ds in caches["eval"].values() for q in ds.probe_qc.values}
    assert check(caches["eval"].path) == {}
    found = caches["pretrain"].where("regions.str.contains('CA1')")
    assert 0 < len(found) <= len(caches["pretrain"])


def test_a_session_is_what_netcdf_has(caches: dict[str, Any], tmp_path: Path) -> None:
    """Though the cache has a mapping among its attributes, as those of earlier versions have."""
    cache = caches["eval"]
    eid = next(iter(cache))
    ds = cache[eid].load()
    stored = json.loads((Path(str(cache.path)) / eid / "zarr.json").read_text())["attributes"]
    assert json.loads(ds.attrs["brainset"]) == stored["brainset"]
    assert not any(isinstance(value, bool | dict) for value in ds.attrs.values())
    lists = [name for name, value in ds.attrs.items() if isinstance(value, list)]
    without = {name: value for name, value in ds.attrs.items() if name not in lists}
    ds.drop_attrs().assign_attrs(without).to_netcdf(tmp_path / "x.nc", engine="scipy")
    again = xr.open_dataset(tmp_path / "x.nc", engine="scipy")
    assert json.loads(again.attrs["brainset"])["regime"] == "eval"
    assert session_card(cache, eid)["provenance"]["brainset"] == stored["brainset"]


def test_the_file_need_not_list_probes_in_order_of_name(wide_map: Path, tmp_path: Path) -> None:
    """A published file has probe01 first: units stay as they are in it."""
    eid = recordings_in(wide_map, "all_units", "eval")[0]
    place = file_of(tmp_path, "all_units", "eval", eid)
    place.parent.mkdir(parents=True)
    shutil.copy(file_of(wide_map, "all_units", "eval", eid), place)
    with h5py.File(place, "r+") as file:
        names = file["probes/name"][:][::-1]
        file["probes/name"][:] = names
        ids = [raw.decode() for raw in file["units/id"]]
    chosen = dataset(tmp_path)
    recording = load_file(place, eid, chosen)
    assert [i.probe for i in recording.insertions] == ["probe01", "probe00"]
    assert [u for i in recording.insertions for u in i.units["unit"]] == ids


def test_insertions_that_the_catalog_names(wide_map: Path) -> None:
    eid = recordings_in(wide_map, "all_units", "eval")[0]
    place = file_of(wide_map, "all_units", "eval", eid)
    with _open(wide_map, eid) as recording:
        first, *_ = pids = list(recording.units["probe_id"].unique())
    one = dataset(wide_map, sessions=[{"eid": eid, "pids": [first]}])
    assert [i.pid for i in load_file(place, eid, one).insertions] == [first]
    typo = dataset(wide_map, sessions=[{"eid": eid, "pids": [first, NOBODY]}])
    with pytest.raises(SessionError, match=f"no insertion {NOBODY}; its own are {pids[0]}, "):
        load_file(place, eid, typo)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"source": {"build": "all_units", "version": "0.1.1"}}, "of all_units eval 0.1.0, where"),
        (
            {"align": {**EVENT, "event": "lick_times"}},
            "no column lick_times to align to; there are",
        ),
        ({"split": {"kind": "file", "domains": "pretrain"}}, "no domains of pretrain; a file for"),
    ],
)
def test_a_file_that_does_not_fit_the_dataset(
    wide_map: Path, tmp_path: Path, settings: dict[str, Any], said: str
) -> None:
    eid = recordings_in(wide_map, "all_units", "eval")[0]
    report = ingest(dataset(wide_map, **settings), "x", tmp_path / "c.zarr", sessions=[eid])
    assert said in report.failed[eid]
    assert f"{eid}.h5" in report.failed[eid]


@pytest.mark.parametrize(
    ("below", "said"),
    [
        ("elsewhere", "no folder '.*elsewhere' to ingest from"),
        ("all_units", "the path of the source is too low; .* would be right"),
        ("true_rates", "no recording in .*; expected all_units/ibl_brain_wide_bench_2026/eval"),
    ],
)
def test_a_folder_without_recordings(wide_map: Path, tmp_path: Path, below: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        ingest(dataset(wide_map / below), "x", tmp_path / "c.zarr")


def test_a_session_that_is_not_there(wide_map: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no session '00000000"):
        ingest(dataset(wide_map), "x", tmp_path / "c.zarr", sessions=[NOBODY])
    with pytest.raises(UserError, match="the catalog lists session 0000"):
        ingest(dataset(wide_map, sessions=[{"eid": NOBODY}]), "x", tmp_path / "c.zarr")


def test_two_versions_are_not_mixed(wide_map: Path, tmp_path: Path) -> None:
    first, second = recordings_in(wide_map, "all_units", "eval")
    cache = tmp_path / "c.zarr"
    ingest(dataset(wide_map), "x", cache, sessions=[first], workers=1)
    root = tmp_path / "newer"
    shutil.copytree(wide_map / "all_units", root / "all_units")
    for eid in (first, second):
        with h5py.File(file_of(root, "all_units", "eval", eid), "r+") as file:
            file["brainset"].attrs["derived_version"] = "0.1.1"
    newer = dataset(root, source={"version": "0.1.1"})
    # Whatever this call brings, the other stays; unless it is replaced itself.
    for asked in ({"sessions": [first]}, {"sessions": [second]}, {"sessions": [second], "o": True}):
        overwrite = bool(asked.pop("o", False))
        with pytest.raises(UserError, match=r"0\.1\.0, and the source asks for 0\.1\.1"):
            ingest(newer, "x", cache, overwrite=overwrite, workers=1, **asked)
    assert ingest(newer, "x", cache, sessions=[first], overwrite=True, workers=1).failed == {}
    assert ingest(newer, "x", cache, sessions=[second], workers=1).failed == {}
    versions = [
        json.loads(ds.attrs["brainset"])["derived_version"] for ds in open_cache(cache).values()
    ]
    assert versions == ["0.1.1", "0.1.1"]


def test_settings_that_contradict_each_other(wide_map: Path) -> None:
    eid = recordings_in(wide_map, "all_units", "eval")[0]
    with pytest.raises(ValueError, match="its role is finetune"):
        dataset(wide_map, sessions=[{"eid": eid, "role": "pretrain"}])
    assert dataset(wide_map, sessions=[{"eid": eid}]).entry(eid).role == "finetune"
    with pytest.raises(ValueError, match="give a 'path'"):
        Dataset.model_validate({"source": {"kind": "brainsets"}})
    with pytest.raises(ValueError, match="no bucket"):
        dataset(Path("x"), source={"path": "ftp://host/x"})
    with pytest.raises(ValueError, match="for files that say what trains"):
        Dataset.model_validate({"source": {"kind": "simulated"}, "split": {"kind": "file"}})
    with pytest.raises(ValueError, match="'domains' are for kind: file"):
        dataset(wide_map, split={"kind": "random", "domains": "ts1"})


def test_definitions_of_other_datasets_are_as_they_were() -> None:
    """A new setting must not make every session of an old cache another one."""
    simulated = Dataset.model_validate({"source": {"kind": "simulated"}})
    assert simulated.definition("00000000-0000-4000-8000-000000000000")["split"] == {
        "fractions": [0.7, 0.1, 0.2],
        "kind": "random",
        "seed": 42,
    }


def test_a_broken_file_fails_alone(wide_map: Path, tmp_path: Path) -> None:
    root = tmp_path / "bwb"
    shutil.copytree(wide_map / "all_units", root / "all_units")
    broken, whole = recordings_in(root, "all_units", "eval")
    path = file_of(root, "all_units", "eval", broken)
    path.write_bytes(path.read_bytes()[:100_000])
    report = ingest(dataset(root), "x", tmp_path / "c.zarr", workers=1)
    assert list(report.failed) == [broken]
    assert "no whole HDF5 file" in report.failed[broken]
    assert report.sessions[whole].status == "ingested"
    with pytest.raises(SessionError, match="no whole HDF5 file"):
        load_file(path, broken, dataset(root))
