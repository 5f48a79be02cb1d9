"""Ingestion from an Alyx database, through ONE's own client: what is asked, fetched and kept.

The server is `alyx_server`; the independent truth is an ingest of the same files from disk.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from alyx_server import PASSWORD, TAG, AlyxServer
from remote_ingest import alyx, assert_same, single
from server_faults import status
from typer.testing import CliRunner

from ibl_mtm.cli import app
from ibl_mtm.config.dataset import Dataset, SessionEntry
from ibl_mtm.errors import UserError
from ibl_mtm.ingest.run import ingest


def test_the_same_arrays_as_from_disk(server, experiment, from_disk, tmp_path):
    report = ingest(Dataset(source=alyx(server)), "release", tmp_path / "cache.zarr")
    assert set(report.sessions) == set(experiment.eids)
    assert not report.failed
    assert_same(tmp_path / "cache.zarr", from_disk, experiment.eids)
    with xr.open_zarr(tmp_path / "cache.zarr" / experiment.eids[1]) as ds:
        assert ds.attrs["source"] == server.url
        assert json.loads(ds.attrs["definition"])["source"]["tag"] == TAG
        assert set(ds["probe"].values) == {"probe00", "probe01"}
        assert len(ds.attrs["pids"]) == 2


def test_few_questions_and_only_the_files_that_are_needed(server, experiment, tmp_path):
    ingest(Dataset(source=alyx(server)), "release", tmp_path / "cache.zarr", limit=1)
    assert server.requests[0] == "POST /auth-token"
    listing, *rest = server.rest_requests()
    assert listing.startswith("GET /insertions?")
    assert len(rest) == 2  # six are allowed
    files = server.file_requests()
    assert len(files) == len(set(files))
    names = {Path(file).name for file in files}
    assert {"spikes.times.npy", "spikes.clusters.npy", "clusters.metrics.pqt"} <= names
    for unneeded in (".amps", "spikes.depths", "templates", "samples", "right", "Moves"):
        assert not [name for name in names if unneeded in name]


def test_a_catalog_that_lists_sessions_needs_no_search(server, experiment, tmp_path):
    entry = SessionEntry(eid=experiment.eids[0], role="finetune")
    dataset = Dataset(source=alyx(server), sessions=(entry,))
    report = ingest(dataset, "release", tmp_path / "cache.zarr")
    assert list(report.sessions) == [entry.eid]
    assert len(server.rest_requests()) == 2


def test_answers_of_several_pages(experiment, monkeypatch, from_disk, tmp_path):
    monkeypatch.setenv("IBL_MTM_PASSWORD", PASSWORD)
    with AlyxServer(experiment.root, page=3) as server:
        report = ingest(Dataset(source=alyx(server)), "x", tmp_path / "cache.zarr", limit=1)
    (eid,) = report.sessions
    assert_same(tmp_path / "cache.zarr", from_disk, [eid])


def test_an_unknown_session_fails_alone(server, experiment, tmp_path):
    absent = "0b9a5c1e-6b3a-4c53-8d0e-0c7c0a9e8f21"
    entries = tuple(SessionEntry(eid=eid) for eid in (absent, experiment.eids[0]))
    report = ingest(Dataset(source=alyx(server), sessions=entries), "x", tmp_path / "cache.zarr")
    assert list(report.failed) == [absent]
    assert f"has no /sessions/{absent}" in report.failed[absent]


def test_chosen_insertions(server, experiment, tmp_path):
    eid = experiment.eids[1]
    known = {i["name"]: i["id"] for i in server.session(eid)["probe_insertion"]}
    for pid, expected in ((known["probe01"], None), ("nowhere", "no insertion nowhere; its own")):
        entry = SessionEntry(eid=eid, pids=(pid,))
        cache = tmp_path / f"{pid}.zarr"
        report = ingest(Dataset(source=alyx(server), sessions=(entry,)), "x", cache)
        if expected is None:
            assert not any("probe00" in file for file in server.file_requests())
            assert set(xr.open_zarr(cache / eid)["probe"].values) == {"probe01"}
        else:
            assert expected in report.failed[eid]


class TestWhatIsOnDisk:
    def test_offline_needs_nothing_else(self, experiment, from_disk, tmp_path, monkeypatch):
        monkeypatch.setenv("IBL_MTM_PASSWORD", PASSWORD)
        with AlyxServer(experiment.root) as server:
            dataset = Dataset(source=alyx(server, path=tmp_path / "ONE"))
            ingest(dataset, "x", tmp_path / "cache.zarr", limit=1)
        monkeypatch.delenv("IBL_MTM_PASSWORD")
        report = ingest(dataset, "x", tmp_path / "again.zarr", offline=True, limit=1)
        assert [o.status for o in report.sessions.values()] == ["ingested"]
        assert_same(tmp_path / "again.zarr", from_disk, report.sessions)

    def test_offline_names_what_is_not_there(self, server, experiment, tmp_path):
        eid = experiment.eids[0]
        dataset = single(server, experiment, path=tmp_path / "ONE")
        report = ingest(dataset, "x", tmp_path / "0.zarr", offline=True)
        assert "was never downloaded" in report.failed[eid]
        ingest(dataset, "x", tmp_path / "0.zarr")
        (times,) = (tmp_path / "ONE").rglob("spikes.times.npy")
        np.save(times, np.load(times)[::-1])
        asked = len(server.requests)
        report = ingest(dataset, "x", tmp_path / "1.zarr", offline=True)
        assert "spikes.times.npy is not on disk, or not as it was" in report.failed[eid]
        other = dataset.model_copy(update={"source": alyx(server, path=tmp_path / "ONE", tag="T")})
        report = ingest(other, "x", tmp_path / "1.zarr", offline=True)
        assert "another release" in report.failed[eid]
        assert len(server.requests) == asked

    def test_nothing_is_fetched_twice_and_what_was_spoilt_is(self, server, experiment, tmp_path):
        dataset = single(server, experiment, path=tmp_path / "ONE")
        ingest(dataset, "x", tmp_path / "0.zarr", limit=1)
        first = len(server.file_requests())
        (times,) = (tmp_path / "ONE").rglob("spikes.times.npy")
        times.write_bytes(times.read_bytes()[:-8] + b"spoilt!!")
        ingest(dataset, "x", tmp_path / "1.zarr", limit=1)
        assert [Path(f).name for f in server.file_requests()[first:]] == ["spikes.times.npy"]

    def test_files_are_hashed_once(self, server, experiment, tmp_path, monkeypatch):
        dataset = single(server, experiment, path=tmp_path / "ONE")
        ingest(dataset, "x", tmp_path / "0.zarr", limit=1)

        def refuse(*_):
            raise AssertionError("hashed again")

        monkeypatch.setattr("hashlib.file_digest", refuse)
        monkeypatch.setattr("one.api.hashfile.md5", refuse)
        assert not ingest(dataset, "x", tmp_path / "1.zarr", limit=1).failed

    def test_leftovers_of_broken_downloads_go(self, server, experiment, tmp_path):
        dataset = single(server, experiment, path=tmp_path / "ONE")
        ingest(dataset, "x", tmp_path / "0.zarr")
        eid = experiment.eids[0]
        (times,) = (tmp_path / "ONE").rglob("spikes.times.npy")
        records = server.session(eid)["data_dataset_session_related"]
        (identity,) = [record["id"] for record in records if record["name"] == times.name]
        leftovers = [times.with_name(f"spikes.times.{identity}.npy"), Path(f"{times}.part")]
        for path in leftovers:
            path.write_bytes(b"half")
        times.unlink()
        assert not ingest(dataset, "x", tmp_path / "1.zarr", limit=1).failed
        assert not any(path.exists() for path in leftovers)


class TestDryRun:
    def test_tells_the_bytes_and_keeps_nothing(self, server, experiment, tmp_path):
        dataset = single(server, experiment)
        planned = ingest(dataset, "x", tmp_path / "cache.zarr", dry_run=True)
        assert list(tmp_path.iterdir()) == []
        assert server.file_requests() == []
        done = ingest(dataset, "x", tmp_path / "cache.zarr")
        fetched = {eid: outcome.n_bytes for eid, outcome in done.sessions.items()}
        assert {eid: outcome.n_bytes for eid, outcome in planned.sessions.items()} == fetched
        assert min(fetched.values()) > 0

    def test_counts_what_is_not_on_disk_yet(self, server, experiment, tmp_path):
        dataset = Dataset(source=alyx(server, path=tmp_path / "ONE"))
        ingest(dataset, "x", tmp_path / "0.zarr", limit=1)
        planned = ingest(dataset, "x", tmp_path / "1.zarr", dry_run=True)
        first, *others = planned.sessions.values()
        assert first.n_bytes == 0
        assert all(outcome.n_bytes > 0 for outcome in others)


def test_the_report_beside_the_cache(server, experiment, tmp_path):
    absent = "0b9a5c1e-6b3a-4c53-8d0e-0c7c0a9e8f21"
    entries = tuple(SessionEntry(eid=eid) for eid in (absent, experiment.eids[0]))
    dataset = Dataset(source=alyx(server), sessions=entries)
    report = ingest(dataset, "release", tmp_path / "cache.zarr")
    document = json.loads((tmp_path / "ingest-report.json").read_text())
    assert document["dataset"] == "release"
    assert document["sessions"] == json.loads(json.dumps(report.to_json()["sessions"]))
    done = document["sessions"][experiment.eids[0]]
    assert done["status"] == "ingested"
    assert done["n_bytes"] > 100_000
    assert "has no /sessions/" in document["sessions"][absent]["reason"]


class TestTheCommand:
    def run(self, server, tmp_path, *arguments):
        source = f"{{kind: alyx, url: '{server.url}/', username: reader, tag: {TAG}}}"
        catalog = tmp_path / "data_catalog.yaml"
        catalog.write_text(f"datasets:\n  mine:\n    source: {source}\n")
        cache = ("--cache", str(tmp_path / "cache.zarr"), "--catalog", str(catalog))
        return CliRunner().invoke(app, ["ingest", "mine", *cache, *arguments])

    def test_says_what_would_be_fetched(self, server, experiment, tmp_path):
        result = self.run(server, tmp_path, "--dry-run", "--json")
        assert result.exit_code == 0
        sessions = json.loads(result.stdout)["sessions"]
        assert set(sessions) == set(experiment.eids)
        assert all(s["status"] == "planned" and s["n_bytes"] > 0 for s in sessions.values())
        table = self.run(server, tmp_path, "--dry-run").stdout
        assert "3 planned" in table
        assert "MB to fetch" in table

    def test_ingests_without_a_question(self, server, experiment, tmp_path):
        result = self.run(server, tmp_path, "--limit", "1", "--json")
        assert result.exit_code == 0, result.stderr
        (session,) = json.loads(result.stdout)["sessions"].values()
        assert session["status"] == "ingested"
        offline = self.run(server, tmp_path, "--limit", "1", "--overwrite", "--offline")
        assert offline.exit_code == 0
        assert "1 ingested" in offline.stdout

    def test_a_session_that_fails(self, server, experiment, tmp_path):
        server.fail("spikes.times", status(404), float("inf"))
        result = self.run(server, tmp_path, "--limit", "1")
        assert result.exit_code == 1
        assert "1 failed" in result.stdout


def test_progress_in_bytes(server, experiment, tmp_path):
    seen = []
    report = ingest(
        single(server, experiment),
        "x",
        tmp_path / "cache.zarr",
        on_bytes=lambda n, total: seen.append((n, total)),
    )
    total = sum(outcome.n_bytes for outcome in report.sessions.values())
    assert sum(n for n, _ in seen) == total
    assert {t for _, t in seen} == {total}


def test_an_animal_has_one_role(server, experiment, tmp_path, monkeypatch):
    entries = (
        SessionEntry(eid=experiment.eids[0]),
        SessionEntry(eid=experiment.eids[1], role="finetune"),
    )
    dataset = Dataset(source=alyx(server), sessions=entries)
    assert not ingest(dataset, "x", tmp_path / "0.zarr").failed
    session = server.session
    monkeypatch.setattr(server, "session", lambda eid: session(eid) | {"subject": "SAME"})
    with pytest.raises(UserError, match="animal SAME has two roles"):
        ingest(dataset, "x", tmp_path / "1.zarr")
    assert not (tmp_path / "1.zarr").exists()


@pytest.mark.parametrize("field", ["subject", "lab"])
def test_names_that_lead_elsewhere_are_refused(server, experiment, tmp_path, monkeypatch, field):
    session = server.session
    monkeypatch.setattr(server, "session", lambda eid: session(eid) | {field: "../../etc"})
    report = ingest(Dataset(source=alyx(server)), "x", tmp_path / "cache.zarr", limit=1)
    assert "names a folder or file '../../etc'" in next(iter(report.failed.values()))
