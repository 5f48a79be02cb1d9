"""Single steps towards the regions of units, without data or training."""

import dataclasses
import json
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from made_up_requests import EID, request_of
from sklearn.exceptions import ConvergenceWarning

from ibl_mtm.benchmark.predict import unit_features, unit_regions
from ibl_mtm.benchmark.predict.requests import Report
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


@pytest.mark.parametrize("label", ["m", "m_multi"])
def test_a_seed_has_a_file_of_units_alone_and_one_of_their_neighbours_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, label: str
) -> None:
    """Whatever the label is called; and what is there is not made again."""
    written, asked, told = dict[str, Any](), list[str](), list[str]()
    units = pd.DataFrame({"name": ["e/u", "e/v"], "target": [3, 8], "version": ["0.1.2", "0.1.3"]})
    units["firing"] = list(np.eye(2))

    def units_of(request: Any, task: Any, regime: str, model_of: Any, say: Any) -> pd.DataFrame:
        asked.append(regime)
        assert model_of is None
        return units

    class Classifier:
        classes_ = np.array([3, 8])

        def fit(self, x: Any, y: Any) -> "Classifier":
            assert (x.tolist(), y.tolist()) == ([[1, 0], [0, 1]], [3, 8])
            warnings.warn("it stops where its passes are over", ConvergenceWarning, stacklevel=2)
            return self

        def predict_proba(self, x: Any) -> Any:
            return x * 0.75 + 0.125

    def write(out: Path, place: Any, tensors: Any, about: Any) -> None:
        written[place.path] = tensors["pred_proba"], about
        (out / place.path).parent.mkdir(parents=True)
        (out / place.path).touch()

    monkeypatch.setattr(unit_regions, "_units", units_of)
    monkeypatch.setattr(
        unit_regions, "_choose", lambda units, seed: (Classifier(), ("firing",), {"seed": seed})
    )
    monkeypatch.setattr(unit_regions, "average_neighbours", lambda odds, units: odds / 2)
    monkeypatch.setattr(unit_regions, "write_predictions", write)
    request = dataclasses.replace(request_of(tmp_path, EID), label=label)
    request.work.mkdir(parents=True)
    paths = [f"{label}{more}/ts3-unit_cosmos/seed_5.safetensors" for more in ("", "_multi")]
    first, again, half = Report(), Report(), Report()
    for report in (first, again):
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # of what is meant nobody is warned
            unit_regions.predict_regions(
                request, TASKS["ts3-unit_cosmos"], 5, report, told.append, None
            )
    assert (first.written, first.skipped) == (paths, [])
    assert (again.written, again.skipped) == ([], paths)
    assert asked == ["pretrain", "eval"]
    assert told == ["ts3-unit_cosmos, seed 5: 2 units to learn from, 2 to tell"]
    odds = np.zeros((2, 10), np.float32)
    odds[0, [3, 8]], odds[1, [3, 8]] = [0.875, 0.125], [0.125, 0.875]
    for path, factor in zip(paths, (1, 2), strict=True):
        found, about = written[path]
        np.testing.assert_allclose(found, odds / factor)
        assert found.dtype == np.float32
        assert about["dataset_version"] == "0.1.2"
        assert about["unit_filtering"] == "selected_units"
        assert about["label_names"].split(",")[3] == "HB"
    assert json.loads((request.work / "ts3_seed_5.json").read_text()) == {"seed": 5}
    (tmp_path / paths[0]).unlink()
    (tmp_path / paths[0]).parent.rmdir()
    unit_regions.predict_regions(request, TASKS["ts3-unit_cosmos"], 5, half, told.append, None)
    assert (half.written, half.skipped) == (paths[:1], paths[1:])


def test_animals_are_dealt_to_five_folds_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    folds: list[int] = []

    def predict(classifier: Any, x: Any, target: Any, cv: Any) -> Any:
        folds.append(len(cv))
        return np.where(np.arange(len(target)) < 2, 3, target)  # one of two is wrong

    monkeypatch.setattr(unit_regions, "cross_val_predict", predict)
    for n_animals in (1, 2, 5, 7):
        units = pd.DataFrame({"subject": np.repeat(np.arange(n_animals).astype(str), 4)})
        units["target"] = np.tile([3, 8], 2 * n_animals)
        units["firing"] = list(np.zeros((4 * n_animals, 1)))
        *_, chosen = unit_regions._choose(units, 0)
        score = chosen["F1 of other animals"]
        if n_animals == 1:
            assert np.isnan(score)
        else:  # of the first region one is told too many, of the second one is missed
            n = 2 * n_animals
            expected = (2 * n / (2 * n + 1) + 2 * (n - 1) / (2 * n - 1)) / 2
            assert score == pytest.approx(expected)
    assert sorted(set(folds)) == [2, 5]
