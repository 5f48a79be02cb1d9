"""The recipes of docs/architecture.md, tried from outside: each a few lines long."""

from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from synthetic import make_regions, make_session

import ibl_mtm
from ibl_mtm.cache.store import create_cache, write_session

#: A training that takes a second.
TINY = [
    *("steps=2", "validate_every=2", "batch_size=8", "model.width=16", "model.layers=1"),
    *("model.heads=2", "model.mlp=16", "model.dynamics=0"),
]


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


def test_a_masking_scheme(cache, monkeypatch, tmp_path):
    """Ten bins in a row of all units; without a prompt, of which old models would have no row."""
    from ibl_mtm.model.draws import uniform
    from ibl_mtm.model.masking import DRAWS, Draw, Mask

    def draw(key, n_time, regions, ratios):
        start = (uniform(key, 1) * (n_time - 10)).long()
        bins = torch.arange(n_time)
        hidden = ((bins >= start) & (bins < start + 10))[:, :, None]
        return Mask(hidden, hidden, torch.full_like(key, -1))

    monkeypatch.setitem(DRAWS, "burst", Draw(draw))
    settings = ibl_mtm.read_run_settings("mtm_small", [*TINY, "model.prompt=false"])
    masks = settings.masks.model_copy(update={"schemes": {"burst": 1.0}})
    settings = settings.model_copy(update={"masks": masks})
    report = ibl_mtm.train(settings, cache, tmp_path / "run", progress=False)
    assert set(report.val) == {"burst"}


def test_an_activity_task(cache, monkeypatch, tmp_path):
    """The first half of every trial, from the second."""
    from ibl_mtm.evaluation.activity import tasks

    def first_half(region, n_time, near):
        hidden = np.arange(n_time) < n_time // 2
        yield tasks.HeldOut(hidden[:, None], np.arange(len(region)), slice(0, n_time // 2), "")

    monkeypatch.setitem(tasks.HELD_OUT, "first_half", first_half)
    monkeypatch.setitem(tasks.TASK_SCHEME, "first_half", "temporal")
    settings = ibl_mtm.read_run_settings("temporal_small", TINY)
    ibl_mtm.train(settings, cache, tmp_path / "run", progress=False)
    ds = next(iter(cache.values()))
    rates = ibl_mtm.predict(ibl_mtm.load_model(tmp_path / "run"), ds, task="first_half")
    assert rates.notnull().sum("time").values.tolist() == np.full(rates.shape[::2], 10).tolist()


def test_a_kind_of_source(monkeypatch, tmp_path):
    """A list of session folders, wherever they lie, in a text file."""
    from ibl_mtm.config.dataset import Dataset
    from ibl_mtm.config.sources import SourceSettings
    from ibl_mtm.ingest.on_disk.folder import open_folder
    from ibl_mtm.ingest.run import ingest
    from ibl_mtm.ingest.sources.find import SOURCES
    from ibl_mtm.ingest.sources.local import OnDisk
    from ibl_mtm.simulate.simulation import Simulation, simulate

    class Listed(SourceSettings):
        kind: str = "listed"

    class MyDataset(Dataset):
        source: Listed

    @contextmanager
    def find(search):
        root = Path(search.folder.read_text().strip())
        with open_folder(root, search.aside) as folder:
            yield OnDisk(search.choose(list(folder.sessions().index)), folder)

    simulate(tmp_path / "ONE", Simulation(sessions=2, units=20, trials=20, seed=1))
    (tmp_path / "list.txt").write_text(str(tmp_path / "ONE"))
    monkeypatch.setitem(SOURCES, "listed", find)
    dataset = MyDataset(source=Listed(path=tmp_path / "list.txt"))
    report = ingest(dataset, "mine", tmp_path / "cache.zarr", limit=1)
    assert [outcome.status for outcome in report.sessions.values()] == ["ingested"]
