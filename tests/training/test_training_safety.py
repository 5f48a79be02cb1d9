"""What can go wrong while a model trains, and what is left then."""

import errno
import shutil
from pathlib import Path

import pytest
import torch
from filelock import FileLock
from safetensors.torch import load_file
from training_runs import TINY, tiny_settings

from ibl_mtm.cache.cache import open_cache
from ibl_mtm.errors import SessionError, UserError
from ibl_mtm.training.checkpoint.pretrained import load_model
from ibl_mtm.training.loop.module import Training
from ibl_mtm.training.run import train


def checkpoint(run):
    return torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)


def test_a_folder_in_use_is_locked(cache, tmp_path, monkeypatch):
    run = tmp_path / "run"
    undisturbed = Training.on_validation_epoch_start

    def meanwhile(self):
        for how in ({"overwrite": True}, {}):
            with pytest.raises(UserError, match="in use by another training"):
                train(tiny_settings(), cache, run, progress=False, **how)
        undisturbed(self)

    monkeypatch.setattr(Training, "on_validation_epoch_start", meanwhile)
    report = train(tiny_settings(), cache, run, progress=False)
    assert report.steps == 12
    monkeypatch.undo()
    with FileLock(run / ".lock"), pytest.raises(UserError, match="in use by another training"):
        train(tiny_settings(), cache, run, resume=True, progress=False)
    train(tiny_settings(), cache, run, resume=True, progress=False)


@pytest.mark.parametrize("when", [6, 11])
def test_a_loss_that_is_not_a_number_ends_the_run_with_the_last_good_weights(
    cache, tmp_path, monkeypatch, when
):
    run = tmp_path / "run"
    undisturbed = Training.tasks_of

    def spoil(self, batch, rows):
        if self.global_step == when:
            self.model.norm.weight.data[0] = torch.nan
        return undisturbed(self, batch, rows)

    monkeypatch.setattr(Training, "tasks_of", spoil)
    with pytest.raises(UserError, match=rf"not finite at step {when + 1}; what .* from before"):
        train(tiny_settings(), cache, run, progress=False)
    monkeypatch.undo()
    last_good = when // 4 * 4
    assert checkpoint(run)["global_step"] == last_good
    assert all(torch.isfinite(t).all() for t in load_model(run).state_dict().values())
    # From there a healthy run goes on.
    assert train(tiny_settings(), cache, run, resume=True, progress=False).steps == 12


@pytest.fixture(scope="module")
def slow(cache, tmp_path_factory):
    """A run that gets better until its end, and its settings."""
    run, settings = (
        tmp_path_factory.mktemp("slow") / "run",
        tiny_settings(optimizer={"learning_rate": 3e-4}),
    )
    assert train(settings, cache, run, progress=False).best_step > 4
    return run, settings


@pytest.mark.parametrize("what", ["model", "checkpoint"])
def test_a_full_disk_ends_the_run_with_what_was_written_before(
    cache, slow, tmp_path, monkeypatch, what
):
    whole, settings = slow
    run = tmp_path / "run"
    undisturbed = Path.write_bytes
    writes = []

    def write_bytes(self, data):
        writes.append(self)
        if len(writes) > 1:
            undisturbed(self, data[:100])
            raise OSError(errno.ENOSPC, "No space left on device")
        return undisturbed(self, data)

    def on_validation_end(self, trainer, module):
        if trainer.global_step == 8:
            raise OSError(errno.ENOSPC, "No space left on device")
        return save(self, trainer, module)

    if what == "model":
        monkeypatch.setattr(Path, "write_bytes", write_bytes)
    else:
        from lightning.pytorch.callbacks import ModelCheckpoint

        save = ModelCheckpoint.on_validation_end
        monkeypatch.setattr(ModelCheckpoint, "on_validation_end", on_validation_end)
    with pytest.raises(UserError, match=r"disk of .* is full .* step (8|12); .* --resume"):
        train(settings, cache, run, progress=False)
    monkeypatch.undo()
    assert checkpoint(run)["global_step"] in (4, 8)
    assert load_model(run).scope.units
    assert not list(run.glob(".model*"))
    train(settings, cache, run, resume=True, progress=False)
    a, b = (load_file(folder / "model.safetensors") for folder in (whole, run))
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_resuming_takes_the_runs_own_settings_and_data(cache, copy, tmp_path):
    def resume(cache=cache, **changes):
        return train(tiny_settings(**changes), cache, copy, resume=True, progress=False)

    with pytest.raises(UserError, match="begun with steps=12, not 14"):
        resume(steps=14)
    with pytest.raises(UserError, match=r"begun with model\.width=16, not 32"):
        resume(model=TINY["model"] | {"width": 32})
    with pytest.raises(UserError, match=r"not those that .* was begun with \(units of session"):
        resume(cache.where("n_units > 15"))
    with pytest.raises(UserError, match=r"begun without --init, not from"):
        train(tiny_settings(), cache, copy, resume=True, init=tmp_path / "other", progress=False)
    # How it is computed may change: here, in two parts of each batch.
    assert resume(trainer={"accumulate": 2}).steps == 12


def test_weights_and_biases_must_be_installed(cache, tmp_path, monkeypatch):
    monkeypatch.setattr("ibl_mtm.training.loop.trainer.find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install wandb"):
        train(tiny_settings(trainer={"logger": "wandb"}), cache, tmp_path / "run", progress=False)


def test_a_damaged_session_is_named_before_the_folder_is_touched(cache, tmp_path):
    damaged = open_cache(shutil.copytree(cache.path, tmp_path / "cache.zarr"))
    eid = list(damaged)[1]
    file = damaged.path / eid / "spikes" / "c" / "0" / "0" / "0"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(SessionError, match=f"{eid}: spikes/c/0/0/0 is damaged"):
        train(tiny_settings(), damaged, tmp_path / "run", progress=False)
    assert not (tmp_path / "run" / "config.yaml").exists()


def test_memory_may_be_set_anew_on_resuming_and_what_is_too_little_is_told(cache, copy, tmp_path):
    def resume(**data):
        settings = tiny_settings(data=TINY["data"] | data)
        return train(settings, cache, copy, resume=True, progress=False)

    assert resume(memory_gb=1.0, device_cache="on").steps == 12
    # A run of before evaluated animals were refused goes on where that is allowed.
    assert resume(evaluated_animals="use").steps == 12
    with pytest.raises(UserError, match=r"begun with data\.pool=16, not 3"):
        resume(pool=3)
    settings = tiny_settings(data=TINY["data"] | {"memory_gb": 1e-6})
    with pytest.raises(UserError, match=r"larger data\.memory_gb or a smaller data\.pool"):
        train(settings, cache, tmp_path / "little", progress=False)
