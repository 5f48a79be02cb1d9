"""Keep the best model of a training in its run folder."""

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
from lightning.pytorch.callbacks import Callback

from ibl_mtm.errors import UserError
from ibl_mtm.training.checkpoint.pretrained import save_model
from ibl_mtm.training.loop.module import Training

__all__ = ["MONITOR", "MONITOR_WITH_BEHAVIOUR", "BestCheckpoint"]

#: What a model is judged by: bits/spike under fixed masks, the mean over schemes; with modalities
#: the share of the null model's loss that decoding them gains is added.
MONITOR, MONITOR_WITH_BEHAVIOUR = "val/bits_per_spike", "val/score"


class BestCheckpoint(Callback):
    """Save the model whenever its mean validation score is the best so far."""

    def __init__(self, run: Path, monitor: str = MONITOR) -> None:
        self.run, self.monitor = run, monitor
        self.best, self.best_step = -np.inf, 0
        self.val: dict[str, float] = {}

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        score = float(trainer.callback_metrics[self.monitor])
        if not np.isfinite(score):
            raise UserError(
                f"training diverged: {self.monitor} is {score} at step {trainer.global_step}; what "
                f"{self.run} holds is from before. Lower optimizer.learning_rate"
            )
        if score <= self.best:
            return
        assert isinstance(pl_module, Training)
        self.best, self.best_step = score, trainer.global_step
        self.val = {
            name.removeprefix("val/"): round(float(value), 6)
            for name, value in trainer.callback_metrics.items()
            if name.startswith("val/") and name not in (MONITOR, self.monitor)
        }
        model = pl_module.kept()
        if trainer.is_global_zero:
            save_model(model, self.run)

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "best_step": self.best_step, "val": self.val}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best, self.best_step = state_dict["best"], state_dict["best_step"]
        self.val = state_dict["val"]
