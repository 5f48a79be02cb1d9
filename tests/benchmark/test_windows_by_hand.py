"""Which windows a task asks for, of recordings that are written down here."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from ibl_mtm.benchmark.tasks import TASKS
from ibl_mtm.benchmark.windows import neural_windows, trial_windows
from ibl_mtm.errors import SessionError


def recording(windows: pd.DataFrame | None = None, **more: Any) -> Any:
    domains = {"ts1_train": [[0.0, 10.0]], "ts1_test": [[10.0, 30.0]], "ts2_test": [[0.0, 50.0]],
               "ts2_val": [[0.0, 50.0]]}  # fmt: skip
    return SimpleNamespace(
        intervals=lambda name: windows,
        domain=lambda name: np.array(domains[name]),
        wrong=lambda what: SessionError("e", what),
        **more,
    )


WINDOWS = pd.DataFrame(
    {
        "trial_index": [5, 3, 1, 2, 4],
        "start": [12.0, 10.0, 9.5, 8.9, 29.5],
        "end": [13.0, 11.0, 10.5, 9.9, 30.5],
        "num_left_paw_confident": [1, 0, 9, 2, 9],
    }
)


@pytest.mark.parametrize(
    ("name", "split", "trials"),
    [
        ("ts1-choice", "test", [3, 5]),  # in order of time, wholly within the domain
        ("ts1-choice", "train", [2]),
        ("ts1-wheel_speed", "test", [3]),  # where the wheel was recorded
        ("ts1-left_paw_speed", "test", []),  # with a sample that is sure
        ("ts1-left_paw_speed", "train", [2]),
    ],
)
def test_windows_of_trials(name: str, split: str, trials: list[int]) -> None:
    series = SimpleNamespace(domain=np.array([[0.0, 12.5]]))
    asked: list[str] = []
    of = recording(WINDOWS, series=lambda group: asked.append(group) or series)
    found = trial_windows(of, TASKS[name], split)
    assert found["trial_index"].tolist() == trials
    assert found.index.tolist() == list(range(len(trials)))
    assert asked == {"ts1-wheel_speed": ["wheel"], "ts1-left_paw_speed": ["paws"]}.get(name, [])


def test_what_is_missing_of_trials_is_told() -> None:
    paw = TASKS["ts1-left_paw_speed"]
    with pytest.raises(SessionError, match="no task_aligned_intervals/choice, of ts1-choice"):
        trial_windows(recording(None), TASKS["ts1-choice"], "test")
    unsure = WINDOWS.drop(columns="num_left_paw_confident")
    with pytest.raises(SessionError, match=r"no .*/movement_window/num_left_paw_confident"):
        trial_windows(recording(unsure), paw, "test")
    with pytest.raises(SessionError, match="no group paws, of ts1-left_paw_speed"):
        trial_windows(recording(WINDOWS, series=lambda group: None), paw, "test")


def test_windows_of_activity_need_a_second() -> None:
    """A trial of just that has one; of val every third window, and the last of a trial."""
    trials = np.array([[2.0, 3.0], [4.0, 5.25], [49.0, 60.0]])
    test, val = (
        [w.tolist() for w in neural_windows(recording(trial_domains=trials), split)]
        for split in ("test", "val")
    )
    assert [len(windows) for windows in test] == [1, 14, 1]
    assert (test[0], test[2]) == ([2.0], [49.0])
    np.testing.assert_allclose(test[1], [*(4 + 0.02 * np.arange(13)), 4.25])
    np.testing.assert_allclose(val[1], [*(4 + 0.06 * np.arange(5)), 4.25])
    short = recording(trial_domains=np.array([[2.0, 2.99]]))
    with pytest.raises(SessionError, match=r"from 2\.000 to 2\.990 s is shorter than 1 s"):
        list(neural_windows(short, "test"))
