"""Lightning's side of a training: the trainer with its callbacks and loggers, and the loaders."""

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger
from lightning.pytorch.strategies import DDPStrategy
from torch.utils.data import DataLoader, IterableDataset

from ibl_mtm.errors import UserError
from ibl_mtm.training.data import Batch, Session, batches
from ibl_mtm.training.folder import CHECKPOINT
from ibl_mtm.training.keep import MONITOR, KeepBest
from ibl_mtm.training.module import LOG_EVERY, VALIDATION_BATCH, Training
from ibl_mtm.training.progress import ProgressBar
from ibl_mtm.training.settings import RunSettings

__all__ = ["make_loaders", "make_trainer", "quiet"]

# Lightning announces devices and products at every start.
for _name in ("lightning.pytorch", "lightning.fabric"):
    logging.getLogger(_name).setLevel(logging.WARNING)


@contextmanager
def quiet() -> Iterator[None]:
    """Without the warnings of Lightning that are no news here."""
    with warnings.catch_warnings():
        # Batches come from memory, in an order that follows from the step alone (see `batches`).
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
) -> tuple[pl.Trainer, KeepBest]:
    """The trainer of a run that validates `every` so many of its `steps`."""
    chosen = settings.trainer
    keep = KeepBest(run)
    last = ModelCheckpoint(
        run / CHECKPOINT.parent, filename=CHECKPOINT.stem, enable_version_counter=False
    )
    callbacks: list[Callback] = [keep, last]
    if settings.patience:
        callbacks.append(EarlyStopping(MONITOR, patience=settings.patience, mode="max"))
    trainer = pl.Trainer(
        accelerator=chosen.accelerator,
        devices=chosen.devices,
        num_nodes=chosen.nodes,
        # Every process sees the same data, so there is nothing to send around but gradients.
        strategy=DDPStrategy(broadcast_buffers=False)
        if chosen.devices * chosen.nodes > 1
        else "auto",
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
        trainer.callbacks.insert(0, ProgressBar(settings.name))  # type: ignore[attr-defined]
    return trainer, keep


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


def make_loaders(module: Training) -> tuple[DataLoader, DataLoader]:
    """Training batches from the step that training has reached, and validation batches."""
    train = DataLoader(_Train(module), batch_size=None, collate_fn=_as_it_is)
    parts = _validation_batches(module.sessions)
    # A list will do for a data set.
    return train, DataLoader(parts, batch_size=None, collate_fn=_as_it_is)  # type: ignore[arg-type]


class _Train(IterableDataset):
    def __init__(self, module: Training) -> None:
        self.module = module

    def __len__(self) -> int:
        return self.module.steps

    def __iter__(self) -> Iterator[Batch]:
        settings = self.module.settings
        return batches(
            self.module.sessions,
            settings.batch_size,
            settings.seed,
            start=self.module.global_step,
            sessions_per_batch=settings.sessions_per_batch,
        )


def _as_it_is(batch: Any) -> Any:
    """Keep a batch's trial numbers as they are; PyTorch would turn them into tensors."""
    return batch


def _validation_batches(sessions: Sequence[Session]) -> list[tuple[int, np.ndarray]]:
    parts = [
        (index, part)
        for index, session in enumerate(sessions)
        for trials in [session.trials_in("val")]
        for part in np.array_split(trials, -(-len(trials) // VALIDATION_BATCH))
        if len(trials)
    ]
    if not parts:
        raise UserError("there are no validation trials: give data.split a share for them")
    return parts
