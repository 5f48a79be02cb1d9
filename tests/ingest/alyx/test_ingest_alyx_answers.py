"""Answers of a database that no Alyx gives: the reason of a session, never the ingest's end."""

import json

import pytest
import server_faults
from remote_ingest import alyx, assert_same, single

from ibl_mtm.config.dataset import Dataset, SessionEntry
from ibl_mtm.errors import UserError
from ibl_mtm.ingest.run import ingest

FOR_EVER = float("inf")


def answer(document: object) -> server_faults.Fault:
    """Answer with a JSON document, whatever was asked."""
    body = json.dumps(document).encode()
    return lambda handler, reply: handler.send((200, {"Content-Type": "application/json"}, body))


ANSWERS = {
    "not found": server_faults.status(404),
    "forbidden": server_faults.status(403),
    "count without results": answer({"count": 9, "next": None, "results": []}),
    "count alone": answer({"count": 9}),
    "a count that is no number": answer({"count": "9", "next": None, "results": []}),
    "more counted than there": answer(
        {"count": 9, "next": None, "previous": None, "results": [{"url": "x", "tags": []}]}
    ),
    "null": answer(None),
    "a number": answer(7),
    "text": answer("out of order"),
    "records without keys": answer([{}]),
    "records that are none": answer([1, 2]),
}


class TestAnswersAsNoAlyxGivesThem:
    """Each is one session's reason; the others are ingested."""

    @pytest.mark.parametrize("path", ["/sessions/", "/datasets?"])
    def test_are_the_reason_of_that_session(self, server, experiment, from_disk, tmp_path, path):
        strangers = {f"{n:08d}-6b3a-4c53-8d0e-0c7c0a9e8f21": f for n, f in enumerate(ANSWERS)}
        described = server.session(experiment.eids[0])
        known = server.answer
        server.answer = lambda at, query: (
            described if at.split("/")[-1] in strangers else known(at, query)
        )
        for eid, name in strangers.items():
            where = f"/sessions/{eid}" if path == "/sessions/" else f"session={eid}"
            server.fail(where, ANSWERS[name], FOR_EVER)
        entries = tuple(SessionEntry(eid=eid) for eid in (*strangers, experiment.eids[0]))
        dataset = Dataset(source=alyx(server, attempts=1), sessions=entries)
        report = ingest(dataset, "x", tmp_path / "cache.zarr")
        assert set(report.failed) == set(strangers)
        assert all(server.url in reason for reason in report.failed.values()), report.failed
        assert_same(tmp_path / "cache.zarr", from_disk, experiment.eids[:1])

    @pytest.mark.parametrize("name", ANSWERS)
    def test_to_the_search_end_it_in_one_line(self, server, tmp_path, name):
        server.fail("/insertions?", ANSWERS[name], FOR_EVER)
        with pytest.raises(UserError):
            ingest(Dataset(source=alyx(server, attempts=1)), "x", tmp_path / "cache.zarr")

    def test_an_address_that_is_none(self, server, experiment, tmp_path):
        url = "nowhere://a/alf/probe00/pykilosort/spikes.times.npy"
        name = "spikes.times.npy"
        server.edit = lambda record: record | ({"data_url": url} if record["name"] == name else {})
        assert ingest(single(server, experiment), "x", tmp_path / "cache.zarr").failed
