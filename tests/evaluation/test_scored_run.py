"""What is read of a run that was evaluated: its curves, tables, and files that are damaged."""

import json
import logging
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from synthetic_run import write_scalars

from ibl_mtm.errors import UserError
from ibl_mtm.evaluation.score_session import nothing_scored
from ibl_mtm.evaluation.scored_run import read_scored_run, read_scored_runs, region_table


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run that holds but what must be there."""
    folder = tmp_path / "run"
    folder.mkdir()
    scores = {"tasks": {"choice": {"accuracy": 0.7}, "block": None}, "sessions": {}}
    (folder / "metrics.json").write_text(json.dumps(scores))
    pd.DataFrame().to_parquet(folder / "per_unit.parquet")
    return folder


def test_scores_of_a_task_and_of_none(run: Path) -> None:
    found = read_scored_run(run)
    assert found.name == "run"
    assert found.settings == {}
    assert found.task("choice") == {"accuracy": 0.7}
    assert found.task("block") == found.task("co_smoothing") == {}
    assert found.session("e") is None
    (run / "config.yaml").write_text("steps: 3")
    assert read_scored_run(run).settings == {"steps": 3}


def test_without_activity_a_table_has_its_columns_and_no_rows(run: Path) -> None:
    units = read_scored_run(run).units
    assert len(units) == 0
    assert {"eid", "task", "bits_per_spike"} <= set(units.columns)
    pd.DataFrame({"eid": ["e"], "more": [1]}).to_parquet(run / "per_unit.parquet")
    assert list(read_scored_run(run).units.columns) == ["eid", "more"]


def test_of_steps_that_were_done_twice_the_last_count(run: Path) -> None:
    """And every value is there, of however many."""
    many = [("b", float(step) / 2, step) for step in range(1200)]
    write_scalars(run / "logs" / "version_0", [*many, ("a", 1.5, 7), ("a", 2.5, 9)])
    write_scalars(run / "logs" / "version_1", [("a", 3.5, 9), ("a", 4.5, 11)])
    curves = read_scored_run(run).curves()
    assert list(curves.columns) == ["tag", "step", "value"]
    assert curves["tag"].tolist() == ["a"] * 3 + ["b"] * 1200
    assert curves["step"].tolist() == [7, 9, 11, *range(1200)]
    np.testing.assert_allclose(curves["value"][:3], [1.5, 3.5, 4.5])
    np.testing.assert_allclose(curves["value"][3:], np.arange(1200) / 2)


def test_without_logs_there_are_no_curves(run: Path) -> None:
    curves = read_scored_run(run).curves()
    assert len(curves) == 0
    assert list(curves.columns) == ["tag", "step", "value"]


@pytest.mark.parametrize(
    ("file", "content"),
    [("metrics.json", "{"), ("per_unit.parquet", "no table"), ("config.yaml", "a: [")],
)
def test_a_damaged_file_is_told_in_one_line(run: Path, file: str, content: str) -> None:
    (run / file).write_text(content)
    with pytest.raises(
        UserError, match=r"holds a damaged file \(\S.*\): evaluate it again"
    ) as told:
        read_scored_run(run)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("file", ["metrics.json", "per_unit.parquet"])
def test_what_was_not_evaluated_is_told_with_the_mend(run: Path, file: str) -> None:
    (run / file).unlink()
    with pytest.raises(UserError, match=f"has no {file}: run `ibl-mtm eval .*run"):
        read_scored_run(run)
    with pytest.raises(UserError, match="no run folder"):
        read_scored_runs([run / "not" / "there"])


def test_a_session_without_scores_says_why_for_every_task() -> None:
    found = nothing_scored(["choice", "co_smoothing"], "too few")
    assert found.skipped == {"choice": "too few", "co_smoothing": "too few"}
    assert (len(found.per_unit), len(found.region_pairs), len(found.examples)) == (0, 0, 0)
    assert found.trial.shape == found.time.shape == (0,)
    assert found.n_test == 0


def test_runs_of_one_name_are_called_by_their_paths(run: Path, tmp_path: Path) -> None:
    other, third = tmp_path / "b" / "run", tmp_path / "third"
    shutil.copytree(run, other)
    shutil.copytree(run, third)
    found = read_scored_runs([run, third, other])
    assert [one.name for one in found] == [str(run), "third", str(other)]


def test_tensorboard_does_not_warn_of_every_restart(run: Path) -> None:
    logger = logging.getLogger("tensorboard")
    before = logger.level
    try:
        logger.setLevel(logging.INFO)
        read_scored_run(run)
        assert not logger.isEnabledFor(logging.WARNING)
        assert logger.isEnabledFor(logging.ERROR)
    finally:
        logger.setLevel(before)


def test_regions_are_in_the_order_of_the_atlas_and_unknown_ones_last(run: Path) -> None:
    """As the sessions' examples tell them, of which one has none."""
    scores = {"tasks": {}, "sessions": {"none": {}, "e": {}, "f": {}}}
    (run / "metrics.json").write_text(json.dumps(scores))
    regions = ["LP", "CA1", "zzz", "LP", "here", "DG"]
    table = pd.DataFrame({"eid": "e", "region": regions})
    table.to_parquet(run / "per_unit.parquet")
    for eid, names, orders in (("e", ["LP", "CA1"], [7, 5]), ("f", ["DG", "more"], [6, 1])):
        xr.Dataset(
            coords={"region": ("unit", np.array(names, dtype=object)),
                    "order": ("unit", orders),
                    "color": ("unit", np.array([f"#{at}" for at in orders], dtype=object))}
        ).to_zarr(run / "evaluation.zarr" / eid, zarr_format=3, consolidated=False)  # fmt: skip
    found = region_table([read_scored_run(run)])
    assert found.index.tolist() == ["CA1", "DG", "LP", "here", "zzz"]
    assert found["order"].tolist() == [5, 6, 7, float("inf"), float("inf")]
    assert found["color"][:3].tolist() == ["#5", "#6", "#7"]
    assert found["color"].nunique() == 4
