"""Single steps of what an Alyx database tells: reasons, names, releases, maps that fit."""

import hashlib
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import requests

from ibl_mtm.config.dataset import Dataset
from ibl_mtm.config.sources import AlyxSource
from ibl_mtm.errors import SessionError
from ibl_mtm.ingest.alyx import client, download
from ibl_mtm.ingest.alyx.absent import why_absent
from ibl_mtm.ingest.alyx.download import FileError, _GoneError, _receive, _Transfer
from ibl_mtm.ingest.alyx.fitting import fitting
from ibl_mtm.ingest.alyx.records import (
    Record,
    _check_names,
    _pin,
    keep_record,
    kept_records,
    read_record,
)
from ibl_mtm.ingest.alyx.release import RemoteFile
from ibl_mtm.ingest.retry import Patience, Transient
from ibl_mtm.ingest.through_one import channel_locations

NAME = "spikes.times.npy"
EID, OTHER = (f"{n}{n}{n}{n}aaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee" for n in (2, 1))


def told(collection: str = "alf/probe00/pykilosort", **more) -> dict:
    return {"name": NAME, "collection": collection, "data_url": "x", "qc": "PASS"} | more


@pytest.mark.parametrize(
    ("records", "why"),
    [
        (None, "not in the database"),
        ([told(name="other")], "not in the database"),
        ([told("alf/probe01/pykilosort"), told("alf/probe00a")], "not in the database"),
        ([told(data_url=None)], "not on the server"),
        ([told(data_url=None), told(qc="CRITICAL")], "its quality is CRITICAL"),
        ([told()], "not in the revision that was asked for"),
    ],
)
def test_why_a_file_is_not_to_be_had(records, why):
    assert why in why_absent({"data_dataset_session_related": records}, NAME, "probe00")


def test_a_file_of_no_probe_is_looked_for_everywhere():
    session = {"data_dataset_session_related": [told("alf")]}
    assert "not in the revision" in why_absent(session, NAME)
    assert why_absent(session, NAME, "probe00") == "not in the database"


class TestMapsThatAreBorrowed:
    def left(self, folder: Path, borrowed: tuple[str, ...], **rows):
        """Maps of so many rows; which files are left, and the notes on others."""
        files = []
        for name, n in rows.items():
            path = f"alf/probe00/{name.replace('_', '.')}.npy"
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            if n is not None:
                np.save(folder / path, np.zeros(()) if n == 0 else np.arange(n))
            else:
                (folder / path).write_bytes(b"no array")
            files.append(RemoteFile("i", path, "u", None, None, name.startswith(borrowed)))
        left, notes = fitting(files, folder)
        return [file.name for file in left], notes

    def test_channels_of_as_many_rows_as_units_ask_for_fit(self, tmp_path):
        rows = {"clusters_channels": 8, "channels_mlapdv": 8, "channels_rawInd": 8}
        left, notes = self.left(tmp_path, ("channels_mlapdv",), **rows)
        assert (len(left), notes) == (3, [])

    def test_of_other_lengths_they_do_not(self, tmp_path):
        rows = {"clusters_channels": 5, "channels_mlapdv": 8, "channels_rawInd": 6}
        left, notes = self.left(tmp_path, ("channels_mlapdv",), **rows)
        assert left == ["clusters.channels.npy", "channels.rawInd.npy"]
        assert "and not used: of 6 and 8 channels" in notes[0]

    def test_nor_where_a_unit_is_on_a_channel_beyond(self, tmp_path):
        left, notes = self.left(tmp_path, ("channels",), clusters_channels=8, channels_mlapdv=7)
        assert left == ["clusters.channels.npy"]
        assert "of 7 channels, where units are on channel 7" in notes[0]

    def test_own_maps_stay_whatever_they_are(self, tmp_path):
        left, notes = self.left(tmp_path, ("none",), clusters_channels=8, channels_mlapdv=7)
        assert (len(left), notes) == (2, [])

    def test_what_cannot_be_read_counts_as_none(self, tmp_path):
        rows = {"clusters_channels": None, "channels_mlapdv": 7, "channels_labels": None}
        assert self.left(tmp_path, ("channels",), **rows)[1] == []
        rows = {"clusters_channels": 3, "channels_mlapdv": 7, "channels_labels": 0}
        assert self.left(tmp_path, ("channels",), **rows)[1] == []

    @pytest.mark.parametrize("raw", [True, False])
    def test_sites_beyond_the_channels_need_their_numbers(self, tmp_path, raw):
        rows = {"channels_mlapdv": 6, "electrodeSites_mlapdv": 8}
        rows |= {"channels_rawInd": 6} if raw else {}
        left, notes = self.left(tmp_path, ("electrodeSites",), **rows)
        assert len(left) == (3 if raw else 1)
        assert notes == ([] if raw else [notes[0]])
        if not raw:
            assert "8 sites, but 6 channels" in notes[0]

    def test_sites_of_two_lengths(self, tmp_path):
        rows = {"electrodeSites_mlapdv": 8, "electrodeSites_localCoordinates": 9}
        left, notes = self.left(tmp_path, ("electrodeSites",), **rows)
        assert left == []
        assert "of 8 and 9 sites" in notes[0]
        rows = {"electrodeSites_mlapdv": 8, "electrodeSites_localCoordinates": 8}
        assert self.left(tmp_path, ("electrodeSites",), **rows)[1] == []


def make_record(**changes) -> Record:
    file = RemoteFile("i", "alf/probe00/#2024-05-06#/spikes.times.npy", "u", 6, "md5")
    values = {
        "eid": EID, "lab": "lab", "subject": "KS_014.b", "date": "2024-01-01", "number": 1,
        "pin": _pin(dataset(), EID), "pids": {"probe00": "p"}, "probe_qc": {}, "files": (file,),
        "notes": ("a note",),
    }  # fmt: skip
    return Record(**values | changes)


def dataset(event: str = "stimOn_times", **source) -> Dataset:
    given = {"kind": "alyx", "url": "https://a.org", "username": "u", "tag": "t"} | source
    return Dataset.model_validate({"source": given, "align": {"event": event}})


class TestARecord:
    def test_is_kept_and_read_as_it_was(self, tmp_path):
        assert kept_records(tmp_path) == []
        record = make_record()
        keep_record(record, tmp_path)
        assert read_record(tmp_path, EID, dataset()) == record
        file = tmp_path / ".ibl-mtm" / "records" / f"{EID}.json"
        changed = file.stat().st_mtime_ns
        keep_record(record, tmp_path)
        assert file.stat().st_mtime_ns == changed
        keep_record(make_record(notes=()), tmp_path)
        assert json.loads(file.read_text())["notes"] == []
        keep_record(make_record(eid=OTHER), tmp_path)
        assert kept_records(tmp_path) == [OTHER, EID]

    def test_of_another_release_is_none(self, tmp_path):
        keep_record(make_record(), tmp_path)
        for other in ({"tag": "other"}, {"event": "goCue_times"}, {"untagged": "default"},
                      {"leave_out": ["CRITICAL"]}):  # fmt: skip
            with pytest.raises(SessionError, match="is another release; try without --offline"):
                read_record(tmp_path, EID, dataset(**other))
        with pytest.raises(SessionError, match="was never downloaded"):
            read_record(tmp_path, OTHER, dataset())
        (tmp_path / ".ibl-mtm" / "records" / f"{EID}.json").write_text("{")
        with pytest.raises(SessionError, match="was never downloaded"):
            read_record(tmp_path, EID, dataset())

    def test_pins_of_earlier_versions_go_on_to_hold(self):
        assert _pin(dataset(), EID).keys() == {"url", "tag", "revision", "event", "pids"}
        more = _pin(dataset(untagged="default", leave_out=["FAIL", "CRITICAL"]), EID)
        assert more["untagged"] == "default"
        assert more["leave_out"] == ["CRITICAL", "FAIL"]

    @pytest.mark.parametrize("name", ["..", ".", "a b", "", "x/../y", "é,"])
    def test_names_that_lead_elsewhere_are_refused(self, name):
        _check_names(make_record())
        for where in ("lab", "subject", "date"):
            with pytest.raises(SessionError, match="no name for ONE"):
                _check_names(make_record(**{where: name}))
        path = f"alf/{name}/spikes.times.npy"
        with pytest.raises(SessionError, match="no name for ONE"):
            _check_names(make_record(files=(RemoteFile("i", path, "u", 1, None),)))


class Answer:
    """A file server's answer, in blocks that come at given times."""

    def __init__(self, code=200, blocks=(), length=None, clock=None, seconds=0.0):
        self.status_code, self.reason = code, "Why"
        self.headers = {} if length is None else {"Content-Length": str(length)}
        self.blocks, self.clock, self.seconds = list(blocks), clock, seconds
        self.raw = self

    def read1(self, size):
        if self.clock is not None:
            self.clock.at += self.seconds
        return self.blocks.pop(0) if self.blocks else b""

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass


class TestAFileThatComes:
    @pytest.fixture
    def receive(self, monkeypatch, tmp_path):
        self.clock, self.asked = SimpleNamespace(at=100.0), []
        monkeypatch.setattr(download.time, "monotonic", lambda: self.clock.at)

        def receive(answer, size=None):
            def get(url, **options):
                self.asked.append((url, options))
                return answer

            monkeypatch.setattr(requests, "get", get)
            file = RemoteFile("i", "alf/x.npy", "https://me@f.org/a b/x?key=1", size, None)
            transfer = _Transfer(lambda n: None, SimpleNamespace(is_set=lambda: False))
            return _receive(file, tmp_path / "part", Patience(timeout=10), transfer), transfer

        return receive

    @pytest.mark.parametrize(
        ("size", "length", "expected"), [(7, 5, 7), (None, 5, 5), (None, None, None)]
    )
    def test_it_is_of_the_size_that_is_told(self, receive, tmp_path, size, length, expected):
        found, transfer = receive(Answer(blocks=[b"abc", b"de"], length=length), size)
        assert found == expected
        assert (transfer.size, (tmp_path / "part").read_bytes()) == (5, b"abcde")
        assert transfer.md5.hexdigest() == hashlib.md5(b"abcde").hexdigest()
        ((url, options),) = self.asked
        assert url == "https://me@f.org/a%20b/x?key=1"
        assert options["headers"] == {"Accept-Encoding": "identity"}
        assert (options["stream"], options["timeout"]) == (True, 10)

    @pytest.mark.parametrize("code", [401, 403, 404, 410, 400, 405, 206])
    def test_what_is_not_given_away_is_gone(self, receive, code):
        with pytest.raises(FileError, match=rf"alf/x\.npy: HTTP {code} Why \(https://f\.org/a b/x\)"
                           ) as caught:  # fmt: skip
            receive(Answer(code))
        assert isinstance(caught.value, _GoneError) == (code in (401, 403, 404, 410))

    def test_what_is_slow_for_long_is_no_answer(self, receive):
        block = b"x" * 4000
        # 4 s for 4000 bytes are 1000 bytes/s, which will do ...
        answer = Answer(blocks=[block] * 9, clock=self.clock, seconds=4.0)
        assert receive(answer)[1].size == 36000
        # ... and a byte less is none, once 10 s are over; before it is not looked at.
        answer = Answer(blocks=[block[:-1]] * 9, clock=self.clock, seconds=4.0)
        with pytest.raises(Transient, match="only 11997 bytes in 12 s"):
            receive(answer)
        assert receive(Answer(blocks=[b"x"], clock=self.clock, seconds=10.0))[1].size == 1

    @pytest.mark.parametrize(
        ("size", "md5", "said"),
        [
            (5, None, None),
            (None, hashlib.md5(b"abcde").hexdigest(), None),
            (6, None, "came as 5 of 6 bytes"),
            (5, "another", "its MD5 is not the one in the database"),
        ],
    )
    def test_what_came_wrong_is_no_file_and_does_not_count(
        self, receive, tmp_path, monkeypatch, size, md5, said
    ):
        monkeypatch.setattr(requests, "get", lambda url, **k: Answer(blocks=[b"abc", b"de"]))
        file, counted = RemoteFile("i", "alf/x.npy", "https://f.org/x", size, md5), []
        attempt = (file, tmp_path / "x.npy", Patience(timeout=10), counted.append)
        running = SimpleNamespace(is_set=lambda: False)
        if said is None:
            download._attempt(*attempt, running)
            assert (tmp_path / "x.npy").read_bytes() == b"abcde"
            assert sum(counted) == 5
        else:
            with pytest.raises(Transient, match=said) as caught:
                download._attempt(*attempt, running)
            assert caught.value.attempts == 3
            assert counted[0] == 3
            assert sum(counted) == 0
        assert [path.name for path in tmp_path.iterdir()] == ["x.npy"] * (said is None)


SITES = {
    "localCoordinates": np.array([[0, 10], [0, 20], [0, 30], [0, 40.0]]),
    "acronym": np.array(["CA1", "DG", "LP", "PO"]),
    **{axis: np.arange(4.0) + n for n, axis in enumerate("xyz")},
}


class TestWhereUnitsAre:
    """Of a probe with four sites, of which the sorter's map has three, in another order."""

    def place(self, monkeypatch, clusters, own=None, sites=SITES):
        notes = []
        loader = SimpleNamespace(one=None, collection="c", pname="p")
        own = {"rawInd": np.array([3, 0, 2])} if own is None else own
        monkeypatch.setattr(channel_locations, "_load_sites", lambda *a: sites)
        monkeypatch.setattr(channel_locations, "find", lambda *a, **k: [])
        monkeypatch.setattr(channel_locations, "load", lambda eid, paths: own)
        return channel_locations.place_units(loader, "e", "f", clusters, 2, notes), notes

    def test_by_the_raw_number_of_their_channels(self, monkeypatch):
        found, notes = self.place(monkeypatch, {"channels": np.array([2, 0])})
        assert found["channel"].tolist() == [2, 0]
        assert found["region"].tolist() == ["LP", "PO"]
        assert found["depth"].tolist() == [30, 40]
        assert found[["x", "y", "z"]].to_numpy().tolist() == [[2, 3, 4], [3, 4, 5]]
        assert notes == []

    def test_depths_of_their_own_and_axial_ones_count_first(self, monkeypatch):
        clusters = {"channels": np.array([2, 0]), "depths": np.array([1.0, 2.0])}
        assert self.place(monkeypatch, clusters)[0]["depth"].tolist() == [1, 2]
        sites = SITES | {"axial_um": np.arange(4.0)}
        found, _ = self.place(monkeypatch, {"channels": np.array([2, 0])}, sites=sites)
        assert found["depth"].tolist() == [2, 3]

    def test_without_a_place_they_are_unknown_and_it_is_noted(self, monkeypatch):
        found, (note,) = self.place(monkeypatch, {"depths": np.array([5.0, 6.0])})
        assert "no clusters.channels" in note
        assert found["channel"].tolist() == [-1, -1]
        assert found["depth"].tolist() == [5, 6]
        sites = {k: v for k, v in SITES.items() if k != "acronym"}
        found, (note,) = self.place(monkeypatch, {"channels": np.array([1, 1])}, sites=sites)
        assert "no histology" in note
        assert found["depth"].tolist() == [10, 10]
        assert found["x"].isna().all()
        found, _ = self.place(monkeypatch, {"channels": np.array([1, 1])}, sites=None)
        assert found["channel"].tolist() == [1, 1]
        assert found["depth"].isna().all()

    @pytest.mark.parametrize(
        ("channels", "own", "said"),
        [
            ([0, 3], None, r"row 3 of 3 \(0 to n - 1\)"),
            ([-1, 0], None, "expected channel numbers from 0"),
            ([0.0, 1.0], None, "expected channel numbers from 0"),
            ([0, 1], {"rawInd": np.array([0, 1, 4])}, "3 rows but 4 electrodeSites"),
            ([0, 1], {"rawInd": np.array([-1, 1, 2])}, "no rawInd that tells"),
            ([0, 1], {"rawInd": np.array([0.0, 1, 2])}, "no rawInd that tells"),
            ([0, 1], {"labels": np.arange(3)}, "no rawInd that tells"),
        ],
    )
    def test_channels_that_are_none(self, monkeypatch, channels, own, said):
        with pytest.raises(SessionError, match=said):
            self.place(monkeypatch, {"channels": np.array(channels)}, own)

    def load(self, monkeypatch, answer, there=("channels",)):
        """What is read of brainbox's answer, an error or its table, and notes."""
        found, notes, asked = lambda one, eid, name, collection: [name] * (name in there), [], []
        monkeypatch.setattr(channel_locations, "find", found)
        monkeypatch.setattr(channel_locations, "_check_shapes", lambda eid, p: asked.append(p))

        def load_channels(**options):
            if isinstance(answer, Exception):
                raise answer
            return answer

        loader = SimpleNamespace(one=None, collection="c", pname="p", load_channels=load_channels)
        sites = channel_locations._load_sites(loader, "e", "alf/p", notes)
        assert asked == ([sorted(there)] if "channels" in there else [])
        return sites, notes

    def test_maps_that_fit_together_are_taken(self, monkeypatch):
        whole = SITES | {"axial_um": None}
        for there in (("channels",), ("channels", "electrodeSites")):
            assert self.load(monkeypatch, whole, there) == (whole, [])
        sites, (note,) = self.load(monkeypatch, whole, ("electrodeSites",))
        assert sites is None
        assert note == "alf/p: no channels.*; regions are unknown"

    @pytest.mark.parametrize(
        ("answer", "said"),
        [
            (SITES | {"acronym": SITES["acronym"][:3]}, "{.*'acronym': 3.*} rows do not fit"),
            (IndexError(), "brainLocationIds_ccf_2017: an id that the Allen atlas lacks"),
            (KeyError("mlapdv"), r"alf/p/channels\.mlapdv: missing"),
        ],
    )
    def test_others_are_named(self, monkeypatch, answer, said):
        with pytest.raises(SessionError, match=said):
            self.load(monkeypatch, answer)

    def test_of_as_many_channels_as_sites_each_is_its_own(self, monkeypatch):
        own = {"labels": np.arange(4)}
        found, _ = self.place(monkeypatch, {"channels": np.array([3, 1])}, own)
        assert found["region"].tolist() == ["PO", "DG"]

    @pytest.mark.parametrize(
        ("name", "shape", "fits"),
        [("localCoordinates", (4, 2), True), ("localCoordinates", (4, 3), False),
         ("mlapdv", (4, 3), True), ("mlapdv", (12,), False), ("mlapdv", (4, 3, 1), False),
         ("rawInd", (4,), True)],
    )  # fmt: skip
    def test_maps_have_the_columns_that_are_read(self, tmp_path, monkeypatch, name, shape, fits):
        np.save(tmp_path / "x.npy", np.zeros(shape))

        class Named(type(tmp_path)):
            attribute = name

        monkeypatch.setattr(channel_locations, "place", str)
        path = Named(tmp_path / "x.npy")
        if fits:
            channel_locations._check_shapes("e", [path])
        else:
            with pytest.raises(SessionError, match=r"expected . columns"):
                channel_locations._check_shapes("e", [path])


def test_addresses_of_the_catalog_are_sources_of_alyx():
    assert isinstance(dataset().source, AlyxSource)


@pytest.mark.parametrize(("kept", "token"), [({"u": "kept", "v": "other"}, "kept"), ({}, "new")])
def test_no_log_shows_a_token_however_it_was_had(monkeypatch, tmp_path, kept, token):
    hidden = []
    monkeypatch.setattr(client.logs, "hide", hidden.append)
    monkeypatch.setattr(client.Alyx, "_kept_tokens", lambda self: kept)
    monkeypatch.setattr(client.Alyx, "_log_in", lambda self: "new")
    client.Alyx(dataset().source, tmp_path).close()
    assert hidden == [token]
