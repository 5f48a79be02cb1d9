"""What sources find and refuse, and the course of an ingest, with everything around them faked."""

import hashlib
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

from ibl_mtm.brainsets.layout import BRAINSET, file_of
from ibl_mtm.config.dataset import Dataset, SessionEntry
from ibl_mtm.config.sources import BrainsetsSource, BwmSource, LocalSource
from ibl_mtm.errors import SessionError, UserError
from ibl_mtm.ingest import run
from ibl_mtm.ingest.alyx.client import Alyx, AnswerError, _check_secrecy
from ibl_mtm.ingest.outcome import Outcome
from ibl_mtm.ingest.sources import brainsets, bwm
from ibl_mtm.ingest.sources.find import find_sessions
from ibl_mtm.ingest.sources.source import Search

EIDS = [f"{n * 8}-{n * 4}-4{n * 3}-8{n * 3}-{n * 12}" for n in "abcd"]


def search(source, listed=(), **more) -> Search:
    entries = tuple(SessionEntry(eid=eid) for eid in listed) or None
    dataset = Dataset.model_construct(source=source, sessions=entries)
    return Search(dataset, "mine", Path("c.zarr"), **more)


class TestRecordingsOfTheBenchmark:
    def source(self, **more):
        return BrainsetsSource.model_construct(
            kind="brainsets", url=None, path=None, build="all_units", regime="eval",
            version="0.1.0", **more,
        )  # fmt: skip

    def test_why_none_is_found(self, tmp_path):
        def why(root, **more):
            return brainsets._why_none(root, self.source().model_copy(update=more))

        assert why(tmp_path, url="s3://b").endswith("without --offline it is downloaded")
        assert why(tmp_path / "none") == f"no folder '{tmp_path / 'none'}' to ingest from"
        assert "; expected " in why(tmp_path)
        inner = file_of(tmp_path, "all_units", "eval", "e").parent
        inner.mkdir(parents=True)
        below = next(path for path in inner.parents if (path / BRAINSET).is_dir())
        low = f"too low; {below.parent} would be right"
        assert low in why(below)
        assert low in why(below / BRAINSET)

    def test_two_versions_are_not_mixed_but_for_what_is_replaced(self, tmp_path, monkeypatch):
        held = {
            "old": {"brainset": {"derived_version": "0.0.9"}},
            "same": {"brainset": {"derived_version": "0.1.0"}},
            "other": {"dataset": "of another source"},
            "gone": None,
        }

        def attributes(cache, eid):
            if eid == "damaged":
                raise SessionError(eid, "zarr.json is damaged")
            return held[eid]

        monkeypatch.setattr(brainsets, "session_attrs", attributes)
        there = ["damaged", "same", "other", "gone", "old"]
        monkeypatch.setattr(brainsets, "list_eids", lambda cache: there)
        with pytest.raises(
            UserError, match=r"derived_version 0\.0\.9, and the source asks for 0\.1"
        ):
            brainsets._refuse_to_mix(tmp_path, set(), self.source())
        brainsets._refuse_to_mix(tmp_path, {"old"}, self.source())
        brainsets._refuse_to_mix(tmp_path / "none", set(), self.source())

    def test_what_is_listed_and_not_there(self, monkeypatch):
        monkeypatch.setattr(brainsets, "recordings_in", lambda *where: EIDS[:2])
        monkeypatch.setattr(brainsets, "_refuse_to_mix", lambda *a: refused.append(a[1]))
        refused = []
        source = self.source().model_copy(update={"path": Path("x")})

        def eids(listed=(), **more):
            with brainsets.find(search(source, listed, **more)) as found:
                return found.eids

        assert eids() == EIDS[:2]
        assert eids([EIDS[1]], overwrite=True) == [EIDS[1]]
        assert refused == [set(), {EIDS[1]}]
        with pytest.raises(UserError, match=f"{EIDS[3]}, which is not among the 2 recordings of x"):
            eids([EIDS[0], EIDS[3]])
        assert eids([EIDS[0], EIDS[3]], sessions=[EIDS[0]]) == [EIDS[0]]


class TestTheBulkRelease:
    @pytest.fixture
    def find(self, monkeypatch):
        table = {"eid": EIDS, "subject": ["m1", "m2", "m1", "m3"]}

        @contextmanager
        def archive(root, name):
            yield SimpleNamespace(path=root / "ephys.tar")

        monkeypatch.setattr(bwm, "_fetch", lambda *a: None)
        monkeypatch.setattr(bwm, "open_archive", archive)
        monkeypatch.setattr(bwm, "read_table", lambda *a: pd.DataFrame(table))
        monkeypatch.setattr(bwm, "evaluated_among", lambda subjects: {EIDS[1]: "evaluated"})

        def find(listed=(), animals="leave_out", **more):
            source = BwmSource.model_construct(
                kind="bwm", path=Path("x"), evaluated_animals=animals
            )
            with bwm.find(search(source, listed, **more)) as found:
                return found

        return find

    def test_leaves_out_what_is_evaluated_and_says_so(self, find):
        found = find()
        assert found.eids == [EIDS[0], *EIDS[2:]]
        assert found.left_aside == {EIDS[1]: "evaluated"}
        assert found.subjects([EIDS[2], "x"]) == {EIDS[2]: "m1"}
        assert found.origin(EIDS[0]).address == "x/ephys.tar"
        used = find(animals="use")
        assert (used.eids, used.left_aside) == (EIDS, {})

    def test_or_refuses_where_that_is_asked_for(self, find):
        for asked in ({"listed": EIDS[:2]}, {"sessions": [EIDS[1]]}):
            with pytest.raises(
                UserError, match=f"session {EIDS[1]} is evaluated by BrainWideBench"
            ):
                find(**asked)
            assert EIDS[1] in find(**asked, animals="use").eids
        assert find(sessions=[EIDS[3]]).left_aside == {}
        assert find(listed=[EIDS[3]]).left_aside == {}
        absent = EIDS[0].replace("a", "e")
        with pytest.raises(UserError, match=f"lists session {absent}, which the release does not"):
            find(listed=[EIDS[0], absent])
        assert find(listed=[EIDS[0], absent], sessions=[EIDS[0]]).eids == [EIDS[0]]

    @pytest.fixture
    def fetch(self, monkeypatch):
        """Which archives are fetched: their key, the folder's file, and bytes as they come."""
        told = []
        sizes = {"bwm_ephys-1.2.0.tar": 60, "bwm_behavior-2.0.0.tar": 40}

        def fetch(bucket, remote, path, patience, on_bytes, check):
            if remote.key in broken:
                raise SessionError("e", "came with other contents")
            told.append((remote.key, path.name))
            on_bytes(7)

        def run(there=(), broken_=(), behaviour=True, url="s3://b", **more):
            broken[:] = broken_
            told.clear()
            monkeypatch.setattr(bwm, "find_archive", lambda root, name: name in there or None)
            source = BwmSource.model_construct(
                kind="bwm", url=url, path=Path("x"), behaviour=behaviour, attempts=1, timeout=1.0
            )
            bwm._fetch(source, Path("x"), search(source, **more))
            return told

        broken = []
        monkeypatch.setattr(bwm, "open_bucket", lambda source: "bucket")
        monkeypatch.setattr(bwm, "describe", lambda bucket, key, patience: SimpleNamespace(key=key))
        monkeypatch.setattr(bwm, "missing_bytes", lambda remote, path: sizes[path.name])
        monkeypatch.setattr(bwm, "fetch", fetch)
        return run

    def test_fetches_what_is_not_there(self, fetch):
        ephys, behaviour = "bwm_ephys-1.2.0.tar", "bwm_behavior-2.0.0.tar"
        heard = []

        def hear(n, total):
            heard.append((n, total))

        assert fetch(on_bytes=hear) == [(ephys, ephys), (behaviour, behaviour)]
        assert heard == [(7, 100), (7, 100)]
        assert fetch(there=["bwm_ephys"]) == [(behaviour, behaviour)]
        assert fetch(there=["bwm_ephys"], behaviour=False) == []
        assert fetch(behaviour=False) == [(ephys, ephys)]
        assert fetch(there=["bwm_ephys", "bwm_behavior"], offline=True) == []
        with pytest.raises(UserError, match=r"^came with other contents$"):
            fetch(broken_=[ephys])

    @pytest.mark.parametrize(
        ("options", "told"),
        [
            ({"offline": True}, r"no bwm_ephys and no bwm_behavior in x; without --offline it is"),
            ({"url": None}, r"no bwm_ephys and no bwm_behavior in x$"),
            ({"url": None, "there": ["bwm_ephys"]}, r"^no bwm_behavior in x$"),
            ({"dry_run": True}, r"^0\.0 GB are to be downloaded \(bwm_ephys-1"),
        ],
    )
    def test_or_says_what_is_not_there(self, fetch, options, told):
        with pytest.raises(UserError, match=told):
            fetch(**options)

    def test_an_archive_that_came_wrong_is_removed(self, tmp_path):
        path = tmp_path / "a.tar"
        path.write_bytes(b"abc")
        right = hashlib.sha1(b"abc").hexdigest()
        remote = SimpleNamespace(key="a.tar")
        bwm._check_sha1(path, remote, right)
        assert path.is_file()
        with pytest.raises(
            UserError, match=f"a.tar came with SHA-1 {right}, where 0 was published"
        ):
            bwm._check_sha1(path, remote, "0")
        assert not path.exists()


def test_arrays_are_found_by_no_source():
    with pytest.raises(UserError, match="of kind arrays; its sessions are put into a cache by"):
        find_sessions(search(SimpleNamespace(kind="arrays")))


@pytest.mark.parametrize(
    ("url", "safe"),
    [
        ("https://alyx.org", True), ("http://localhost:8000", True), ("http://a.localhost", True),
        ("http://127.0.0.1:1", True), ("http://[::1]:1", True), ("http://alyx.org", False),
        ("http://10.0.0.1", False), ("http://localhost.org", False),
    ],
)  # fmt: skip
def test_a_password_is_sent_in_the_clear_to_this_machine_alone(url, safe):
    if safe:
        _check_secrecy(url)
    else:
        with pytest.raises(UserError, match="a password is not sent unencrypted; write https://"):
            _check_secrecy(url)


class TestListsOfAlyx:
    def alyx(self, *pages):
        asked, answers = [], list(pages)
        alyx = object.__new__(Alyx)
        alyx._source = SimpleNamespace(url="https://a.org", tag="2024_Q2_Release")
        alyx._tags = set()
        alyx._get = lambda path: asked.append(path) or answers.pop(0)
        return alyx, asked

    def page(self, results, count, following=None):
        return {"results": results, "count": count, "next": following}

    def test_are_whole_or_come_in_pages(self):
        alyx, asked = self.alyx([1, 2])
        assert alyx._list("/x?a=1") == [1, 2]
        alyx, asked = self.alyx(
            self.page([1, 2], 5, "http://inner/x?a=1&offset=2"),
            self.page([3, 4], 5, "http://inner/x?a=1&offset=4"),
            self.page([5], 5),
        )
        assert alyx._list("/x?a=1") == [1, 2, 3, 4, 5]
        assert asked == ["/x?a=1", "/x?a=1&offset=2", "/x?a=1&offset=4"]

    def test_that_are_cut_short_are_none(self):
        alyx, _ = self.alyx(self.page([1], 3, "http://inner/x?offset=1"), self.page([], 3, "on"))
        with pytest.raises(AnswerError, match="a list of 3 records that has 1"):
            alyx._list("/x")
        for answer in ({"results": []}, {"results": 1, "count": 1, "next": None}, None):
            alyx, _ = self.alyx(answer)
            with pytest.raises(AnswerError, match="no list of an Alyx"):
                alyx._list("/x")

    def test_a_tag_that_is_none_is_told_with_one_that_is_near(self):
        alyx, _ = self.alyx([])
        alyx._tags = {"2024_Q2_Release_x", "Brainwide"}
        with pytest.raises(
            UserError, match=r"'2024_Q2_Release'; did you mean '2024_Q2_Release_x'\?"
        ):
            alyx.check_tag()
        alyx, _ = self.alyx([])
        alyx._tags = {"Brainwide"}
        with pytest.raises(UserError, match=r"no dataset with the tag '2024_Q2_Release'$"):
            alyx.check_tag()
        eid = EIDS[0]
        alyx, _ = self.alyx([{"session": f"https://a.org/sessions/{eid}"}, {"session": eid}])
        assert alyx.tagged_sessions() == [eid]


class TestTheCourse:
    @pytest.fixture
    def ingest(self, tmp_path, monkeypatch):
        """Of four sessions one is there, one is not to be had, two are to be done."""
        dataset = Dataset(source=LocalSource(kind="local", path=tmp_path))
        told = SimpleNamespace(sessions=[], bytes=[], jobs=[])

        def origin(eid):
            if eid == EIDS[1]:
                raise SessionError(eid, "no spikes")
            return SimpleNamespace(bytes_missing=lambda: 40 if eid == EIDS[2] else 60)

        @contextmanager
        def find(search):
            told.search = search
            yield SimpleNamespace(eids=told.eids, left_aside={"z": "why"}, origin=origin)

        @contextmanager
        def workers(jobs, n, scheduler):
            told.jobs = [job.eid for job in jobs]

            def runner(jobs, on_bytes):
                on_bytes(70)
                yield from ((job.eid, Outcome("ingested")) for job in reversed(jobs))

            yield runner

        def present(cache, eid, dataset):
            return Outcome("complete") if eid == EIDS[0] else None

        monkeypatch.setattr(run, "find_sessions", find)
        monkeypatch.setattr(run, "_workers_for", workers)
        monkeypatch.setattr(run, "_present", present)

        def ingest(eids=EIDS, **options):
            told.eids = list(eids)
            report = run.ingest(
                dataset,
                "mine",
                tmp_path / "c.zarr",
                on_session=lambda eid, outcome, n: told.sessions.append((eid, outcome.status, n)),
                on_bytes=lambda n, total: told.bytes.append((n, total)),
                **options,
            )
            return report, told

        return ingest

    def test_is_told_as_it_goes_and_reported_in_the_order_of_the_source(self, ingest, tmp_path):
        report, told = ingest(limit=1, workers=1)
        a, b, c, d = EIDS
        assert told.sessions == [
            *((a, "complete", 4), (b, "failed", 4)),
            *((d, "ingested", 4), (c, "ingested", 4)),
        ]
        assert told.bytes == [(0, 100), (70, 100)]
        assert told.jobs == [c, d]
        assert list(report.sessions) == EIDS
        assert (report.left_aside, report.stopped) == ({"z": "why"}, None)
        assert report.failed == {b: "no spikes"}
        assert (tmp_path / "ingest-report.json").is_file()
        assert (tmp_path / "c.ingest-report.json").is_file()
        assert (told.search.limit, told.search.aside, told.search.overwrite) == (1, None, False)

    def test_without_anything_to_do_it_is_planned_or_nothing(self, ingest, tmp_path):
        report, told = ingest(dry_run=True)
        assert [outcome.status for outcome in report.sessions.values()] == [
            *("complete", "failed", "planned", "planned")
        ]
        assert [outcome.n_bytes for outcome in report.sessions.values()] == [0, 0, 40, 60]
        assert (told.bytes, told.jobs) == ([], [])
        report, _ = ingest(eids=[])
        assert (report.sessions, report.left_aside) == ({}, {"z": "why"})
        assert list(tmp_path.iterdir()) == []

    def test_what_is_there_is_done_again_where_that_is_asked_for(self, ingest):
        _, told = ingest(eids=[EIDS[0], EIDS[2]], overwrite=True)
        assert told.jobs == [EIDS[0], EIDS[2]]
        assert told.search.overwrite

    @pytest.mark.parametrize(
        ("options", "told"),
        [({"limit": 0}, "limit of 0 sessions leaves nothing"), ({"workers": 0}, "0 workers can")],
    )
    def test_with_less_than_one_of_anything_there_is_none(self, ingest, options, told):
        with pytest.raises(UserError, match=told):
            ingest(**options)
