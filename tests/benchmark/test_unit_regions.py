"""Regions of units: whose units count, what is learned from whom, neighbours, what is kept."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load

from ibl_mtm.benchmark.data import BenchmarkData
from ibl_mtm.benchmark.predict import unit_regions
from ibl_mtm.benchmark.predict.requests import Request, run_benchmark
from ibl_mtm.benchmark.predict.unit_features import firing_features
from ibl_mtm.benchmark.predict.unit_regions import average_neighbours
from ibl_mtm.benchmark.submission import Place, open_submission
from ibl_mtm.benchmark.tasks import TASKS
from ibl_mtm.benchmark.truth import scored_units
from ibl_mtm.brainsets.layout import REGIMES, recordings_in
from ibl_mtm.brainsets.recording import Recording

TASK = TASKS["ts3-unit_cosmos"]


@pytest.fixture(scope="module")
def data(wide_map: Path) -> BenchmarkData:
    return BenchmarkData(wide_map)


def test_probes_in_doubt_are_learned_from_and_not_asked_for(data: BenchmarkData) -> None:
    found = {}
    for regime in REGIMES:
        kept, all_ = [], []
        for eid in recordings_in(data.root, "all_units", regime):
            with data.open("ts1", eid, regime) as recording:
                kept += scored_units(recording, regime)["qc_neural"].tolist()
                all_ += recording.units["qc_neural"].tolist()
        assert set(all_) == {"PASS", "WARNING", "FAIL"}
        found[regime] = set(kept)
    assert found == {"eval": {"PASS"}, "pretrain": {"PASS", "WARNING"}}


def test_a_recording_without_units_has_as_many_features_as_another() -> None:
    """A rate, 24 shares of intervals and 25 lags."""

    def features(n_units: int) -> np.ndarray:
        spikes = SimpleNamespace(times=np.array([0.5] * n_units), units=np.arange(n_units))
        unit_ids = [str(unit) for unit in range(n_units)]
        return firing_features(SimpleNamespace(spikes=lambda: spikes, unit_ids=unit_ids))

    assert [features(n).shape for n in (0, 2)] == [(0, 50), (2, 50)]


def test_neighbours_are_the_nearest_five_of_the_same_probe() -> None:
    rng = np.random.default_rng(0)
    n = 60
    units = pd.DataFrame(
        {"depths": rng.uniform(0, 600, n), "probe_id": rng.choice(["a", "b", "c"], n)}
    )
    odds = rng.dirichlet(np.ones(10), n)
    found = average_neighbours(odds, units)
    sizes = set()
    for at, unit in units.iterrows():
        near = [
            (abs(other.depths - unit.depths), row)
            for row, other in units.iterrows()
            if other.probe_id == unit.probe_id and abs(other.depths - unit.depths) <= 60
        ]
        rows = [row for _, row in sorted(near)[:5]]
        assert at in rows
        sizes.add(len(rows))
        np.testing.assert_allclose(found[at], odds[rows].mean(0))
    assert {1, 5} <= sizes


def test_a_unit_at_exactly_the_radius_is_a_neighbour() -> None:
    """Sites are 20 µm apart: 60 is a common distance."""
    units = pd.DataFrame({"depths": [100.0, 160.0, 220.1], "probe_id": ["a"] * 3})
    found = average_neighbours(np.array([[1.0], [3.0], [9.0]]), units)
    assert found.ravel().tolist() == [2.0, 2.0, 9.0]


@pytest.mark.filterwarnings("ignore:Stochastic Optimizer")
def test_classifiers_are_judged_by_animals_that_they_do_not_know() -> None:
    """What tells regions apart in one animal tells the opposite in the other."""
    sign = np.tile([1.0, -1.0], 60)
    subject = np.repeat(["A", "B"], 60)
    target = np.where((sign > 0) == (subject == "A"), 3, 8)
    units = pd.DataFrame({"subject": subject, "target": target})
    units["firing"] = list(sign[:, None])
    *_, chosen = unit_regions._choose(units, 0)
    assert chosen["F1 of other animals"] == 0.0
    units["target"] = np.where(sign > 0, 3, 8)
    *_, chosen = unit_regions._choose(units, 0)
    assert chosen["F1 of other animals"] == 1.0
    units["target"] = np.where(subject == "A", 3, 8)  # each animal of one region
    classifier, _, chosen = unit_regions._choose(units, 0)
    assert np.isnan(chosen["F1 of other animals"])
    assert chosen["classifier"] == "linear"
    assert len(classifier.fit(units["firing"].to_list(), units["target"]).classes_) == 2


def test_when_units_fire_is_kept_whatever_the_label(
    data: BenchmarkData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: list[str] = []

    def count(recording: Recording) -> np.ndarray:
        counted.append(recording.eid)
        return firing_features(recording)

    monkeypatch.setattr(unit_regions, "firing_features", count)
    # Of the network nothing is asked here, and it takes seconds.
    linear = next(unit_regions._classifiers(0))
    monkeypatch.setattr(unit_regions, "_classifiers", lambda seed: iter([linear]))
    n = sum(len(recordings_in(data.root, TASK.build, regime)) for regime in REGIMES)
    for label, seeds in (("a", [1, 2]), ("b", [1])):
        request = Request(data, tmp_path, label, seeds, [TASK], baseline="linear")
        assert run_benchmark(request).failed == {}
    assert len(counted) == len(set(counted)) == n
    kept = {path.stem for path in (tmp_path / ".work" / ".units").iterdir()}
    assert {name.partition("_")[2] for name in kept} == {"selected_units_0.1.0"}
    with open_submission(tmp_path) as submissions:
        assert set(submissions) == {"a", "a_multi", "b", "b_multi"}
        assert submissions["a"][0].metadata()["dataset_version"] == "0.1.0"
        odds = submissions["a_multi"][0].tensors()["pred_proba"]
    alone = load((tmp_path / Place("a", TASK.name, "", 1).path).read_bytes())["pred_proba"]
    assert odds.shape == alone.shape
    assert not np.array_equal(odds, alone)
    chosen = json.loads((tmp_path / ".work" / "a" / "ts3_seed_1.json").read_text())
    assert chosen["classifier"] == "linear"
