"""The bulk release in a cache: spikes, trials, behaviour as they were before they were packed."""

import hashlib
import json
import os
import shutil
import tarfile
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bulk_release import EVALUATED, Release, write_release
from cache_servers import serve_s3
from numcodecs import Blosc

from ibl_mtm.cache.cache import open_cache
from ibl_mtm.cache.check import check
from ibl_mtm.config.dataset import Dataset
from ibl_mtm.errors import SessionError, UserError
from ibl_mtm.ingest.bulk import archive as archive_module
from ibl_mtm.ingest.bulk.archive import Archive, find_archive, open_archive
from ibl_mtm.ingest.bulk.load_release import LIMITS, load_release
from ibl_mtm.ingest.bulk.shards import BehaviourShard, read_spikes
from ibl_mtm.ingest.run import ingest
from ibl_mtm.ingest.sources import bwm
from ibl_mtm.ingest.sources.source import Search


def dataset(root: Path | None, **source: Any) -> Dataset:
    about = {"kind": "bwm", "path": root, "url": None, **source}
    return Dataset.model_validate({"source": about, "align": {"event": "stimOn_times"} | ALIGN})


ALIGN = {"window": (-0.5, 1.5), "bin": 0.02}


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Release:
    return write_release(tmp_path_factory.mktemp("release"))


@pytest.fixture(scope="module")
def cache(release: Release, tmp_path_factory: pytest.TempPathFactory) -> Any:
    path = tmp_path_factory.mktemp("cache") / "c.zarr"
    report = ingest(dataset(release.root), "bulk", path, workers=1)
    assert report.failed == {}
    return open_cache(path)


def test_spikes_are_what_they_were_to_a_tenth_of_a_millisecond(release: Release) -> None:
    with open_archive(release.root, "bwm_ephys") as archive:
        for pid, (times, clusters) in release.spikes.items():
            found, row, ids = read_spikes(archive, pid)
            assert np.abs(found - times).max() <= 1.0001e-4
            assert (np.diff(found) >= 0).all()
            assert np.array_equal(ids[row], clusters)


def test_counts_per_trial_and_unit(release: Release, cache: Any) -> None:
    eid = release.eids[1]
    ds = cache[eid]
    assert ds.sizes["unit"] == 14
    assert list(dict.fromkeys(ds.probe.values)) == ["probe00", "probe01"]
    for pid, (times, clusters) in release.spikes.items():
        own = ds.isel(unit=np.flatnonzero(ds.pid.values == pid))
        if not own.sizes["unit"]:
            continue
        for column, cluster in enumerate(own.cluster_id.values):
            of_unit = times[clusters == cluster]
            for trial, start in enumerate(own.window_start.values):
                # A spike within 0.1 ms of an end may be on either side of it.
                sure = (of_unit >= start + 2e-4) & (of_unit < start + 2.0 - 2e-4)
                maybe = (of_unit >= start - 2e-4) & (of_unit < start + 2.0 + 2e-4)
                n = own.spikes.values[trial, :, column].sum()
                assert sure.sum() <= n <= maybe.sum()
    assert ds.spikes.values.sum() > 200


def test_units_and_trials_and_limits(release: Release, cache: Any) -> None:
    for eid, ds in cache.items():
        units = release.units[release.units["eid"] == eid]
        by_id = {f"{eid}:{u.probe_name}:{u.cluster_id}": u for u in units.itertuples()}
        assert set(ds.unit.values) == set(by_id)
        for k, unit in enumerate(ds.unit.values):
            row = by_id[unit]
            assert ds.region.values[k] == row.acronym
            assert ds.beryl.values[k] == row.beryl_acronym
            assert ds.channel.values[k] == row.channels
            assert ds.depth.values[k] == row.depths
            assert ds.cosmos.values[k] in ("HPF", "TH")
        trials = release.trials[release.trials["eid"] == eid].reset_index(drop=True)
        assert list(ds.trial.values) == [t for t in range(50) if t != 5]
        assert list(ds.choice.values) == list(trials["choice"][ds.trial.values])
        assert np.array_equal(ds.stimOn_times.values, trials["stimOn_times"][ds.trial.values])
        assert ds.attrs["limits"] == list(LIMITS)
        assert json.loads(ds.attrs["bulk_release"]) == {
            "bwm_ephys": "1.2.0",
            "bwm_behavior": "2.0.0",
        }
        assert "lick_count" not in ds
    assert check(cache.path) == {}


def test_behaviour_is_unpacked(release: Release, cache: Any) -> None:
    eid = release.eids[0]
    ds = cache[eid]
    centre = ds.window_start.values[:, None] + (np.arange(100) + 0.5) * 0.02
    for name, (times, values), within in (
        ("wheel_velocity", release.wheel[eid], 0.005),
        ("whisker_motion_energy", release.whisker[eid], 0.05),
    ):
        known = np.isfinite(values)
        expected = np.interp(centre, times[known], values[known])
        assert np.abs(ds[name].values - expected).max() <= within
    no_camera = cache[release.eids[1]]
    assert np.isnan(no_camera.whisker_motion_energy.values).all()
    assert no_camera.attrs["notes"] == ["whisker: not in the release"]


def test_animals_that_are_evaluated_are_left_out(
    release: Release, cache: Any, tmp_path: Path
) -> None:
    """Not the listed recordings alone: every session of their animals."""
    assert list(cache) == release.eids[:2]
    report = ingest(dataset(release.root), "bulk", tmp_path / "c.zarr", dry_run=True)
    assert report.left_aside == {
        EVALUATED: "one of the recordings that are evaluated",
        release.eids[3]: "of mouse_3, an animal that is evaluated",
    }
    with pytest.raises(UserError, match="and so not for pre-training; leave it out"):
        ingest(dataset(release.root), "bulk", tmp_path / "c.zarr", sessions=[release.eids[3]])
    used = dataset(release.root, evaluated_animals="use")
    report = ingest(used, "bulk", tmp_path / "c.zarr", dry_run=True)
    assert sorted(report.sessions) == sorted(release.eids)


def test_folders_are_read_like_tars(release: Release, tmp_path: Path, cache: Any) -> None:
    write_release(tmp_path / "unpacked", packed=False)
    eid = release.eids[0]
    for root in (tmp_path / "unpacked", tmp_path / "unpacked"):
        report = ingest(dataset(root), "bulk", tmp_path / "c.zarr", sessions=[eid], workers=1)
        assert report.failed == {}
    assert open_cache(tmp_path / "c.zarr")[eid].spikes.identical(cache[eid].spikes)
    assert find_archive(tmp_path / "unpacked", "bwm_ephys") is not None
    assert find_archive(tmp_path, "bwm_ephys") is None


def test_insertions_that_the_catalog_names(release: Release) -> None:
    eid = release.eids[1]
    chosen = dataset(release.root).model_dump()
    own = [pid for pid in release.spikes if pid[-2] == "1"]
    one = Dataset.model_validate({**chosen, "sessions": [{"eid": eid, "pids": own[1:]}]})
    assert [i.pid for i in load_release(release.root, eid, one).insertions] == own[1:]
    typo = own[0][:-1] + "9"
    two = Dataset.model_validate({**chosen, "sessions": [{"eid": eid, "pids": [typo, *own[1:]]}]})
    with pytest.raises(SessionError, match=f"no insertion {typo}; its own are {own[0]}, {own[1]}"):
        load_release(release.root, eid, two)


@pytest.mark.parametrize(
    ("there", "newest"),
    [
        (["x-1.2.0.tar", "x-1.10.0.tar", "x-1.9.1.tar"], "x-1.10.0.tar"),
        (["x/1.9.0/schema.yaml", "x/1.10.0/schema.yaml"], "x/1.10.0"),
        (["x/1.2.0/schema.yaml", "x-1.10.0.tar"], "x-1.10.0.tar"),
        (["x/1.10.0/schema.yaml", "x-1.2.0.tar"], "x/1.10.0"),
        (["x/1.2.0/schema.yaml", "x/1.2.0/x-1.2.0.tar", "x-1.2.0.tar"], "x/1.2.0"),
    ],
    ids=["tars", "folders", "newer-tar", "newer-folder", "the-same"],
)
def test_the_newest_version_is_read(tmp_path: Path, there: list[str], newest: str) -> None:
    for name in there:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert find_archive(tmp_path, "x") == tmp_path / newest


def test_an_archive_is_indexed_once_for_all_sessions(
    release: Release, monkeypatch: pytest.MonkeyPatch
) -> None:
    indexed, verified = [], []
    read = Archive.read
    monkeypatch.setattr(
        Archive, "read", lambda self, name: verified.append(name) or read(self, name)
    )
    real = tarfile.TarFile.__iter__
    monkeypatch.setattr(
        tarfile.TarFile, "__iter__", lambda self: indexed.append(self.name) or real(self)
    )
    archive_module._read_contents.cache_clear()
    chosen = dataset(release.root)
    first, second = (load_release(release.root, eid, chosen) for eid in release.eids[:2])
    assert (first.subject, second.subject) == ("mouse_1", "mouse_2")
    assert len(indexed) == 2
    tables = [name for name in verified if name.endswith(".parquet")]
    assert len(tables) == len(set(tables)) == 4


def test_an_archive_that_was_replaced_is_indexed_anew(release: Release, tmp_path: Path) -> None:
    for tar in release.root.glob("*.tar"):
        shutil.copy(tar, tmp_path)
    eid, chosen = release.eids[0], dataset(tmp_path)
    before = load_release(tmp_path, eid, chosen)
    write_release(tmp_path, seed=1)
    os.utime(tmp_path / "bwm_ephys-1.2.0.tar", (1, 1))
    after = load_release(tmp_path, eid, chosen)
    assert not np.array_equal(before.insertions[0].times, after.insertions[0].times)


def test_further_columns_of_the_release_are_kept(release: Release, tmp_path: Path) -> None:
    kept = {
        **dataset(release.root).model_dump(),
        "trials": {"keep": ["bwm_include", "intervals_1"]},
    }
    report = ingest(
        Dataset.model_validate(kept), "b", tmp_path / "c.zarr", sessions=release.eids[:1], workers=1
    )
    ds = open_cache(report.cache)[release.eids[0]]
    assert ds.bwm_include.values.all()
    assert np.allclose(ds.intervals_1.values, 13.0 + 7 * ds.trial.values)


def test_without_behaviour(release: Release, tmp_path: Path) -> None:
    root = tmp_path / "ephys"
    root.mkdir()
    shutil.copy(release.root / "bwm_ephys-1.2.0.tar", root)
    with pytest.raises(UserError, match="no bwm_behavior in"):
        ingest(dataset(root), "bulk", tmp_path / "c.zarr")
    chosen = dataset(root, behaviour=False)
    report = ingest(chosen, "bulk", tmp_path / "c.zarr", sessions=release.eids[:1], workers=1)
    assert report.failed == {}
    ds = open_cache(report.cache)[release.eids[0]]
    assert np.isnan(ds.wheel_velocity.values).all()


def test_a_file_that_is_not_as_the_manifest_has_it(release: Release, tmp_path: Path) -> None:
    root = tmp_path / "spoilt"
    write_release(root, packed=False)
    first, second = release.eids[:2]
    for place in (
        f"spikes/bbbbbbbb-0000-4000-8000-0000000000{0}0/spike_clusters.blosc",
        f"spikes/bbbbbbbb-0000-4000-8000-0000000000{0}0/meta.json",
    ):
        path = root / "bwm_ephys" / "1.2.0" / place
        whole = path.read_bytes()
        path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        report = ingest(
            dataset(root), "bulk", tmp_path / "c.zarr", sessions=[first, second], workers=1
        )
        assert "is not as its manifest has it; fetch the archive anew" in report.failed[first]
        assert place in report.failed[first]
        assert second not in report.failed
        path.write_bytes(whole)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"dataset_version": "3.0.0"}, r"bwm_ephys 3\.0\.0, where bwm_ephys 1\.x is known"),
        ({"dataset_name": "else"}, r"else 1\.2\.0, where bwm_ephys 1\.x is known"),
    ],
)
def test_another_release(tmp_path: Path, change: dict[str, str], said: str) -> None:
    write_release(tmp_path / "r", packed=False)
    path = tmp_path / "r" / "bwm_ephys" / "1.2.0" / "schema.yaml"
    about = {"dataset_name": "bwm_ephys", "dataset_version": "1.2.0"} | change
    path.write_text(json.dumps(about))
    with pytest.raises(UserError, match=said):
        ingest(dataset(tmp_path / "r"), "bulk", tmp_path / "c.zarr")


def test_a_tar_that_was_cut_off(release: Release, tmp_path: Path) -> None:
    for tar in release.root.glob("*.tar"):
        shutil.copy(tar, tmp_path)
    path = tmp_path / "bwm_ephys-1.2.0.tar"
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(UserError, match=r"bwm_ephys-1\.2\.0\.tar: no"):
        ingest(dataset(tmp_path), "bulk", tmp_path / "c.zarr")


def published(release: Release, root: Path) -> tuple[Path, dict[str, tuple[str, str]]]:
    """The release's archives in a bucket's folder, and the version and SHA-1 of each."""
    folder = root / "published" / "x"
    folder.mkdir(parents=True)
    sums = {}
    for tar in release.root.glob("*.tar"):
        shutil.copy(tar, folder)
        name, version = tar.stem.rsplit("-", 1)
        sums[name] = (version, hashlib.sha1(tar.read_bytes()).hexdigest())
    return folder, sums


def test_the_archives_are_downloaded_once_and_compared(
    release: Release, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, sums = published(release, tmp_path)
    monkeypatch.setattr(bwm, "ARCHIVES", dict(sorted(sums.items(), reverse=True)))
    cache, eid = tmp_path / "c.zarr", release.eids[0]
    with serve_s3(tmp_path / "published", "bwm", "public-read") as options:
        remote = {"url": "s3://bwm/x", "endpoint": options["endpoint_url"]}
        source = dataset(None, **remote)
        with pytest.raises(UserError, match=r"0\.0 GB are to be downloaded \(bwm_ephys-1\.2\.0"):
            ingest(source, "bulk", cache, dry_run=True)
        with pytest.raises(UserError, match=r"no bwm_ephys and no .*; without --offline it is"):
            ingest(source, "bulk", cache, offline=True)
        monkeypatch.setitem(bwm.ARCHIVES, "bwm_behavior", ("2.0.0", "0" * 40))
        with pytest.raises(UserError, match=r"came with SHA-1 .*, where 000.* it was removed"):
            ingest(source, "bulk", cache)
        assert (tmp_path / "c.one" / "bwm_ephys-1.2.0.tar").is_file()
        assert not (tmp_path / "c.one" / "bwm_behavior-2.0.0.tar").exists()
        monkeypatch.setitem(bwm.ARCHIVES, "bwm_behavior", sums["bwm_behavior"])
        came: list[int] = []
        report = ingest(
            source,
            "bulk",
            cache,
            sessions=[eid],
            workers=1,
            on_bytes=lambda n, total: came.append(n),
        )
        assert report.failed == {}
        assert sum(came) == (release.root / "bwm_behavior-2.0.0.tar").stat().st_size
    kept = {path.name for path in (tmp_path / "c.one").iterdir() if path.suffix != ".lock"}
    assert kept == {f"{tar.stem}{end}" for tar in folder.iterdir() for end in (".tar", ".json")}


def test_two_ingests_that_download_the_archives_at_once(
    release: Release, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second begins while the first one compares what came: it waits, and fetches nothing."""
    folder, sums = published(release, tmp_path)
    monkeypatch.setattr(bwm, "ARCHIVES", sums)
    came: list[int] = []
    with serve_s3(tmp_path / "published", "bwm", "public-read") as options:
        source = dataset(None, url="s3://bwm/x", endpoint=options["endpoint_url"])
        search = Search(source, "bulk", tmp_path / "c.zarr", on_bytes=lambda n, _: came.append(n))

        def find() -> list[str]:
            with bwm.find(search) as found:
                return found.eids

        compare, began = bwm._check_sha1, []
        with ThreadPoolExecutor(1) as pool:

            def while_it_compares(*args: Any, **kwargs: Any) -> None:
                if not began:
                    began.append(pool.submit(find))
                    wait(began, timeout=0.5)
                compare(*args, **kwargs)

            monkeypatch.setattr(bwm, "_check_sha1", while_it_compares)
            assert find() == began[0].result() == release.eids[:2]
    assert sum(came) == sum(tar.stat().st_size for tar in folder.iterdir())


def _shard(spec: dict[str, Any], payloads: dict[str, np.ndarray]) -> BehaviourShard:
    blosc = Blosc(cname="zstd")
    packed = {name: blosc.encode(np.ascontiguousarray(a)) for name, a in payloads.items()}
    return BehaviourShard(
        "x.zip", {"arrays": spec, "cameras": {"cam": {"columns": ["a", "b"]}}}, packed.__getitem__
    )


def test_every_way_of_packing_by_hand() -> None:
    def spec(array: np.ndarray) -> dict[str, Any]:
        return {"dtype": array.dtype.str, "shape": list(array.shape)}

    raw = np.array([1.5, -2.0])
    first, delta = np.array([[10]], np.int32), np.array([[1], [-3]], np.int16)
    half = np.array([[1.0], [0.5], [2.0]], np.float16)
    groups = [
        {
            "kind": "delta_scaled",
            "columns": [0],
            "precision": 0.5,
            "first_entry": "f",
            "first_spec": spec(first),
            "delta_entry": "d",
            "delta_spec": spec(delta),
        },
        {"kind": "float16", "columns": [1], "entry": "h", "payload_spec": spec(half)},
    ]
    scaled = np.array([-32768, 3], np.int16)
    shard = _shard(
        {
            "raw": {**spec(raw), "entry": "r", "encoding": {"kind": "raw_blosc"}},
            "scaled": {
                "encoding": {
                    "kind": "scaled_numeric",
                    "precision": 0.25,
                    "entry": "s",
                    "payload_spec": spec(scaled),
                }
            },
            "empty": {"dtype": "<f8", "shape": [0], "entry": "r"},
            "odd": {"encoding": {"kind": "wavelet"}},
            "cam.features": {"encoding": {"kind": "feature_matrix", "groups": groups}},
        },
        {"r": raw, "s": scaled, "f": first, "d": delta, "h": half},
    )
    assert np.array_equal(shard.array("raw"), raw)
    assert np.array_equal(shard.array("scaled"), [np.nan, 0.75], equal_nan=True)
    assert len(shard.array("empty")) == 0
    assert shard.array("absent") is None
    assert np.array_equal(shard.feature("cam", "a"), [5.0, 5.5, 4.0])
    assert np.array_equal(shard.feature("cam", "b"), [1.0, 0.5, 2.0])
    assert shard.feature("cam", "c") is None
    with pytest.raises(ValueError, match="packed as wavelet"):
        shard.array("odd")
