"""Settings of adaptations: what stands still, what is told, what is refused at once."""

from pathlib import Path

import numpy as np
import pytest

from ibl_mtm.benchmark.data import BenchmarkData
from ibl_mtm.benchmark.predict import requests
from ibl_mtm.benchmark.predict.adaptation import WINDOWS
from ibl_mtm.benchmark.predict.requests import Request, run_benchmark
from ibl_mtm.benchmark.submission import Place, open_submission
from ibl_mtm.benchmark.tasks import TASKS
from ibl_mtm.errors import UserError
from ibl_mtm.model.mtm import MtM
from ibl_mtm.model.scope import Scope
from ibl_mtm.training.checkpoint.pretrained import save_model
from ibl_mtm.training.settings import read_run_settings


@pytest.fixture(scope="module")
def data(wide_map: Path) -> BenchmarkData:
    return BenchmarkData(wide_map)


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of another map's session, of random weights."""
    folder = tmp_path_factory.mktemp("pretrained")
    settings = read_run_settings("benchmark", ["model.width=8", "model.heads=2"]).model
    save_model(MtM(settings, Scope(("u",), ("other",), ("CA1",), WINDOWS, ("neuron",))), folder)
    return folder


def make_request(data: BenchmarkData, out: Path, init: Path | None, *overrides: str) -> Request:
    return Request(data, out, "x", [43], init=init, overrides=overrides)


def test_a_body_thaws_after_a_fifth_and_for_regions_never(
    data: BenchmarkData, tmp_path: Path, pretrained: Path
) -> None:
    asked = make_request(data, tmp_path, pretrained, "steps=200")
    ts2, ts3 = (asked.settings(suite, 43) for suite in ("ts2", "ts3"))
    assert (ts2.finetune.stitchers_only, ts2.finetune.body_rate) == (40, 0.3)
    assert ts3.finetune.stitchers_only == ts3.steps == 200
    assert ts2.model.width == 8  # the model's own
    assert (ts2.model.dynamics, ts3.model.dynamics) == (20, 0)  # rows have no part in them
    scratch = make_request(data, tmp_path, None, "steps=200").settings("ts2", 43)
    assert scratch.finetune.stitchers_only == 0


def test_what_one_says_of_thawing_is_taken(
    data: BenchmarkData, tmp_path: Path, pretrained: Path
) -> None:
    said = ("steps=200", "finetune.stitchers_only=7", "finetune.body_rate=0.5")
    asked = make_request(data, tmp_path, pretrained, *said)
    tuned = asked.settings("ts1", 43).finetune
    assert (tuned.stitchers_only, tuned.body_rate) == (7, 0.5)
    assert asked.settings("ts3", 43).finetune.stitchers_only == 200  # or rows are not comparable


@pytest.mark.parametrize(
    "override", ["data.min_rate=1", "data.min_label=1", "data.included_only=true", "epochs=3"]
)
def test_settings_that_do_not_go_with_the_benchmark_are_refused_at_once(
    data: BenchmarkData, tmp_path: Path, pretrained: Path, override: str
) -> None:
    with pytest.raises(UserError, match=override.partition("=")[0]):
        run_benchmark(make_request(data, tmp_path, pretrained, override))
    assert list(tmp_path.iterdir()) == []


def test_a_baseline_is_fitted_once_for_all_seeds(
    data: BenchmarkData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fits: list[str] = []
    for name in ("fit_activity", "predict_behaviour"):
        original = getattr(requests, name)
        monkeypatch.setattr(
            requests,
            name,
            lambda recording, task, *more, original=original: (
                fits.append(f"{task.name} {recording.eid}") or original(recording, task, *more)
            ),
        )
    tasks = [TASKS["ts1-reward"], TASKS["ts2-forecasting"]]
    asked = Request(data, tmp_path, "l", [1, 2, 3], tasks, baseline="linear")
    report = run_benchmark(asked)
    assert report.failed == {}
    assert len(report.written) == 3 * 2 * len(data.recordings)
    assert len(fits) == len(set(fits)) == 2 * len(data.recordings)
    # One seed lost: it is made again, to the same predictions, and says which it is.
    for task in tasks:
        files = [
            tmp_path / Place("l", task.name, data.recordings[0], seed).path for seed in (1, 2, 3)
        ]
        files[1].unlink()
        assert run_benchmark(asked).written == [files[1].relative_to(tmp_path).as_posix()]
        with open_submission(tmp_path) as submissions:
            entries = [e for e in submissions["l"] if tmp_path / e.name in files]
        assert [e.metadata()["seed"] for e in entries] == ["1", "2", "3"]
        for entry in entries[1:]:
            for name, tensor in entry.tensors().items():
                np.testing.assert_array_equal(tensor, entries[0].tensors()[name])
    assert (asked.work / "ts1" / data.recordings[0] / "seed_2" / "ts1-reward.json").is_file()
