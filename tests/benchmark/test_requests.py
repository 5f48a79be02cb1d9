"""Settings of adaptations: what stands still, what is told, what is refused before anything runs."""

from pathlib import Path

import pytest

from ibl_mtm.benchmark.data import BenchmarkData
from ibl_mtm.benchmark.predict.adaptation import WINDOWS
from ibl_mtm.benchmark.predict.requests import Request, run_benchmark
from ibl_mtm.errors import UserError
from ibl_mtm.model.mtm import MtM, Scope
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


def request(data: BenchmarkData, out: Path, init: Path | None, *overrides: str) -> Request:
    return Request(data, out, "x", [43], init=init, overrides=overrides)


def test_a_body_thaws_after_a_fifth_and_for_regions_never(
    data: BenchmarkData, tmp_path: Path, pretrained: Path
) -> None:
    asked = request(data, tmp_path, pretrained, "steps=200")
    ts2, ts3 = (asked.settings(suite, 43) for suite in ("ts2", "ts3"))
    assert (ts2.finetune.stitchers_only, ts2.finetune.body_rate) == (40, 0.3)
    assert ts3.finetune.stitchers_only == ts3.steps == 200
    assert ts2.model.width == 8  # the model's own
    scratch = request(data, tmp_path, None, "steps=200").settings("ts2", 43)
    assert scratch.finetune.stitchers_only == 0


def test_what_one_says_of_thawing_is_taken(
    data: BenchmarkData, tmp_path: Path, pretrained: Path
) -> None:
    said = ("steps=200", "finetune.stitchers_only=7", "finetune.body_rate=0.5")
    asked = request(data, tmp_path, pretrained, *said)
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
        run_benchmark(request(data, tmp_path, pretrained, override))
    assert list(tmp_path.iterdir()) == []
