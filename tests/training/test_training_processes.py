"""Trainings as processes: killed ones go on as if nothing had been, two of them are one."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file
from training_runs import TINY, make_cache, read_logs, tiny_settings

from ibl_mtm.cache.cache import open_cache
from ibl_mtm.training.run import train

pytestmark = pytest.mark.slow

#: Train, and die by SIGKILL as the given step begins or, if asked, as its model is being written.
KILLED = """
import os, signal, sys
from ibl_mtm.cli import main
from ibl_mtm.training.checkpoint import pretrained
from ibl_mtm.training.loop.module import Training

place, step = sys.argv.pop(1), int(sys.argv.pop(1))
undisturbed, save = Training.training_step, pretrained.save
seen = 0

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def training_step(self, batch, batch_idx):
    global seen
    seen = self.global_step + 1
    if place == "step" and self.global_step == step:
        die()
    return undisturbed(self, batch, batch_idx)

def save_half(weights):
    whole = save(weights)
    if place == "model" and seen >= step:
        half = sys.argv[sys.argv.index("--run") + 1] + "/.model.safetensors.new"
        with open(half, "wb") as file:
            file.write(whole[:99])
        die()
    return whole

Training.training_step, pretrained.save = training_step, save_half
main()
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("processes")
    make_cache(folder / "cache.zarr")
    return folder


def write_settings(folder, name, **changes):
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(TINY | changes))
    return path


def test_a_run_killed_again_and_again_ends_as_the_undisturbed_one(folder):
    # With this loss the best model is a late one: it is there to be killed at when it is written.
    changes = {"steps": 40, "optimizer": {"learning_rate": 3e-3}, "masks": {"loss": "mean"}}
    config = write_settings(folder, "killed", **changes)
    whole, run = folder / "whole", folder / "killed"
    train(tiny_settings(**changes), open_cache(folder / "cache.zarr"), whole, progress=False)

    def start(*arguments):
        command = [sys.executable, *arguments, "train", config, "--cache", folder / "cache.zarr"]
        command += ["--run", run, "--json", *(["--resume"] if run.exists() else [])]
        return subprocess.run(list(map(str, command)), capture_output=True, text=True)

    first, second = sorted(np.random.default_rng().integers(5, 38, 2).tolist())
    for place, step in (("step", first), ("model", first), ("step", max(second, first + 1))):
        killed = start("-c", KILLED, place, str(step))
        if place == "step":  # a model is only written if it is the best so far
            assert killed.returncode == -9, (place, step, killed.stderr)
    last = start("-m", "ibl_mtm.cli")
    assert last.returncode == 0, last.stderr
    assert json.loads(last.stdout)["steps"] == 40
    for state in (
        lambda f: torch.load(f / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"],
        lambda f: load_file(f / "model.safetensors"),
    ):
        a, b = state(whole), state(run)
        assert a.keys() == b.keys()
        assert all(torch.equal(a[name], b[name]) for name in a), (first, second)


@pytest.mark.parametrize("draw_per", ["trial", "step"])
def test_two_processes_compute_the_losses_of_one(folder, draw_per):
    """Sessions mixed, batches of odd size, a last batch of the epoch with a single trial."""
    model = TINY["model"] | {"input_dropout": 0, "dropout": 0, "attention_dropout": 0}
    changes = {
        "model": model,
        "masks": {"draw_per": draw_per},
        "batch_size": 10,
        "sessions_per_batch": 2,
        "steps": 14,
        "validate_every": 1,
        "optimizer": {"learning_rate": 3e-3},
    }
    config = write_settings(folder, f"two-{draw_per}", **changes)
    one, two = folder / f"one-{draw_per}", folder / f"two-{draw_per}"
    report = train(tiny_settings(**changes), open_cache(folder / "cache.zarr"), one, progress=False)
    command = [sys.executable, "-m", "ibl_mtm.cli", "train", config, "--run", two, "--json"]
    command += ["--cache", folder / "cache.zarr", "trainer.devices=2", "trainer.accelerator=cpu"]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    assert "INFO" not in done.stderr
    for tag in ("train/loss", "train/bits_per_spike", "val/neuron", "val/bits_per_spike"):
        a, b = read_logs(one, tag), read_logs(two, tag)
        assert len(a) == 14
        assert a.index.equals(b.index)
        assert np.allclose(a, b, atol=1e-5, rtol=1e-5), tag
    assert read_logs(one, "train/loss").nunique() == 14
    # One document on standard output, from one of the two.
    assert json.loads(done.stdout)["val"] == pytest.approx(report.val, abs=1e-4)
    a, b = (load_file(run / "model.safetensors") for run in (one, two))
    assert all(torch.allclose(a[name], b[name], atol=1e-4) for name in a)


def test_parts_of_a_batch_compute_the_losses_of_the_whole(folder):
    model = TINY["model"] | {"input_dropout": 0, "dropout": 0, "attention_dropout": 0}
    changes = {"model": model, "steps": 8, "validate_every": 1}
    cache = open_cache(folder / "cache.zarr")
    logs = []
    for parts in (1, 3):
        run = folder / f"parts-{parts}"
        train(tiny_settings(**changes, trainer={"accumulate": parts}), cache, run, progress=False)
        logs.append(read_logs(run, "train/loss"))
    assert np.allclose(*logs, atol=1e-5)
