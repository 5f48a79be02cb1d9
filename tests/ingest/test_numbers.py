"""Signals and columns of numbers: what is taken, what is left out, and what is named."""

import numpy as np
import pandas as pd
import pytest

from ibl_mtm.errors import SessionError
from ibl_mtm.ingest.recording import checked_signal, numbers


def test_of_samples_at_one_time_the_first_is_taken():
    found = checked_signal("e", "s", [1, 2, 2, 2, 3], [5, 6, 7, 8, 9])
    assert found.times.tolist() == [1, 2, 3]
    assert found.values.tolist() == [5, 6, 9]
    assert found.times.dtype == found.values.dtype == np.float64
    assert len(checked_signal("e", "s", [], []).times) == 0


def test_samples_without_a_value_are_left_out_where_they_may_lack():
    found = checked_signal("e", "s", [1, 2, 3], [5, np.nan, 9], gaps=True)
    assert (found.times.tolist(), found.values.tolist()) == ([1, 3], [5, 9])
    with pytest.raises(SessionError, match="s: not every time and value"):
        checked_signal("e", "s", [1, 2, 3], [5, np.nan, 9])


@pytest.mark.parametrize(
    ("times", "values", "said"),
    [
        ([1, 2], [1, 2, 3], r"\(2,\) times but \(3,\) values"),
        ([[1, 2]], [[1, 2]], r"\(1, 2\) times but \(1, 2\) values"),
        ([1, np.nan], [1, 2], "not every time and value"),
        ([1, 2], [1, np.inf], "not every time and value"),
        ([1, np.inf], [1, 2], "not every time and value"),
        ([2, 1], [1, 2], "not in ascending order"),
    ],
)
@pytest.mark.parametrize("gaps", [True, False])
def test_samples_that_do_not_fit(times, values, said, gaps):
    with pytest.raises(SessionError, match=f"s: .*{said}"):
        checked_signal("e", "s", times, values, gaps)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([1, 2], [1, 2]),
        ([True, False], [1, 0]),
        ([0.5, None], [0.5, np.nan]),
        (np.array([1, 2.5, True, np.float32(3), np.int8(4)], object), [1, 2.5, 1, 3, 4]),
        (pd.array([1, None], "Int64"), [1, np.nan]),
    ],
)
def test_numbers_of_any_kind(given, expected):
    found = numbers("e", "f", pd.DataFrame({"c": given}), "c")
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == np.float64


def test_the_first_that_is_no_number_is_named():
    table = pd.DataFrame({"c": np.array([1, "x", "y"], object)}, index=[5, 6, 7])
    with pytest.raises(SessionError, match="f: c: 'x' in row 1, expected a number"):
        numbers("e", "f", table, "c")
