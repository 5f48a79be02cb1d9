"""Single steps of scoring, without data."""

from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from made_up_requests import EID, data_of

from ibl_mtm.benchmark import score
from ibl_mtm.benchmark.entity_ids import encode_ids
from ibl_mtm.benchmark.tasks import TASKS
from ibl_mtm.errors import SessionError


def test_a_recording_that_is_not_there_and_units_that_are_missing() -> None:
    failed: dict[str, str] = {}
    task: Any = TASKS["ts1-choice"]
    group: Any = [(None, SimpleNamespace(name="a")), (None, SimpleNamespace(name="b"))]
    assert list(score._score_group(task, "x", group, data_of(EID), failed)) == []
    assert failed == dict.fromkeys("ab", "no file of recording x in root")
    odds = np.eye(10)[[3, 0, 8]]
    tensors = {"pred_proba": odds, "entity_ids": encode_ids(pd.Series(["u3", "other", "u8"]))}
    units = pd.DataFrame({"name": ["u8", "u3"], "target": [8, 3]})
    right = score._score_ts3(tensors, units)
    wrong = score._score_ts3(tensors, units.assign(target=[3, 8]))
    assert (right["HB/recall"], right["macro/f1-score"]) == (1.0, 0.2)
    assert set(wrong.values()) == {0.0}
    with pytest.raises(ValueError, match="1 units are missing, as u9"):
        score._score_ts3(tensors, pd.DataFrame({"name": ["u8", "u9"], "target": [8, 3]}))


def test_a_recording_that_cannot_be_read_fails_its_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(*arguments: Any) -> Any:
        raise SessionError(EID, "fetch it anew")
        yield

    entries = [SimpleNamespace(name=f"l/ts1-choice/{EID}/seed_{s}.safetensors") for s in (1, 2)]

    @contextmanager
    def submissions(path: Path, label: str | None) -> Any:
        yield {"l": entries}

    monkeypatch.setattr(score, "open_submission", submissions)
    monkeypatch.setattr(score, "_score_group", breaks)
    told: list[str] = []
    found = score.score_submissions(tmp_path, data_of(EID), say=told.append)
    assert set(found.failed) == {entry.name for entry in entries}
    assert all("fetch it anew" in why for why in found.failed.values())
    assert told == [f"ts1-choice {EID}: 2 files"]
    assert found.table.empty
