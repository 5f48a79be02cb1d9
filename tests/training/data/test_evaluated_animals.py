"""Animals that the benchmark evaluates are in no training together with others."""

from pathlib import Path
from typing import Any

import pytest
from synthetic import make_regions, make_session

from ibl_mtm.brainsets.layout import EVAL_RECORDING_IDS
from ibl_mtm.cache.cache import Cache, open_cache
from ibl_mtm.cache.store import create_cache, write_session
from ibl_mtm.errors import UserError
from ibl_mtm.training.data.evaluated_animals import refuse_evaluated
from ibl_mtm.training.run import train
from ibl_mtm.training.settings import read_run_settings


def _cache(root: Path, *sessions: dict[str, Any]) -> Cache:
    create_cache(root)
    for seed, attributes in enumerate(sessions):
        write_session(root, make_session(seed=seed, **attributes), make_regions())
    return open_cache(root)


def test_an_evaluated_animal_among_others_is_refused(tmp_path: Path) -> None:
    listed = {"eid": EVAL_RECORDING_IDS[0], "subject": "a_mouse"}
    cache = _cache(
        tmp_path / "c.zarr",
        {"subject": "other"},
        listed,
        {"subject": "a_mouse"},
        {"subject": "NYU-11"},
    )
    said = (
        r"3 of 4 sessions are of animals that BrainWideBench evaluates: .*; .*"
        r"--where \"subject != 'NYU-11' and subject != 'a_mouse'\""
    )
    with pytest.raises(UserError, match=said):
        refuse_evaluated(cache)
    left = cache.where("subject != 'NYU-11' and subject != 'a_mouse'")
    refuse_evaluated(left)
    # On them alone is adaptation, or a model of one session.
    refuse_evaluated(cache.where("subject == 'a_mouse'"))


def test_what_a_file_says_counts_too(tmp_path: Path) -> None:
    cache = _cache(
        tmp_path / "c.zarr",
        {"subject": "x", "role": "finetune", "brainset": {"regime": "eval"}},
        {"subject": "y", "brainset": {"regime": "pretrain"}},
        {"subject": "z", "role": "finetune"},
    )
    with pytest.raises(UserError, match=r"1 of 3 sessions .*its file is for evaluation.*'x'"):
        refuse_evaluated(cache)
    refuse_evaluated(cache.where("subject != 'x'"))


def test_a_training_refuses_them_unless_it_is_told_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = _cache(tmp_path / "c.zarr", {"subject": "KS014"}, {"subject": "other"})
    settings = read_run_settings("mtm_small", ["steps=1"])
    with pytest.raises(UserError, match=r"data\.evaluated_animals=use"):
        train(settings, cache, tmp_path / "run")
    assert not (tmp_path / "run" / "config.yaml").exists()
    monkeypatch.setattr("ibl_mtm.training.run.fit", lambda *_, **__: "trained")
    allowed = read_run_settings("mtm_small", ["steps=1", "data.evaluated_animals=use"])
    assert train(allowed, cache, tmp_path / "run") == "trained"
