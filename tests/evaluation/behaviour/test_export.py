"""What is exported carries a session's own trial numbers, and classes in the benchmark's order."""

import zipfile

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from safetensors.numpy import load

from ibl_mtm.evaluation.behaviour.decode_session import DecodedSession
from ibl_mtm.evaluation.behaviour.decoding_scores import score_class, score_trace
from ibl_mtm.evaluation.behaviour.export import write_submission
from ibl_mtm.evaluation.score_session import SessionScores

#: Trials were dropped from the session: numbers are not positions.
TRIAL = np.array([0, 1, 4, 5, 9, 12])
TIME = np.array([-0.49, -0.47, -0.45])
FIT, TEST = np.array([0, 2, 3]), np.array([1, 4, 5])


@pytest.fixture
def files(tmp_path):
    y = np.array([1, -1, 1, -1, 1, -1])
    trace = np.arange(18.0).reshape(6, 3)
    decoded = {
        "choice": score_class(y, FIT, TEST, np.array([-3.0, 1.0, -0.5]), {}),
        "wheel_speed": score_trace(trace, FIT, TEST, trace[TEST] + 0.25, {}),
    }
    odds = np.array([[0.0, 1, 2, 3, 4], [5, 6, 7, 8, 9]])
    behaviour = DecodedSession(decoded=decoded, contrast=(np.array([1, 5]), odds))
    empty = pd.DataFrame()
    scores = SessionScores(empty, empty, behaviour, {}, xr.Dataset(), TRIAL, TIME, 3)
    path = tmp_path / "submission.zip"
    write_submission({"eid": scores}, path, "mine", 3, "custom")
    with zipfile.ZipFile(path) as archive:
        return {name.split("/")[1]: load(archive.read(name)) for name in archive.namelist()}


def test_trials_are_named_by_their_number(files):
    assert files["ts1-choice"]["trial_id"].tolist() == [1, 9, 12]
    assert files["ts1-wheel_speed"]["trial_id"].tolist() == [1, 9, 12]
    assert files["ts1-stimulus_contrast"]["trial_id"].tolist() == [1, 12]


def test_log_odds_are_those_of_minus_one_and_plus_one(files):
    logits = files["ts1-choice"]["predictions"]
    assert logits[:, 0].tolist() == [[1.5, -1.5], [-0.5, 0.5], [0.25, -0.25]]
    assert files["ts1-stimulus_contrast"]["predictions"][1, 0].tolist() == [5, 6, 7, 8, 9]


def test_traces_come_with_the_centres_of_their_bins(files):
    traces = files["ts1-wheel_speed"]
    assert traces["predictions"][..., 0].tolist() == [
        [3.25, 4.25, 5.25], [12.25, 13.25, 14.25], [15.25, 16.25, 17.25],
    ]  # fmt: skip
    assert traces["timestamps"] == pytest.approx(np.tile(TIME, (3, 1)), abs=1e-6)
