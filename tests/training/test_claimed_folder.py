"""The folder of a run: when it is taken, what of it is removed, and what is written first."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import yaml
from training_runs import tiny_settings

from ibl_mtm.disk.ownership import MARKER, is_marked, mark
from ibl_mtm.errors import UserError
from ibl_mtm.training import folder
from ibl_mtm.training.folder import (
    CHECKPOINT,
    claim_folder,
    empty_folder,
    is_run,
    on_first_process,
    settle_rank,
    write_request,
)


def claim(run, **how):
    return claim_folder(run, **{"resume": False, "overwrite": False} | how)


@pytest.mark.parametrize("left", ["model.safetensors", str(CHECKPOINT), "training.json"])
def test_anything_that_a_training_left_keeps_its_folder(tmp_path, left):
    mark(tmp_path, "run")
    (tmp_path / left).parent.mkdir(exist_ok=True)
    (tmp_path / left).write_text("")
    with pytest.raises(UserError, match="exists; use --overwrite"), claim(tmp_path):
        pass
    with claim(tmp_path, overwrite=True):
        pass
    if left == str(CHECKPOINT):
        with claim(tmp_path, resume=True):
            pass
    else:
        with pytest.raises(UserError, match="no checkpoint"), claim(tmp_path, resume=True):
            pass


def test_a_training_that_got_nowhere_does_not_keep_its_folder(tmp_path):
    mark(tmp_path, "run")
    (tmp_path / "config.yaml").write_text("")
    with claim(tmp_path), pytest.raises(UserError, match="in use"), claim(tmp_path):
        pass
    with claim(tmp_path):  # it was let go of
        pass


def test_of_what_is_refused_nothing_is_left_but_what_was_there(tmp_path):
    deep, full, empty = tmp_path / "a" / "b", tmp_path / "full", tmp_path / "empty"
    empty.mkdir()

    def begin(run):
        with claim(run):
            if run is full:
                mark(run, "run")
                (run / "config.yaml").write_text("begun")
            raise ValueError("refused")

    for run in (deep, full, empty):
        with pytest.raises(ValueError, match="refused"):
            begin(run)
    assert not (tmp_path / "a").exists()
    assert is_marked(full, "run")
    assert (full / "config.yaml").read_text() == "begun"
    assert empty.is_dir()


def test_other_processes_of_a_training_claim_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(folder.rank_zero_only, "rank", 1)
    assert not on_first_process()
    with claim(tmp_path / "run", resume=True):
        assert not (tmp_path / "run").exists()
    settle_rank(2)
    assert not on_first_process()
    settle_rank(1)
    assert on_first_process()


@pytest.mark.parametrize(("n", "told"), [(2, "f0, f1;"), (3, "f0, f1, f2;"), (5, "f0, f1, f2;")])
def test_of_what_is_in_somebody_elses_folder_three_names_are_told(tmp_path, n, told):
    for number in reversed(range(n)):
        (tmp_path / f"f{number}").write_text("")
    with pytest.raises(UserError, match=f"not the folder of a run: it holds {told}"):
        claim(tmp_path).__enter__()
    assert len(list(tmp_path.iterdir())) == n


LEAST = "data: {}\nmasks: {}\nmodel: {}\noptimizer: {}\ntrainer: {}\n"


@pytest.mark.parametrize(
    ("settings", "units", "is_one"),
    [
        (LEAST, True, True),
        (LEAST + "seed: 3\n", True, True),
        (LEAST, False, False),
        (None, True, False),
        (LEAST.replace("masks: {}\n", ""), True, False),
        ("[data, masks, model, optimizer, trainer]", True, False),
        ("data: [", True, False),
        (b"\xff\xfe\x00", True, False),
    ],
    ids=["least", "more", "no units", "no settings", "no masks", "a list", "no YAML", "no text"],
)
def test_a_run_without_a_marker_is_known_by_its_settings_and_units(
    tmp_path, settings, units, is_one
):
    if settings is not None:
        text = settings if isinstance(settings, bytes) else settings.encode()
        (tmp_path / "config.yaml").write_bytes(text)
    if units:
        (tmp_path / "units.parquet").write_bytes(b"")
    assert is_run(tmp_path) == is_one
    mark(tmp_path, "cache")
    assert is_run(tmp_path) == is_one
    mark(tmp_path, "run")
    assert is_run(tmp_path)


def test_what_was_begun_to_be_written_goes_with_the_rest(tmp_path):
    kept = {"notes.txt", ".notes.x1", "own.model.x1"}
    gone = {"metrics.json", "model.safetensors", ".model.x1.tmp", ".training.x2", ".units.x3"}
    for name in kept | gone:
        (tmp_path / name).write_text("")
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "events").write_text("")
    empty_folder(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == kept | {MARKER}
    assert is_marked(tmp_path, "run")


def test_units_of_sessions_that_are_not_at_hand_are_written_down_without_rates(tmp_path):
    settings = tiny_settings()
    write_request(tmp_path, settings, [], {"e1": ["u3", "u1"], "e2": ["v1"]})
    table = pd.read_parquet(tmp_path / "units.parquet")
    assert table.eid.tolist() == ["e1", "e1", "e2"]
    assert table.unit.tolist() == ["u3", "u1", "v1"]
    assert table.index.tolist() == [0, 1, 2]
    assert table.training_rate.isna().all()
    assert not (tmp_path / "trials.parquet").exists()
    kept = yaml.safe_load((tmp_path / "config.yaml").read_text())
    assert list(kept) == list(settings.model_dump())  # in the order of the documentation
    write_request(tmp_path, settings, [])
    table = pd.read_parquet(tmp_path / "units.parquet")
    assert table.columns.tolist() == ["eid", "unit", "region", "training_rate"]
    assert not len(table)


def test_units_of_all_sessions_are_numbered_on():
    training = SimpleNamespace(log_mean=np.log([0.5, 2.0]))
    one, two = (
        SimpleNamespace(eid=eid, units=units, region=["CA1", ""], training=training)
        for eid, units in (("e1", ["u1", "u2"]), ("e2", ["v1", "v2"]))
    )
    table = folder._unit_table([one, two])
    assert table.index.tolist() == [0, 1, 2, 3]
    np.testing.assert_allclose(table.training_rate, [0.5, 2, 0.5, 2])
