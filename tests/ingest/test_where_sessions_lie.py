"""Whose a session is, from where its files lie; which of those that are there are taken."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from ibl_mtm.config.dataset import Dataset, SessionEntry
from ibl_mtm.config.sources import LocalSource
from ibl_mtm.errors import SessionError, UserError
from ibl_mtm.ingest.on_disk.layout import dangling, scan, spikes_of_another_name
from ibl_mtm.ingest.own.files import read_array, read_signals, read_table
from ibl_mtm.ingest.own.phy import _session_of
from ibl_mtm.ingest.own.places import Places, about_of, gather, make_about
from ibl_mtm.ingest.recording import session_id
from ibl_mtm.ingest.sources.own import _sessions
from ibl_mtm.ingest.sources.source import Search


@pytest.mark.parametrize(
    ("path", "about"),
    [
        ("/data/KS014/2024-01-02", ("KS014", "2024-01-02", "here", 1)),
        ("/data/KS014/2024-01-02/003", ("KS014", "2024-01-02", "here", 3)),
        ("/data/KS014/2024-01-02/003/alf/probe00", ("KS014", "2024-01-02", "here", 3)),
        ("/data/KS014/2024-01-02/ephys", ("KS014", "2024-01-02", "here", 1)),
        ("/data/KS014_2024-01-02", ("KS014", "2024-01-02", "here", 1)),
        ("/data/KS_014_2024-01-02_4/probe", ("KS_014", "2024-01-02", "here", 4)),
        ("/data/lab_a/Subjects/KS014/2024-01-02/002", ("KS014", "2024-01-02", "lab_a", 2)),
        ("/lab_a/Subjects/KS014/2024-01-02", ("KS014", "2024-01-02", "lab_a", 1)),
        ("/Subjects/KS014/2024-01-02", ("KS014", "2024-01-02", "here", 1)),
        ("/data/old/2023-01-01/new/2024-01-02", ("new", "2024-01-02", "here", 1)),
        ("/data/old/2023-01-01/KS_2024-01-02", ("KS", "2024-01-02", "here", 1)),
    ],
)
def test_folders_tell_whose_a_session_is(path, about):
    found = about_of(Path(path), "here")
    assert (found.subject, found.date, found.lab, found.number) == about
    assert found.eid == session_id(about[2], about[0], about[1], str(about[3]))


def test_folders_without_a_date_tell_nothing_and_a_lab_is_not_needed():
    assert about_of(Path("/data/KS014/20240102")) is None
    assert about_of(Path("/data/KS014/2024-01-02")).lab == "lab"


def test_ids_stay_what_they_are():
    # Caches of different days know a session by it.
    for number in ("001", "1"):
        found = session_id("lab", "KS014", "2024-01-02", number)
        assert found == "9ef0f685-4641-375e-b412-02d725d31cb9"


def test_the_second_of_one_name_is_left_aside():
    one, other = make_about("a", "2024-01-02"), make_about("a", "2024-01-02", number=2)
    places = gather({Path("x"): one, Path("y"): None, Path("z"): one, Path("w"): other}, "who?")
    assert {eid: place.path.name for eid, place in places.found.items()} == {
        one.eid: "x",
        other.eid: "w",
    }
    told = {"y": "who?", "z": "subject, date and number are those of x"}
    assert places.left_aside == told


def test_sessions_of_a_folder_are_found_with_their_lab(tmp_path):
    for folder in (
        "lab_a/Subjects/m2/2024-01-02/001/alf",
        "lab_a/Subjects/m1/2024-01-02/010",
        "x.lab-b/Subjects/m1/2024-01-03/001",
        "m3/2024-01-02/001",
        "Subjects/m4/2024-01-02/001",
        "up/lab/Subjects/m5/2024-01-02/001",
        "group/m6/2024-01-02/001",
        "lab/Subjects/m 7/2024-01-02/001",
        "lab/Subjects/m+8/2024-01-02/001",
        "lab/Subjects/m9/2024-01-02/1",
        "2024-01-02/001",
        "a/b/c/d/e/f/g/h/i/m/2024-01-02/001",  # too deep to be one
        "lab/Subjects/m1/2024-01-02/first",
    ):
        (tmp_path / folder).mkdir(parents=True)
    found = scan(tmp_path)
    listed = [(place.lab, place.subject, place.date, place.number) for place in found.sessions]
    assert sorted(listed) == [
        ("", "m3", "2024-01-02", "001"),
        ("b", "m1", "2024-01-03", "001"),  # as ONE reads it: letters, digits, underscores
        ("lab_a", "m1", "2024-01-02", "010"),
        ("lab_a", "m2", "2024-01-02", "001"),
    ]
    assert [place.folder.name for place in found.sessions if place.number == "010"] == ["010"]
    why = {folder.partition("/2024")[0]: reason for folder, reason in found.left_aside.items()}
    assert set(why) == {
        "Subjects/m4", "up/lab/Subjects/m5", "group/m6", "lab/Subjects/m 7", "lab/Subjects/m+8",
        "lab/Subjects/m9", "2024-01-02/001",
    }  # fmt: skip
    assert f"one level too low: {tmp_path.parent} would be" in why["Subjects/m4"]
    assert f"too high: {tmp_path / 'up'} would be" in why["up/lab/Subjects/m5"]
    assert why["group/m6"].startswith("no folder 'Subjects' above m6")
    assert why["lab/Subjects/m 7"].startswith("a blank in the name of the subject, 'm 7'")
    assert why["lab/Subjects/m+8"].startswith("'+' in the name of the subject")
    assert why["lab/Subjects/m9"] == "number '1' without zeros: ONE expects 001"
    assert why["2024-01-02/001"].startswith("no folder of a subject above 2024-01-02")


def test_links_to_nothing_and_spikes_of_other_names(tmp_path):
    assert spikes_of_another_name(tmp_path) is None
    for name in ("spikes.times.npy", "notes.txt", "_ibl_wheel.position.npy"):
        path = tmp_path / "alf" / "p" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(tmp_path / "gone")
    (tmp_path / "there.npy").touch()
    (tmp_path / "alf" / "wheel.timestamps.npy").symlink_to(tmp_path / "there.npy")
    assert dangling(tmp_path) == ["alf/p/_ibl_wheel.position.npy", "alf/p/spikes.times.npy"]
    (tmp_path / "alf" / "my_spikes_times.npy").touch()
    assert spikes_of_another_name(tmp_path) == "alf/my_spikes_times.npy"


@pytest.mark.parametrize(
    ("shape", "flat", "found"),
    [
        ((4, 1), True, (4,)),
        ((1, 4), True, (4,)),
        ((1, 1, 4), True, (4,)),
        ((2, 2), True, (2, 2)),
        ((4, 1), False, (4, 1)),
        ((4,), True, (4,)),
    ],
)
def test_a_row_or_a_column_is_an_array_of_one_dimension(tmp_path, shape, flat, found):
    np.save(tmp_path / "x.npy", np.arange(4).reshape(shape))
    assert read_array("e", tmp_path / "x.npy", flat=flat).shape == found


def test_arrays_of_objects_are_not_loaded(tmp_path):
    np.save(tmp_path / "x.npy", np.array([{}], dtype=object))
    with pytest.raises(SessionError, match=r"x\.npy: cannot be read"):
        read_array("e", tmp_path / "x.npy")


def test_tables_by_their_endings(tmp_path):
    table = pd.DataFrame({"a, b": [1, 2], "c": ["x", "y"]})
    table.to_csv(tmp_path / "t.csv", index=False)
    table.to_csv(tmp_path / "t.tsv", index=False, sep="\t")
    table.to_parquet(tmp_path / "t.parquet")
    table.to_parquet(tmp_path / "t.pqt")
    for name in ("t.csv", "t.tsv", "t.parquet", "t.pqt"):
        pd.testing.assert_frame_equal(read_table("e", tmp_path / name), table, check_dtype=False)
    for name, told in (("u.csv", "missing"), ("t.txt", "no table"), ("b.pqt", "cannot be read")):
        (tmp_path / "b.pqt").write_bytes(b"no parquet")
        with pytest.raises(SessionError, match=f"{name}: {told}"):
            read_table("e", tmp_path / name)
    notes: list[str] = []
    found = read_signals("e", tmp_path, {"p": "t.csv", "q": "no.csv"}, notes)
    assert list(found) == ["p"]
    assert notes == ["signal q: no.csv: missing"]


def test_a_session_of_phy_is_where_its_trials_or_date_are(tmp_path):
    root = tmp_path / "r"
    deep = root / "KS" / "2024-01-02" / "002" / "ks25"
    deep.mkdir(parents=True)
    assert _session_of(deep, root, "trials.csv") == deep.parent
    assert _session_of(root / "KS_2024-01-02_3" / "p", root, "t") == root / "KS_2024-01-02_3"
    assert _session_of(root / "KS" / "2024-01-02" / "p", root, "t") == root / "KS" / "2024-01-02"
    assert _session_of(root / "a" / "b", root, "trials.csv") == root
    assert _session_of(root / "a" / "7", root, "trials.csv") == root  # a number of no date
    (root / "KS" / "trials.csv").touch()
    assert _session_of(root / "KS" / "p", root, "trials.csv") == root / "KS"


def eid_of(name: str) -> str:
    return f"{name * 8}-{name * 4}-4{name * 3}-8{name * 3}-{name * 12}"


class TestWhichAreChosen:
    def search(self, path: Path = Path("x"), listed=(), **more) -> Search:
        entries = tuple(SessionEntry(eid=eid_of(name)) for name in listed) or None
        dataset = Dataset(source=LocalSource(kind="local", path=path), sessions=entries)
        return Search(dataset, "mine", Path("c.zarr"), **more)

    def test_all_or_the_first_of_those_that_are_known(self):
        assert self.search().choose(["a", "b", "c"]) == ["a", "b", "c"]
        assert self.search(limit=2).choose(["a", "b", "c"]) == ["a", "b"]
        assert self.search(limit=1).choose(["a", "b", "c"], ["b", "c"]) == ["b"]
        assert self.search().choose(["a"], []) == []

    def test_those_that_are_asked_for_once_each_in_that_order(self):
        asked = self.search(sessions=["c", "a", "c", "b"])
        assert asked.choose(["a", "b", "c"], ["b"]) == ["c", "a", "b"]
        assert self.search(sessions=["c", "a"], limit=1).choose(["a", "c"]) == ["c"]
        with pytest.raises(
            UserError, match=r"^no session 'c' in dataset 'mine'; it has 2, the fir"
        ):
            asked.choose(["a", "b"])

    def test_of_recordings_of_any_lab(self):
        a, b, c, d, x = map(eid_of, "abcdf")
        places = Places({eid: SimpleNamespace() for eid in (a, b, c, d)}, {"z": "no date"})
        assert _sessions(self.search(), places).eids == [a, b, c, d]
        assert _sessions(self.search(), places).left_aside == {"z": "no date"}
        assert _sessions(self.search(listed="b"), places).eids == [b]
        told = rf"lists session {x}, which x does not have; its 4 are {a}, {b}, {c}, …$"
        with pytest.raises(UserError, match=told):
            _sessions(self.search(listed="af"), places)
        three = Places({eid: SimpleNamespace() for eid in (a, b, c)}, {})
        with pytest.raises(UserError, match=rf"its 3 are {a}, {b}, {c}$"):
            _sessions(self.search(listed="f"), three)
        # What is asked for is there, whatever else the catalog lists.
        asked = self.search(listed="af", sessions=[a])
        assert _sessions(asked, places).eids == [a]
        with pytest.raises(UserError, match=r"^no session in x: z: no date$"):
            _sessions(self.search(), Places({}, {"z": "no date"}))
        with pytest.raises(UserError, match=r"^no session in x$"):
            _sessions(self.search(), Places({}, {}))
