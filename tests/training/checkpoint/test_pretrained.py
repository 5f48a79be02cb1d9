"""Models in folders and on the Hub: they come back as they went, and no code comes with them."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from synthetic import make_regions, make_session
from training_runs import make_cache, tiny_settings

from ibl_mtm.cache.cache import open_cache
from ibl_mtm.cache.store import create_cache, write_session
from ibl_mtm.errors import UserError
from ibl_mtm.evaluation.evaluate import evaluate
from ibl_mtm.model.scope import Scope
from ibl_mtm.model.settings import ModelSettings
from ibl_mtm.sessions.trial_format import TrialFormat
from ibl_mtm.training.checkpoint.pretrained import PretrainedMtM, load_model
from ibl_mtm.training.run import train

SCORES = {
    "run": "runs/mtm",
    "tasks": {
        "co_smoothing": {"bits_per_spike": 0.4321, "sem": 0.01, "n_units": 3},
        "inter_region": None,
        "choice": {"accuracy": 0.9, "balanced_accuracy": 0.8, "prompt": "neuron"},
    },
    "simulated": True,
    "provenance": {"dataset": "demo", "split": "random, 70/10/20, seed 42"},
}


@pytest.fixture
def model():
    torch.manual_seed(0)
    settings = ModelSettings(width=8, layers=1, heads=2, mlp=8, stitch_width=None)
    scope = Scope(
        ("u1", "u2", "u3"),
        ("s1",),
        ("CA1",),
        TrialFormat(10, 0.02, "stimOn_times", -0.5),
        ("neuron", "inter_region"),
    )
    model = PretrainedMtM(settings, scope)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter)
    return model.eval()


class FakeHub:
    """The part of huggingface_hub that is used, with a folder for the server."""

    def __init__(self, server):
        self.server = server
        self.created = {}

    def HfApi(self, token=None):  # noqa: N802
        return self

    def create_repo(self, repo_id, *, private, exist_ok):
        if repo_id.count("/") != 1:
            raise ValueError("Repo id must be in the form 'namespace/repo_name'")
        self.created[repo_id] = private
        (self.server / repo_id).mkdir(parents=True, exist_ok=exist_ok)

    def upload_folder(self, *, repo_id, folder_path, commit_message):
        for path in Path(folder_path).iterdir():
            (self.server / repo_id / path.name).write_bytes(path.read_bytes())
        return f"https://huggingface.co/{repo_id}"

    def snapshot_download(self, repo_id, *, revision, token, allow_patterns):
        if not (self.server / repo_id).is_dir():
            raise ConnectionError("404 Client Error\nmore")
        return str(self.server / repo_id)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    hub = FakeHub(tmp_path / "server")
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    return hub


def assert_same(a, b):
    assert a.settings == b.settings
    assert a.scope == b.scope
    assert not b.training
    ours, theirs = a.state_dict(), b.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_model_comes_back_from_a_folder(model, tmp_path):
    model.scores = SCORES
    model.save_pretrained(tmp_path / "model")
    names = {"model.safetensors", "config.json", "README.md", "metrics.json"}
    assert {path.name for path in (tmp_path / "model").iterdir()} == names
    for again in (
        PretrainedMtM.from_pretrained(tmp_path / "model"),
        type(load_model(tmp_path / "model")).from_pretrained(str(tmp_path / "model")),
    ):
        assert_same(model, again)
        assert again.scores == SCORES


def test_a_model_comes_back_from_the_hub(model, hub):
    assert model.push_to_hub("lab/mtm", private=True) == "https://huggingface.co/lab/mtm"
    assert hub.created == {"lab/mtm": True}
    assert_same(model, PretrainedMtM.from_pretrained("lab/mtm"))
    with pytest.raises(UserError, match=r"no folder 'lab/none', and not .* 404 Client Error$"):
        PretrainedMtM.from_pretrained("lab/none")
    with pytest.raises(UserError, match="cannot be published: Repo id must be in the form"):
        model.push_to_hub("a/b/c")


def test_the_card_tells_data_and_scores(model, tmp_path):
    model.save_pretrained(tmp_path / "bare")
    assert "Not evaluated." in (tmp_path / "bare" / "README.md").read_text()
    model.scores = SCORES
    model.save_pretrained(tmp_path / "scored")
    card = (tmp_path / "scored" / "README.md").read_text()
    head = yaml.safe_load(card.split("---")[1])
    told = yaml.safe_load(card.split("```yaml\n")[1].partition("```")[0])
    assert told == model.settings.model_dump(mode="json")
    assert head["library_name"] == "ibl-mtm"
    for part in (
        "neuron, inter-region",
        "3 units of 1 session",
        "10 bins of 20 ms, aligned to `stimOn_times`, from -0.5 s",
        "| co-smoothing | 0.432 ± 0.010 | bits/spike |",
        "| choice | 0.800 | balanced accuracy |",
        "split: random, 70/10/20, seed 42",
        "**simulated data**",
    ):
        assert part in card
    assert "inter-region |" not in card


def test_the_hub_is_asked_for_only_when_needed(model, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    model.save_pretrained(tmp_path / "model")
    assert_same(model, PretrainedMtM.from_pretrained(tmp_path / "model"))
    with pytest.raises(UserError, match="pip install huggingface_hub"):
        model.push_to_hub("lab/mtm")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "other"}, "does not describe an ibl-mtm model"),
        ({"format_version": 99}, "newer ibl-mtm"),
        ({"units": None}, "is not as ibl-mtm writes it"),
        ({"trial_format": {"n_time": 3, "unknown": 1}}, "is not as ibl-mtm writes it"),
        ({"model": {"wdith": 3}}, "unknown key 'wdith'"),
        ({"units": ["u1"]}, "does not fit config.json"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_configurations_that_do_not_fit_are_told(model, tmp_path, change, message):
    model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | change))
    with pytest.raises(UserError, match=message):
        load_model(tmp_path)


def test_a_model_of_the_hub_is_loaded_by_its_name_and_scored(hub, tmp_path, monkeypatch):
    """And one in a folder that `save_pretrained` wrote: on the trials that its run held out."""
    cache = open_cache(make_cache(tmp_path / "cache.zarr"))
    run = tmp_path / "runs" / "mtm"
    train(tiny_settings(steps=4), cache, run, progress=False)
    trained = evaluate(run, cache, tasks=["co_smoothing"])
    load_model(run).push_to_hub("lab/mtm")
    monkeypatch.chdir(tmp_path)
    model = load_model("lab/mtm")
    model.save_pretrained("saved")
    names = {path.name for path in Path("saved").iterdir()}
    assert {"config.yaml", "trials.parquet", "model.safetensors"} <= names
    for ds in cache.values():  # the cache has another split now
        split = np.roll(ds.split.values, 3)
        again = ds.load().assign_coords(split=("trial", split))
        write_session(cache.path, again, make_regions(), overwrite=True)
    cache = open_cache(cache.path)
    for source in ("lab/mtm", "saved", tmp_path / "saved"):
        found = evaluate(source, cache, tasks=["co_smoothing"])
        assert found.per_unit.equals(trained.per_unit)
    found.write("saved")
    with pytest.raises(UserError, match="trained lab/mtm, and would not be held out"):
        train(tiny_settings(steps=2), cache, "tuned", init="lab/mtm", progress=False)
    with pytest.raises(UserError, match="holds no trained model"):
        load_model("runs/mtn")  # a folder that is missing here, and no repository


def test_fine_tuning_for_another_event_is_said_and_done(tmp_path, caplog):
    caches = []
    for number, event in enumerate(("stimOn_times", "firstMovement_times")):
        root = tmp_path / f"{event}.zarr"
        create_cache(root)
        ds = make_session(n_units=15, n_trials=40, n_bins=20, seed=number)
        write_session(root, ds.assign_attrs(alignment=event), make_regions())
        caches.append(open_cache(root))
    train(tiny_settings(steps=2), caches[0], tmp_path / "a", progress=False)
    train(tiny_settings(steps=2), caches[1], tmp_path / "b", init=tmp_path / "a", progress=False)
    assert "aligned to stimOn_times, these are aligned to firstMovement_times" in caplog.text
    assert load_model(tmp_path / "b").scope.trial_format.alignment == "firstMovement_times"


def test_a_device_that_is_not_there_is_told(model, tmp_path):
    model.save_pretrained(tmp_path / "model")
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(UserError, match="device 'cuda' is not to be had"):
        load_model(tmp_path / "model", "cuda")
