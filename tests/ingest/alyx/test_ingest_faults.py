"""A database and a file server that fail: the same arrays as without it, or the session refused.

Never wrong data, and always an end. Each fault once, after which all is well, and for ever.
"""

import re
import shutil
import time
from email.utils import formatdate
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import requests
import server_faults
import xarray as xr
from alyx_server import PASSWORD, AlyxServer
from remote_ingest import alyx, assert_same, single

from ibl_mtm.cache.cache import open_cache
from ibl_mtm.config.dataset import Dataset, SessionEntry
from ibl_mtm.errors import UserError
from ibl_mtm.ingest.retry import GaveUpError, Patience, Transient, check_status, retry
from ibl_mtm.ingest.run import ingest

FOR_EVER = float("inf")
TIMES = "probe00/pykilosort/spikes.times"

ANYWHERE = {
    "500": server_faults.status(500),
    "502": server_faults.status(502),
    "503": server_faults.status(503, Retry_After="0.1"),
    "429": server_faults.status(429, Retry_After="0.1"),
    "stall": server_faults.stall,
    "stall midway": server_faults.stall_midway,
    "drop": server_faults.drop,
    "cut": server_faults.cut,
}
OF_REST = ANYWHERE | {"html": server_faults.html}
OF_FILES = ANYWHERE | {
    "drip": server_faults.drip,
    "truncated": server_faults.truncated,
    "altered": server_faults.altered,
    "html": server_faults.html,
}


QUICK = ("503", "cut", "html", "truncated", "altered")


def cases(faults: dict[str, server_faults.Fault]) -> list:
    """Names of faults; those that take their time, or are like others, are for the slow tests."""
    return [
        pytest.param(name, marks=[] if name in QUICK else [pytest.mark.slow]) for name in faults
    ]


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    monkeypatch.setattr("ibl_mtm.ingest.retry._FIRST_WAIT", 0.02)


@pytest.fixture
def dataset(server, experiment) -> Dataset:
    return single(server, experiment, timeout=0.5, attempts=3)


def outcome_within(seconds: float, dataset: Dataset, cache: Path):
    start = time.monotonic()
    (outcome,) = ingest(dataset, "x", cache).sessions.values()
    assert time.monotonic() - start < seconds
    return outcome


def assert_refused(cache: Path, eid: str) -> None:
    assert not (cache / eid).exists()


class TestAPassingFault:
    def test_all_of_them(self, server, experiment, from_disk, tmp_path, monkeypatch):
        """Every one of the database, one after the other; every one of the files, each of one."""
        monkeypatch.setattr(server_faults, "STALL", 2.0)
        for fault in OF_REST.values():
            server.fail("/sessions/", fault)
        parts = (
            *(TIMES, "spikes.clusters", "clusters.uuids", "clusters.metrics", "clusters.depths"),
            *("clusters.channels", "channels.mlapdv", "channels.rawInd", "_ibl_trials.table"),
            *("wheel.position", "wheel.timestamps", "licks.times", "leftCamera.times"),
        )
        for part, fault in zip(parts, OF_FILES.values(), strict=False):
            server.fail(part, fault)
        dataset = single(server, experiment, timeout=0.5, attempts=len(OF_REST) + 1)
        outcome = outcome_within(60, dataset, tmp_path / "cache.zarr")
        assert outcome.status == "ingested"
        assert sum(rule.times for rule in server.rules) == 0
        assert_same(tmp_path / "cache.zarr", from_disk, experiment.eids[:1])

    @pytest.mark.slow
    @pytest.mark.parametrize("fault", OF_REST)
    def test_of_the_database(self, server, dataset, experiment, from_disk, tmp_path, fault):
        server.fail("/sessions/", OF_REST[fault])
        server.fail("/datasets?", OF_REST[fault])
        server.fail("/auth-token", OF_REST[fault], method="POST")
        outcome = outcome_within(20, dataset, tmp_path / "cache.zarr")
        assert outcome.status == "ingested"
        assert_same(tmp_path / "cache.zarr", from_disk, experiment.eids[:1])
        assert sum(rule.times for rule in server.rules) == 0

    @pytest.mark.slow
    @pytest.mark.parametrize("fault", OF_FILES)
    def test_of_the_file_server(self, server, dataset, experiment, from_disk, tmp_path, fault):
        for part in (TIMES, "_ibl_trials.table", "clusters.uuids"):
            server.fail(part, OF_FILES[fault])
        outcome = outcome_within(20, dataset, tmp_path / "cache.zarr")
        assert outcome.status == "ingested"
        assert_same(tmp_path / "cache.zarr", from_disk, experiment.eids[:1])
        assert sum(rule.times for rule in server.rules) == 0


class TestALastingFault:
    @pytest.mark.parametrize("path", ["/sessions/", "/datasets?"])
    @pytest.mark.parametrize("fault", cases(OF_REST))
    def test_of_the_database(self, server, dataset, experiment, tmp_path, fault, path):
        server.fail(path, OF_REST[fault], FOR_EVER)
        outcome = outcome_within(20, dataset, tmp_path / "cache.zarr")
        assert outcome.status == "failed"
        assert f"{server.url}{path}" in outcome.reason
        assert "(3 attempts)" in outcome.reason
        assert_refused(tmp_path / "cache.zarr", experiment.eids[0])

    @pytest.mark.parametrize("fault", cases(OF_REST))
    def test_of_the_log_in(self, server, dataset, tmp_path, fault):
        server.fail("/auth-token", OF_REST[fault], FOR_EVER, method="POST")
        with pytest.raises(UserError, match="cannot reach Alyx"):
            ingest(dataset, "x", tmp_path / "cache.zarr")

    @pytest.mark.parametrize("fault", ["500", "html", "cut"])
    def test_of_the_search(self, server, tmp_path, fault):
        server.fail("/insertions?", OF_REST[fault], FOR_EVER)
        with pytest.raises(UserError, match="does not tell which sessions there are"):
            ingest(Dataset(source=alyx(server)), "x", tmp_path / "cache.zarr")

    @pytest.mark.parametrize("fault", cases(OF_FILES))
    def test_of_the_file_server(self, server, dataset, experiment, tmp_path, fault):
        server.fail(TIMES, OF_FILES[fault], FOR_EVER)
        outcome = outcome_within(20, dataset, tmp_path / "cache.zarr")
        assert outcome.status == "failed"
        assert outcome.reason.startswith("alf/probe00/pykilosort/spikes.times.npy: ")
        assert "(3 attempts)" in outcome.reason
        assert_refused(tmp_path / "cache.zarr", experiment.eids[0])
        assert not list((tmp_path / "cache.one").rglob("spikes.times*"))

    @pytest.mark.parametrize("code", [403, 404])
    def test_a_listed_file_that_is_not_there(self, server, dataset, experiment, tmp_path, code):
        server.fail(TIMES, server_faults.status(code), FOR_EVER)
        outcome = outcome_within(20, dataset, tmp_path / "cache.zarr")
        assert f"HTTP {code}" in outcome.reason
        assert TIMES.split("/")[-1] in outcome.reason
        assert_refused(tmp_path / "cache.zarr", experiment.eids[0])

    @pytest.mark.parametrize(
        ("part", "variable"),
        [("leftCamera.times", "whisker_motion_energy"), ("wheel.position", "wheel_velocity")],
    )
    def test_a_behaviour_that_is_not_there_is_left_out(
        self, server, dataset, experiment, tmp_path, part, variable
    ):
        server.fail(part, server_faults.status(404), FOR_EVER)
        outcome = outcome_within(20, dataset, tmp_path / "cache.zarr")
        assert outcome.status == "ingested"
        assert any(f"{part}.npy: HTTP 404" in note for note in outcome.notes)
        with xr.open_zarr(tmp_path / "cache.zarr" / experiment.eids[0]) as ds:
            assert bool(np.isnan(ds[variable]).all())

    @pytest.mark.parametrize("code", [509, 520])
    def test_a_proxy_s_own_errors_pass(self, server, dataset, tmp_path, code):
        server.fail(TIMES, server_faults.status(code))
        assert outcome_within(20, dataset, tmp_path / "cache.zarr").status == "ingested"

    def test_a_file_server_that_is_gone_is_not_tried_for_every_session(
        self, server, experiment, tmp_path
    ):
        server.fail("/public/", server_faults.status(503), FOR_EVER)
        described = server.session(experiment.eids[0])
        strangers = [f"{n}b9a5c1e-6b3a-4c53-8d0e-0c7c0a9e8f21" for n in range(8)]
        known = server.answer
        server.answer = lambda at, query: (
            described if at.split("/")[-1] in strangers else known(at, query)
        )
        server.tagged = lambda eid, tag, own=server.tagged: own(experiment.eids[0], tag)
        entries = tuple(SessionEntry(eid=eid) for eid in strangers)
        dataset = Dataset(source=alyx(server, attempts=1), sessions=entries)
        report = ingest(dataset, "x", tmp_path / "cache.zarr")
        assert list(report.failed) == strangers
        host = server.url.removeprefix("http://")
        assert report.failed[strangers[-1]] == f"{host} did not answer for the sessions before it"
        assert sum("did not answer" in reason for reason in report.failed.values()) == 5

    def test_of_one_session_leaves_the_others(self, server, experiment, from_disk, tmp_path):
        entries = tuple(SessionEntry(eid=eid) for eid in experiment.eids[:2])
        dataset = Dataset(source=alyx(server, timeout=0.5, attempts=2), sessions=entries)
        server.fail("SIM1_002", server_faults.altered, FOR_EVER)
        report = ingest(dataset, "x", tmp_path / "cache.zarr")
        assert list(report.failed) == [experiment.eids[1]]
        assert_same(tmp_path / "cache.zarr", from_disk, experiment.eids[:1])
        # The next run finds the fault gone, and fetches what it has not.
        server.rules.clear()
        assert not ingest(dataset, "x", tmp_path / "cache.zarr").failed
        assert_same(tmp_path / "cache.zarr", from_disk, experiment.eids[:2])

    def test_a_database_that_is_gone_is_not_asked_for_every_session(
        self, server, experiment, tmp_path
    ):
        strangers = [f"{n}b9a5c1e-6b3a-4c53-8d0e-0c7c0a9e8f21" for n in range(8)]
        entries = tuple(SessionEntry(eid=eid) for eid in strangers)
        server.fail("/sessions/", server_faults.status(503), FOR_EVER)
        dataset = Dataset(source=alyx(server, attempts=2), sessions=entries)
        report = ingest(dataset, "x", tmp_path / "cache.zarr")
        assert list(report.failed) == strangers
        assert "did not answer for the sessions before it" in report.failed[strangers[-1]]
        assert len(server.rest_requests()) == 3 * 2

    def test_nobody_there(self, server, dataset, tmp_path):
        source = dataset.source.model_copy(update={"url": "http://127.0.0.1:1"})
        with pytest.raises(UserError, match=r"cannot reach Alyx: http://127.0.0.1:1.*connection"):
            ingest(dataset.model_copy(update={"source": source}), "x", tmp_path / "cache.zarr")


class TestADatabaseThatIsWrong:
    """About one file; the session is refused, or the loss is harmless and noted."""

    def ingest(self, server, dataset, tmp_path, name="spikes.times.npy", **values):
        server.edit = lambda record: record | (values if record["name"] == name else {})
        return outcome_within(20, dataset, tmp_path / "cache.zarr")

    def test_a_wrong_hash(self, server, dataset, tmp_path):
        outcome = self.ingest(server, dataset, tmp_path, hash="0" * 32)
        assert "spikes.times.npy: its MD5 is not the one in the database" in outcome.reason

    def test_a_wrong_size(self, server, dataset, tmp_path):
        outcome = self.ingest(server, dataset, tmp_path, file_size=10)
        assert "spikes.times.npy: came as" in outcome.reason
        assert "of 10 bytes" in outcome.reason

    def test_no_size(self, server, dataset, experiment, from_disk, tmp_path):
        assert self.ingest(server, dataset, tmp_path, file_size=None).notes == ()
        assert_same(tmp_path / "cache.zarr", from_disk, experiment.eids[:1])

    def test_no_hash(self, server, dataset, tmp_path):
        (note,) = self.ingest(server, dataset, tmp_path, hash=None).notes
        assert "spikes.times.npy: no MD5 in the database; its size alone was compared" in note

    def test_neither_and_a_transfer_cut_short(self, server, dataset, tmp_path):
        server.fail(TIMES, server_faults.cut, FOR_EVER)
        outcome = self.ingest(server, dataset, tmp_path, hash=None, file_size=None)
        assert outcome.status == "failed"

    def test_a_camera_that_only_a_laboratory_has(self, server, dataset, tmp_path):
        name = "leftCamera.ROIMotionEnergy.npy"
        outcome = self.ingest(server, dataset, tmp_path, name=name, data_url=None)
        assert outcome.status == "ingested"
        assert "leftCamera.ROIMotionEnergy: missing" in outcome.notes

    def test_a_critical_file(self, server, dataset, tmp_path):
        name = "_ibl_wheel.position.npy"
        outcome = self.ingest(server, dataset, tmp_path, name=name, qc="CRITICAL")
        assert f"alf/{name}: left out, as its quality is CRITICAL" in outcome.notes

    def test_a_probe_whose_spikes_are_not_on_the_server(
        self, server, experiment, from_disk, tmp_path
    ):
        def edit(record):
            away = "probe01" in record["collection"] and record["name"].startswith("spikes.")
            return record | ({"data_url": None} if away else {})

        server.edit = edit
        dataset = single(server, experiment, 1)
        outcome = outcome_within(20, dataset, tmp_path / "cache.zarr")
        assert outcome.status == "ingested"
        (note,) = outcome.notes
        assert note.startswith("alf/probe01: no spikes; spikes.times.npy is not on the server")
        insertions = server.session(experiment.eids[1])["probe_insertion"]
        (pid,) = (i["id"] for i in insertions if i["name"] == "probe01")
        entry = SessionEntry(eid=experiment.eids[1], pids=(pid,))
        named = dataset.model_copy(update={"sessions": (entry,)})
        outcome = outcome_within(20, named, tmp_path / "other.zarr")
        assert outcome.status == "failed"
        assert "alf/probe01: no spikes" in outcome.reason

    def test_no_file_on_the_server(self, server, dataset, tmp_path):
        server.edit = lambda record: record | {"data_url": None}
        outcome = outcome_within(20, dataset, tmp_path / "cache.zarr")
        assert re.search(r"none of its \d+ files is on the server", outcome.reason)

    @pytest.mark.parametrize("name", ["_ibl_trials.table.pqt", "spikes.times.npy"])
    def test_what_is_critical_is_not_called_missing(self, server, dataset, tmp_path, name):
        bad = (name, "spikes.clusters.npy")
        server.edit = lambda r: r | ({"qc": "CRITICAL"} if r["name"] in bad else {})
        outcome = outcome_within(20, dataset, tmp_path / "cache.zarr")
        assert outcome.status == "failed"
        assert "its quality is CRITICAL" in outcome.reason

    def test_many_notes_of_a_kind_are_one(self, server, dataset, tmp_path):
        server.edit = lambda record: record | {"hash": None}
        (note,) = outcome_within(20, dataset, tmp_path / "cache.zarr").notes
        assert re.search(r"and \d+ more files: no MD5 in the database", note)

    def test_a_left_camera_a_frame_short_gives_way_to_the_right_one(
        self, experiment, tmp_path, monkeypatch
    ):
        monkeypatch.setenv("IBL_MTM_PASSWORD", PASSWORD)
        root = tmp_path / "ONE"
        shutil.copytree(experiment.root, root)
        alf = root / experiment.alf(0).relative_to(experiment.root)
        times = np.load(alf / "_ibl_leftCamera.times.npy")
        energy = np.load(alf / "leftCamera.ROIMotionEnergy.npy")
        made = {
            "_ibl_rightCamera.times.npy": times,
            "rightCamera.ROIMotionEnergy.npy": energy,
            "_ibl_leftCamera.times.npy": times[:-1],
        }
        table = pd.read_parquet(root / "datasets.pqt").reset_index()
        table = table[~table["rel_path"].str.contains("rightCamera")]
        rows = []
        for number, (name, array) in enumerate(made.items()):
            np.save(alf / name, array)
            rows.append(
                {
                    "eid": experiment.eids[0],
                    "id": f"{number:08d}-6b3a-4c53-8d0e-0c7c0a9e8f21",
                    "rel_path": f"alf/{name}",
                    "file_size": (alf / name).stat().st_size,
                    "default_revision": True,
                }
            )
        table = table[~table["rel_path"].isin([row["rel_path"] for row in rows])]
        table = pd.concat([table, pd.DataFrame(rows)])
        table.set_index(["eid", "id"]).to_parquet(root / "datasets.pqt")
        with AlyxServer(root) as server:
            dataset = single(server, experiment)
            outcome = outcome_within(20, dataset, tmp_path / "cache.zarr")
            assert any("rightCamera" in file for file in server.file_requests())
        assert outcome.status == "ingested"
        with xr.open_zarr(tmp_path / "cache.zarr" / experiment.eids[0]) as ds:
            assert not np.isnan(ds["whisker_motion_energy"]).all()

    def test_no_spikes_at_all(self, server, dataset, tmp_path):
        server.edit = lambda record: None if "spikes" in record["name"] else record
        outcome = outcome_within(20, dataset, tmp_path / "cache.zarr")
        assert "no spikes in any folder alf/probe*" in outcome.reason


class TestRetry:
    def test_waits_grow_and_vary(self, monkeypatch):
        waits = []
        monkeypatch.setattr("ibl_mtm.ingest.retry._FIRST_WAIT", 1.0)
        monkeypatch.setattr("time.sleep", waits.append)
        with pytest.raises(GaveUpError, match=r"the file: busy \(9 attempts\)"):
            retry(self.busy, Patience(attempts=9), "the file")
        windows = [1, 2, 4, 8, 16, 32, 60, 60]
        assert all(w / 2 <= wait <= w for wait, w in zip(waits, windows, strict=True))
        assert len({round(wait / w, 6) for wait, w in zip(waits, windows, strict=True)}) == 8

    def busy(self, wait: float = 0.0):
        raise Transient("busy", wait)

    @pytest.mark.parametrize(
        ("header", "expected"), [("7", 7), (None, 0), ("soon", 0), ("a date", 3600)]
    )
    def test_what_a_server_asks_for_is_kept_to(self, header, expected):
        if header == "a date":
            header = formatdate(time.time() + expected)
        answer = requests.Response()
        answer.status_code = 429
        answer.headers = {} if header is None else {"Retry-After": header}
        with pytest.raises(Transient) as caught:
            check_status(answer)
        assert caught.value.wait == pytest.approx(expected, abs=2 if expected > 60 else 0)

    def test_but_not_for_ever(self):
        with pytest.raises(GaveUpError, match="to be asked again in 3600 s only"):
            retry(lambda: self.busy(3600.0), Patience(), "the file")

    def test_what_is_no_accident_ends_at_once(self):
        calls = []
        with pytest.raises(ZeroDivisionError):
            retry(lambda: calls.append(1 / 0), Patience(), "the file")
        assert calls == []


def test_the_faults_are_real(experiment, monkeypatch):
    """A plain client is fooled by them: the tests above show something."""
    monkeypatch.setattr(server_faults, "STALL", 0.2)
    with AlyxServer(experiment.root) as server:
        record = server.session(experiment.eids[0])["data_dataset_session_related"][0]
        whole = requests.get(record["data_url"], timeout=5).content
        for fault in ("truncated", "altered", "html"):
            server.fail("/public/", OF_FILES[fault])
            assert requests.get(record["data_url"], timeout=5).content != whole
        server.fail("/public/", server_faults.cut)
        with pytest.raises(requests.exceptions.ChunkedEncodingError):
            requests.get(record["data_url"], timeout=5)
        server.fail("/public/", server_faults.drop)
        with pytest.raises(requests.ConnectionError):
            requests.get(record["data_url"], timeout=5)


class TestQualityOfInsertions:
    """Kept with the units, and left out only if that is asked for."""

    @pytest.fixture
    def critical(self, server, experiment):
        """The second probe of the second session is of quality CRITICAL."""
        insertion = server._insertion

        def judged(row):
            qc = "CRITICAL" if row.name == "probe01" else "PASS"
            return insertion(row) | {"json": {"qc": qc}}

        server._insertion = judged
        return server

    def test_is_a_coordinate_and_a_note(self, critical, experiment, tmp_path):
        dataset = single(critical, experiment, 1)
        outcome = outcome_within(20, dataset, tmp_path / "cache.zarr")
        assert any("alf/probe01: quality of the insertion is CRITICAL" in n for n in outcome.notes)
        ds = open_cache(tmp_path / "cache.zarr")[experiment.eids[1]]
        qc = {str(p): {str(q) for q in g.values} for p, g in ds["probe_qc"].groupby(ds["probe"])}
        assert qc == {"probe00": {"PASS"}, "probe01": {"CRITICAL"}}
        assert set(ds.sel(unit=ds["probe_qc"] != "CRITICAL")["probe"].values) == {"probe00"}

    def test_or_left_out(self, critical, experiment, tmp_path):
        dataset = single(critical, experiment, 1, leave_out=["CRITICAL"])
        outcome = outcome_within(20, dataset, tmp_path / "cache.zarr")
        assert outcome.notes == ("alf/probe01: left out, as the insertion's quality is CRITICAL",)
        ds = open_cache(tmp_path / "cache.zarr")[experiment.eids[1]]
        assert set(ds["probe"].values) == {"probe00"}
        assert not any("probe01" in file for file in critical.file_requests())
