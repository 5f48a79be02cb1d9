"""What a session declares is decoded, scored and shown beside what is built in."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from synthetic import make_regions, make_session

import ibl_mtm
from ibl_mtm.cache.store import create_cache, write_session
from ibl_mtm.errors import UserError
from ibl_mtm.evaluation.baselines.session_data import BaselineData
from ibl_mtm.evaluation.behaviour import decode_session
from ibl_mtm.evaluation.behaviour.behaviours import (
    BEHAVIOURS,
    behaviours_in,
    behaviours_of,
    own_behaviour,
)
from ibl_mtm.evaluation.behaviour.decodable_trials import Undecodable
from ibl_mtm.evaluation.behaviour.linear_decoders import Features, decode_class
from ibl_mtm.evaluation.compare import compare_runs
from ibl_mtm.evaluation.scored_run import read_scored_run
from ibl_mtm.report.tables import score_columns, score_table
from ibl_mtm.sessions.text import as_text

pytestmark = pytest.mark.usefixtures("short")

IBL = ("choice", "contrast", "stimulus_side", "probability_left", "feedback")
EVENTS = ("stimOn_times", "firstMovement_times", "response_times", "feedback_times")


def own_session(seed: int) -> xr.Dataset:
    """Units 0 and 1 fire for a go, in the first and the second half of a trial."""
    rng = np.random.default_rng(seed)
    ds = make_session(n_units=8, n_trials=100, n_bins=20, seed=seed)
    ds = ds.drop_vars([*IBL, *EVENTS, "whisker_motion_energy", "wheel_velocity", "lick_count"])
    n = ds.sizes["trial"]
    go = rng.random(n) < 0.5
    spikes = ds.spikes.values.copy()
    spikes[go, :10, 0] += 2
    spikes[go, 10:, 1] += 2
    pace = np.cumsum(rng.normal(0, 1, (n, 20)), axis=1)
    spikes[..., 2] = rng.poisson(np.exp(np.clip(pace, -3, 2)))
    ds = ds.assign(
        spikes=(ds.spikes.dims, spikes.astype(np.uint8)),
        go=("trial", go),
        outcome=("trial", np.where(go, "hit", "miss").astype(object)),
        pace=(("trial", "time"), pace.astype(np.float32)),
        included=("trial", np.ones(n, bool)),
    )
    return ds.assign_attrs(
        kept=["go", "outcome"],
        signals=["pace"],
        conditions=["outcome"],
        decode=json.dumps({"go": "class", "pace": "trace", "lost": "trace"}),
    )


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> ibl_mtm.Cache:
    root = tmp_path_factory.mktemp("own") / "cache.zarr"
    create_cache(root)
    for seed in (1, 2):
        write_session(root, own_session(seed), make_regions())
    return ibl_mtm.open_cache(root)


@pytest.fixture(scope="module")
def scored(cache: ibl_mtm.Cache, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scored") / "psth"
    evaluate(folder, cache)
    return folder


def evaluate(folder: Path, cache: ibl_mtm.Cache, **tasks: Any) -> None:
    """Score a baseline; without the decoders that take seconds, and know a class from a trace."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decode_session, "GRADIENT_DECODERS", ())
        ibl_mtm.evaluate_baseline("psth", cache, into=folder, **tasks).write(folder)


def test_what_is_declared_is_scored_by_default(scored: Path, cache: ibl_mtm.Cache) -> None:
    run = read_scored_run(scored)
    go, pace = run.task("go"), run.task("pace")
    assert go["accuracy"] > 0.9
    assert 0.3 < go["chance"]["accuracy"] < 0.7
    assert pace["r2"] > 0.05 > pace["chance"]["r2"]
    assert go["n_sessions"] == pace["n_sessions"] == 2
    for eid in cache:
        of_session = run.scores["sessions"][eid]
        low, high = of_session["go"]["intervals"]["accuracy"]
        assert low <= of_session["go"]["accuracy"] <= high
        assert set(of_session["pace"]["intervals"]) == {"r2"}
        skipped = run.scores["skipped"][eid]
        assert skipped["lost"] == "the session has no lost"
        assert skipped["choice"] == "the session has no choice"
        assert "psth_r2" not in skipped


def test_mean_responses_are_by_what_is_declared(scored: Path, cache: ibl_mtm.Cache) -> None:
    run = read_scored_run(scored)
    assert run.task("co_smoothing")["psth_r2"] is not None
    session = run.session(next(iter(cache)))
    assert session["condition"].values.tolist() == ["outcome hit", "outcome miss"]
    # The baseline of mean responses takes them by it too.
    ds = cache[next(iter(cache))]
    split = as_text(ds.split)
    found = BaselineData.of(ds, split, as_text(ds.beryl)).condition["test"]
    hits = ds.outcome.values[split == "test"] == "hit"
    assert len(set(found)) == 2
    assert len(set(found[hits])) == len(set(found[~hits])) == 1


def test_tables_comparisons_and_the_report_have_them(
    scored: Path, cache: ibl_mtm.Cache, tmp_path: Path
) -> None:
    run = read_scored_run(scored)
    assert score_columns([run])[-2:] == [("Go", "accuracy"), ("Pace", "R²")]
    assert score_table([run])[0].cells[-2].value == run.task("go")["accuracy"]
    other = tmp_path / "again"
    evaluate(other, cache, tasks=["go"])
    pairs = {pair.task: pair for pair in compare_runs([scored, other])}
    assert pairs["go"].difference == 0
    page = tmp_path / "report.html"
    ibl_mtm.write_report([scored], page)
    text = page.read_text(encoding="utf-8")
    assert "Pace" in text
    assert "trace_pace" in text


def test_one_task_joins_the_others(scored: Path, cache: ibl_mtm.Cache, tmp_path: Path) -> None:
    folder = tmp_path / "both"
    for tasks in (["go"], ["pace", "co_smoothing"]):
        evaluate(folder, cache, tasks=tasks)
    whole, joined = (read_scored_run(path) for path in (scored, folder))
    for task, key in (("go", "accuracy"), ("pace", "r2"), ("co_smoothing", "bits_per_spike")):
        assert joined.task(task)[key] == pytest.approx(whole.task(task)[key], abs=2e-6)
        for eid, scores in whole.scores["sessions"].items():
            assert joined.scores["sessions"][eid][task] == scores[task]


def test_a_task_that_no_session_declares(cache: ibl_mtm.Cache) -> None:
    with pytest.raises(UserError, match=r"unknown task 'stop'; known: .*, go, pace, lost, or all"):
        ibl_mtm.evaluate_baseline("psth", cache, tasks=["stop"])


def test_test_trials_do_not_reach_what_is_fitted(cache: ibl_mtm.Cache) -> None:
    """Labels of test trials that are turned around: the same decoder, all of it wrong."""
    eid = next(iter(cache))
    ds = cache[eid].load()
    test = ds.split.values == "test"
    target = behaviours_of(ds)["go"].target(ds)
    turned = np.where(test, -target, target)
    features = Features(ds.spikes.values)
    a, b = (decode_class(features, labels, ~test, test) for labels in (target, turned))
    assert np.array_equal(a.logit, b.logit)
    assert b.accuracy == pytest.approx(1 - a.accuracy)


@pytest.mark.parametrize(
    ("values", "target"),
    [
        ([True, False, True], [1, -1, 1]),
        (["b", "", "a"], [1, 0, -1]),
        ([2.5, np.nan, 7.0], [-1, 0, 1]),
        ([3, 3, 9], [-1, -1, 1]),
        ([-1, -128, 1], [-1, 0, 1]),
    ],
)
def test_two_values_are_two_classes_in_their_order(values: list[Any], target: list[int]) -> None:
    array = np.array(values, dtype=object if isinstance(values[0], str) else None)
    ds = xr.Dataset({"go": ("trial", array)}, attrs={"bin_size": 0.02})
    assert own_behaviour("go", "class").target(ds).tolist() == target


def test_what_is_no_class_or_trace_says_why() -> None:
    ds = xr.Dataset({"tone": ("trial", [1.0, 2.0, 3.0])}, attrs={"bin_size": 0.02})
    with pytest.raises(Undecodable, match="no trace"):
        own_behaviour("tone", "trace").target(ds)


def test_a_built_in_behaviour_is_the_ibls_unless_the_session_has_its_own() -> None:
    declared = json.dumps({"choice": "class", "block": "class"})
    attributes = {"decode": declared, "kept": ["block"]}
    found = behaviours_of(xr.Dataset(attrs=attributes))
    assert found["choice"] is BEHAVIOURS["choice"]
    assert (found["block"].variable, found["block"].title) == ("block", "Block")


def test_behaviours_are_known_by_their_scores() -> None:
    found = behaviours_in(
        [{"go": {"accuracy": 1.0}, "co_smoothing": {"psth_r2": 0.1}}, {"x": None}]
    )
    assert list(found) == [*BEHAVIOURS, "go"]
    assert found["go"].score == "accuracy"
    assert behaviours_in([{"pace": {"r2": 0.1}}])["pace"].score == "r2"
