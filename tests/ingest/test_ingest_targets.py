"""Disks that are full and folders that are read-only: one line, exit code 2, and a report."""

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from alyx_server import PASSWORD, AlyxServer
from remote_ingest import alyx, assert_same

import ibl_mtm.ingest.job
from ibl_mtm.cli import main
from ibl_mtm.config.dataset import Dataset
from ibl_mtm.errors import UserError
from ibl_mtm.ingest.run import ingest
from ibl_mtm.ingest.targets import blocked


def full(path: str | None = None) -> OSError:
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)


def test_a_cache_s_disk_that_is_full_ends_it(server, experiment, tmp_path, monkeypatch):
    """It does not go on to download everything."""

    def write(*arguments, **options):
        raise full()

    monkeypatch.setattr(ibl_mtm.ingest.job, "write_session", write)
    report = ingest(Dataset(source=alyx(server)), "x", tmp_path / "cache.zarr")
    assert set(report.failed) == set(experiment.eids)
    assert "no space left for" in report.stopped
    assert "run the same command again" in report.stopped
    assert len({file.split("/")[2] for file in server.file_requests()}) == 1
    assert sum("not begun" in reason for reason in report.failed.values()) == 2
    written = json.loads((tmp_path / "ingest-report.json").read_text())
    assert written["stopped"] == report.stopped


def test_the_command_shows_the_report_and_one_line(experiment, tmp_path, monkeypatch, capsys):
    def write(*arguments, **options):
        raise full(str(tmp_path / "cache.zarr"))

    monkeypatch.setattr(ibl_mtm.ingest.job, "write_session", write)
    catalog = tmp_path / "catalog.yaml"
    catalog.write_text(f"datasets:\n  x:\n    source: {{kind: local, path: {experiment.root}}}\n")
    options = ["--catalog", str(catalog), "--cache", str(tmp_path / "cache.zarr")]
    monkeypatch.setattr(
        sys, "argv", ["ibl-mtm", "ingest", "x", *options, "--workers", "1", "--json"]
    )
    with pytest.raises(SystemExit) as stop:
        main()
    shown = capsys.readouterr()
    assert stop.value.code == 2
    assert len(json.loads(shown.out)["sessions"]) == 3
    assert f"ibl-mtm: no space left for {tmp_path / 'cache.zarr'}" in shown.err
    assert "Traceback" not in shown.err


def test_downloads_without_room(server, tmp_path, monkeypatch):
    def get(*arguments, **options):
        raise full()

    monkeypatch.setattr("ibl_mtm.ingest.alyx.download._receive", get)
    report = ingest(Dataset(source=alyx(server)), "x", tmp_path / "cache.zarr")
    assert "no space left for" in report.stopped
    assert str(tmp_path / "cache.one") in report.stopped


@pytest.mark.parametrize("place", ["a file", "a file above"])
def test_a_cache_where_none_can_be(experiment, tmp_path, place):
    (tmp_path / "file").touch()
    cache = tmp_path / "file" if place == "a file" else tmp_path / "file" / "cache.zarr"
    with pytest.raises(UserError, match="file"):
        ingest(experiment.dataset(), "x", cache)


def test_permission_to_read_a_recording_is_that_session_s_matter(tmp_path):
    denied = PermissionError(errno.EACCES, "Permission denied", str(tmp_path / "ONE" / "x.npy"))
    assert blocked(denied, tmp_path / "cache.zarr") is None
    denied = PermissionError(errno.EACCES, "Permission denied", str(tmp_path / "cache.zarr" / "x"))
    assert "Permission denied; give another" in str(blocked(denied, tmp_path / "cache.zarr"))


def mounts() -> bool:
    """Whether a read-only file system can be had here."""
    command = ["unshare", "-m", "sh", "-c", "mount -t tmpfs none /mnt"]
    return bool(shutil.which("unshare")) and not subprocess.run(command, check=False).returncode


@pytest.mark.slow
@pytest.mark.skipif(not mounts(), reason="needs to mount a file system")
class TestAReadOnlyFileSystem:
    def run(self, tmp_path: Path, server: AlyxServer | None, copied: list[str], cache: str) -> str:
        (tmp_path / "ro").mkdir(exist_ok=True)
        command = f"{sys.executable} -m ibl_mtm.cli ingest x --catalog ro/c.yaml --cache {cache}"
        lines = [
            "mount -t tmpfs none ro",
            *(f"cp -r {name} ro/" for name in copied),
            "mount -o remount,ro ro",
            f"{command} --workers 1; echo rc $?",
        ]
        done = subprocess.run(
            ["unshare", "-m", "sh", "-c", "; ".join(lines)],
            capture_output=True,
            text=True,
            check=True,
            cwd=tmp_path,
            env=os.environ | {"IBL_MTM_PASSWORD": PASSWORD},
        )
        return done.stdout + done.stderr

    def test_cannot_take_a_new_cache(self, experiment, tmp_path):
        (tmp_path / "c.yaml").write_text(
            f"datasets:\n  x:\n    source: {{kind: local, path: {experiment.root}}}\n"
        )
        shown = self.run(tmp_path, None, ["c.yaml"], "ro/new.zarr")
        assert "rc 2" in shown
        assert "ibl-mtm: cannot write" in shown
        assert "Read-only file system" in shown
        assert "Traceback" not in shown

    def test_with_a_complete_cache_and_downloads_is_as_good(self, server, experiment, tmp_path):
        source = alyx(server, path=tmp_path / "files")
        assert not ingest(Dataset(source=source), "x", tmp_path / "cache.zarr").failed
        values = source.model_dump(mode="json", exclude_none=True) | {"path": "files"}
        (tmp_path / "c.yaml").write_text(json.dumps({"datasets": {"x": {"source": values}}}))
        copied = ["c.yaml", "files", "cache.zarr"]
        assert "3 complete" in self.run(tmp_path, server, copied, "ro/cache.zarr")
        shown = self.run(tmp_path, server, copied, "other.zarr")
        assert "3 ingested" in shown, shown
        assert_same(tmp_path / "other.zarr", tmp_path / "cache.zarr", experiment.eids)
