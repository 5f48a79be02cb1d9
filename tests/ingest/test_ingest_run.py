"""Ingestion as a whole: which sessions, what becomes of each, and what is left untouched."""

import json
import socket
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from real_recording import SHARED, write_real_recording

from ibl_mtm.cache.cache import open_cache
from ibl_mtm.cache.staging import stage, staging_folder
from ibl_mtm.cache.tables import list_session_rows, read_table, write_table
from ibl_mtm.config.dataset import Align, Dataset, SessionEntry
from ibl_mtm.config.sources import LocalSource, SimulatedSource
from ibl_mtm.errors import UserError
from ibl_mtm.ingest.on_disk.folder import open_folder
from ibl_mtm.ingest.run import Outcome, ingest


def files_below(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in sorted(folder.rglob("*"))}


def local(path: Path, **settings) -> Dataset:
    return Dataset(source=LocalSource(kind="local", path=path), **settings)


@pytest.fixture(scope="module")
def pair(experiment, tmp_path_factory):
    """A folder without cache tables: two sessions, and one of a training rig, without spikes."""
    root = tmp_path_factory.mktemp("pair") / "ONE"
    eids = [experiment.copy_session(root, number) for number in (1, 2)]
    rig = root / "lab" / "Subjects" / "mouse" / "2024-01-01" / "003" / "alf"
    rig.mkdir(parents=True)
    np.save(rig / "licks.times.npy", np.arange(3.0))
    return root, eids


def test_ingested_once_then_complete_then_replaced(experiment, tmp_path):
    cache, dataset = tmp_path / "cache.zarr", experiment.dataset()
    eid = experiment.eids[0]
    seen = []
    first = ingest(
        dataset, "tiny", cache, limit=1, on_session=lambda *session: seen.append(session)
    )
    outcome = first.sessions[eid]
    assert list(first.sessions) == [eid]
    assert (outcome.status, outcome.reason, outcome.n_trials) == ("ingested", None, 30)
    assert seen == [(eid, outcome, 1)]
    assert ingest(dataset, "tiny", cache, limit=1).sessions[eid].status == "complete"

    finer = experiment.dataset(align=Align(bin=0.01))
    refused = ingest(finer, "tiny", cache, limit=1)
    assert list(refused.failed) == [eid]
    assert "align.bin 0.02 -> 0.01" in refused.failed[eid]
    assert "--overwrite" in refused.failed[eid]
    assert open_cache(cache)[eid].sizes["time"] == 100

    replaced = ingest(finer, "tiny", cache, limit=1, overwrite=True)
    assert replaced.sessions[eid].status == "ingested"
    assert open_cache(cache)[eid].sizes["time"] == 200


def test_what_a_kill_at_the_very_end_left_is_listed_and_cleared(experiment, tmp_path):
    """All sessions are there, so nothing is ingested; but the table does not list one of them."""
    cache, dataset = tmp_path / "cache.zarr", experiment.dataset()
    eid = experiment.eids[0]
    ingest(dataset, "tiny", cache, limit=1)
    with stage(cache, "tables") as aside:
        write_table(cache, "sessions", list_session_rows(cache, []), aside)
    left = staging_folder(cache) / f"tables.{socket.gethostname()}.1.abcd"
    left.mkdir()
    assert list(read_table(cache, "sessions").index) == []
    assert ingest(dataset, "tiny", cache, limit=1).sessions[eid].status == "complete"
    assert list(read_table(cache, "sessions").index) == [eid]
    assert not left.exists()


def test_the_report_is_plain_json(experiment, tmp_path):
    report = ingest(experiment.dataset(), "tiny", tmp_path / "cache.zarr", dry_run=True)
    document = json.loads(json.dumps(report.to_json()))
    assert document["cache"] == str(tmp_path / "cache.zarr")
    assert document["sessions"][experiment.eids[0]]["status"] == "planned"
    assert document["sessions"][experiment.eids[0]]["reason"] is None


def test_a_folder_without_tables_is_left_as_it_is(pair, tmp_path):
    root, eids = pair
    before = files_below(root)
    report = ingest(local(root), "pair", tmp_path / "cache.zarr", limit=1)
    assert [o.status for o in report.sessions.values()] == ["ingested"]
    assert list(report.sessions) == eids[:1]
    assert files_below(root) == before


def test_sessions_keep_their_ids_when_the_folder_moves(pair, experiment, tmp_path):
    _, eids = pair
    elsewhere = [experiment.copy_session(tmp_path / "moved", number) for number in (1, 2)]
    assert elsewhere == eids
    with open_folder(tmp_path / "moved") as folder:
        assert list(folder.sessions().index) == eids
        assert list(folder.one().search()) != []


def test_sessions_without_spikes_are_left_aside(pair, tmp_path):
    root, eids = pair
    report = ingest(local(root), "pair", tmp_path / "cache.zarr", dry_run=True)
    assert report.sessions == dict.fromkeys(eids, Outcome("planned"))


def test_chosen_sessions_in_the_order_asked_for(pair, tmp_path):
    root, eids = pair
    cache = tmp_path / "cache.zarr"
    asked = [eids[1], eids[0], eids[1]]
    report = ingest(local(root), "pair", cache, sessions=asked, dry_run=True)
    assert list(report.sessions) == [eids[1], eids[0]]


def test_the_catalog_chooses_sessions_insertions_and_roles(experiment, tmp_path):
    eid = experiment.eids[1]
    with open_folder(experiment.root) as folder:
        pids = folder.insertions(eid)
    entry = SessionEntry(eid=eid, pids=(pids["probe01"],), role="finetune")
    cache = tmp_path / "cache.zarr"
    report = ingest(experiment.dataset(sessions=(entry,)), "tiny", cache)
    assert list(report.sessions) == [eid]
    ds = xr.open_zarr(cache / eid, chunks=None)
    assert set(ds["probe"].values) == {"probe01"}
    assert set(ds["pid"].values) == {pids["probe01"]}
    assert ds.attrs["role"] == "finetune"


def test_an_insertion_that_the_session_lacks_is_named(experiment, tmp_path):
    entry = SessionEntry(eid=experiment.eids[0], pids=("nowhere",))
    report = ingest(experiment.dataset(sessions=(entry,)), "tiny", tmp_path / "cache.zarr")
    assert "no insertion nowhere; its own are" in report.failed[experiment.eids[0]]


def test_a_listed_session_that_is_not_there_fails_alone(pair, tmp_path):
    root, eids = pair
    absent = "0b9a5c1e-6b3a-4c53-8d0e-0c7c0a9e8f21"
    entries = tuple(SessionEntry(eid=eid) for eid in (absent, eids[0]))
    report = ingest(local(root, sessions=entries), "pair", tmp_path / "cache.zarr")
    assert set(report.failed) == {absent}
    assert report.sessions[eids[0]].status == "ingested"


def test_a_lab_folder_that_one_cannot_name_is_explained(experiment, tmp_path):
    experiment.copy_session(tmp_path / "ONE", 1)
    (tmp_path / "ONE" / "lab").rename(tmp_path / "ONE" / "my-lab")
    report = ingest(local(tmp_path / "ONE"), "odd", tmp_path / "cache.zarr")
    (reason,) = report.failed.values()
    assert "names of labs may have letters, digits and underscores only" in reason


class TestRequests:
    """A request that cannot be met is a UserError that names what would be right."""

    def test_unknown_session(self, pair, tmp_path):
        root, eids = pair
        with pytest.raises(UserError, match=f"no session 'x' in dataset 'pair'.*{eids[0]}"):
            ingest(local(root), "pair", tmp_path / "cache.zarr", sessions=["x"])
        assert not (tmp_path / "cache.zarr").exists()

    def test_no_folder(self, tmp_path):
        with pytest.raises(UserError, match=r"no folder '.*nowhere'"):
            ingest(local(tmp_path / "nowhere"), "x", tmp_path / "cache.zarr")

    def test_folder_without_sessions(self, tmp_path):
        (tmp_path / "ONE").mkdir()
        with pytest.raises(UserError, match=r"no session in .*LAB/Subjects/SUBJECT/DATE/NUMBER"):
            ingest(local(tmp_path / "ONE"), "x", tmp_path / "cache.zarr")

    def test_a_limit_of_none(self, experiment, tmp_path):
        with pytest.raises(UserError, match="limit of 0"):
            ingest(experiment.dataset(), "x", tmp_path / "cache.zarr", limit=0)

    @pytest.mark.parametrize("dry_run", [True, False])
    def test_a_cache_that_is_none(self, experiment, tmp_path, dry_run):
        (tmp_path / "notes.txt").write_text("mine")
        with pytest.raises(UserError, match="no ibl-mtm cache"):
            ingest(experiment.dataset(), "x", tmp_path, dry_run=dry_run)

    def test_an_empty_folder_becomes_a_cache(self, experiment, tmp_path):
        assert not ingest(experiment.dataset(), "x", tmp_path, limit=1).failed

    def test_corrupt_tables(self, experiment, tmp_path):
        experiment.copy_session(tmp_path / "ONE", 1)
        for name in ("sessions", "datasets"):
            (tmp_path / "ONE" / f"{name}.pqt").write_bytes(b"no table")
        with pytest.raises(UserError, match=r"cache tables of .* cannot be read"):
            ingest(local(tmp_path / "ONE"), "x", tmp_path / "cache.zarr")


class TestSimulated:
    source = SimulatedSource(sessions=1, units=10, trials=10, seed=5)

    def test_is_simulated_beside_the_cache(self, tmp_path):
        dataset = Dataset(source=self.source)
        planned = ingest(dataset, "demo", tmp_path / "cache.zarr", dry_run=True)
        assert list(tmp_path.iterdir()) == []
        report = ingest(dataset, "demo", tmp_path / "cache.zarr")
        assert list(report.sessions) == list(planned.sessions)
        assert not report.failed
        assert (tmp_path / "cache.one" / "sessions.pqt").is_file()
        assert open_cache(tmp_path / "cache.zarr").sessions.loc[:, "dataset"].tolist() == ["demo"]

    def test_or_where_the_catalog_says(self, tmp_path):
        source = self.source.model_copy(update={"path": tmp_path / "elsewhere"})
        ingest(Dataset(source=source), "demo", tmp_path / "cache.zarr")
        assert (tmp_path / "elsewhere" / "sessions.pqt").is_file()
        assert not (tmp_path / "cache.one").exists()


def test_the_real_recording_in_contiguous_windows(tmp_path):
    eid = write_real_recording(tmp_path / "ONE")
    dataset = local(tmp_path / "ONE", align=Align(contiguous=2.0))
    report = ingest(dataset, "real", tmp_path / "cache.zarr")
    assert report.failed == {}
    ds = open_cache(tmp_path / "cache.zarr")[eid].load()
    times = np.load(SHARED / "spikes.times.npy")
    clusters = np.load(SHARED / "spikes.clusters.npy")
    assert dict(ds.sizes) == {"trial": 59, "time": 100, "unit": 289}
    assert ds.cluster_id.values.tolist() == np.unique(clusters).tolist()
    assert ds.unit.values[7] == f"{eid}:probe00:{ds.cluster_id.values[7]}"
    start = ds.window_start.values
    inside = (times >= start[0]) & (times < start[-1] + 2.0)
    assert ds.spikes.values.sum(dtype=int) == inside.sum() > 120_000
    per_unit = [(inside & (clusters == c)).sum() for c in ds.cluster_id.values]
    assert ds.spikes.values.sum(axis=(0, 1), dtype=int).tolist() == per_unit
    assert set(ds.region.values) == {"unknown"}
    assert np.isnan(ds.wheel_velocity).all()
    assert np.isnan(ds.label).all()
    assert "lick_count" not in ds
    assert "choice" not in ds
    assert [(ds.split == name).sum().item() for name in ("train", "val", "test")] == [41, 6, 12]


def test_caches_in_one_folder_keep_a_report_each(experiment, tmp_path):
    for name in ("one", "two"):
        ingest(experiment.dataset(), name, tmp_path / f"{name}.zarr", limit=1)
    for name in ("one", "two"):
        report = json.loads((tmp_path / f"{name}.ingest-report.json").read_text())
        assert report["dataset"] == name
    assert json.loads((tmp_path / "ingest-report.json").read_text())["dataset"] == "two"


def test_a_tilde_is_the_home_folder(experiment, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "home").mkdir()
    ingest(experiment.dataset(), "x", Path("~/cache.zarr"), limit=1)
    assert list(open_cache("~/cache.zarr")) == [experiment.eids[0]]
    assert not (tmp_path / "~").exists()
