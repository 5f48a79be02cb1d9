"""Steps of an evaluation around the scores: what is asked, how much at once, what is told."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import xarray as xr
from synthetic import make_regions, make_session
from threadpoolctl import threadpool_info

from ibl_mtm.cache.cache import open_cache
from ibl_mtm.cache.store import create_cache, write_session
from ibl_mtm.evaluation import evaluate as module
from ibl_mtm.evaluation import predictors
from ibl_mtm.evaluation import side_by_side as beside
from ibl_mtm.evaluation.evaluate import evaluate, evaluate_baseline
from ibl_mtm.evaluation.predictors import ModelPredictor
from ibl_mtm.evaluation.result import Evaluation
from ibl_mtm.evaluation.score_session import nothing_scored
from ibl_mtm.evaluation.side_by_side import sessions_at_once, side_by_side
from ibl_mtm.training.settings import RunSettings

PROMPTS = ("neuron", "causal", "inter_region")


@pytest.fixture
def asked(monkeypatch):
    """What an evaluation of a made-up model asks for, of which nothing is computed."""
    found = {}

    def of(device="cpu", schemes=PROMPTS, modalities=(), **options):
        model = SimpleNamespace(
            read_in=SimpleNamespace(device=torch.device(device)),
            scope=SimpleNamespace(schemes=schemes, sessions=("s",)),
            settings=SimpleNamespace(modalities=modalities),
        )
        monkeypatch.setattr(module, "load_model", lambda folder, device: model)
        evaluate("run", "cache", **options)
        return found

    def at_once(cache, eids, n_arrays, memory_gb):
        found["n_arrays"] = n_arrays
        return 7

    def evaluated(request, prepare, cache, eids, settings, deals, at_once):
        found.update(request=request, eids=eids, at_once=at_once)

    monkeypatch.setattr(module, "as_cache", lambda cache: cache)
    monkeypatch.setattr(module, "find_model", Path)
    monkeypatch.setattr(module, "_settings_of", lambda folder: RunSettings(name="run"))
    monkeypatch.setattr(module, "deals_of", lambda folder, settings: {})
    monkeypatch.setattr(module, "sessions_of", lambda known, cache: list(known))
    monkeypatch.setattr(module, "own_tasks", lambda cache, eids: ())
    monkeypatch.setattr(module, "model_digest", lambda folder: "digest")
    monkeypatch.setattr(module, "uses_bf16", lambda model, precision: precision == "bf16")
    monkeypatch.setattr(module, "sessions_at_once", at_once)
    monkeypatch.setattr(module, "_evaluate", evaluated)
    return of


def test_rates_of_every_prompt_are_held_where_behaviour_is_decoded(asked):
    assert asked(tasks=["choice", "co_smoothing"])["n_arrays"] == 3
    assert asked(tasks=["co_smoothing", "inter_region"])["n_arrays"] == 1
    assert asked(tasks=["choice"])["at_once"] == 7


def test_on_a_gpu_one_session_is_scored_at_a_time(asked):
    assert asked(device="cuda", tasks=["choice"])["at_once"] == 1


def test_the_document_says_how_it_was_scored(asked):
    assert asked()["request"].what == {"run": "run", "precision": "32"}
    assert asked(precision="bf16", min_distance_um=0.5)["request"].what == {
        "run": "run", "precision": "bf16", "min_distance_um": 0.5,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("schemes", "modalities", "more"),
    [
        (PROMPTS, (), ()),
        ((*PROMPTS, "encoding"), (), ()),  # of behaviour that no model reads
        ((*PROMPTS, "encoding"), ("wheel_speed",), ("encoding",)),
        ((*PROMPTS, "decoding"), ("wheel_speed",), ("wheel_speed",)),
        ((*PROMPTS, "encoding", "mixed"), ("block",), ("encoding", "block")),
    ],
)
def test_a_model_is_asked_for_what_it_was_trained_for(asked, schemes, modalities, more):
    found = asked(schemes=schemes, modalities=modalities)["request"].tasks
    assert tuple(task for task in found if task not in module.TASKS) == more


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """Three sessions of unequal size."""
    root = tmp_path_factory.mktemp("parts") / "cache.zarr"
    create_cache(root)
    for seed, n_trials in ((1, 12), (2, 15), (3, 9)):
        ds = make_session(n_units=4, n_trials=n_trials, n_bins=5, seed=seed)
        write_session(root, ds, make_regions())
    return open_cache(root)


@pytest.mark.parametrize("n_sessions", [1, 3])
def test_it_is_told_how_far_it_is_and_how_long_it_takes(cache, monkeypatch, n_sessions):
    """Of a clock that goes on by ten seconds and a bit with each session."""
    now = [100.0]

    def score(*_, **__):
        now[0] += 10.04
        return nothing_scored(["choice"], "nothing")

    monkeypatch.setattr(module, "score_session", score)
    monkeypatch.setattr(module, "sessions_at_once", lambda *_: 1)
    monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    said = []
    found = evaluate_baseline(
        "unit_mean", cache, tasks=["choice"], sessions=list(cache)[:n_sessions], say=said.append
    )
    lines = [line for line in said if "scored in" in line]
    if n_sessions == 1:
        assert lines == []
        assert found.metrics["seconds"] == 10.0
    else:
        assert lines == [
            "1 of 3 sessions scored in 10 s; 20 s left",
            "2 of 3 sessions scored in 20 s; 10 s left",
            "3 of 3 sessions scored in 30 s; 0 s left",
        ]
        assert found.metrics["seconds"] == 30.1
    assert [line.split(":")[0] for line in said if line.startswith("scoring")] == [
        f"scoring session {at} of {n_sessions}" for at in range(1, n_sessions + 1)
    ]
    assert len(found.metrics["provenance"]["model"]) == 16


def test_units_of_regions_without_a_colour_come_last(cache):
    examples = xr.Dataset(coords={"region": ("unit", ["LP", "nowhere", "CA1"])})
    found = module._colour(examples, cache)
    regions = make_regions().set_index("acronym")
    assert found.order.values.tolist() == [650, np.iinfo(np.int32).max, 455]
    assert found.color.values[[0, 2]].tolist() == regions.color[["LP", "CA1"]].tolist()
    assert found.color.values[1] == module.UNKNOWN_COLOR


class TestSideBySide:
    def test_half_of_the_memory_that_there_is_may_be_taken(self, cache, monkeypatch):
        largest = 15 * 5 * 4 * 4  # bytes of the largest session's counts in single precision
        for factor, n_sessions in ((2.01, 1), (3.99, 1), (4.01, 2), (6.01, 3)):
            monkeypatch.setattr(
                beside, "available_memory", lambda f=factor: int(f * largest * (1 + 3))
            )
            assert sessions_at_once(cache, list(cache), 1) == n_sessions

    def test_each_session_has_its_share_of_the_threads(self, monkeypatch):
        """And linear algebra none beside: as many sessions as there are threads use them all."""
        asked = []
        monkeypatch.setattr(torch, "get_num_threads", lambda: 6)
        monkeypatch.setattr(torch, "set_num_threads", asked.append)

        def work(eid):
            blas = [of["num_threads"] for of in threadpool_info() if of["user_api"] == "blas"]
            return eid, set(blas)

        assert side_by_side(work, ["b", "a"], 4) == [("b", {1}), ("a", {1})]
        assert asked == [3, 6]
        assert side_by_side(lambda eid: eid, ["a"] * 9, None) == ["a"] * 9
        assert asked[2:] == [1, 6]
        with pytest.raises(ZeroDivisionError):
            side_by_side(lambda eid: 1 // 0, ["a"], 4)
        assert asked[4:] == [6, 6]  # given back


def test_scores_are_written_into_a_folder_that_is_made_for_them(tmp_path):
    scores = nothing_scored(["choice"], "no trials")
    metrics = {"tasks": {"choice": None}, "sessions": {}}
    examples = {"e": xr.Dataset({"x": ("t", [1.0, 2.0])})}
    found = Evaluation(metrics, scores.per_unit, scores.region_pairs, {"e": scores}, examples)
    folder = tmp_path / "not" / "there"
    found.write(folder)
    assert xr.open_zarr(folder / "evaluation.zarr" / "e").x.values.tolist() == [1, 2]
    found.write(folder, overwrite=True)
    assert sorted(path.name for path in folder.iterdir()) == [
        "evaluation.zarr", "metrics.json", "per_unit.parquet", "region_pairs.parquet",
    ]  # fmt: skip


def test_a_model_whose_prompts_were_not_trained_is_read_out_once(monkeypatch):
    """Its rates would be the same under each of them."""
    monkeypatch.setattr(predictors, "population_of", lambda model, ds: "population")
    monkeypatch.setattr(predictors, "predict_unmasked", lambda population, p: np.zeros((1, 1, 1)))
    for prompt, expected in ((True, list(PROMPTS)), (False, ["neuron"])):
        one = ModelPredictor.__new__(ModelPredictor)
        one.ds, one.prompt = None, "neuron"
        scope = SimpleNamespace(schemes=PROMPTS)
        one.model = SimpleNamespace(scope=scope, settings=SimpleNamespace(prompt=prompt))
        assert list(one.features()) == expected
