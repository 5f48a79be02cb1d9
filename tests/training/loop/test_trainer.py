"""What a training is computed on and watched by: devices, threads, environments, loggers."""

import logging
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.utilities import rank_zero_only
from training_runs import tiny_settings

from ibl_mtm.errors import UserError
from ibl_mtm.training.loop import devices, dynamics
from ibl_mtm.training.loop import trainer as module
from ibl_mtm.training.loop.progress import ProgressLines


@pytest.mark.parametrize(
    ("threads", "n_sessions", "own"), [(7, 2, 3), (2, 5, 1), (4, 4, 1), (6, 1, 6)]
)
def test_dynamics_of_sessions_share_the_threads_and_give_them_back(
    monkeypatch, threads, n_sessions, own
):
    used, started, before = [], [], torch.get_num_threads()

    def fit(counts, *rest, **more):
        used.append(torch.get_num_threads())
        return int(counts.sum())

    rows = [SimpleNamespace(units=i, session=i) for i in range(n_sessions)]
    monkeypatch.setattr(dynamics, "_rows", lambda model, sessions: rows)
    monkeypatch.setattr(dynamics, "fit_dynamics", fit)
    model = SimpleNamespace(
        settings=SimpleNamespace(dynamics=3, drift=False),
        start_dynamics=lambda *given: started.append(given),
    )
    sessions = [
        SimpleNamespace(eid=f"e{i}", read=lambda split, i=i: np.full((2, 1, 1), i))
        for i in range(n_sessions)
    ]
    said = []
    try:
        torch.set_num_threads(threads)
        dynamics.fit_systems(model, sessions, ["train", "val"], said.append)
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert used == [own] * n_sessions
    assert started == [(i, i, 4 * i) for i in range(n_sessions)]  # each session's own
    last = f"session {n_sessions} of {n_sessions}: e{n_sessions - 1}"
    assert f"linear dynamics of the train and val trials, {last}" in said


@pytest.mark.parametrize(("n_devices", "nodes"), [(1, 1), (2, 1), (1, 2), (2, 2)])
def test_a_job_of_many_tasks_has_no_say_in_a_training_of_one_process(
    tmp_path, monkeypatch, n_devices, nodes
):
    alone = n_devices * nodes == 1
    n_tasks = 2 if alone else n_devices * nodes
    job = {"NTASKS": str(n_tasks), "NTASKS_PER_NODE": str(n_tasks // nodes), "PROCID": "1",
           "LOCALID": "1",
           "NNODES": str(nodes), "NODEID": "0", "JOB_ID": "7", "JOB_NAME": "train",
           "NODELIST": "here"}  # fmt: skip
    for name, value in job.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    monkeypatch.setattr("shutil.which", lambda name: f"/bin/{name}")  # srun
    monkeypatch.setattr(rank_zero_only, "rank", 0)  # the process's own, which Lightning sets
    how = {"accelerator": "cpu", "devices": n_devices, "nodes": nodes}
    trainer, *_ = module.make_trainer(tiny_settings(trainer=how), tmp_path, 4, 2, progress=True)
    assert trainer.progress_bar_callback is None  # Lightning's own
    assert trainer.world_size == (1 if alone else n_tasks)
    assert trainer.global_rank == (0 if alone else 1)
    # What comes in a terminal is shown by one process.
    assert any(isinstance(c, ProgressLines) for c in trainer.callbacks) == alone
    if not alone:
        assert trainer.strategy._ddp_kwargs == {"broadcast_buffers": False}


@pytest.mark.parametrize(
    ("n_gpus", "interactive", "asked", "told"),
    [
        (0, False, {"accelerator": "gpu"}, "PyTorch finds no GPU here"),
        (1, False, {"accelerator": "gpu"}, None),
        (2, False, {"accelerator": "gpu", "devices": 2}, None),
        (1, False, {"devices": 2}, "devices=2, and this machine has 1 GPU"),
        (2, False, {"devices": 3}, "devices=3, and this machine has 2 GPU"),
        (2, False, {"accelerator": "cpu", "devices": 3}, None),
        (0, False, {"devices": 3}, None),
        (0, True, {"devices": 3}, "needs the command `ibl-mtm train`"),
        (0, True, {"devices": 1}, None),
        (0, True, {"devices": 3, "nodes": 2}, None),
    ],
)
def test_devices_that_are_not_there_are_refused(monkeypatch, n_gpus, interactive, asked, told):
    monkeypatch.setattr(devices, "_n_gpus", lambda: n_gpus)
    if interactive:
        monkeypatch.setattr("sys.ps1", ">>> ", raising=False)
    chosen = tiny_settings(trainer=asked).trainer
    if told is None:
        devices.check_devices(chosen)
    else:
        with pytest.raises(UserError, match=told):
            devices.check_devices(chosen)


@pytest.mark.parametrize(
    ("of_cuda", "of_mps", "n"), [(3, True, 3), (3, False, 3), (0, True, 1), (0, False, 0)]
)
def test_gpus_are_those_of_either_kind(monkeypatch, of_cuda, of_mps, n):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: of_cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: of_mps)
    assert devices._n_gpus() == n


@pytest.mark.parametrize(("every", "log_every"), [(2, 2), (10, 10), (25, 10)])
def test_a_trainer_validates_when_it_is_told_to_and_shows_nothing_of_its_own(
    tmp_path, every, log_every
):
    chosen = tiny_settings(trainer={"accelerator": "cpu"})
    trainer, *_ = module.make_trainer(chosen, tmp_path, 50, every, progress=False)
    assert (trainer.max_steps, trainer.val_check_interval) == (50, every)
    assert trainer.check_val_every_n_epoch is None
    assert trainer.log_every_n_steps == log_every
    assert (trainer.num_sanity_val_steps, trainer.limit_val_batches) == (0, 1.0)
    shown = {type(callback).__name__ for callback in trainer.callbacks}
    assert shown == {"BestCheckpoint", "Timer", "Stopped", "ModelCheckpoint"}
    assert (trainer.default_root_dir, trainer.precision) == (str(tmp_path), "32-true")


@pytest.mark.parametrize(
    "expected",
    [
        "The 'train_dataloader' does not have many workers which may be a bottleneck",
        "Your `IterableDataset` has `__len__` defined",
        "The dataloader is not resumable",
        "`isinstance(treespec, LeafSpec)` is deprecated",
        "Found 12 module(s) in eval mode at the start of training",
        "`broadcast_buffers` is deprecated",
        "Checkpoint directory /tmp/run exists and is not empty",
    ],
)
def test_only_warnings_that_are_no_news_are_not_shown(expected):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with module.quiet():
            warnings.warn(expected, stacklevel=1)
            with pytest.raises(UserWarning, match="the disk is slow"):
                warnings.warn("the disk is slow", stacklevel=1)
        with pytest.raises(UserWarning):
            warnings.warn(expected, stacklevel=1)
    for name in ("lightning.pytorch", "lightning.fabric"):
        assert logging.getLogger(name).level == logging.WARNING


@pytest.mark.parametrize("patience", [None, 3])
def test_patience_counts_validations_of_the_score_that_is_kept(tmp_path, patience):
    chosen = tiny_settings(patience=patience, trainer={"accelerator": "cpu"})
    trainer, best, *_ = module.make_trainer(chosen, tmp_path, 4, 2, progress=False)
    early = [c for c in trainer.callbacks if isinstance(c, EarlyStopping)]
    found = [(c.patience, c.mode, c.monitor) for c in early]
    assert found == ([] if patience is None else [(3, "max", best.monitor)])


def test_weights_and_biases_gets_the_runs_name_and_settings(monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(module, "WandbLogger", lambda *a, **k: asked.append((a, k)) or 1)
    monkeypatch.setattr(module, "find_spec", lambda name: name == "wandb")
    chosen = tiny_settings(name="own", trainer={"logger": "wandb"})
    assert len(module._loggers(chosen, tmp_path)) == 2
    (((name, where), options),) = asked
    assert (name, where) == ("own", tmp_path)
    assert options["project"] == "ibl-mtm"
    assert options["config"]["steps"] == 12
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install wandb"):
        module._loggers(chosen, tmp_path)
    assert len(module._loggers(tiny_settings(), tmp_path)) == 1
