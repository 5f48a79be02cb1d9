"""Scores join those that a folder holds, session by session and task by task, and lose none."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from synthetic import make_regions, make_session

from ibl_mtm.cache.cache import open_cache
from ibl_mtm.cache.store import create_cache, write_session
from ibl_mtm.config.yaml_settings import validate_settings
from ibl_mtm.errors import UserError
from ibl_mtm.evaluation.evaluate import evaluate, evaluate_baseline
from ibl_mtm.evaluation.merge import PAIRS
from ibl_mtm.training.run import train
from ibl_mtm.training.settings import RunSettings

pytestmark = pytest.mark.usefixtures("short")

TASKS = ["co_smoothing", "inter_region", "choice", "wheel_speed"]
SETTINGS = {
    "model": {"width": 16, "layers": 1, "heads": 2, "mlp": 16, "stitch_width": None},
    "data": {"min_units_per_region": 3},
    "steps": 4,
    "validate_every": 2,
}


def settings(**changes):
    return validate_settings(SETTINGS | changes, RunSettings, "test")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Two sessions of unequal size, of one of which trials were dropped."""
    folder = tmp_path_factory.mktemp("merge")
    create_cache(folder / "cache.zarr")
    one = make_session(n_units=15, n_trials=50, n_bins=20, seed=1)
    two = make_session(n_units=20, n_trials=60, n_bins=20, seed=2)
    for ds in (one.isel(trial=np.flatnonzero(np.arange(50) % 6 != 2)), two):
        write_session(folder / "cache.zarr", ds, make_regions())
    cache = open_cache(folder / "cache.zarr")
    train(settings(), cache, folder / "run", progress=False)
    whole = evaluate(folder / "run", cache, tasks=TASKS)
    whole.write(folder / "run")
    return folder / "run", cache, whole


@pytest.fixture
def copy(trained, tmp_path):
    return shutil.copytree(trained[0], tmp_path / "run")


def close(a, b):
    """Whether two documents hold the same scores; means of rounded numbers are a hair away."""
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(close(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(close, a, b))
    return a == pytest.approx(b, abs=2e-6) if isinstance(a, float) else a == b


def scores(folder):
    metrics = json.loads((folder / "metrics.json").read_text())
    return {key: metrics[key] for key in ("tasks", "sessions", "skipped", "region_pairs")}


def test_a_part_that_is_scored_again_leaves_the_rest(trained, copy):
    """One task of one session once replaced twelve tasks of four."""
    run, cache, _ = trained
    eid = list(cache)[1]
    for tasks, sessions in ((["choice"], [eid]), (["inter_region"], [eid]), (TASKS[:1], None)):
        evaluate(copy, cache, tasks=tasks, sessions=sessions, into=copy).write(copy)
    assert close(scores(copy), scores(run))
    tables = [pd.read_parquet(folder / "per_unit.parquet") for folder in (run, copy)]
    pd.testing.assert_frame_equal(*tables)
    for group in (run / "evaluation.zarr").iterdir():
        assert (copy / "evaluation.zarr" / group.name / "zarr.json").is_file()


def test_parts_add_up_to_the_whole(trained, copy):
    run, cache, _ = trained
    for name in ("metrics.json", "per_unit.parquet", PAIRS):
        (copy / name).unlink()
    one, two = cache
    for tasks, eid in ((TASKS[2:], one), (TASKS, two), (TASKS[:2], one)):
        evaluate(copy, cache, tasks=tasks, sessions=[eid], into=copy).write(copy)
    found, whole = scores(copy), scores(run)
    assert list(found["tasks"]) == list(whole["tasks"])
    assert close(found, whole)


def test_a_task_that_no_session_had_stays_asked_for(trained, copy):
    _, cache, _ = trained
    file = copy / "metrics.json"
    before = json.loads(file.read_text())
    before["tasks"]["lever"] = None
    for eid in before["skipped"]:
        before["skipped"][eid]["lever"] = "the session has no lever"
    file.write_text(json.dumps(before))
    evaluate(copy, cache, tasks=["choice"], sessions=[next(iter(cache))], into=copy).write(copy)
    after = json.loads(file.read_text())
    assert list(after["tasks"]) == list(before["tasks"])
    assert after["tasks"]["lever"] is None
    assert after["skipped"] == before["skipped"]


def test_true_rates_stay_where_a_new_score_has_none(trained, copy):
    _, cache, _ = trained
    table = pd.read_parquet(copy / "per_unit.parquet")
    table["oracle"] = np.linspace(0.2, 0.4, len(table))
    table.to_parquet(copy / "per_unit.parquet")
    evaluate(copy, cache, tasks=["co_smoothing"], into=copy).write(copy)
    assert pd.read_parquet(copy / "per_unit.parquet")["oracle"].tolist() == table.oracle.tolist()
    assert 0.2 < scores(copy)["tasks"]["co_smoothing"]["oracle"] < 0.4


def test_scores_of_another_model_or_other_data_are_refused_before_scoring(
    trained, copy, tmp_path, monkeypatch
):
    _, cache, _ = trained
    other = tmp_path / "other"
    train(settings(seed=1), cache, other, progress=False)
    shutil.copy(other / "model.safetensors", copy)

    def score(*arguments):
        raise AssertionError("nothing is to be scored")

    with monkeypatch.context() as patched:
        patched.setattr("ibl_mtm.evaluation.evaluate.score_session", score)
        with pytest.raises(UserError, match=r"another model.*--overwrite"):
            evaluate(copy, cache, tasks=["choice"], into=copy)
        with pytest.raises(UserError, match="folder of a run"):
            evaluate_baseline("psth", cache, tasks=["choice"], into=copy)
        metrics = json.loads((copy / "metrics.json").read_text())
        del metrics["provenance"]["model"]
        (copy / "metrics.json").write_text(json.dumps(metrics))
        with pytest.raises(UserError, match="an earlier version wrote them"):
            evaluate(copy, cache, tasks=["choice"], into=copy)
        (copy / "metrics.json").write_text("{}")
        with pytest.raises(UserError, match="holds no scores of `ibl-mtm eval`"):
            evaluate(copy, cache, tasks=["choice"], into=copy)
        (tmp_path / "file").write_text("")
        with pytest.raises(UserError, match=r"cannot write .*file: .* is a file"):
            evaluate_baseline("psth", cache, tasks=["choice"], into=tmp_path / "file")
    found = evaluate(copy, cache, tasks=["choice"], into=copy, overwrite=True)
    found.write(copy, overwrite=True)
    assert set(scores(copy)["tasks"]) == {"choice"}
    assert not (copy / "evaluation.zarr").exists()


def test_baselines_join_their_own_kind_only(trained, tmp_path):
    run, cache, _ = trained
    out = tmp_path / "psth"
    for task in ("forward_prediction", "co_smoothing"):
        evaluate_baseline("psth", cache, tasks=[task], into=out).write(out)
    assert list(scores(out)["tasks"]) == ["co_smoothing", "forward_prediction"]
    with pytest.raises(UserError, match="they are psth, not unit_mean"):
        evaluate_baseline("unit_mean", cache, tasks=["co_smoothing"], into=out)
    with pytest.raises(UserError, match="other settings"):
        evaluate_baseline("psth", cache, like=run, tasks=["co_smoothing"], into=out)


def test_an_evaluation_that_cannot_be_written_whole_leaves_the_one_before(
    trained, copy, monkeypatch
):
    _, _, whole = trained
    before = {p.name: p.read_bytes() for p in copy.iterdir() if p.is_file()}

    def full(self, *arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pd.DataFrame, "to_parquet", full)
    with pytest.raises(OSError, match="No space"):
        whole.write(copy)
    assert {p.name: p.read_bytes() for p in copy.iterdir() if p.is_file()} == before
