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
    # Two values have an interval, which is between them, and five differences a test.
    assert paired_interval(["a", "b"], [0.1, 0.3]) == (0.1, 0.3)
    assert paired_p([0.1, 0.2, 0.1, 0.0, 0.3, 0.4]) == pytest.approx(2 / 2**5)


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


def bare_run(path, bits, n_spikes=3, eid="x", region="CA1", **scores):
    """A run of one task, with what comparisons read and nothing else."""
    path.mkdir()
    units = pd.DataFrame(
        {"eid": eid, "unit": [f"u{i}" for i in range(len(bits))], "task": "co_smoothing",
         "region": region, "bits_per_spike": bits, "n_spikes": n_spikes}
    )  # fmt: skip
    units.to_parquet(path / "per_unit.parquet")
    (path / "metrics.json").write_text(json.dumps({"tasks": {}, "sessions": {}} | scores))
    return path


def test_runs_whose_neighbours_were_hidden_otherwise_do_not_compare(tmp_path):
    """One that says nothing of them hid none."""
    run = bare_run(tmp_path / "run", [0.1, 0.2])
    far = bare_run(tmp_path / "far", [0.1, 0.1], min_distance_um=1)
    with pytest.raises(UserError, match=r"hidden up to 0 um, far up to 1 um \(--min-distance\)"):
        compare_runs([run, far])
    also = bare_run(tmp_path / "also", [0.1, 0.3], min_distance_um=1.0)
    assert compare_runs([far, also])[0].difference == -0.1


def test_runs_that_say_which_trials_they_were_scored_on_must_share_them(tmp_path):
    """Of the sessions of both alone, and where both say so."""
    made = [
        bare_run(tmp_path / name, [0.1, 0.2], provenance={"sessions": trials})
        for name, trials in (
            ("a", {"x": {"test_trials": "x"}, "y": {}, "z": {"test_trials": "x"}}),
            ("b", {"x": {"test_trials": "x"}, "y": {"test_trials": "y"}}),
            ("c", {"x": {"test_trials": "z"}, "y": {"test_trials": "y"}}),
        )
    ]
    assert compare_runs(made[:2])
    with pytest.raises(UserError, match=r"b and c were not .* split session x differently"):
        compare_runs(made[1:])


def test_regions_stand_in_order_of_their_differences_and_numbers_have_six_digits(tmp_path):
    factor = 1 + np.arange(21) / 7
    eid, region = np.repeat(["x", "y"], [15, 6]), ["CA1", "DG", "LP"] * 7
    made = [
        bare_run(tmp_path / name, np.tile(values, 7) * factor, eid=eid, region=region)
        for name, values in (("a", [0.1, 0.2, 0.3]), ("b", [0.0, 0.0, 0.4]))
    ]
    (pair,) = compare_runs(made)
    difference = np.tile([0.1, 0.2, -0.1], 7) * factor
    by_region = {name: difference[at::3].mean() for at, name in enumerate(["CA1", "DG", "LP"])}
    assert list(pair.by_region.items()) == [
        (name, round(by_region[name], 6)) for name in ("DG", "CA1", "LP")
    ]
    of_x, of_y = difference[:15].mean(), difference[15:].mean()
    assert pair.by_session == {"x": round(of_x, 6), "y": round(of_y, 6)}
    assert pair.difference == round((of_x + of_y) / 2, 6)
    assert pair.better == 0.6667
    assert pair.pooled == pair.difference  # each unit has as many spikes
    assert (round(pair.low, 6), round(pair.high, 6)) == (pair.low, pair.high)


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


@pytest.mark.parametrize(("n_sessions", "n_units"), [(1, 80), (4, 40)])
def test_units_are_drawn_within_sessions(n_sessions, n_units):
    """Sessions of equal means: what there is to vary are their units alone."""
    rng = np.random.default_rng(5)
    differences = rng.normal(0, 0.2, (n_sessions, n_units))
    differences += 0.1 - differences.mean(axis=1, keepdims=True)
    low, high = paired_interval(np.repeat(np.arange(n_sessions), n_units), differences.ravel())
    error = differences.std() / np.sqrt(n_units)
    # Sessions are drawn too: some of them twice, so that fewer units count.
    expected = 2 * 1.96 * error * (1 if n_sessions == 1 else np.sqrt((2 - 1 / 4) / 4))
    assert high - low == pytest.approx(expected, rel=0.15)
    assert (low + high) / 2 == pytest.approx(0.1, abs=0.2 * error)


def test_sessions_are_drawn_too():
    """Units of a session are alike: what there is to vary are the sessions alone."""
    means = np.array([0.0, 0.1, 0.2, 0.5])
    session = np.repeat(np.arange(4), [3, 50, 7, 20])
    low, high = paired_interval(session, means[session])
    error = means.std() / np.sqrt(4)  # sessions count alike, however many units they have
    assert high - low == pytest.approx(2 * 1.96 * error, rel=0.2)
    assert (low + high) / 2 == pytest.approx(means.mean(), abs=0.3 * error)


def test_a_pair_is_worked_out_by_hand(tmp_path):
    """Two unequal sessions; a region of five units has a row, one of three has none."""
    runs = []
    eid = np.repeat(["x", "y"], [8, 1])
    region = ["CA1"] * 5 + ["LP"] * 3 + ["LP"]
    bits = {
        "a": [0.5, 0.3, 0.2, 0.16, 0.4, 0.0, 0.0, np.nan, 1.0],
        "b": [0.1, 0.3, 0.33, 0.0, 0.1, 0.25, 0.07, 0.9, 0.2],
    }
    for name, values in bits.items():
        run = write_run(tmp_path / name, size=Size(sessions=1, units=12))
        units = pd.DataFrame(
            {"eid": eid, "unit": [f"u{i}" for i in range(9)], "task": "co_smoothing",
             "region": region, "bits_per_spike": values, "n_spikes": [2, 2, 2, 2, 2, 2, 30, 5, 4]}
        )  # fmt: skip
        if name == "a":
            units["poisson_d2"] = [0.1] * 8 + [0.5]
        else:
            units["poisson_d2"] = [0.2] * 4 + [0.05] * 4 + [0.1]
        units.to_parquet(run / "per_unit.parquet")
        runs.append(run)
    (pair,) = (p for p in compare_runs(runs) if p.task == "co_smoothing")
    # Differences of x: 0.4, 0, -0.13, 0.16, 0.3, -0.25, -0.07; of y: 0.8.
    assert pair.by_session == pytest.approx({"x": 0.41 / 7, "y": 0.8}, abs=1e-6)
    assert pair.difference == pytest.approx((0.41 / 7 + 0.8) / 2, abs=1e-6)
    assert pair.better == 4 / 8
    assert (pair.n_units, pair.n_sessions) == (8, 2)
    assert pair.by_region == pytest.approx({"CA1": 0.73 / 5}, abs=1e-6)
    assert pair.p == pytest.approx(wilcoxon([0.4, -0.13, 0.16, 0.3, -0.25, -0.07, 0.8]).pvalue)
    assert pair.p_sessions is None
    # x gains 2 (0.4 + 0 - 0.13 + 0.16 + 0.3 - 0.25) - 30 * 0.07 of 42 spikes; y 0.8 of each.
    assert pair.pooled == pytest.approx(((0.96 - 2.1) / 42 + 0.8) / 2, abs=1e-6)
    # The eighth unit has no bits/spike in a, and counts in neither score.
    assert pair.poisson_d2 == pytest.approx(((4 * -0.1 + 3 * 0.05) / 7 + 0.4) / 2, abs=1e-6)
