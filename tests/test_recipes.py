"""The recipes of docs/architecture.md, tried from outside: each a few lines long."""

from pathlib import Path

import numpy as np
import pytest
from synthetic import make_regions, make_session

import ibl_mtm
from ibl_mtm.cache.store import create_cache, write_session


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> ibl_mtm.Cache:
    root = tmp_path_factory.mktemp("recipes") / "cache.zarr"
    create_cache(root)
    for seed in (1, 2):
        write_session(root, make_session(n_units=8 + seed, n_bins=20, seed=seed), make_regions())
    return ibl_mtm.open_cache(root)


def test_a_baseline(cache, monkeypatch):
    """The mean over training trials of each bin, which no baseline of the package is."""
    from ibl_mtm.evaluation.baselines.registry import BASELINES, Baseline

    def predict(data, task, floor):
        mean = data.counts["fit"].mean(0) + floor
        return np.broadcast_to(mean, data.counts["test"].shape)[:, data.bins(task)]

    mine = Baseline("the mean trial", ("co_smoothing",), lambda data, task: (0.01,), predict)
    monkeypatch.setitem(BASELINES, "mean_trial", mine)
    scores = ibl_mtm.evaluate_baseline("mean_trial", cache, tasks=["co_smoothing"]).metrics
    assert scores["baseline"] == "mean_trial"
    assert np.isfinite(scores["tasks"]["co_smoothing"]["bits_per_spike"])


def test_a_behaviour_to_decode(cache):
    """Whether a trial is in the first half of the session: only its target is of its own."""
    from ibl_mtm.evaluation.behaviour.behaviours import Behaviour
    from ibl_mtm.evaluation.behaviour.linear_decoders import Features, decode_class

    early = Behaviour(
        "Half", "trial", ("second", "first"),
        convert=lambda trial, _: np.where(trial < np.median(trial), 1, -1),
    )  # fmt: skip
    ds = next(iter(cache.values()))
    test = ds.split.values == "test"
    score = decode_class(Features(ds.spikes.values), early.target(ds), ~test, test)
    assert 0 <= score.accuracy <= 1
    assert early.score == "accuracy"


def test_a_figure(cache, tmp_path):
    from ibl_mtm.report.figures.style import panel, save_figure, styled

    @styled
    def mean_rate(responses):
        figure, axes = panel("Mean rate")
        axes.plot(responses.time, responses.mean(("choice", "unit")))
        axes.set(xlabel="time (s)", ylabel="spikes/s")
        return figure

    responses = ibl_mtm.psth(next(iter(cache.values())), by="choice")
    svg = save_figure(mean_rate(responses), tmp_path / "rate")
    assert "Mean rate" in svg
    assert {path.suffix for path in Path(tmp_path).iterdir()} == {".svg", ".png"}
