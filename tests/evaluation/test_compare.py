"""Paired differences between runs: their size, their interval, their test, and where they are."""

import json

import numpy as np
import pandas as pd
import pytest
from scipy.stats import wilcoxon
from synthetic_run import GAIN, Size, eids, write_run
from typer.testing import CliRunner

from ibl_mtm.cli import app
from ibl_mtm.errors import UserError
from ibl_mtm.evaluation.compare import compare_runs, paired_interval, paired_p


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("compare")
    return [write_run(folder / "mtm", 1.0), write_run(folder / "temporal", 0.6)]


def test_differences_are_of_the_same_units(runs):
    pairs = {pair.task: pair for pair in compare_runs(runs)}
    assert set(pairs) == {*GAIN, "choice", "whisker_motion_energy"}
    keys = ["eid", "unit", "task"]
    a, b = (pd.read_parquet(run / "per_unit.parquet").set_index(keys) for run in runs)
    difference = (a["bits_per_spike"] - b["bits_per_spike"]).dropna().reset_index()
    own = difference[difference["task"] == "co_smoothing"]
    pair = pairs["co_smoothing"]
    assert (pair.a, pair.b) == ("mtm", "temporal")
    assert pair.difference == pytest.approx(
        own.groupby("eid")["bits_per_spike"].mean().mean(), abs=1e-6
    )
    assert pair.low < pair.difference < pair.high
    assert pair.p == pytest.approx(wilcoxon(own["bits_per_spike"]).pvalue)
    assert (pair.n_units, pair.n_sessions) == (len(own), 2)
    assert pair.better == pytest.approx((own["bits_per_spike"] > 0).mean(), abs=1e-4)
    assert set(pair.by_session) == set(eids(2))
    assert pairs["whisker_motion_energy"].difference == pytest.approx(0.16, abs=1e-6)
    assert pairs["choice"].n_units == 0


def test_the_interval_holds_the_truth_as_often_as_it_says():
    """95 % of intervals, and sessions vary more than their units do."""
    rng, inside = np.random.default_rng(0), 0
    session = np.repeat(np.arange(12), 20)
    for _ in range(200):
        effect = rng.normal(0.1, 0.05, 12)[session]
        low, high = paired_interval(session, effect + rng.normal(0, 0.1, 240))
        inside += low < 0.1 < high
    assert 0.88 <= inside / 200 <= 0.99


def test_few_differences_have_no_interval_and_no_test():
    assert paired_interval(["a"], [0.3]) == (None, None)
    assert paired_p([0.1, 0.2, 0.1, 0.0, 0.3]) is None
    low, high = paired_interval(["a"] * 50, np.full(50, 0.2))
    assert low == high == pytest.approx(0.2)


def test_the_command_prints_a_table_or_json(runs):
    names = [str(run) for run in runs]
    result = CliRunner().invoke(app, ["compare", *names, "--json"])
    assert result.exit_code == 0, result.stderr
    pairs = json.loads(result.stdout)["pairs"]
    promised = {"a", "b", "task", "difference", "low", "high", "p", "n_units", "n_sessions"}
    assert all(promised <= set(pair) for pair in pairs)
    table = CliRunner().invoke(app, ["compare", *names]).stdout
    assert "mtm - temporal" in table
    assert "co-smoothing" in table


def test_runs_that_cannot_be_compared_are_refused(runs, tmp_path):
    with pytest.raises(UserError, match="at least two different runs"):
        compare_runs([runs[0], runs[0]])
    other = write_run(tmp_path / "other", size=Size(sessions=1, units=12))
    units = pd.read_parquet(other / "per_unit.parquet").assign(eid="elsewhere")
    units.to_parquet(other / "per_unit.parquet")
    scores = json.loads((other / "metrics.json").read_text())
    (other / "metrics.json").write_text(json.dumps(scores | {"sessions": {}}))
    with pytest.raises(UserError, match="in common"):
        compare_runs([runs[0], other])
    split = write_run(tmp_path / "split", 0.6)
    units = pd.read_parquet(split / "per_unit.parquet")
    units.assign(n_spikes=units["n_spikes"] + 1).to_parquet(split / "per_unit.parquet")
    with pytest.raises(UserError, match="not scored on the same trials"):
        compare_runs([runs[0], split])
