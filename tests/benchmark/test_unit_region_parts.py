"""Single steps towards the regions of units, without data or training."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from made_up_requests import EID, request_of

from ibl_mtm.benchmark.predict import unit_features, unit_regions
from ibl_mtm.benchmark.predict.unit_features import interval_histogram, model_rows
from ibl_mtm.benchmark.tasks import TASKS
from ibl_mtm.errors import SessionError, UserError


def test_rows_of_a_unit_stand_side_by_side() -> None:
    table = torch.arange(12.0).reshape(4, 3)
    model: Any = SimpleNamespace(
        scope=SimpleNamespace(rows_of=lambda units: torch.tensor([int(u) for u in units])),
        read_in=table,
        read_out=table[:, :2] + 100,
        read_out_bias=torch.tensor([7.0, 8, 9, 10]),
    )
    found = model_rows(model, np.array(["2", "0"]))
    np.testing.assert_array_equal(found, [[6, 7, 8, 106, 107, 9], [0, 1, 2, 100, 101, 7]])
    assert found.dtype == np.float64


def test_shares_of_intervals_by_hand() -> None:
    counts = np.histogram([0.01, 0.01, 0.5], unit_features._INTERVALS)[0]
    expected = np.log(counts / 3 + 0.003)
    np.testing.assert_allclose(interval_histogram(np.array([1.0, 1.01, 1.02, 1.52])), expected)
    silent = interval_histogram(np.array([3.0]))
    np.testing.assert_allclose(silent, np.full(len(expected), np.log(0.003)))


@pytest.mark.parametrize("regime", ["eval", "pretrain"])
def test_units_that_an_adapted_model_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, regime: Any
) -> None:
    """Of a recording that was adapted to it is a fault; of others they are left out."""
    units = pd.DataFrame({"id": ["a", "b", "c"], "target": [1, 2, 3]}, index=[0, 2, 3])
    monkeypatch.setattr(unit_regions, "scored_units", lambda recording, regime: units.copy())
    monkeypatch.setattr(unit_regions, "recordings_in", lambda *a: [EID])
    monkeypatch.setattr(
        unit_regions, "firing_features", lambda recording: np.arange(8.0).reshape(4, 2)
    )
    model: Any = SimpleNamespace(scope=SimpleNamespace(units=("c", "a", "x")))
    monkeypatch.setattr(unit_regions, "model_rows", lambda model, ids: [f"row {i}" for i in ids])
    told: list[str] = []
    request = request_of(tmp_path, EID)

    def found() -> pd.DataFrame:
        return unit_regions._units(
            request, TASKS["ts3-unit_cosmos"], regime, lambda eid: model, told.append
        )

    if regime == "eval":
        with pytest.raises(SessionError, match="the adapted model lacks units of the file"):
            found()
        model.scope.units = ("c", "b", "a", "x")
    table = found()
    kept = ["a", "b", "c"] if regime == "eval" else ["a", "c"]
    assert table["id"].tolist() == kept
    assert table["rows"].tolist() == [f"row {i}" for i in kept]
    firing = {"a": [0, 1], "b": [4, 5], "c": [6, 7]}
    assert [list(row) for row in table["firing"]] == [firing[i] for i in kept]
    assert set(table["subject"]) == {EID}  # nobody says whose
    assert len(told) == 1
    assert "when its units fire" in told[0]


def test_no_unit_and_no_recording_to_learn_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task, request = TASKS["ts3-unit_cosmos"], request_of(tmp_path, EID)
    monkeypatch.setattr(unit_regions, "recordings_in", lambda *a: [])
    with pytest.raises(UserError, match=r"holds no .* recording for pre-training"):
        unit_regions._units(request, task, "pretrain", None, print)
    empty = pd.DataFrame({"id": []})
    monkeypatch.setattr(unit_regions, "scored_units", lambda recording, regime: empty)
    with pytest.raises(UserError, match="no unit for eval has a region"):
        unit_regions._units(request, task, "eval", None, print)


@pytest.mark.parametrize("best", [("firing",), ("firing", "rows"), ("rows",)])
def test_features_are_those_that_tell_regions_of_other_animals(
    monkeypatch: pytest.MonkeyPatch, best: tuple[str, ...]
) -> None:
    target = np.tile([3, 8], 30)
    units = pd.DataFrame({"subject": np.repeat(["A", "B", "C"], 20), "target": target})
    for name, value in (("firing", 1.0), ("rows", 2.0)):
        units[name] = list(np.full((60, 1), value))

    def predict(classifier: Any, x: Any, target: Any, cv: Any) -> Any:
        right = x[0].tolist() == [{"firing": 1.0, "rows": 2.0}[name] for name in best]
        return target if right else target[::-1]

    monkeypatch.setattr(unit_regions, "cross_val_predict", predict)
    _, columns, chosen = unit_regions._choose(units, 0)
    assert columns == chosen["features"] == best
    assert chosen["F1 of other animals"] == 1.0
    *_, chosen = unit_regions._choose(units.drop(columns="rows"), 0)
    assert chosen["features"] == ("firing",)
    # Of what is as good the first is taken.
    monkeypatch.setattr(unit_regions, "cross_val_predict", lambda c, x, target, cv: target)
    _, columns, chosen = unit_regions._choose(units, 0)
    assert columns == ("firing",)
    assert chosen["classifier"] == next(name for name, _ in unit_regions._classifiers(0))
