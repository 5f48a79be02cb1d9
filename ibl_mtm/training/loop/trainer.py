"""Lightning's side of a training: the trainer with its callbacks and loggers, and the loaders."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint, Timer
from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger
from lightning.pytorch.strategies import DDPStrategy
from torch.utils.data import DataLoader, IterableDataset

from ibl_mtm.errors import UserError
from ibl_mtm.training.data.loader import Loader, Replica
from ibl_mtm.training.data.sampler import Batch, Part
from ibl_mtm.training.folder import CHECKPOINT
from ibl_mtm.training.loop.best_checkpoint import (
    MONITOR,
    MONITOR_WITH_BEHAVIOUR,
    BestCheckpoint,
)
from ibl_mtm.training.loop.module import LOG_EVERY, Training
from ibl_mtm.training.loop.progress import show_progress
from ibl_mtm.training.loop.stopped import Stopped
from ibl_mtm.training.settings import RunSettings

__all__ = ["make_loaders", "make_trainer", "quiet"]

# Lightning announces devices and products at every start.
for _name in ("lightning.pytorch", "lightning.fabric"):
    logging.getLogger(_name).setLevel(logging.WARNING)


@contextmanager
def quiet() -> Iterator[None]:
    """Without the warnings of Lightning that are no news here."""
    with warnings.catch_warnings():
        # Batches come from threads, in an order that follows from the step alone (see `Loader`).
        for expected in ("does not have many workers", "`__len__` defined", "not resumable"):
            warnings.filterwarnings("ignore", f".*{expected}.*")
        warnings.filterwarnings("ignore", ".*LeafSpec.*is deprecated")  # Lightning of PyTorch
        warnings.filterwarnings("ignore", "Found .* in eval mode")  # the averaged model
        # Its new name is not known to every PyTorch that will do.
        warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated")
        warnings.filterwarnings("ignore", "Checkpoint directory .* exists and is not empty")
        yield


def make_trainer(
    settings: RunSettings, run: Path, steps: int, every: int, progress: bool
) -> tuple[pl.Trainer, BestCheckpoint, Timer, Stopped]:
    """The trainer of a run that validates `every` so many of its `steps`, and what watches it:
    what it keeps, what it takes, what ends it.
    """
    chosen = settings.trainer
    monitor = MONITOR_WITH_BEHAVIOUR if settings.model.modalities else MONITOR
    best, timer, stopped = BestCheckpoint(run, monitor), Timer(), Stopped()
    last = ModelCheckpoint(
        run / CHECKPOINT.parent, filename=CHECKPOINT.stem, enable_version_counter=False
    )
    callbacks: list[Callback] = [best, timer, stopped, last]
    if settings.patience:
        callbacks.append(EarlyStopping(monitor, patience=settings.patience, mode="max"))
    alone = chosen.devices * chosen.nodes == 1
    trainer = pl.Trainer(
        accelerator=chosen.accelerator,
        devices=chosen.devices,
        num_nodes=chosen.nodes,
        # Every process sees the same data, so there is nothing to send around but gradients.
        strategy=DDPStrategy(broadcast_buffers=False) if not alone else "auto",
        # Of one process neither SLURM nor torchrun has a say, whatever the environment holds.
        plugins=LightningEnvironment() if alone else None,
        precision=chosen.precision,
        max_steps=steps,
        val_check_interval=every,
        check_val_every_n_epoch=None,
        limit_val_batches=1.0,
        num_sanity_val_steps=0,
        callbacks=callbacks,
        logger=_loggers(settings, run),
        log_every_n_steps=min(every, LOG_EVERY),
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        default_root_dir=run,
    )
    if progress and trainer.is_global_zero:
        # After the one that keeps the best: a validation that ends the training has no line.
        trainer.callbacks.append(show_progress(settings.name))  # type: ignore[attr-defined]
    return trainer, best, timer, stopped


def _loggers(settings: RunSettings, run: Path) -> list[Logger]:
    loggers: list[Logger] = [TensorBoardLogger(run, name="", version="logs")]
    if settings.trainer.logger == "wandb":
        if find_spec("wandb") is None:
            raise UserError(
                "trainer.logger=wandb needs a package that is not installed: pip install wandb"
            )
        values = settings.model_dump(mode="json")
        loggers.append(WandbLogger(settings.name, run, project="ibl-mtm", config=values))
    return loggers


def make_loaders(module: Training, loader: Loader) -> tuple[DataLoader[Batch], DataLoader[Part]]:
    """Training batches from the step that training has reached, and validation batches."""
    return (
        DataLoader(_Train(module, loader), batch_size=None, collate_fn=_as_it_is),
        DataLoader(_Validation(module, loader), batch_size=None, collate_fn=_as_it_is),
    )


class _Train(IterableDataset[Batch]):
    def __init__(self, module: Training, loader: Loader) -> None:
        self.module, self.loader = module, loader

    def __len__(self) -> int:
        return self.module.steps

    def __iter__(self) -> Iterator[Batch]:
        return self.loader.training(self.module.global_step, _replica_of(self.module))


class _Validation(IterableDataset[Part]):
    def __init__(self, module: Training, loader: Loader) -> None:
        self.module, self.loader = module, loader

    def __len__(self) -> int:
        return len(self.loader.validation_parts)

    def __iter__(self) -> Iterator[Part]:
        return self.loader.validation(_replica_of(self.module))


def _replica_of(module: Training) -> Replica:
    return Replica(module.device, module.global_rank, module.trainer.world_size)


def _as_it_is(batch: Any) -> Any:
    """Keep a batch as it is; PyTorch would turn its trial numbers into tensors."""
    return batch
