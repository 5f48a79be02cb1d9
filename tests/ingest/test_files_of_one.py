"""Files as ONE finds them: which of them count, whole or cut short; traces that come of them."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from one.alf.exceptions import ALFMultipleCollectionsFound, ALFObjectNotFound
from one.alf.path import ALFPath

from ibl_mtm.errors import SessionError
from ibl_mtm.ingest.through_one import behaviour
from ibl_mtm.ingest.through_one.files import find, load, place


@pytest.fixture
def session(tmp_path):
    folder = tmp_path / "lab" / "Subjects" / "KS014" / "2024-01-02" / "001" / "alf"
    folder.mkdir(parents=True)
    return folder


class One:
    """Gives paths, or raises."""

    def __init__(self, *paths, error=None):
        self.paths, self.error = [ALFPath(path) for path in paths], error

    def load_object(self, eid, obj, **asked):
        self.asked = asked
        if self.error is not None:
            raise self.error
        return self.paths


def save(path: Path, array, version=None) -> Path:
    with path.open("wb") as file:
        np.lib.format.write_array(file, np.asarray(array), version=version)
    return path


class TestFiles:
    def test_are_none_or_in_one_folder(self):
        assert find(One(error=ALFObjectNotFound("x")), "e", "wheel") == []
        with pytest.raises(SessionError, match="wheel: in several folders"):
            find(One(error=ALFMultipleCollectionsFound("alf, alf/task_00")), "e", "wheel")

    def test_are_asked_for_by_attribute_without_being_fetched(self, session):
        one = One(save(session / "licks.times.npy", np.zeros(3)))
        assert [path.name for path in find(one, "e", "licks", ("times",))] == ["licks.times.npy"]
        assert one.asked["attribute"] == ["times"]
        assert one.asked["download_only"]
        assert find(one, "e", "licks")
        assert one.asked["attribute"] is None

    def test_of_which_one_counts(self, session):
        paths = [save(session / f"{name}licks.times.npy", np.zeros(3)) for name in ("", "_ibl_")]
        told = r"alf/licks\.times\.npy and alf/_ibl_licks\.times\.npy: which one counts"
        with pytest.raises(SessionError, match=told):
            find(One(*paths), "e", "licks")

    @pytest.mark.parametrize("version", [(1, 0), (2, 0)])
    def test_must_be_whole_to_the_last_byte(self, session, version):
        path = save(session / "wheel.position.npy", np.arange(24.0).reshape(4, 6), version)
        assert find(One(path), "e", "wheel")
        whole = path.read_bytes()
        path.write_bytes(whole[:-1])
        told = f"wheel.position.npy: cut short at {len(whole) - 1} of {len(whole)} bytes"
        with pytest.raises(SessionError, match=told):
            find(One(path), "e", "wheel")

    def test_hold_numbers(self, session):
        path = session / "wheel.position.npy"
        np.save(path, np.array([{}], dtype=object))
        with pytest.raises(SessionError, match="holds Python objects, not numbers"):
            find(One(path), "e", "wheel")
        path.write_bytes(b"no array at all")
        with pytest.raises(SessionError, match=r"alf/wheel\.position\.npy: no NPY file"):
            find(One(path), "e", "wheel")

    def test_are_loaded_by_attribute(self, session):
        paths = [
            ALFPath(save(session / f"wheel.{name}.npy", [1.0, 2.0]))
            for name in ("position", "timestamps")
        ]
        assert {name: values.tolist() for name, values in load("e", paths).items()} == {
            "position": [1, 2],
            "timestamps": [1, 2],
        }
        assert load("e", []) == {}
        broken = ALFPath(session / "trials.table.pqt")
        broken.write_bytes(b"no table")
        with pytest.raises(SessionError, match=r"alf/trials\.table\.pqt: cannot be read"):
            load("e", [broken])
        assert place(broken) == "alf/trials.table.pqt"


class TestTrials:
    def newer(self, monkeypatch, *files, value=(7.0, 8.0)):
        """The table, and columns of such (attribute, revision)."""
        paths = [SimpleNamespace(attribute=name, revision=revision) for name, revision in files]
        monkeypatch.setattr(behaviour, "load", lambda eid, p: {p[0].attribute: np.array(value)})
        monkeypatch.setattr(behaviour, "place", lambda path: path.attribute)
        table = pd.DataFrame({"choice": [1.0, -1.0]})
        found = behaviour._with_newer_columns("e", table, paths, ("choice", "go"))
        return {name: found[name].tolist() for name in found}

    def test_columns_that_were_revised_after_the_table_count(self, monkeypatch):
        own, new = {"choice": [1, -1]}, {"choice": [7, 8]}
        assert self.newer(monkeypatch, ("table", ""), ("choice", "2024-01-01")) == new
        assert self.newer(monkeypatch, ("table", None), ("choice", None)) == own
        assert self.newer(monkeypatch, ("table", "2024-01-01"), ("choice", "2024-01-01")) == own
        assert self.newer(monkeypatch, ("table", "2024-01-01"), ("choice", "2023-01-01")) == own
        assert self.newer(monkeypatch, ("table", ""), ("quiescence", "2024-01-01")) == own
        assert self.newer(monkeypatch, ("choice", "2024-01-01")) == own  # of single columns
        two = (("table", "2023-01-01"), ("table", "2025-01-01"), ("choice", "2024-01-01"))
        assert self.newer(monkeypatch, *two) == own
        added = self.newer(monkeypatch, ("table", ""), ("go", "2024-01-01"))
        assert added == own | {"go": [7, 8]}

    def test_of_another_length_they_are_refused(self, monkeypatch):
        for value in ((1.0,), ((1.0, 2.0), (1.0, 2.0))):
            with pytest.raises(SessionError, match="values for 2 trials"):
                self.newer(monkeypatch, ("table", ""), ("choice", "2024"), value=value)


class TestTraces:
    @pytest.fixture
    def read(self, monkeypatch):
        """Calls what loads a trace with such files."""

        def read(action, content, **more):
            monkeypatch.setattr(behaviour, "find", lambda *a, **k: [])
            monkeypatch.setattr(behaviour, "load", lambda *a, **k: content)
            return action(None, "e", **more)

        return read

    def test_of_ones_own_are_named_by_object_and_attribute(self, read):
        content = {"diameter": np.array([3.0, 4.0]), "times": np.array([0.5, 1.5])}
        found = read(behaviour._load_own, content, name="signals.p", where="pupil.diameter")
        assert (found.times.tolist(), found.values.tolist()) == ([0.5, 1.5], [3, 4])
        with pytest.raises(SessionError, match="'pupil' is no OBJECT"):
            read(behaviour._load_own, content, name="signals.p", where="pupil")
        for lacks in content:
            left = {name: values for name, values in content.items() if name != lacks}
            with pytest.raises(SessionError, match=rf"signals\.p: pupil\.{lacks}: missing"):
                read(behaviour._load_own, left, name="signals.p", where="pupil.diameter")

    def test_of_a_wheel_need_both_files(self, read):
        for lacks in ("position", "timestamps"):
            content = {"position": np.zeros(2), "timestamps": np.arange(2.0)}
            del content[lacks]
            with pytest.raises(SessionError, match=rf"wheel\.{lacks}: missing"):
                read(behaviour._load_wheel, content, name="wheel")

    def test_of_licks_are_their_times(self, read):
        content = {"times": np.array([1.0, 1.0, 2.5])}
        assert read(behaviour._load_licks, content, name="licks").tolist() == [1, 2.5]
        with pytest.raises(SessionError, match=r"licks\.times: missing"):
            read(behaviour._load_licks, {}, name="licks")

    def test_a_wheel_that_stood_for_long_begins_at_once(self, read):
        """A jump of one tick after a stand of two seconds takes a millisecond, not two seconds."""
        times = np.concatenate([np.arange(0, 1, 0.01), np.arange(3, 4, 0.01)])
        content = {"timestamps": times, "position": np.repeat([0.0, 1.0], 100)}
        found = read(behaviour._load_wheel, content, name="wheel")
        assert found.times[0] == 0
        assert np.diff(found.times) == pytest.approx(1e-3)
        middle = (found.times > 1.5) & (found.times < 2.5)  # far from the filter's ends
        assert np.abs(found.values[middle]).max() < 1e-3
        assert found.times[np.abs(found.values).argmax()] == pytest.approx(3, abs=0.05)
        assert found.values.sum() * 1e-3 == pytest.approx(1, abs=0.01)

    def test_what_cannot_be_had_is_noted_and_nothing_else_fails(self):
        notes: list[str] = []

        def fails(error):
            def load_one(one, eid, name):
                raise error

            return load_one

        assert behaviour._attempt(fails(SessionError("e", "gone")), None, "e", "w", notes) is None
        assert behaviour._attempt(fails(KeyError("x")), None, "e", "w", notes) is None
        assert behaviour._attempt(lambda *a: a, None, "e", "w", notes) == (None, "e", "w")
        assert notes == ["gone", "w: 'x'"]


@pytest.mark.parametrize(
    ("n_times", "note"),
    [(5, []), (7, ["leftCamera: of 7 times the first 2 have no frame"]), (3, [])],
)
def test_frames_have_the_last_of_the_times(tmp_path, monkeypatch, n_times, note):
    for name, n in (("times", n_times), ("ROIMotionEnergy", 5)):
        np.save(tmp_path / f"leftCamera.{name}.npy", np.arange(float(n)))
    paths = sorted(tmp_path.iterdir())
    table = pd.DataFrame({"times": [1.0, 2, 3], "whiskerMotionEnergy": [4.0, np.nan, 6]})

    class Loader:
        def __init__(self, one, eid):
            self.motion_energy = {"leftCamera": table}

        def load_motion_energy(self, views):
            assert views == ["left"]

    monkeypatch.setattr(behaviour, "SessionLoader", Loader)
    monkeypatch.setattr(behaviour, "find", lambda *a, **k: paths)
    found = behaviour._load_whisker(None, "e", "left", notes := [])
    assert (found.times.tolist(), found.values.tolist()) == ([1, 3], [4, 6])
    assert notes == note
    for lacks in range(2):
        left = [paths[1 - lacks]]
        monkeypatch.setattr(behaviour, "find", lambda *a, left=left, **k: left)
        name = paths[lacks].name.split(".")[1]
        with pytest.raises(SessionError, match=rf"leftCamera\.{name}: missing"):
            behaviour._load_whisker(None, "e", "left", [])
