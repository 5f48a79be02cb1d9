"""Sets of intervals: what they share, and what lies in one."""

import numpy as np

from ibl_mtm.brainsets.intervals import inside, intersect


def test_intersection_clips_and_drops_what_only_touches() -> None:
    a = np.array([[0.0, 2.0], [3.0, 5.0], [8.0, 9.0]])
    b = np.array([[1.0, 3.0], [4.0, 8.5]])
    assert intersect(a, b).tolist() == [[1.0, 2.0], [4.0, 5.0], [8.0, 8.5]]
    assert intersect(a, np.empty((0, 2))).shape == (0, 2)
    assert intersect(np.empty((0, 2)), b).shape == (0, 2)


def test_a_window_lies_within_one_piece_only() -> None:
    domain = np.array([[0.0, 10.0], [12.0, 20.0]])
    windows = np.array(
        [[0.0, 1.0], [9.5, 10.0], [9.5, 10.1], [9.0, 13.0], [-1.0, 0.5], [19.0, 21.0]]
    )
    assert inside(windows, domain).tolist() == [True, True, False, False, False, False]
    windows = np.array([[12.0, 13.0], [11.0, 12.5], [19.5, 20.0], [30.0, 30.0], [31.0, 32.0]])
    more = np.array([*domain, [30.0, 30.5]])
    assert inside(windows, more).tolist() == [True, False, True, True, False]
    assert not inside(windows, np.empty((0, 2))).any()
