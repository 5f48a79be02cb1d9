"""Training from a cache into a run folder: what is kept, and that it goes on where it stopped."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file
from training_runs import TINY, read_logs, tiny_settings

from ibl_mtm.config.yaml_settings import validate_settings
from ibl_mtm.errors import StoppedError, UserError
from ibl_mtm.model.loss import poisson_nll
from ibl_mtm.model.settings import ModelSettings
from ibl_mtm.training.checkpoint.pretrained import load_model
from ibl_mtm.training.run import train
from ibl_mtm.training.settings import RunSettings, read_run_settings


def test_a_run_leaves_its_files(cache, trained):
    run, report = trained
    assert report.steps == 12
    assert report.best_step in (4, 8, 12)
    assert set(report.val) == {"neuron", "causal", "intra_region", "inter_region"}
    assert all(np.isfinite(list(report.val.values())))
    # Validated every four steps, and logged as often: steps are counted from 0.
    for tag in ("train/loss", "val/bits_per_spike"):
        assert read_logs(run, tag).index.tolist() == [3, 7, 11]
    assert {p.name for p in run.iterdir()} - {".lock", ".ibl-mtm"} == {
        "checkpoints",
        "config.json",
        "config.yaml",
        "logs",
        "model.safetensors",
        "training.json",
        "trials.parquet",
        "units.parquet",
    }
    assert [p.name for p in (run / "checkpoints").iterdir()] == ["last.ckpt"]
    assert (
        validate_settings(
            yaml.safe_load((run / "config.yaml").read_text()), RunSettings, "config.yaml"
        )
        == tiny_settings()
    )
    units = json.loads((run / "config.json").read_text())["units"]
    assert sorted(units) == sorted(u for ds in cache.values() for u in ds.unit.values.tolist())
    assert json.loads(json.dumps(report.to_json()))["best_step"] == report.best_step


def test_the_same_seed_gives_the_same_weights(cache, trained, tmp_path):
    train(tiny_settings(), cache, tmp_path / "b", progress=False)
    train(tiny_settings(seed=1), cache, tmp_path / "c", progress=False)
    runs = (trained[0], tmp_path / "b", tmp_path / "c")
    a, b, c = (load_file(run / "model.safetensors") for run in runs)
    assert all(torch.equal(a[key], b[key]) for key in a)
    assert not torch.equal(a["read_in"], c["read_in"])


def test_a_resumed_run_ends_with_the_weights_of_an_undisturbed_one(
    cache, trained, tmp_path, monkeypatch
):
    class StopTrainingError(Exception):
        pass

    from ibl_mtm.training.loop.module import Training

    undisturbed = Training.training_step

    def stop_at_step_10(self, batch, batch_idx):
        if self.global_step == 10:
            raise StopTrainingError
        return undisturbed(self, batch, batch_idx)

    monkeypatch.setattr(Training, "training_step", stop_at_step_10)
    with pytest.raises(StopTrainingError):
        train(tiny_settings(), cache, tmp_path / "halves", progress=False)
    monkeypatch.undo()
    report = train(tiny_settings(), cache, tmp_path / "halves", resume=True, progress=False)
    assert report.steps == 12
    assert [file.name for file in (tmp_path / "halves" / "checkpoints").iterdir()] == ["last.ckpt"]
    runs = (trained[0], tmp_path / "halves")
    checkpoints = [torch.load(run / "checkpoints" / "last.ckpt", weights_only=True) for run in runs]
    whole, halves = (c["state_dict"] for c in checkpoints)
    assert all(torch.equal(whole[key], halves[key]) for key in whole)
    kept = [load_file(run / "model.safetensors") for run in runs]
    assert all(torch.equal(kept[0][key], kept[1][key]) for key in kept[0])


def test_a_checkpoint_of_an_earlier_version_is_gone_on_with(cache, trained, tmp_path, monkeypatch):
    """Its callbacks have the names that they had then."""
    from lightning.pytorch.callbacks import ModelCheckpoint

    saved = ModelCheckpoint.on_validation_end

    def stop_at_step_8(self, trainer, module):
        saved(self, trainer, module)
        if trainer.global_step == 8:
            raise KeyboardInterrupt

    with monkeypatch.context() as stopped:
        stopped.setattr(ModelCheckpoint, "on_validation_end", stop_at_step_8)
        with pytest.raises(StoppedError):
            train(tiny_settings(), cache, tmp_path / "half", progress=False)
    file = tmp_path / "half" / "checkpoints" / "last.ckpt"
    checkpoint = torch.load(file, weights_only=True)
    states = checkpoint["callbacks"]
    # A best score that nothing after it reaches: whoever forgets it would save a later model.
    states["KeepBest"] = states.pop("BestCheckpoint") | {"best": 9.0, "best_step": 4}
    del states["Timer"]
    states["Clock"] = {"seconds": 3600.0}
    torch.save(checkpoint, file)
    model = (tmp_path / "half" / "model.safetensors").read_bytes()
    report = train(tiny_settings(), cache, tmp_path / "half", resume=True, progress=False)
    assert (report.steps, report.best_step) == (trained[1].steps, 4)
    assert 3600 <= report.seconds < 3600 + 600
    assert (tmp_path / "half" / "model.safetensors").read_bytes() == model


def test_before_training_each_unit_is_predicted_at_its_mean(cache, tmp_path):
    """And the validation score of that is zero bits, up to the finite number of trials."""
    from ibl_mtm.model.group import Group
    from ibl_mtm.sessions.trial_format import trial_format
    from ibl_mtm.training.checkpoint.build import build_model
    from ibl_mtm.training.data.describe import describe_sessions

    sessions = describe_sessions(cache, tiny_settings().data)
    model = build_model(tiny_settings(), sessions, trial_format(next(iter(cache.values())))).eval()
    second = sessions[1]
    rows = torch.arange(len(sessions[0].units), len(model.scope.units))
    counts = torch.from_numpy(second.read("train"))
    nothing = torch.zeros(1, 1, 1, dtype=torch.bool).expand(len(counts), 1, 1)
    (log_rate,) = model([Group(counts, nothing, rows, 1, "neuron")])
    assert torch.isfinite(poisson_nll(log_rate, counts)).all()
    mean = counts.double().mean((0, 1))
    half_a_spike = 0.5 / (len(counts) * counts.shape[1])
    assert log_rate.exp().mean((0, 1)).detach().numpy() == pytest.approx(
        (mean + half_a_spike).numpy(), rel=1e-5
    )


def test_training_learns(cache, tmp_path):
    chosen = tiny_settings(
        steps=300,
        validate_every=100,
        masks={"schemes": {"neuron": 1}},
        optimizer={"learning_rate": 1e-2},
    )
    report = train(chosen, cache, tmp_path / "run", progress=False)
    # A third of the units copy another: they alone hold several bits per spike.
    assert report.val["neuron"] > 0.2


def test_training_ends_early_when_validation_gets_no_better(cache, tmp_path):
    # At this rate the second validation is worse than the first.
    chosen = tiny_settings(
        patience=1, average=0, optimizer={"learning_rate": 0.3, "warmup": 0}, steps=400
    )
    report = train(chosen, cache, tmp_path / "run", progress=False)
    assert report.steps < 400
    assert report.best_step < report.steps
    assert load_model(tmp_path / "run")


@pytest.mark.slow
def test_bfloat16_trains_as_well_as_float32(cache, tmp_path):
    scores = {}
    for precision in ("32", "bf16-mixed"):
        chosen = tiny_settings(
            steps=100,
            validate_every=100,
            masks={"schemes": {"neuron": 1}},
            optimizer={"learning_rate": 1e-2},
            trainer={"precision": precision},
        )
        scores[precision] = train(chosen, cache, tmp_path / precision, progress=False).val["neuron"]
    assert scores["32"] > 0.1
    assert scores["bf16-mixed"] == pytest.approx(scores["32"], rel=0.2)


def test_a_batch_of_mixed_sessions_trains_too(cache, tmp_path):
    chosen = tiny_settings(
        sessions_per_batch=2,
        steps=200,
        validate_every=200,
        masks={"schemes": {"neuron": 1}},
        optimizer={"learning_rate": 1e-2},
    )
    assert train(chosen, cache, tmp_path / "run", progress=False).val["neuron"] > 0.15
    with pytest.raises(UserError, match=r"batch_size 8 is no multiple of sessions_per_batch 3"):
        tiny_settings(sessions_per_batch=3)


@pytest.mark.slow
def test_compiled_layers_compute_the_same(cache, tmp_path):
    losses = []
    for compiled in (False, True):
        model = TINY["model"] | {"input_dropout": 0, "dropout": 0, "attention_dropout": 0}
        chosen = tiny_settings(
            steps=3, validate_every=1, model=model, trainer={"compile": compiled}
        )
        run = tmp_path / str(compiled)
        train(chosen, cache, run, progress=False)
        losses.append(read_logs(run, "train/loss"))
    assert np.allclose(*losses, atol=1e-4)


def test_a_loaded_model_is_the_one_that_was_kept(trained):
    model = load_model(trained[0])
    assert not model.training
    assert model.scope.trial_format.n_time == 20
    assert model.scope.schemes == ("neuron", "causal", "intra_region", "inter_region")
    weights = load_file(trained[0] / "model.safetensors")
    assert all(torch.equal(weights[key], value) for key, value in model.state_dict().items())


def test_a_finished_run_is_not_overwritten_unasked(cache, copy):
    with pytest.raises(UserError, match="--overwrite to replace it or --resume"):
        train(tiny_settings(), cache, copy, progress=False)
    train(tiny_settings(seed=3), cache, copy, overwrite=True, progress=False)
    assert "seed: 3" in (copy / "config.yaml").read_text()


def test_bad_requests_name_the_mend(cache, tmp_path):
    with pytest.raises(UserError, match="no checkpoint to resume from"):
        train(tiny_settings(), cache, tmp_path / "none", resume=True, progress=False)
    with pytest.raises(UserError, match="holds no session"):
        train(tiny_settings(), cache.where("n_units > 1000"), tmp_path / "run", progress=False)
    with pytest.raises(UserError, match=r"no model\.safetensors|no config\.json"):
        load_model(tmp_path)
    with pytest.raises(UserError, match=r"unknown key 'model.wdith'; did you mean 'width'"):
        read_run_settings("mtm_small", ["model.wdith=3"])
    with pytest.raises(UserError, match="no file 'none', and no shipped configuration"):
        read_run_settings("none")


def test_damaged_model_files_are_told(copy):
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:200])
    with pytest.raises(UserError, match=r"model\.safetensors does not fit"):
        load_model(copy)
    (copy / "config.json").write_text("{")
    with pytest.raises(UserError, match="is not JSON"):
        load_model(copy)


CONFIGS = Path(__file__).parents[2] / "pipelines" / "configs"


@pytest.mark.parametrize("name", sorted(path.stem for path in CONFIGS.glob("*.yaml")))
def test_shipped_configurations_are_valid_and_named_by_their_file(name):
    assert read_run_settings(name).name == name


def test_ablations_differ_from_mtm_in_their_scheme_and_prompt_alone():
    whole = read_run_settings("mtm").model_dump()
    for scheme in ("neuron", "causal", "intra_region", "inter_region"):
        one = read_run_settings(f"mask_{scheme}").model_dump()
        assert one["masks"].pop("schemes") == {scheme: 1.0}
        assert one["model"].pop("prompt") is False
        whole["masks"].pop("schemes", None)
        whole["model"].pop("prompt", None)
        assert one | {"name": "mtm"} == whole
    assert list(read_run_settings("temporal").masks.schemes) == ["temporal"]


def test_the_papers_ablations_differ_from_paper_in_scheme_and_prompt_alone():
    """And causal masks, alone, in how much they mask."""

    def of(name, *choices):
        found = read_run_settings(name).model_dump()
        assert found.pop("name") == name
        for part, key in (("masks", "schemes"), ("model", "prompt"), *choices):
            found[part].pop(key)
        return found

    ratios = ("masks", "ratios")
    for name in ("unprompted", "temporal", "mask_neuron", "mask_intra_region", "mask_inter_region"):
        assert of(f"paper_{name}") == of("paper")
    assert of("paper_mask_causal", ratios) == of("paper", ratios)
    settings = {n: read_run_settings(f"paper_{n}") for n in ("temporal", "mask_causal")}
    assert {n: (list(s.masks.schemes), s.model.prompt) for n, s in settings.items()} == {
        "temporal": (["temporal"], False), "mask_causal": (["causal"], False),
    }  # fmt: skip
    assert settings["mask_causal"].masks.ratios.causal == 0.3


def test_the_papers_choices_are_available():
    paper = read_run_settings("paper")
    assert paper.model == ModelSettings(
        bias="zero", stitcher_bias="uniform", embedding_std=1.0, t_fixup=True, dropout_at="paper",
        shared_token=False,
    )  # fmt: skip
    assert (paper.masks.draw_per, paper.masks.draw_region_per) == ("step", "step")
    assert (paper.masks.ratios.intra_region_by, paper.masks.loss) == ("coin", "sum")
    assert (paper.data.regions, paper.data.min_units_per_region) == ("region", 1)
    assert paper.data.void_and_root == "use"
    assert paper.optimizer.cycle_momentum
    assert (paper.batch_size, paper.sessions_per_batch, paper.epochs) == (16, 1, 1000)
    assert paper.data.split.kind == "random"
    assert paper.average == 0
