"""A database and a file server that fail: the same arrays as without it, or the session refused.

Never wrong data, and always an end. Each fault once, after which all is well, and for ever.
"""

from pathlib import Path

import numpy as np
import pytest
import requests
import server_faults
import xarray as xr
from alyx_server import AlyxServer
from remote_ingest import alyx, assert_same, outcome_of, single

from ibl_mtm.config.dataset import Dataset, SessionEntry
from ibl_mtm.errors import UserError
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


@pytest.fixture
def dataset(server, experiment) -> Dataset:
    return single(server, experiment, timeout=0.5, attempts=3)


def assert_refused(cache: Path, eid: str) -> None:
    assert not (cache / eid).exists()


class TestAPassingFault:
    def test_all_of_them(self, server, experiment, from_disk, tmp_path, monkeypatch):
        """Every one of the database, one after the other; every one of the files, each of one."""
        monkeypatch.setattr(server_faults, "STALL", 1.0)
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
        outcome = outcome_of(dataset, tmp_path / "cache.zarr")
        assert outcome.status == "ingested"
        assert sum(rule.times for rule in server.rules) == 0
        assert_same(tmp_path / "cache.zarr", from_disk, experiment.eids[:1])

    @pytest.mark.slow
    @pytest.mark.parametrize("fault", OF_REST)
    def test_of_the_database(self, server, dataset, experiment, from_disk, tmp_path, fault):
        server.fail("/sessions/", OF_REST[fault])
        server.fail("/datasets?", OF_REST[fault])
        server.fail("/auth-token", OF_REST[fault], method="POST")
        outcome = outcome_of(dataset, tmp_path / "cache.zarr")
        assert outcome.status == "ingested"
        assert_same(tmp_path / "cache.zarr", from_disk, experiment.eids[:1])
        assert sum(rule.times for rule in server.rules) == 0

    @pytest.mark.slow
    @pytest.mark.parametrize("fault", OF_FILES)
    def test_of_the_file_server(self, server, dataset, experiment, from_disk, tmp_path, fault):
        for part in (TIMES, "_ibl_trials.table", "clusters.uuids"):
            server.fail(part, OF_FILES[fault])
        outcome = outcome_of(dataset, tmp_path / "cache.zarr")
        assert outcome.status == "ingested"
        assert_same(tmp_path / "cache.zarr", from_disk, experiment.eids[:1])
        assert sum(rule.times for rule in server.rules) == 0


class TestALastingFault:
    @pytest.mark.parametrize("path", ["/sessions/", "/datasets?"])
    @pytest.mark.parametrize("fault", cases(OF_REST))
    def test_of_the_database(self, server, dataset, experiment, tmp_path, fault, path):
        server.fail(path, OF_REST[fault], FOR_EVER)
        outcome = outcome_of(dataset, tmp_path / "cache.zarr")
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
        outcome = outcome_of(dataset, tmp_path / "cache.zarr")
        assert outcome.status == "failed"
        assert outcome.reason.startswith("alf/probe00/pykilosort/spikes.times.npy: ")
        assert "(3 attempts)" in outcome.reason
        assert_refused(tmp_path / "cache.zarr", experiment.eids[0])
        assert not list((tmp_path / "cache.one").rglob("spikes.times*"))

    @pytest.mark.parametrize("code", [403, 404])
    def test_a_listed_file_that_is_not_there(self, server, dataset, experiment, tmp_path, code):
        server.fail(TIMES, server_faults.status(code), FOR_EVER)
        outcome = outcome_of(dataset, tmp_path / "cache.zarr")
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
        outcome = outcome_of(dataset, tmp_path / "cache.zarr")
        assert outcome.status == "ingested"
        assert any(f"{part}.npy: HTTP 404" in note for note in outcome.notes)
        with xr.open_zarr(tmp_path / "cache.zarr" / experiment.eids[0]) as ds:
            assert bool(np.isnan(ds[variable]).all())

    @pytest.mark.parametrize("code", [509, 520])
    def test_a_proxy_s_own_errors_pass(self, server, dataset, tmp_path, code):
        server.fail(TIMES, server_faults.status(code))
        assert outcome_of(dataset, tmp_path / "cache.zarr").status == "ingested"

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
