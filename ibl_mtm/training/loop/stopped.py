"""What ends a training from outside: a signal, of which Lightning makes an ordinary end.

stopped = Stopped()                                 # one of the trainer's callbacks
with stopped.told(run):                             # raises StoppedError, where one came
    trainer.fit(module)
"""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities.exceptions import SIGTERMException

from ibl_mtm.errors import StoppedError
from ibl_mtm.training.folder import CHECKPOINT

__all__ = ["Stopped"]


class Stopped(Callback):
    """Sees the signal by which a training was ended, and says how to go on."""

    def __init__(self) -> None:
        self._signal: signal.Signals | None = None
        self._step = 0

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        if isinstance(exception, SIGTERMException):
            self._signal = signal.SIGTERM
        elif isinstance(exception, KeyboardInterrupt):
            self._signal = signal.SIGINT
        self._step = trainer.global_step

    @contextmanager
    def told(self, run: Path) -> Iterator[None]:
        """Raise a `StoppedError` instead of the exit, with code 0 or 1, that Lightning makes."""
        on_interrupt = signal.getsignal(signal.SIGINT)
        try:
            yield
        except (SystemExit, KeyboardInterrupt):
            if self._signal is None:
                raise
            if self._signal is signal.SIGINT and on_interrupt is not None:
                signal.signal(signal.SIGINT, on_interrupt)  # which Lightning has switched off
            how = "go on with --resume" if (run / CHECKPOINT).is_file() else "begin again"
            raise StoppedError(
                f"training of {run} stopped at step {self._step} ({self._signal.name}); {how}",
                self._signal,
            ) from None
