"""What cannot be written is told in one line before anything is computed."""

import errno
import os

import pytest
from synthetic import make_regions, make_session
from synthetic_run import Size, write_run

from ibl_mtm.cache.store import create_cache, write_session
from ibl_mtm.disk import targets
from ibl_mtm.disk.replace import replace_file
from ibl_mtm.errors import UserError

#: A run of which a report takes little time.
SMALL = Size(sessions=1, units=8, bins=20, examples=1, whisker=False, regions=("VISa",))


@pytest.fixture
def read_only(tmp_path, monkeypatch):
    """A folder on a file system that takes no files; permissions do not bind the super-user."""
    folder = tmp_path / "ro"
    folder.mkdir()
    undisturbed = targets.TemporaryFile

    def temporary_file(dir):
        if folder in (dir, *dir.parents):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        return undisturbed(dir=dir)

    monkeypatch.setattr(targets, "TemporaryFile", temporary_file)
    return folder


def test_a_folder_is_tried_where_it_or_one_above_it_is(tmp_path, read_only):
    targets.check_folder(tmp_path / "a" / "b")
    assert not (tmp_path / "a").exists()
    assert list(tmp_path.iterdir()) == [read_only]
    for path in (read_only, read_only / "a" / "b"):
        with pytest.raises(UserError, match=f"cannot write {path}: Read-only file system"):
            targets.check_folder(path)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is a file; give the name of a folder"):
        targets.check_folder(tmp_path / "file" / "below")
    with pytest.raises(UserError, match="it is a folder; give the name of a file"):
        targets.check_file(tmp_path)


def test_every_command_says_so_in_one_line(run, tmp_path, read_only):
    cache = tmp_path / "cache.zarr"
    create_cache(cache)
    write_session(cache, make_session(n_units=15, n_bins=20, seed=1), make_regions())
    create_cache(read_only / "cache.zarr")
    scored = write_run(tmp_path / "scored", size=SMALL)
    (tmp_path / "file").write_text("")
    options = ["--cache", cache]
    baseline = ["eval", "--baseline", "unit_mean", *options, "--task", "co_smoothing"]
    for arguments in (
        ["train", "mtm_small", *options, "--run", read_only / "x"],
        ["train", "mtm_small", *options, "--run", tmp_path / "file"],
        [*baseline, "--out", read_only / "x"],
        [*baseline, "--out", tmp_path / "file"],
        ["report", scored, "--out", read_only / "r.html"],
        ["report", scored, "--out", read_only],
        ["check", read_only / "cache.zarr", "--repair"],
        ["demo", "--out", tmp_path / "file"],
    ):
        code, out, err = run(*arguments)
        assert (code, out) == (2, ""), arguments
        (line,) = [line for line in err.splitlines() if line.startswith("ibl-mtm:")]
        assert "cannot write" in line, line
        assert "Traceback" not in err


def test_a_report_of_runs_that_cannot_be_written_is_made_without_their_files(
    run, tmp_path, read_only
):
    scored = write_run(read_only / "scored", size=SMALL)
    assert run("report", scored, "--out", tmp_path / "r.html")[0] == 0
    assert not (scored / "figures").exists()


def test_a_report_replaces_reports_alone(run, tmp_path, monkeypatch):
    monkeypatch.setattr("ibl_mtm.report.page.save_figure", lambda figure, path: "<svg></svg>")
    scored = write_run(tmp_path / "scored", size=SMALL)
    page = tmp_path / "thesis.html"
    page.write_text("<html><title>My thesis</title></html>")
    code, _, err = run("report", scored, "--out", page)
    assert code == 2
    assert "exists and is no report" in err
    assert "My thesis" in page.read_text()
    for _ in range(2):
        assert run("report", scored, "--out", tmp_path / "r.html")[0] == 0


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    file = tmp_path / "file"
    replace_file(file, lambda path: path.write_text("whole"))

    def half(path):
        path.write_text("ha")
        raise OSError(errno.ENOSPC, "full")

    with pytest.raises(OSError, match="full"):
        replace_file(file, half)
    assert file.read_text() == "whole"
    assert list(tmp_path.iterdir()) == [file]
