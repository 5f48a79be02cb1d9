"""A session that is damaged is left out by name; the others are scored as if it were not there."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from synthetic import make_regions, make_session
from typer.testing import CliRunner

from ibl_mtm.cache.cache import open_cache
from ibl_mtm.cache.store import create_cache, write_session
from ibl_mtm.cli import app
from ibl_mtm.config.yaml_settings import validate_settings
from ibl_mtm.errors import SessionError
from ibl_mtm.evaluation.evaluate import evaluate, evaluate_baseline
from ibl_mtm.evaluation.scored_run import read_scored_run
from ibl_mtm.report.words import notes
from ibl_mtm.training.run import train
from ibl_mtm.training.settings import RunSettings

pytestmark = pytest.mark.usefixtures("short")

TASKS = ["co_smoothing", "choice"]
SETTINGS = {
    "model": {"width": 8, "layers": 1, "heads": 2, "mlp": 8, "stitch_width": None},
    "data": {"min_units_per_region": 3},
    "steps": 1,
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Three sessions of unequal size, of one of which trials were dropped."""
    folder = tmp_path_factory.mktemp("damaged")
    create_cache(folder / "cache.zarr")
    sessions = [make_session(n_units=12 + s, n_trials=40, n_bins=10, seed=s) for s in (1, 2, 3)]
    sessions[0] = sessions[0].isel(trial=np.flatnonzero(np.arange(40) % 6 != 2))
    for ds in sessions:
        write_session(folder / "cache.zarr", ds, make_regions())
    settings = validate_settings(SETTINGS, RunSettings, "test")
    train(settings, open_cache(folder / "cache.zarr"), folder / "run", progress=False)
    return folder, evaluate(folder / "run", open_cache(folder / "cache.zarr"), tasks=TASKS)


@pytest.fixture
def folder(trained, tmp_path):
    """A copy, to be damaged."""
    return shutil.copytree(trained[0], tmp_path / "copy")


def flip(file, position=-9):
    content = bytearray(file.read_bytes())
    content[position] ^= 1
    file.write_bytes(content)


DAMAGE = {
    "metadata": lambda group: (group / "zarr.json").write_text("{"),
    "a chunk of spikes": lambda group: flip(group / "spikes" / "c" / "0" / "0" / "0"),
    "a chunk that is gone": lambda group: (group / "spikes" / "c" / "0" / "0" / "0").unlink(),
    "what the trials are": lambda group: flip(group / "trial" / "c" / "0"),
}


@pytest.mark.parametrize("spoil", DAMAGE.values(), ids=DAMAGE)
def test_it_is_left_out_by_name_and_the_others_have_their_scores(trained, folder, spoil):
    whole = trained[1].metrics
    first, damaged, last = open_cache(folder / "cache.zarr")
    spoil(folder / "cache.zarr" / damaged)
    found = evaluate(folder / "run", open_cache(folder / "cache.zarr"), tasks=TASKS)
    assert list(found.metrics["failed"]) == [damaged]
    assert "check CACHE --repair" in found.metrics["failed"][damaged]
    assert list(found.metrics["sessions"]) == [first, last]
    assert found.metrics["sessions"] == {e: whole["sessions"][e] for e in (first, last)}
    assert set(found.per_unit["eid"]) == {first, last}
    mean = np.mean([whole["sessions"][e]["co_smoothing"]["bits_per_spike"] for e in (first, last)])
    assert found.metrics["tasks"]["co_smoothing"]["bits_per_spike"] == pytest.approx(mean, abs=2e-6)


def test_nothing_failed_of_what_is_whole(trained):
    assert trained[1].metrics["failed"] == {}


def test_a_baseline_leaves_it_out_too(folder):
    """The first one, by which it is reckoned how many fit into memory."""
    damaged, *rest = open_cache(folder / "cache.zarr")
    DAMAGE["metadata"](folder / "cache.zarr" / damaged)
    found = evaluate_baseline("unit_mean", open_cache(folder / "cache.zarr"), tasks=TASKS[:1])
    assert list(found.metrics["failed"]) == [damaged]
    assert list(found.metrics["sessions"]) == rest


def test_the_command_says_so_and_ends_with_1(folder):
    damaged = list(open_cache(folder / "cache.zarr"))[1]
    flip(folder / "cache.zarr" / damaged / "spikes" / "c" / "0" / "0" / "0")
    words = ["eval", str(folder / "run"), "--cache", str(folder / "cache.zarr")]
    result = CliRunner().invoke(app, [*words, "--task", "co-smoothing"])
    assert result.exit_code == 1
    told = " ".join(result.output.split())
    assert f"left out {damaged}: " in told
    document = json.loads((folder / "run" / "metrics.json").read_text())
    assert list(document["failed"]) == [damaged]
    assert len(pd.read_parquet(folder / "run" / "per_unit.parquet")["eid"].unique()) == 2
    assert any(damaged in note for note in notes([read_scored_run(folder / "run")]))


@pytest.mark.parametrize("spoil", DAMAGE.values(), ids=DAMAGE)
def test_where_no_session_can_be_read_there_is_nothing_to_write(folder, spoil):
    for eid in open_cache(folder / "cache.zarr"):
        spoil(folder / "cache.zarr" / eid)
    with pytest.raises(SessionError, match="check CACHE --repair"):
        evaluate(folder / "run", open_cache(folder / "cache.zarr"), tasks=TASKS)


def test_scores_join_those_of_before_and_a_mended_session_failed_no_longer(trained, folder):
    damaged = list(open_cache(folder / "cache.zarr"))[1]
    chunk = folder / "cache.zarr" / damaged / "spikes" / "c" / "0" / "0" / "0"
    content = chunk.read_bytes()
    flip(chunk)
    run = folder / "run"
    evaluate(run, open_cache(folder / "cache.zarr"), tasks=TASKS).write(run)
    chunk.write_bytes(content)
    cache = open_cache(folder / "cache.zarr")
    evaluate(run, cache, tasks=TASKS[:1], sessions=[next(iter(cache))]).write(run)
    assert list(json.loads((run / "metrics.json").read_text())["failed"]) == [damaged]
    evaluate(run, cache, tasks=TASKS, sessions=[damaged]).write(run)
    joined = json.loads((run / "metrics.json").read_text())
    assert joined["failed"] == {}
    assert joined["sessions"].keys() == trained[1].metrics["sessions"].keys()


def test_what_was_scored_before_is_not_called_left_out(folder):
    run, cache = folder / "run", open_cache(folder / "cache.zarr")
    evaluate(run, cache, tasks=TASKS[:1]).write(run)
    damaged = list(cache)[1]
    flip(folder / "cache.zarr" / damaged / "spikes" / "c" / "0" / "0" / "0")
    evaluate(run, open_cache(cache.path), tasks=TASKS).write(run)
    (note,) = [note for note in notes([read_scored_run(run)]) if damaged in note]
    assert f"{damaged} was not scored again: " in note
