"""How a training goes, on standard error: a bar in a terminal, lines in a file.

trainer.callbacks.insert(0, show_progress("mtm"))
"""

import sys
import time
from typing import Any, TextIO

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

__all__ = ["ProgressBar", "ProgressLines", "show_progress"]

#: Steps between updates: a score is read from the device only then.
EVERY = 10
#: Columns of a terminal that all of the bar takes; in a narrower one the bar itself is left out.
WIDE = 120
#: Seconds after which a line is written even if there was no validation.
SILENCE = 300.0


def show_progress(name: str) -> Callback:
    """What shows how a training goes, as standard error can."""
    return ProgressBar(name) if sys.stderr.isatty() else ProgressLines(name)


class ProgressBar(Callback):
    """Show how a training goes.

    Parameters
    ----------
    name
        What is trained.
    console
        Where; by default standard error.
    """

    def __init__(self, name: str, console: Console | None = None) -> None:
        console = console or Console(stderr=True)
        self.narrow = console.width < WIDE
        shown = [
            MofNCompleteColumn(),
            TextColumn("{task.fields[speed]}", markup=False),
            TextColumn("{task.fields[scores]}", markup=False),
            TimeRemainingColumn(compact=True),
        ]
        wide = [TextColumn("{task.description}", markup=False), BarColumn(bar_width=24)]
        columns = shown if self.narrow else [*wide, *shown]
        self.progress = Progress(*columns, console=console)
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
            scores=_scores(trainer.callback_metrics, _SHORT if self.narrow else _SCORES),
        )

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.progress.stop()

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        self.progress.stop()


class ProgressLines(Callback):
    """Write a line for every validation, and now and then between them.

    Parameters
    ----------
    name
        What is trained.
    stream
        Where; by default standard error.
    """

    def __init__(self, name: str, stream: TextIO | None = None) -> None:
        self.name, self.stream = name, stream
        self.trials, self.steps = 0, 0
        self.begun = self.last = time.perf_counter()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.begun = self.last = time.perf_counter()
        at = f" from step {trainer.global_step}" if trainer.global_step else ""
        self._write(f"training of {self.name} begins{at}: {trainer.max_steps} steps")

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        self.trials, self.steps = self.trials + len(batch), self.steps + 1
        if time.perf_counter() - self.last > SILENCE:
            self._tell(trainer)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._tell(trainer)

    def _tell(self, trainer: pl.Trainer) -> None:
        self.last = time.perf_counter()
        spent = self.last - self.begun
        left = spent / max(1, self.steps) * (trainer.max_steps - trainer.global_step)
        metrics = trainer.callback_metrics
        schemes = {
            key.removeprefix("val/"): key
            for key in metrics
            if key.startswith("val/") and key != _SCORES["val"]
        }
        of_schemes = f" ({_scores(metrics, schemes, ', ')})" if schemes else ""
        self._write(
            f"step {trainer.global_step} of {trainer.max_steps}: {_scores(metrics, _SCORES, ', ')}"
            f"{of_schemes}; {self.trials / max(spent, 1e-9):.0f} trials/s, "
            f"{_duration(left)} left"
        )

    def _write(self, line: str) -> None:
        # Looked up now: whoever redirects standard error may do so after this was made.
        stream = self.stream or sys.stderr
        stream.write(f"[{time.strftime('%H:%M:%S')}] {line}\n")
        stream.flush()


_SCORES = {
    "loss": "train/loss",
    "bits/spike": "train/bits_per_spike",
    "val": "val/bits_per_spike",
}
_SHORT = {key: _SCORES[key] for key in ("bits/spike", "val")}


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def _scores(metrics: dict[str, torch.Tensor], shown: dict[str, str], between: str = "  ") -> str:
    return between.join(
        f"{label} {float(metrics[key]):.3f}" for label, key in shown.items() if key in metrics
    )
