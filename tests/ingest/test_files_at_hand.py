"""Files that are on disk already: which are right, which will do, and what is told of others."""

import errno
import hashlib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from ibl_mtm.config.dataset import Dataset
from ibl_mtm.config.sources import LocalSource
from ibl_mtm.ingest.add_session import _Arrays
from ibl_mtm.ingest.alyx import download, remote_session
from ibl_mtm.ingest.alyx.camera import left_will_do
from ibl_mtm.ingest.alyx.download import missing
from ibl_mtm.ingest.alyx.release import RemoteFile, _may_be_needed
from ibl_mtm.ingest.assemble import _windows
from ibl_mtm.ingest.bulk.load_release import _attempt
from ibl_mtm.ingest.on_disk.folder import open_folder
from ibl_mtm.ingest.on_disk.layout import scan
from ibl_mtm.ingest.own.nwb import _probes, _table_of_units
from ibl_mtm.ingest.sources import brainsets


def remote(path: str, size: int | None = None, md5: str | None = None) -> RemoteFile:
    return RemoteFile("id", path, "https://files.org", size, md5)


class TestTheLeftCamera:
    def files(self, folder: Path, times: int | None, frames: int | None) -> list[RemoteFile]:
        for name, n in (("times", times), ("ROIMotionEnergy", frames), ("dlc", 99)):
            if n is not None:
                np.save(folder / f"_ibl_leftCamera.{name}.npy", np.zeros(n))
        np.save(folder / "_ibl_rightCamera.times.npy", np.zeros(5))
        names = ("_ibl_rightCamera.times", "_ibl_leftCamera.ROIMotionEnergy")
        return [remote(f"{name}.npy") for name in (*names, "_ibl_leftCamera.times")]

    @pytest.mark.parametrize(
        ("times", "frames", "will"), [(7, 7, True), (8, 7, True), (6, 7, False)]
    )
    def test_it_will_do_if_each_frame_has_a_time(self, tmp_path, times, frames, will):
        files = self.files(tmp_path, times, frames)
        assert left_will_do(files, tmp_path) == will
        assert not left_will_do(files[:2], tmp_path)  # of the times nothing is known

    @pytest.mark.parametrize("lacks", ["times", "frames", "both"])
    def test_it_will_not_where_it_is_not_there_or_damaged(self, tmp_path, lacks):
        files = self.files(tmp_path, 7, 7)
        for file in files[1:]:
            if lacks == "both" or ("times" in file.path) == (lacks == "times"):
                (tmp_path / file.path).write_bytes(b"no array")
        assert not left_will_do(files, tmp_path)
        for file in files:
            (tmp_path / file.path).unlink()
        assert not left_will_do(files, tmp_path)


class TestWhatIsRight:
    CONTENT = b"spikes"
    MD5 = hashlib.md5(CONTENT).hexdigest()

    @pytest.fixture
    def folder(self, tmp_path):
        (tmp_path / "a").write_bytes(self.CONTENT)
        return tmp_path

    @pytest.mark.parametrize(
        ("size", "md5", "right"),
        [
            (6, MD5, True),
            (None, MD5, True),
            (7, MD5, False),
            (6, "0" * 32, False),
            (6, None, False),
        ],
    )
    def test_it_is_of_its_size_and_content(self, folder, size, md5, right):
        """Without an MD5 only what was fetched here is trusted."""
        file = remote("a", size, md5)
        for _ in range(2):
            assert missing([file], folder, folder / "seen.json") == ([] if right else [file])

    def test_what_is_not_there_is_missing(self, folder):
        assert missing([remote("b", 6, self.MD5)], folder, folder / "seen.json") != []
        assert not (folder / "seen.json").exists()  # there is nothing to keep

    def test_what_was_found_right_is_not_read_again_until_it_changes(self, folder, monkeypatch):
        file, seen = remote("a", 6, self.MD5), folder / "below" / "seen.json"
        assert missing([file], folder, seen) == []
        with monkeypatch.context() as unread:
            unread.setattr(download.hashlib, "file_digest", lambda *a: pytest.fail("read"))
            assert missing([file], folder, seen) == []
        (folder / "a").write_bytes(b"others")
        assert missing([file], folder, seen) == [file]
        seen.write_text("[")
        assert missing([file], folder, seen) == [file]


@pytest.mark.parametrize(
    ("path", "needed"),
    [
        ("alf/_ibl_trials.table.pqt", True),
        ("alf/task_00/_ibl_trials.table.pqt", True),
        ("alf/task_00/more/_ibl_trials.table.pqt", False),
        ("raw/_ibl_trials.table.pqt", False),
        ("alf/_ibl_trials.choice.npy", True),
        ("alf/_ibl_trials.own_times.npy", True),
        ("alf/_ibl_trials.other_times.npy", False),
        ("alf/_ibl_wheel.position.npy", True),
        ("alf/licks.times.npy", True),
        ("alf/_ibl_bodyCamera.times.npy", False),
        ("alf/_ibl_rightCamera.times.npy", True),
        ("alf/probe00/pykilosort/spikes.times.npy", True),
        ("alf/probe00/pykilosort/spikes.amps.npy", False),
        ("alf/probe00/electrodeSites.mlapdv.npy", True),
        ("alf/probe00/spikes.times.npy", True),
        ("alf/probe00/pykilosort/electrodeSites.mlapdv.npy", False),
    ],
)
def test_which_files_may_be_needed(path, needed):
    assert _may_be_needed(remote(path), "own_times") == needed


def test_without_an_event_no_trials_are(tmp_path):
    for name in ("table.pqt", "choice.npy"):
        assert not _may_be_needed(remote(f"alf/_ibl_trials.{name}"), None)
    assert _may_be_needed(remote("alf/_ibl_wheel.position.npy"), None)


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.EIO])
def test_a_folder_that_cannot_be_locked(tmp_path, monkeypatch, number):
    """One that is read-only needs no lock: nobody can fetch anything there."""

    def locks(path):
        raise OSError(number, "no")

    monkeypatch.setattr(remote_session, "FileLock", locks)
    if number in remote_session._READ_ONLY:
        with remote_session._lock(tmp_path / "below" / "lock"):
            assert (tmp_path / "below").is_dir()
    else:
        with pytest.raises(OSError, match="no"), remote_session._lock(tmp_path / "lock"):
            pass
    assert errno.EIO not in remote_session._READ_ONLY


def test_a_session_in_a_session_is_none(tmp_path):
    inner = tmp_path / "lab" / "Subjects" / "mouse" / "2024-01-01" / "001"
    (inner / "other" / "2024-02-02" / "002").mkdir(parents=True)
    (tmp_path / "lab" / "Subjects" / "mouse" / "2024-01-02" / "010").mkdir(parents=True)
    found = scan(tmp_path)
    assert found.left_aside == {}
    told = [(s.lab, s.subject, s.date, s.number) for s in found.sessions]
    assert told == [
        ("lab", "mouse", "2024-01-01", "001"),
        ("lab", "mouse", "2024-01-02", "010"),
    ]


def test_tables_of_a_folder_are_made_where_one_says(experiment, tmp_path):
    root = tmp_path / "ONE"
    eid = experiment.copy_session(root, 1)
    aside = tmp_path / "not" / "there"
    for _ in range(2):  # then it is there
        with open_folder(root, aside) as folder:
            assert list(folder.sessions().index) == [eid]
            assert len(list(aside.iterdir())) == 1
        assert list(aside.iterdir()) == []


@pytest.mark.parametrize("far", [True, False])
def test_files_that_are_not_here_yet(monkeypatch, tmp_path, far):
    source = SimpleNamespace(build="all_units", regime="eval", url=None)
    remotes = {"a": "object"} if far else {}
    files = brainsets.Files(["a", "b"], tmp_path, source, remotes)
    assert files.origin("a").targets == ((tmp_path,) if far else ())
    monkeypatch.setattr(brainsets, "missing_bytes", lambda remote, path: 77)
    assert files.origin("a").bytes_missing() == (77 if far else 0)
    here = files.origin("b").path
    here.parent.mkdir(parents=True)
    here.touch()

    class Opened:
        def __init__(self, path):
            self.subject = f"of {path.stem}"

        def __enter__(self):
            return self

        def __exit__(self, *error):
            pass

    monkeypatch.setattr(brainsets, "open_recording", Opened)
    assert files.subjects(["a", "b"]) == {"b": f"of {here.stem}"}


def test_arrays_in_memory_are_all_there():
    arrays = _Arrays(None, {}, None, {})  # type: ignore[arg-type]
    assert arrays.bytes_missing() == 0
    assert not arrays.simulated
    with arrays.open() as opened:
        assert opened is arrays


class TestASignalOfTheRelease:
    TIMES = np.array([1.0, 2.0, 2.0, 4.0])

    def test_samples_without_time_or_value_are_left_out(self):
        values = np.array([5.0, np.nan, 7.0, 8.0])
        notes: list[str] = []
        found = _attempt("wheel", lambda: (self.TIMES, values), notes)
        assert found is not None
        assert found.times.tolist() == [1, 2, 4]
        assert found.values.tolist() == [5, 7, 8]
        assert notes == []

    @pytest.mark.parametrize("pair", [(None, TIMES), (TIMES, None), (TIMES[:0], TIMES[:0])])
    def test_what_is_not_there_is_none(self, pair):
        notes: list[str] = []
        assert _attempt("wheel", lambda: pair, notes) is None
        assert notes == []

    @pytest.mark.parametrize("pair", [(TIMES, TIMES[:3]), (TIMES[::-1], TIMES)])
    def test_what_does_not_fit_is_noted(self, pair):
        notes: list[str] = []
        assert _attempt("wheel", lambda: pair, notes) is None
        (note,) = notes
        assert note.startswith("wheel: (4,) times in order expected")


def test_trials_on_another_clock_are_doubtful_where_most_are_outside():
    """Windows from -0.5 to 1.5 s, of a recording of a hundred seconds."""
    inside = np.arange(5, 95, 9.0)
    one = SimpleNamespace(times=np.array([0.0, 100.0]), called="p")

    def doubts(n_outside):
        outside = 200.0 + 3 * np.arange(n_outside)
        events = np.concatenate([inside, [np.nan], outside])
        recording = SimpleNamespace(
            eid="e", insertions=[one], trials={"stimOn_times": FakeColumn(events)}, domains=None
        )
        return _windows(recording, Dataset(source=LocalSource(kind="local", path="x")))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ibl_mtm.ingest.assemble.check_rates", lambda *a: ["of rates"])
        assert doubts(10).doubts == ["of rates"]
        found = doubts(11)
    assert found.doubts == [
        "11 of 21 trials lie outside of the recording; on another clock?",
        "of rates",
    ]
    assert found.removed == {"trials_without_event": 1, "trials_outside_recording": 11}
    assert found.trial.tolist() == list(range(10))


class FakeColumn:
    def __init__(self, values):
        self.values = values

    def to_numpy(self, kind):
        return self.values


class Table:
    """A table of NWB: columns by name, and ids."""

    def __init__(self, **columns):
        self.colnames = tuple(columns)
        self.columns = columns
        first = next(iter(columns.values()))
        self.id = np.arange(10, 10 + len(getattr(first, "data", first)))

    def __len__(self):
        return len(self.id)

    def __getitem__(self, name):
        return self.columns[name]


def ragged(*rows):
    """A column of lists, as NWB has it: where each ends, and all of them."""
    ends, flat = np.cumsum([len(row) for row in rows]), np.concatenate(rows)
    return SimpleNamespace(data=ends, target=SimpleNamespace(data=flat))


class TestUnitsOfNwb:
    def test_what_the_file_does_not_tell_is_noted(self):
        notes: list[str] = []
        found = _table_of_units(SimpleNamespace(electrodes=None), Table(x=[1, 2]), notes)
        assert found["cluster_id"].tolist() == [10, 11]
        assert found["label"].tolist() == ["", ""]
        assert found["channel"].tolist() == [-1, -1]
        assert found["probe"].tolist() == ["probe00"] * 2
        assert len(notes) == 2
        assert notes[0].startswith("units: neither electrodes with a location nor a column")
        assert notes[1].endswith(": label is NaN")

    def test_units_of_electrodes_have_their_places_and_groups(self):
        places = Table(location=[b"CA1", "DG", "LP"], group_name=["a", b"b", "b"])
        units = Table(electrodes=ragged([2, 1], [], [0]), quality=["good", b"mua", "noise"])
        notes: list[str] = []
        found = _table_of_units(SimpleNamespace(electrodes=places), units, notes)
        assert found["region"].tolist() == ["LP", None, "CA1"]
        assert found["channel"].tolist() == [2, -1, 0]
        assert found["probe"].tolist() == ["b", "probe00", "a"]
        assert found["label"].tolist() == ["good", "mua", "noise"]
        assert notes == []

    def test_spikes_are_put_in_order_and_a_probe_without_any_is_told(self):
        groups = [SimpleNamespace(name=name) for name in "abc"]
        units = Table(
            spike_times=ragged([3.0, 9.0], [], [1.0, 4.0, 5.0]),
            electrode_group=groups,
            quality=["good", "good", "mua"],
        )
        notes: list[str] = []
        nwb = SimpleNamespace(units=units, electrodes=None)
        found = _probes("e", Path("x.nwb"), nwb, notes)
        assert list(found) == ["a", "c"]
        assert "probe b: no spikes" in notes
        assert found["a"]["times"].tolist() == [3, 9]
        assert found["c"]["times"].tolist() == [1, 4, 5]
        assert found["c"]["clusters"].tolist() == [12, 12, 12]
        assert found["c"]["units"]["cluster_id"].tolist() == [12]
        assert "probe" not in found["c"]["units"]
