"""What there is of a session, in tables, folders and files, and what is told of the rest."""

from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

from ibl_mtm.errors import SessionError
from ibl_mtm.ingest.alyx import remote_session
from ibl_mtm.ingest.alyx.absent import check_probes
from ibl_mtm.ingest.alyx.release import RemoteFile
from ibl_mtm.ingest.on_disk.folder import Folder
from ibl_mtm.ingest.own.nwb import _place
from ibl_mtm.ingest.sources.bwm import ReleasedSession
from ibl_mtm.ingest.sources.own import OwnSession


def remote(path: str) -> RemoteFile:
    return RemoteFile("id", path, "https://files.org", None, None)


class TestWhatIsFetched:
    """A file that is needed, two without which it goes, and two of another revision to spare."""

    FILES = tuple(
        RemoteFile("i", f"alf/{'probe00/' * (name == 'a')}{name}.npy", "u", 1, None,
                   spare=name in "de")
        for name in "abcde"
    )  # fmt: skip

    @pytest.fixture
    def fetch(self, monkeypatch):
        def fetch(offline, lacking, will_do):
            asked = []

            def download(files, folder, seen, on_bytes):
                asked.append("".join(Path(f.path).stem for f in files))
                return {
                    f.path: f"{f.path}: HTTP 404" for f in files if Path(f.path).stem in lacking
                }

            monkeypatch.setattr(
                remote_session,
                "missing",
                lambda files, *a: [f for f in files if Path(f.path).stem in lacking],
            )
            monkeypatch.setattr(remote_session, "left_will_do", lambda files, folder: will_do)
            record = SimpleNamespace(files=self.FILES, eid="e")
            own = SimpleNamespace(record=record, offline=offline, _download=download)
            files, notes = remote_session.RemoteSession._fetch(own, Path(), Path(), None)
            return "".join(Path(f.path).stem for f in files), notes, asked

        return fetch

    @pytest.mark.parametrize("will_do", [True, False])
    def test_offline_it_is_what_is_there(self, fetch, will_do):
        files, (note,), asked = fetch(True, "be", will_do)
        assert files == ("ac" if will_do else "acd")
        assert note == "alf/b.npy: not on disk, or not as it was"
        assert asked == []
        assert fetch(True, "e", will_do)[1] == []
        with pytest.raises(
            SessionError, match=r"alf/probe00/a\.npy is not on disk.*without --offline"
        ):
            fetch(True, "ab", will_do)

    @pytest.mark.parametrize("will_do", [True, False])
    def test_else_what_the_server_has(self, fetch, will_do):
        files, notes, asked = fetch(False, "be", will_do)
        assert files == ("ac" if will_do else "acd")
        assert asked == (["abc"] if will_do else ["abc", "de"])
        lost = "b" if will_do else "be"
        assert notes == [f"alf/{name}.npy: HTTP 404; left out" for name in lost]


def test_sessions_that_are_in_tables_alone_and_links_to_nothing_are_told(tmp_path):
    probe = tmp_path / "m" / "linked" / "alf" / "probe00"
    probe.mkdir(parents=True)
    (probe / "spikes.times.npy").symlink_to(tmp_path / "nowhere")
    (tmp_path / "m" / "empty").mkdir()
    paths = {"none": None, **{name: tmp_path / "m" / name for name in ("gone", "linked", "empty")}}
    folder = SimpleNamespace(root=tmp_path, one=lambda: SimpleNamespace(eid2path=paths.get))
    table = pd.DataFrame({"has_spikes": [False] * 4 + [True]}, index=[*paths, "whole"])
    found = Folder.without_spikes(folder, table)
    absent = "not on disk, though the cache tables list it"
    linked = found.pop("m/linked")
    assert found == {
        "none": absent,
        str(tmp_path / "m" / "gone"): absent,
        "m/empty": "no spikes (alf/probe*/spikes.times.npy)",
    }
    assert linked.endswith("spikes.times.npy is a link to nothing; fetch its file")


def test_qualities_of_insertions_are_in_a_column_or_in_what_else_is_told_of_them():
    table = pd.DataFrame({"name": ["a", "b", "c", "d"], "id": [1, 2, 3, 4]})
    folder = SimpleNamespace(_insertions=lambda eid: table)
    assert Folder.insertions(folder, "e") == {"a": "1", "b": "2", "c": "3", "d": "4"}
    assert Folder.probe_qc(folder, "e") == {}
    table["json"] = ['{"qc": "CRITICAL"}', {"qc": "PASS"}, None, "{}"]
    assert Folder.probe_qc(folder, "e") == {"a": "CRITICAL", "b": "PASS"}
    table["qc"] = ["PASS", "FAIL", "PASS", "NOT_SET"]
    assert Folder.probe_qc(folder, "e")["b"] == "FAIL"


def test_what_is_recorded_is_not_called_simulated(tmp_path):
    released = ReleasedSession("e", tmp_path, "here")
    assert (released.simulated, released.bytes_missing()) == (False, 0)
    assert (released.notes, released.targets) == ((), ())
    assert OwnSession.simulated is False
    assert remote_session.RemoteSession.simulated is False


def test_places_in_a_file_are_named_from_the_outermost_down():
    root = SimpleNamespace(name="root", parent=None)
    module = SimpleNamespace(name="behavior", parent=root)
    wheel = SimpleNamespace(name="wheel", parent=SimpleNamespace(name="traces", parent=module))
    assert _place(wheel) == "behavior/traces/wheel"
    assert _place(SimpleNamespace(name="alone", parent=None)) == "alone"


@pytest.mark.parametrize(
    ("there", "probes", "wanted", "told"),
    [
        ("0", "0", True, []),
        ("01", "0", False, []),
        ("0", "02", False, ["alf/probe02: no spikes; spikes.times.npy is not in the database"]),
        ("0", "021", True, "alf/probe01: no spikes; spikes.times.npy is not in the database"),
        ("", "0", True, "alf/probe00: no spikes"),
        ("", "0", False, r"no spikes in any folder alf/probe\*: spikes.times.npy is not in"),
        ("", "", False, r"no spikes in any folder alf/probe\*: spikes.times.npy is not in"),
    ],
)
def test_probes_without_spikes_are_told_and_refused_where_they_are_asked_for(
    there, probes, wanted, told
):
    files = [remote(f"alf/probe0{n}/pykilosort/spikes.times.npy") for n in there]
    files.append(remote("alf/probe02/pykilosort/clusters.channels.npy"))
    asked = [f"probe0{n}" for n in probes]
    if isinstance(told, list):
        assert check_probes("e", {}, files, asked, wanted) == told
    else:
        with pytest.raises(SessionError, match=told):
            check_probes("e", {}, files, asked, wanted)
