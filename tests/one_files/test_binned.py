"""Binned counts as files of ONE: what a cache holds of them is what was in the file."""

import sys

import numpy as np
import pandas as pd
import pytest
from binned_sessions import write_binned

from ibl_mtm.cache.cache import open_cache
from ibl_mtm.config.dataset import Align, Dataset
from ibl_mtm.config.sources import LocalSource
from ibl_mtm.ingest.recording import session_id
from ibl_mtm.ingest.run import ingest
from ibl_mtm.one_files import binned
from ibl_mtm.one_files.binned import write_binned_session
from ibl_mtm.one_files.regions import regions_of
from ibl_mtm.sessions.schema import MISSING

DATE = "2017-12-07"


def ingested(root, cache):
    dataset = Dataset(
        source=LocalSource(kind="local", path=root),
        align=Align(event="stimOn_times", window=(0.0, 0.4), bin=0.01),
    )
    report = ingest(dataset, "binned", cache)
    assert not report.failed
    return open_cache(cache)


def files_below(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def call(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["binned", *map(str, arguments)])
    binned.main()


@pytest.mark.parametrize("start", [0.005, 2600.0])
def test_counts_and_regions_come_back_exactly(tmp_path, start):
    """Also where the first trial is at the clock's zero, or one begins where the last one ends."""
    time = start + np.r_[0.0, 0.4, 0.8, 2.0 + np.cumsum(np.full(37, 1.23))]
    arrays = write_binned(tmp_path / "a.npz", "Mouse", DATE, time=time)
    write_binned_session(tmp_path / "a.npz", tmp_path / "one", "somelab", 3)
    cache = ingested(tmp_path / "one", tmp_path / "cache.zarr")
    (eid,) = cache
    assert eid == session_id("somelab", "Mouse", DATE, "003")
    ds = cache[eid]
    assert ds.attrs["subject"] == "Mouse"
    np.testing.assert_array_equal(ds.spikes.values, arrays["spikes"])
    assert ds.region.values.tolist() == arrays["region"].tolist()
    assert ds.beryl.values.tolist() == regions_of(arrays["region"], "Beryl").tolist()


def test_side_and_choice_of_each_trial(tmp_path):
    """Worked out by hand: the side is that of the higher contrast, and so is a rewarded choice.

    The IBL's choice is 1 for a stimulus on the left, -1 for one on the right.
    """
    trials = pd.DataFrame(
        # left, right, feedback, contrastLeft, contrastRight, choice, side in the cache
        [
            (1.0, 0.0, 1, 1.0, np.nan, 1, -1),
            (0.25, 0.5, 1, np.nan, 0.5, -1, 1),
            (0.5, 0.25, -1, 0.5, np.nan, np.nan, -1),
            (0.0, 1.0, -1, np.nan, 1.0, np.nan, 1),
            (0.5, 0.5, 1, np.nan, np.nan, np.nan, MISSING),
            (0.0, 0.0, 1, np.nan, np.nan, np.nan, MISSING),
        ],
        columns=["left", "right", "feedback", "contrastLeft", "contrastRight", "choice", "side"],
    )
    write_binned(
        tmp_path / "a.npz",
        "Mouse",
        DATE,
        trials=len(trials),
        contrast_left=trials.left.to_numpy(),
        contrast_right=trials.right.to_numpy(),
        feedback=trials.feedback.to_numpy(float),
    )
    folder = write_binned_session(tmp_path / "a.npz", tmp_path / "one", "somelab", 1)
    table = pd.read_parquet(folder / "alf" / "_ibl_trials.table.pqt")
    for name in ("contrastLeft", "contrastRight", "choice"):
        np.testing.assert_array_equal(table[name], trials[name].to_numpy(float), name)
    np.testing.assert_array_equal(table.feedbackType, trials.feedback)
    unknown = {"probabilityLeft", "firstMovement_times", "response_times", "feedback_times"}
    assert not unknown & set(table)
    cache = ingested(tmp_path / "one", tmp_path / "cache.zarr")
    ds = cache[session_id("somelab", "Mouse", DATE, "001")]
    np.testing.assert_array_equal(ds.stimulus_side, trials.side)
    np.testing.assert_array_equal(ds.choice, trials.choice.fillna(MISSING))
    np.testing.assert_array_equal(ds.feedback, trials.feedback)
    # No rule about a movement that nobody recorded: only trials of an unknown choice are out.
    known = trials.choice.notna().to_numpy()
    assert 0 < known.sum() < len(known)
    np.testing.assert_array_equal(ds.included, known)


def test_overlapping_trials_are_refused_and_leave_nothing(tmp_path):
    write_binned(tmp_path / "a.npz", "Mouse", DATE, trials=3, time=np.array([1.0, 1.39, 2.0]))
    with pytest.raises(ValueError, match=r"a\.npz: trials overlap"):
        write_binned_session(tmp_path / "a.npz", tmp_path / "one", "somelab", 1)
    assert not (tmp_path / "one").exists()


def test_a_region_that_the_atlas_lacks_is_named_and_leaves_nothing(tmp_path):
    region = np.array(["CA1", "CA9", "LP"])
    write_binned(tmp_path / "a.npz", "Mouse", DATE, units=3, region=region)
    with pytest.raises(ValueError, match=r"a\.npz: 'CA9' is no acronym of the Allen atlas"):
        write_binned_session(tmp_path / "a.npz", tmp_path / "one", "somelab", 1)
    assert not (tmp_path / "one").exists()


def test_a_folder_is_numbered_by_its_files_and_a_second_run_changes_nothing(tmp_path, monkeypatch):
    for name, subject in (("b", "Two"), ("a", "One"), ("c", "Two")):
        write_binned(tmp_path / "npz" / f"{name}.npz", subject, DATE, trials=4)
    call(monkeypatch, tmp_path / "npz", tmp_path / "one", "--lab", "somelab")
    subjects = tmp_path / "one" / "somelab" / "Subjects"
    sessions = [subjects / "One" / DATE / "001"]
    sessions += [subjects / "Two" / DATE / number for number in ("002", "003")]
    assert sorted(subjects.glob("*/*/*")) == sessions
    before = files_below(tmp_path / "one")
    call(monkeypatch, tmp_path / "npz", tmp_path / "one", "--lab", "somelab")
    assert files_below(tmp_path / "one") == before


def test_what_was_stopped_half_way_is_made_whole(tmp_path, monkeypatch):
    for name in "ab":
        write_binned(tmp_path / "npz" / f"{name}.npz", "Mouse", DATE, trials=4)
    call(monkeypatch, tmp_path / "npz", tmp_path / "whole", "--lab", "somelab")

    def stop(data, onset):
        raise KeyboardInterrupt

    with monkeypatch.context() as context:
        context.setattr(binned, "_trials", stop)
        with pytest.raises(KeyboardInterrupt):
            call(context, tmp_path / "npz", tmp_path / "one", "--lab", "somelab")
    assert not list(tmp_path.glob("one/somelab/Subjects/Mouse/*/001"))
    call(monkeypatch, tmp_path / "npz", tmp_path / "one", "--lab", "somelab")

    def contents(root):
        files = [path for path in root.rglob("*") if path.is_file()]
        return {path.relative_to(root): path.read_bytes() for path in files}

    assert contents(tmp_path / "one") == contents(tmp_path / "whole")


@pytest.mark.parametrize("lost", ["spikes", "region", "subject"])
def test_a_file_that_lacks_an_array_is_named(tmp_path, monkeypatch, capsys, lost):
    arrays = write_binned(tmp_path / "npz" / "a.npz", "Mouse", DATE, trials=4)
    np.savez(tmp_path / "npz" / "a.npz", **{n: a for n, a in arrays.items() if n != lost})
    with pytest.raises(SystemExit) as stopped:
        call(monkeypatch, tmp_path / "npz", tmp_path / "one", "--lab", "somelab")
    assert stopped.value.code == 2
    said = capsys.readouterr().err
    assert "a.npz" in said
    assert lost in said


def test_a_folder_without_files_is_refused(tmp_path, monkeypatch, capsys):
    with pytest.raises(SystemExit):
        call(monkeypatch, tmp_path, tmp_path / "one", "--lab", "somelab")
    assert f"no .npz file in {tmp_path}" in capsys.readouterr().err
