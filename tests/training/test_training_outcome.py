"""What a training leaves when it has ended, and a request that resumes or begins."""

import pytest
from lightning.pytorch.callbacks import Timer
from synthetic import make_regions, make_session

from ibl_mtm.cache.cache import open_cache
from ibl_mtm.cache.store import create_cache, write_session
from ibl_mtm.disk.ownership import mark
from ibl_mtm.errors import UserError
from ibl_mtm.evaluation.evaluate import evaluate
from ibl_mtm.training.checkpoint.pretrained import load_model
from ibl_mtm.training.folder import CHECKPOINT
from ibl_mtm.training.outcome import OUTCOME, read_outcome
from ibl_mtm.training.run import train
from ibl_mtm.training.settings import read_run_settings

SETTINGS = read_run_settings(
    "mtm_small",
    ["steps=4", "validate_every=2", "model.width=16", "model.layers=1", "model.heads=2", "seed=3"],
)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    root = tmp_path_factory.mktemp("outcome") / "cache.zarr"
    create_cache(root)
    write_session(root, make_session(n_units=15, n_trials=40, n_bins=20, seed=1), make_regions())
    return open_cache(root)


def test_a_finished_training_tells_what_it_took(cache, tmp_path):
    report = train(SETTINGS, cache, tmp_path / "run", progress=False)
    outcome = read_outcome(tmp_path / "run")
    assert outcome.items() >= report.to_json().items()
    assert (outcome["seed"], outcome["n_sessions"]) == (3, 1)
    assert {"commit", "threads", "torch", "ibl_mtm"} <= outcome.keys()
    assert outcome["cache"] == str(cache.path.resolve())


def test_names_and_paths_train_and_score_the_same(cache, tmp_path):
    given = {
        "base": "mtm_small",
        **SETTINGS.model_dump(include={"steps", "validate_every", "seed"}),
    }
    given["model"] = {"width": 16, "layers": 1, "heads": 2}
    train(SETTINGS, cache, tmp_path / "a", progress=False)
    train(given, str(cache.path), str(tmp_path / "b"), progress=False)
    first, second = (tmp_path / name / "model.safetensors" for name in "ab")
    assert first.read_bytes() == second.read_bytes()
    by_path, by_cache = (
        evaluate(tmp_path / "a", given, tasks=["co_smoothing"]).metrics["tasks"]
        for given in (cache.path, cache)
    )
    assert by_path == by_cache
    assert repr(load_model(tmp_path / "a")).startswith("MtM of 1 session, 15 units, ")


def test_an_unfinished_training_has_no_outcome(cache, tmp_path, monkeypatch):
    def stop(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("ibl_mtm.training.run.write_outcome", stop)
    with pytest.raises(KeyboardInterrupt):
        train(SETTINGS, cache, tmp_path / "run", progress=False)
    assert (tmp_path / "run" / "model.safetensors").is_file()
    assert read_outcome(tmp_path / "run") is None


def test_resume_with_overwrite_begins_where_nothing_was_begun_and_else_goes_on(cache, tmp_path):
    run = tmp_path / "run"
    with pytest.raises(UserError, match="no checkpoint"):
        train(SETTINGS, cache, run, resume=True, progress=False)
    assert not run.exists()
    run.mkdir()
    mark(run, "run")
    (run / "logs").mkdir()
    (run / "logs" / "leftover").write_text("of a training killed before its first checkpoint")
    train(SETTINGS, cache, run, resume=True, overwrite=True, progress=False)
    assert not (run / "logs" / "leftover").exists()
    before = (run / "model.safetensors").read_bytes()
    (run / OUTCOME).unlink()
    assert (run / CHECKPOINT).is_file()
    train(SETTINGS, cache, run, resume=True, overwrite=True, progress=False)
    assert read_outcome(run) is not None
    assert (run / "model.safetensors").read_bytes() == before


def test_the_time_before_a_resumption_counts(cache, tmp_path, monkeypatch):
    with monkeypatch.context() as slow:
        slow.setattr(Timer, "state_dict", lambda timer: {"time_elapsed": {"train": 3600.0}})
        train(SETTINGS, cache, tmp_path / "run", progress=False)
    train(SETTINGS, cache, tmp_path / "run", resume=True, progress=False)
    assert read_outcome(tmp_path / "run")["seconds"] >= 3600
