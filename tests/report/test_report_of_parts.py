"""Reports of runs that were scored on other tasks, other sessions or behaviours alone."""

import itertools
import json
import shutil

import pandas as pd
import pytest
from synthetic_run import GAIN, eids, write_run

from ibl_mtm.evaluation.scored_run import read_scored_run
from ibl_mtm.report.page import write_report

BEHAVIOUR = ["choice", "whisker_motion_energy"]
PARTS = {
    "all": [*GAIN, *BEHAVIOUR],
    "co": ["co_smoothing"],
    "forward": ["forward_prediction", "inter_region"],
    "behaviour": BEHAVIOUR,
    "nothing": [],
}


def keep(run, tasks, sessions=None):
    """Leave a run as an evaluation of these tasks and sessions alone would have left it."""
    metrics = json.loads((run / "metrics.json").read_text())
    sessions = sessions or list(metrics["sessions"])
    metrics["tasks"] = {task: metrics["tasks"][task] for task in tasks}
    metrics["sessions"] = {
        eid: {task: metrics["sessions"][eid][task] for task in tasks} for eid in sessions
    }
    about = metrics["provenance"]["sessions"]
    metrics["provenance"]["sessions"] = {eid: about[eid] for eid in sessions}
    if "inter_region" not in tasks:
        metrics["region_pairs"] = []
    (run / "metrics.json").write_text(json.dumps(metrics))
    units = pd.read_parquet(run / "per_unit.parquet")
    units = units[units["task"].isin(tasks) & units["eid"].isin(sessions)].reset_index(drop=True)
    # What evaluation wrote of runs without activity: a table without columns.
    (units if len(units) else pd.DataFrame()).to_parquet(run / "per_unit.parquet")
    if "co_smoothing" not in tasks:
        shutil.rmtree(run / "evaluation.zarr")
    return run


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("parts")
    return {name: keep(write_run(folder / name), tasks) for name, tasks in PARTS.items()}


@pytest.mark.parametrize("name", [name for name in PARTS if name != "all"])  # see test_report
def test_a_run_of_any_tasks_has_a_report(runs, tmp_path, name):
    write_report([runs[name]], tmp_path / "r.html")
    page = (tmp_path / "r.html").read_text()
    if "co_smoothing" not in PARTS[name]:
        assert "Co-smoothing was not scored." in page
        assert f"{name} has no co-smoothing score." in page


@pytest.mark.slow
@pytest.mark.parametrize(("a", "b"), list(itertools.permutations(PARTS, 2)))
def test_runs_of_any_two_kinds_have_a_report(runs, tmp_path, undrawn, a, b):
    write_report([runs[a], runs[b]], tmp_path / "r.html")
    page = (tmp_path / "r.html").read_text()
    if set(PARTS[a]) != set(PARTS[b]):
        assert "were not scored on the same tasks" in page


def test_runs_of_other_sessions_have_a_report(runs, tmp_path, undrawn):
    one, two = eids(2)
    first = keep(shutil.copytree(runs["all"], tmp_path / "first"), PARTS["all"], [one])
    second = keep(shutil.copytree(runs["co"], tmp_path / "second"), PARTS["co"], [two])
    write_report([first, second], tmp_path / "r.html")
    assert "not scored on the same sessions" in (tmp_path / "r.html").read_text()


def test_a_table_without_units_has_its_columns(runs):
    units = read_scored_run(runs["behaviour"]).units
    assert len(units) == 0
    assert {"eid", "unit", "region", "task", "bits_per_spike", "n_spikes"} <= set(units.columns)


def test_true_rates_of_one_run_are_shown_beside_another_that_has_none(runs, tmp_path, undrawn):
    """The README's last `eval` once left the first run of a report without them."""
    first = shutil.copytree(runs["all"], tmp_path / "first")
    units = pd.read_parquet(first / "per_unit.parquet")
    units.assign(oracle=float("nan")).to_parquet(first / "per_unit.parquet")
    write_report([first, runs["all"]], tmp_path / "r.html")
    assert "true rates" in (tmp_path / "r.html").read_text()


def test_a_dollar_in_a_name_is_no_formula(runs, tmp_path):
    names = ["cost_$5_and_$6", "a$b$c_$^"]
    copies = [shutil.copytree(runs["co"], tmp_path / name) for name in names]
    write_report(copies, tmp_path / "r.html")
    page = (tmp_path / "r.html").read_text()
    assert all(page.count(name) > 5 for name in names)
