"""The progress bar of a training: steps, speed, scores and time left, on standard error."""

import time
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

__all__ = ["ProgressBar"]

#: Steps between updates: a score is read from the device only then.
EVERY = 10


class ProgressBar(Callback):
    """Show how a training goes.

    Parameters
    ----------
    name
        What is trained.
    """

    def __init__(self, name: str) -> None:
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[speed]}"),
            TextColumn("{task.fields[scores]}"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
        )
        self.task = self.progress.add_task(name, total=None, speed="", scores="")
        self.trials, self.since = 0, time.perf_counter()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.progress.start()
        self.progress.update(self.task, total=trainer.max_steps, completed=trainer.global_step)
        self.trials, self.since = 0, time.perf_counter()

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        self.trials += len(batch)
        if trainer.global_step % EVERY and trainer.global_step < trainer.max_steps:
            return
        speed = self.trials / (time.perf_counter() - self.since)
        self.trials, self.since = 0, time.perf_counter()
        self.progress.update(
            self.task,
            completed=trainer.global_step,
            speed=f"{speed:.0f} trials/s",
            scores=_scores(trainer.callback_metrics),
        )

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.progress.stop()

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        self.progress.stop()


def _scores(metrics: dict[str, torch.Tensor]) -> str:
    shown = {
        "loss": "train/loss",
        "bits/spike": "train/bits_per_spike",
        "val": "val/bits_per_spike",
    }
    return "  ".join(
        f"{label} {float(metrics[key]):.3f}" for label, key in shown.items() if key in metrics
    )
