"""Documents of two evaluations joined, small enough to be written by hand."""

import json

import pandas as pd
import pytest

from ibl_mtm.errors import UserError
from ibl_mtm.evaluation.merge import METRICS, PAIRS, PER_UNIT, check_joins, join


def document(sessions, tasks, **more):
    """What an evaluation of sessions writes: their scores by task, and those over sessions."""
    provenance = {"model": "m", "sessions": {eid: {"data": "d"} for eid in sessions}}
    return {
        "tasks": tasks, "sessions": sessions, "skipped": {}, "failed": {}, "simulated": False,
        "region_pairs": None, "provenance": provenance,
    } | more  # fmt: skip


def units(rows, **columns):
    table = pd.DataFrame(rows, columns=["eid", "unit", "task", "bits_per_spike"])
    return table.assign(**columns)


@pytest.fixture
def write(tmp_path):
    """Put scores into a folder, as an earlier evaluation did."""

    def written(metrics, per_unit=None, pairs=None):
        (tmp_path / METRICS).write_text(json.dumps(metrics))
        table = pd.DataFrame() if per_unit is None else per_unit
        table.to_parquet(tmp_path / PER_UNIT)
        (pd.DataFrame() if pairs is None else pairs).to_parquet(tmp_path / PAIRS)
        return tmp_path

    return written


NOTHING = pd.DataFrame()


def test_means_are_those_that_were_computed_where_no_score_was_there_before(write):
    """Not of the rounded scores of sessions, unless some of these are all that is left."""
    before = document({"a": {"choice": {"accuracy": 0.5}}}, {"choice": {"accuracy": 0.5}})
    now = document(
        {"b": {"wheel_speed": {"r2": 0.1}, "choice": {"accuracy": 0.8}}},
        {"wheel_speed": {"r2": 0.1000004}, "choice": {"accuracy": 0.8000004}},
    )
    found, _, _ = join(write(before), now, NOTHING, NOTHING)
    assert found["tasks"]["wheel_speed"] == {"r2": 0.1000004}
    assert found["tasks"]["choice"]["accuracy"] == pytest.approx(0.65)
    assert found["tasks"]["choice"]["n_sessions"] == 2
    assert list(found["sessions"]) == ["a", "b"]
    assert found["sessions"]["a"].keys() == {"choice"}  # nobody asked more of it
    assert found["sessions"]["b"].keys() == {"choice", "wheel_speed"}


def test_a_score_that_is_computed_again_takes_the_place_of_the_one_before(write):
    before = document(
        {"a": {"choice": {"accuracy": 0.5}}, "b": {"choice": {"accuracy": 0.9}}},
        {"choice": {"accuracy": 0.7}},
        skipped={"a": {"pupil": "none"}},
        failed={"b": "was damaged", "c": "is damaged"},
    )
    now = document(
        {"b": {"choice": None}}, {"choice": None}, skipped={"b": {"choice": "one class"}}
    )
    found, _, _ = join(write(before), now, NOTHING, NOTHING)
    assert found["sessions"]["b"] == {"choice": None}
    assert found["tasks"]["choice"]["accuracy"] == 0.5
    assert found["skipped"] == {"a": {"pupil": "none"}, "b": {"choice": "one class"}}
    assert found["failed"] == {"c": "is damaged"}


@pytest.mark.parametrize("again", ["co_smoothing", "inter_region", "choice"])
def test_reasons_are_told_again_or_made_void_with_their_task(write, again):
    """Why there is no mean response belongs to any task of activity, pairs to one of them."""
    reasons = {"psth_r2": "few trials", "region_pairs": "a mean has none", "choice": "one class"}
    before = document({"a": {}, "b": {}}, {}, skipped={"a": dict(reasons), "b": dict(reasons)})
    now = document({"a": {again: None}}, {again: None})
    found, _, _ = join(write(before), now, NOTHING, NOTHING)
    gone = {"co_smoothing": {"psth_r2"}, "choice": {"choice"}}.get(
        again, {"psth_r2", "region_pairs"}
    )
    assert found["skipped"]["a"].keys() == reasons.keys() - gone
    assert found["skipped"]["b"] == reasons


@pytest.mark.parametrize(("was", "is_"), [(True, False), (False, True), (False, False)])
def test_one_part_that_is_simulated_makes_the_whole_so(write, was, is_):
    before = document({"a": {}}, {}, simulated=was)
    before["provenance"]["dataset"] = "z, one"
    now = document({"b": {}}, {}, simulated=is_)
    now["provenance"]["dataset"] = "two, z"
    found, _, _ = join(write(before), now, NOTHING, NOTHING)
    assert found["simulated"] is (was or is_)
    assert found["provenance"]["dataset"] == "one, two, z"
    assert list(found["provenance"]["sessions"]) == ["a", "b"]
    del before["simulated"], before["provenance"]["dataset"], before["failed"]  # as once
    found, _, _ = join(write(before), now, NOTHING, NOTHING)
    assert found["simulated"] is is_
    assert found["provenance"]["dataset"] == "two, z"


def test_units_stand_by_session_then_by_task_and_need_no_true_rates(write):
    """A table of an earlier version has no column of them."""
    rows = [("a", "1", "co_smoothing", 0.1), ("a", "1", "inter_region", 0.2),
            ("b", "2", "co_smoothing", 0.3)]  # fmt: skip
    before = document({"a": {}, "b": {}}, {"co_smoothing": None, "inter_region": None})
    now = document({"b": {}, "c": {}}, {"co_smoothing": None, "forward_prediction": None})
    new = units([("b", "2", "co_smoothing", 0.7), ("c", "3", "co_smoothing", 0.5),
                 ("b", "2", "forward_prediction", 0.6)], oracle=0.9)  # fmt: skip
    _, found, _ = join(write(before, units(rows)), now, new, NOTHING)
    assert found[["eid", "task", "bits_per_spike"]].values.tolist() == [
        ["a", "co_smoothing", 0.1], ["a", "inter_region", 0.2], ["b", "co_smoothing", 0.7],
        ["b", "forward_prediction", 0.6], ["c", "co_smoothing", 0.5],
    ]  # fmt: skip
    assert found.index.tolist() == [0, 1, 2, 3, 4]
    known = units(rows, oracle=[1.0, 2.0, 3.0])
    new["oracle"] = [float("nan"), 5.0, float("nan")]
    _, found, _ = join(write(before, known), now, new, NOTHING)
    assert found["oracle"].fillna(-1).tolist() == [1, 2, 3, -1, 5]


def test_pairs_of_regions_stay_but_for_sessions_whose_pairs_are_asked_again(write):
    def pairs(*rows):
        columns = ["eid", "source", "target", "bits_per_spike", "n_units"]
        return pd.DataFrame([(e, "CA1", "DG", b, 2) for e, b in rows], columns=columns)

    before = document({"a": {}, "b": {}}, {"inter_region": None}, region_pairs=[{}])
    new = pairs(("b", 0.4))
    now = document({"b": {}}, {"inter_region": None})
    folder = write(before, pairs=pairs(("a", 0.2), ("b", 0.9)))
    found, _, both = join(folder, now, NOTHING, new)
    assert both[["eid", "bits_per_spike"]].values.tolist() == [["a", 0.2], ["b", 0.4]]
    assert both.index.tolist() == [0, 1]
    assert found["region_pairs"][0]["bits_per_spike"] == 0.3
    other = document({"b": {}}, {"co_smoothing": None})
    assert len(join(folder, other, NOTHING, NOTHING)[2]) == 2
    (folder / PAIRS).unlink()
    assert join(folder, now, NOTHING, new)[2] is new


def test_scores_without_their_table_of_units_are_told(write):
    metrics = document({"a": {}}, {})
    folder = write(metrics)
    check_joins(folder, metrics)
    (folder / PER_UNIT).unlink()
    with pytest.raises(UserError, match=r"per_unit\.parquet is missing there; --overwrite"):
        check_joins(folder, metrics)


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"min_distance_um": 1}, "neighbours were hidden up to 0 um, not 1"),
        ({"precision": "bf16"}, "their precision is None, not bf16"),
        ({"baseline": "psth"}, "they are of a run, not psth"),
    ],
)
def test_scores_that_were_made_otherwise_do_not_join(write, more, reason):
    folder, now = write(document({"a": {}}, {})), document({"a": {}}, {}, **more)
    with pytest.raises(UserError, match=reason):
        check_joins(folder, now)


def test_other_data_of_a_session_of_both_is_told(write):
    folder = write(document({"a": {}, "b": {}}, {}))
    now = document({"b": {}, "c": {}}, {})
    check_joins(folder, now)
    now["provenance"]["sessions"]["b"]["data"] = "other"
    with pytest.raises(UserError, match="session b had other data or another split"):
        check_joins(folder, now)
