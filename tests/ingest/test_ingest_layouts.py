"""Folders that people have: what ONE cannot read in them is told, and nothing lost in silence."""

import json
import os
import re
import shutil
import sys
from pathlib import Path

import pytest

from ibl_mtm.cli import main
from ibl_mtm.config.dataset import Dataset
from ibl_mtm.config.sources import LocalSource
from ibl_mtm.ingest.run import ingest

SESSION = "lab/Subjects/mouse/2024-01-01/001"

PLACES = {
    # where a session lies below `root`, the source's path, and what is said of it
    "a blank in the subject": ("lab/Subjects/KS 014/2024-01-01/001", ".", "a blank in the name"),
    "a bracket in the subject": ("lab/Subjects/KS[1]/2024-01-01/001", ".", r"'\[' in the name"),
    "a number without zeros": ("lab/Subjects/mouse/2024-01-01/1", ".", "expects 001"),
    "no Subjects": ("lab/mouse/2024-01-01/001", ".", "no folder 'Subjects' above mouse"),
    "too high": (f"alyx.org/{SESSION}", ".", r"too high: .*/alyx\.org would be right"),
    "two levels too high": (f"a/b/{SESSION}", ".", r"too high: .*/a/b would be right"),
    "too low": (SESSION, "lab", "one level too low: .* would be right"),
    "far too low": (SESSION, "lab/Subjects/mouse", "too low"),
}


def local(path: Path) -> Dataset:
    return Dataset(source=LocalSource(kind="local", path=path))


def put_session(experiment, root: Path, place: str, index: int = 0) -> Path:
    shutil.copytree(experiment.alf(index), root / place / "alf")
    return root / place / "alf"


@pytest.mark.parametrize("name", PLACES)
def test_a_session_in_the_wrong_place(experiment, tmp_path, name):
    place, path, reason = PLACES[name]
    put_session(experiment, tmp_path / "ONE", place)
    report = ingest(local(tmp_path / "ONE" / path), "x", tmp_path / "cache.zarr")
    assert report.sessions == {}
    ((folder, why),) = report.left_aside.items()
    assert (tmp_path / "ONE" / path / folder).is_dir()
    assert re.search(reason, why)
    assert not (tmp_path / "cache.zarr").exists()


def test_two_subjects_whose_names_end_alike_are_never_one(experiment, tmp_path):
    for subject in ("KS 014", "MB 014", "014"):
        put_session(experiment, tmp_path / "ONE", f"lab/Subjects/{subject}/2024-01-01/001")
    report = ingest(local(tmp_path / "ONE"), "x", tmp_path / "cache.zarr")
    assert [outcome.status for outcome in report.sessions.values()] == ["ingested"]
    assert {folder.split("/")[2] for folder in report.left_aside} == {"KS 014", "MB 014"}


@pytest.fixture
def mixed(experiment, tmp_path):
    """A sound session, and others that are left aside."""
    root = tmp_path / "ONE"
    put_session(experiment, root, SESSION)
    sorting = put_session(experiment, root, "lab/Subjects/m2/2024-01-01/001") / "probe00/pykilosort"
    for name in ("times", "clusters"):
        os.rename(sorting / f"spikes.{name}.npy", sorting / f"_av_spikes.{name}.npy")
    shutil.rmtree(put_session(experiment, root, "lab/Subjects/m3/2024-01-01/001") / "probe00")
    put_session(experiment, root, "lab/Subjects/m 4/2024-01-01/001")
    return root


def test_sessions_left_aside_are_told_with_the_reason(mixed, tmp_path, monkeypatch, capsys):
    catalog = tmp_path / "catalog.yaml"
    catalog.write_text("datasets:\n  mine:\n    source: {kind: local, path: ONE}\n")
    options = ["--catalog", str(catalog), "--cache", str(tmp_path / "cache.zarr")]
    shown = {}
    for kind, more in (("text", []), ("json", ["--json", "--overwrite"])):
        monkeypatch.setattr(sys, "argv", ["ibl-mtm", "ingest", "mine", *options, *more])
        with pytest.raises(SystemExit) as stop:
            main()
        assert not stop.value.code
        shown[kind] = capsys.readouterr().out
    assert "3 sessions left aside:" in shown["text"]
    left_aside = json.loads(shown["json"])["left_aside"]
    assert {folder.split("/")[2] for folder in left_aside} == {"m2", "m3", "m 4"}
    assert "_av_spikes" in left_aside["lab/Subjects/m2/2024-01-01/001"]
    assert "no spikes" in left_aside["lab/Subjects/m3/2024-01-01/001"]
    for folder, why in left_aside.items():
        assert f"{folder}: {why}" in shown["text"]
    report = json.loads((tmp_path / "ingest-report.json").read_text())
    assert report["left_aside"] == left_aside


def test_a_folder_that_may_not_be_read(experiment, tmp_path, monkeypatch):
    put_session(experiment, tmp_path / "ONE", SESSION)
    put_session(experiment, tmp_path / "ONE", "lab/Subjects/secret/2024-01-01/001")
    scandir = os.scandir

    def refuse(path):
        if isinstance(path, (str, Path)) and Path(path).name == "secret":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    report = ingest(local(tmp_path / "ONE"), "x", tmp_path / "cache.zarr")
    assert report.left_aside == {"lab/Subjects/secret": "cannot be read (Permission denied)"}
    assert len(report.sessions) == 1


class TestALinkToNothing:
    """As DataLad and git-annex leave them where content was not fetched."""

    def ingest(self, experiment, tmp_path, name):
        root = tmp_path / "ONE"
        put_session(experiment, root, SESSION)
        alf = put_session(experiment, root, "lab/Subjects/mouse/2024-01-02/001")
        (alf / name).unlink(missing_ok=True)
        (alf / name).symlink_to("../../.git/annex/objects/not-fetched")
        return ingest(local(root), "x", tmp_path / "cache.zarr")

    def test_that_is_not_needed(self, experiment, tmp_path):
        report = self.ingest(experiment, tmp_path, "probe00/pykilosort/spikes.amps.npy")
        assert [o.status for o in report.sessions.values()] == ["ingested"] * 2
        assert not any("link" in note for o in report.sessions.values() for note in o.notes)

    @pytest.mark.parametrize(
        "name", ["_ibl_trials.table.pqt", "probe00/pykilosort/spikes.clusters.npy"]
    )
    def test_that_is_needed_refuses_that_session_alone(self, experiment, tmp_path, name):
        report = self.ingest(experiment, tmp_path, name)
        (reason,) = report.failed.values()
        assert f"alf/{name}: a link to a file that is not here" in reason
        assert len(report.sessions) == 2

    def test_that_would_be_welcome_is_noted(self, experiment, tmp_path):
        report = self.ingest(experiment, tmp_path, "_ibl_wheel.position.npy")
        assert not report.failed
        notes = [note for o in report.sessions.values() for note in o.notes]
        assert any("wheel.position.npy: a link to a file" in note for note in notes)
