"""Single steps of an ingest: what ends it, what it is told of, and whose animals it takes."""

import errno
import itertools
import shutil
from pathlib import Path
from types import SimpleNamespace
from uuid import UUID

import numpy as np
import pandas as pd
import pytest
from defaults import defaults_of

from ibl_mtm.config.dataset import Dataset, SessionEntry
from ibl_mtm.config.sources import LocalSource
from ibl_mtm.errors import SessionError, UserError
from ibl_mtm.ingest import job as job_module
from ibl_mtm.ingest import run as module
from ibl_mtm.ingest import targets
from ibl_mtm.ingest.job import Job, run_job
from ibl_mtm.ingest.outcome import Outcome
from ibl_mtm.ingest.plausible import check_extent
from ibl_mtm.ingest.sources.bwm import Release
from ibl_mtm.ingest.sources.local import OnDisk
from ibl_mtm.ingest.targets import blocked, check_writable
from ibl_mtm.ingest.trials import _plain

FULL = OSError(errno.ENOSPC, "No space left on device")


def local(path: Path, **settings) -> Dataset:
    return Dataset(source=LocalSource(kind="local", path=path), **settings)


class TestTheDisk:
    def test_a_table_that_cannot_be_written_ends_an_ingest_with_the_reason(
        self, monkeypatch, tmp_path
    ):
        def fails(cache, error=FULL):
            raise error

        monkeypatch.setattr(module, "list_sessions", fails)
        assert "no space left for" in module._list(tmp_path)
        monkeypatch.setattr(module, "list_sessions", lambda cache: fails(cache, OSError(5, "io")))
        with pytest.raises(OSError, match="io"):
            module._list(tmp_path)
        monkeypatch.setattr(module, "list_sessions", lambda cache: None)
        assert module._list(tmp_path) is None

    def test_what_is_no_matter_of_the_disk_stays_what_it_is(self, tmp_path):
        told = module._told_if_blocked(tmp_path / "c.zarr", local(tmp_path))
        with pytest.raises(UserError, match=f"no space left for .*{tmp_path / 'c.zarr'}"), told:
            raise FULL
        told = module._told_if_blocked(tmp_path / "c.zarr", local(tmp_path))
        with pytest.raises(OSError, match="io"), told:
            raise OSError(5, "io")

    def test_the_source_s_own_folder_is_told_and_not_one_beside_the_cache(self, tmp_path):
        denied = PermissionError(errno.EACCES, "Permission denied", str(tmp_path / "one" / "x"))
        told = module._told_if_blocked(tmp_path / "c.zarr", local(tmp_path / "one"))
        with pytest.raises(UserError, match="Permission denied; give another path"), told:
            raise denied

    def test_the_places_that_are_full_are_told_and_no_others(self, tmp_path, monkeypatch):
        free = {tmp_path / "a": 0, tmp_path / "b": 1 << 30, tmp_path / "c": (1 << 20) - 1}
        for place in free:
            place.mkdir()
        usage = lambda place: SimpleNamespace(free=free[place])  # noqa: E731
        monkeypatch.setattr(shutil, "disk_usage", usage)
        a, b, c = free
        assert f"no space left for {a} and {c}:" in str(blocked(FULL, a, b, c))
        assert f"no space left for {a}:" in str(blocked(FULL, a / "not" / "there", b)).replace(
            "/not/there", ""
        )
        free |= dict.fromkeys(free, 1 << 20)
        assert f"no space left for {b} and {c}:" in str(blocked(FULL, b, c, b))  # none is: all

    @pytest.mark.parametrize(
        ("flag", "why"), [(1, "Read-only file system"), (0, "Permission denied"), (2, "Permission")]
    )
    def test_a_folder_that_is_locked_is_not_one_that_is_another_s(
        self, tmp_path, monkeypatch, flag, why
    ):
        monkeypatch.setattr(targets.os, "access", lambda folder, mode: False)
        monkeypatch.setattr(targets.os, "statvfs", lambda folder: SimpleNamespace(f_flag=flag))
        with pytest.raises(UserError, match=f"{tmp_path}: {why}"):
            check_writable(tmp_path / "c.zarr")

    def test_a_file_of_another_place_blocks_nothing(self, tmp_path):
        read_only = OSError(errno.EROFS, "Read-only file system", str(tmp_path / "x"))
        assert str(blocked(read_only)).startswith(f"cannot write {tmp_path / 'x'}: Read-only")
        beside = PermissionError(errno.EPERM, "not permitted", str(tmp_path / "c.zarr.staging/x"))
        assert blocked(beside, tmp_path / "other") is None
        assert blocked(OSError(errno.EACCES, "denied"), tmp_path) is None  # of which file?


def test_a_path_is_told_to_other_machines_in_full(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    seen = module._as_seen_elsewhere(local(Path("here")))
    assert seen.source.path == tmp_path / "here"
    theirs = local(Path("$SCRATCH/one"))
    assert module._as_seen_elsewhere(theirs) is theirs


class TestAnAnimalHasOneRole:
    def entries(self, *roles):
        return tuple(SessionEntry(eid=str(UUID(int=n)), role=role) for n, role in enumerate(roles))

    def check(self, roles, subjects, monkeypatch, cached=None):
        entries = self.entries(*roles)
        eids = [entry.eid for entry in entries]
        monkeypatch.setattr(
            module, "session_attrs", lambda cache, eid: (cached or {}).get(eids.index(eid))
        )
        known = {eid: subject for eid, subject in zip(eids, subjects, strict=True) if subject}
        found = SimpleNamespace(eids=eids, subjects=lambda asked: dict(known))
        jobs = [SimpleNamespace(eid=eid) for eid in eids]
        module._check_roles(local(Path("x"), sessions=entries), Path("c"), found, jobs)

    def test_of_those_to_ingest(self, monkeypatch):
        self.check(("pretrain", "finetune", "pretrain"), "aba", monkeypatch)
        with pytest.raises(
            UserError, match=r"animal a has two roles: session 0[-0]+ is for pretrain"
        ):
            self.check(("pretrain", "finetune"), "aa", monkeypatch)

    def test_and_of_those_that_are_in_the_cache_already(self, monkeypatch):
        cached = {1: {"subject": "a"}}
        with pytest.raises(UserError, match="animal a has two roles"):
            self.check(("pretrain", "finetune"), ("a", None), monkeypatch, cached)
        self.check(("pretrain", "finetune"), ("b", None), monkeypatch, cached)
        self.check(("pretrain", "finetune"), ("a", None), monkeypatch)  # nobody knows whose

    def test_where_all_have_one_nobody_is_asked(self, monkeypatch):
        self.check(("pretrain", "pretrain"), "aa", monkeypatch)


def test_sources_know_the_animals_of_their_own_sessions():
    table = pd.DataFrame({"subject": ["m1", "m2"]}, index=["a", "b"])
    folder = SimpleNamespace(sessions=lambda: table)
    assert OnDisk(["a"], folder).subjects(["b", "x"]) == {"b": "m2"}
    about = {"left_aside": {}, "subjects": {"a": "m1", "b": "m2"}}
    release = Release(["a"], Path("x"), "there", about)
    assert release.subjects(["b", "x"]) == {"b": "m2"}


class TestWorkers:
    def run(self, monkeypatch, n_jobs, workers, scheduler=None):
        """How many workers a cluster is opened with; None: it is done in this process."""
        from contextlib import contextmanager

        from ibl_mtm.ingest import cluster

        opened = []

        @contextmanager
        def open_cluster(n, scheduler):
            opened.append((n, scheduler))
            yield "client"

        monkeypatch.setattr(cluster, "open_cluster", open_cluster)
        monkeypatch.setattr(cluster, "default_workers", lambda: 5)
        monkeypatch.setattr(cluster, "run_jobs", lambda client, jobs, on_bytes: "far")
        monkeypatch.setattr(module, "run_job", lambda job, on_bytes: "near")
        jobs = [SimpleNamespace(eid=n) for n in range(n_jobs)]
        with module._workers_for(jobs, workers, scheduler) as runner:
            done = runner(jobs, print)
            assert done == "far" if opened else list(done) == [(n, "near") for n in range(n_jobs)]
        return opened[0] if opened else None

    def test_no_more_than_there_are_sessions(self, monkeypatch):
        assert self.run(monkeypatch, 3, 8) == (3, None)
        assert self.run(monkeypatch, 3, 2) == (2, None)
        assert self.run(monkeypatch, 9, None) == (5, None)

    def test_one_worker_or_one_session_needs_no_cluster(self, monkeypatch):
        assert self.run(monkeypatch, 3, 1) is None
        assert self.run(monkeypatch, 1, 4) is None
        assert self.run(monkeypatch, 0, 4, "tcp://there") is None

    def test_but_a_cluster_that_runs_is_asked_for_any(self, monkeypatch):
        assert self.run(monkeypatch, 1, 1, "tcp://there") == (1, "tcp://there")


def test_a_server_that_is_silent_for_three_sessions_in_a_row_is_left_alone():
    silent = Outcome("failed", "no answer", unreachable="files.org")
    jobs = [SimpleNamespace(eid=eid) for eid in "abcdefg"]

    def told(*outcomes):
        seen = {}
        stopped = module._work_off(
            zip("abcdefg", outcomes, strict=False), jobs, lambda eid, out: seen.update({eid: out})
        )
        return stopped, seen

    fine = Outcome("ingested")
    stopped, seen = told(silent, silent, fine, silent, silent, fine, silent)
    assert stopped is None
    assert list(seen) == list("abcdefg")
    stopped, seen = told(fine, silent, silent, silent, fine, fine, fine)
    assert stopped is None
    assert [out.status for out in seen.values()] == ["ingested"] + ["failed"] * 6
    assert seen["e"].reason == "files.org did not answer for the sessions before it"
    stopped, seen = told(fine, Outcome("failed", "full", blocked="no space left"))
    assert stopped == "no space left"
    assert seen["c"].reason == "not begun: no space left"


class TestAJob:
    @pytest.fixture
    def job(self, monkeypatch):
        ticks = itertools.count(10, 3)
        monkeypatch.setattr(job_module.time, "monotonic", lambda: next(ticks))
        monkeypatch.setattr(job_module, "is_complete", lambda *a: False)
        return lambda origin: Job("e", local(Path("x")), "d", Path("c.zarr"), origin)

    @pytest.mark.parametrize(
        ("error", "reason"),
        [(SessionError("e", "no spikes"), "no spikes"), (KeyError("what"), "KeyError"),
         (OSError(5, "io"), "io")],
    )  # fmt: skip
    def test_that_fails_tells_seconds_and_bytes(self, job, error, reason):
        heard = []

        def load(count):
            count(70)
            count(-7)
            raise error

        origin = SimpleNamespace(open=load, notes=(), targets=())
        outcome = run_job(job(origin), heard.append)
        assert (outcome.status, outcome.seconds, outcome.n_bytes) == ("failed", 3, 63)
        assert reason in outcome.reason
        assert heard == [70, -7]


class TestHowLongARecordingLasts:
    def check(self, lasts, trials, n_trials):
        one = SimpleNamespace(called="p", times=np.array([2.0, 2.0 + lasts]))
        events = None if n_trials is None else np.linspace(5, 5 + trials, n_trials)
        return check_extent(SimpleNamespace(eid="e", insertions=[one]), events)

    def test_far_longer_than_its_trials_is_refused_or_with_few_trials_noted(self):
        assert self.check(400, 100, 30) == []
        with pytest.raises(SessionError, match="outlasts its trials"):
            self.check(1e6, 100, 10)
        (note,) = self.check(1e6, 100, 9)
        assert "outlasts its trials (100 s)" in note

    def test_far_shorter_is_noted(self):
        (note,) = self.check(100, 1e6, 30)
        assert "other units of time" in note

    def test_without_trials_a_day_is_the_limit(self):
        assert self.check(86400, 0, None) == []
        with pytest.raises(SessionError, match="24 hours; samples or ms"):
            self.check(86401, 0, None)
        with pytest.raises(SessionError, match="hours"):
            self.check(86401, 0, 1)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([True, False], [True, False]),
        ([3, -1], [3, -1]),
        ([0.5, None], [0.5, np.nan]),
        ([True, None, False], [1.0, np.nan, 0.0]),
        (["a", None], ["a", ""]),
        ([None, None], ["", ""]),
    ],
)
def test_columns_are_numbers_truths_or_words(given, expected):
    found = _plain(pd.Series(given, dtype=object))
    np.testing.assert_array_equal(found, expected)
    assert found.dtype.kind == np.array(expected).dtype.kind


def test_columns_of_anything_else_are_none():
    assert _plain(pd.Series([[1], "a"])) is None
    assert _plain(pd.Series([True, "a"])) is None


#: Of what is called from elsewhere: truth values and numbers that need not be given.
DEFAULTS = {
    "ingest.add_session:add_session": {"number": 1, "overwrite": False},
    "ingest.alyx.release:RemoteFile": {"borrowed": False, "spare": False},
    "ingest.alyx.remote_session:RemoteSession": {"offline": False},
    "ingest.assemble:assemble": {"simulated": False},
    "ingest.cluster:open_cluster": {"workers": 1},
    "ingest.job:Job": {"overwrite": False},
    "ingest.outcome:Outcome": {"seconds": 0.0, "n_units": 0, "n_trials": 0, "n_bytes": 0},
    "ingest.own.places:make_about": {"number": 1},
    "ingest.own.recordings:About": {"number": 1},
    "ingest.recording:Behaviour": {"of_ibl": True},
    "ingest.recording:Recording": {"from_start": False},
    "ingest.recording:checked_signal": {"gaps": False},
    "ingest.retry:Patience": {"attempts": 6, "timeout": 20.0},
    "ingest.run:ingest": {"overwrite": False, "dry_run": False, "offline": False, "workers": 1},
    "ingest.sources.source:Search": {"dry_run": False, "offline": False, "overwrite": False},
    "ingest.trials:keep_columns": {"everything": False},
}


@pytest.mark.parametrize("place", DEFAULTS)
def test_defaults_of_ingest_stay(place):
    assert defaults_of(f"ibl_mtm.{place}") == DEFAULTS[place]
