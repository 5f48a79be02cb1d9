"""The Lightning module: one optimizer step, validation under fixed masks, averaged weights."""

import math
from collections.abc import Sequence
from typing import Any, cast

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from ibl_mtm.model.loss import poisson_nll
from ibl_mtm.model.masking import Scheme
from ibl_mtm.model.mtm import MtM
from ibl_mtm.training.data import Session
from ibl_mtm.training.objective import (
    SessionRows,
    Task,
    draw_tasks,
    make_task,
    possible_schemes,
    tasks_loss,
    trial_keys,
)
from ibl_mtm.training.settings import RunSettings

__all__ = ["Training"]

VALIDATION_BATCH = 64
#: Validation masks are drawn at "steps" that no training step has.
VALIDATION_STEP = -1


class Training(pl.LightningModule):
    """Train an MtM on sessions in memory.

    Parameters
    ----------
    settings
        The run's.
    model
        To be trained.
    sessions
        All of the model's sessions; batches name them by position.
    steps
        Optimizer steps in all (for the learning-rate schedule).
    """

    def __init__(
        self, settings: RunSettings, model: MtM, sessions: Sequence[Session], steps: int
    ) -> None:
        super().__init__()
        self.settings, self.model, self.steps = settings, model, steps
        self.sessions = sessions
        self.rows = [SessionRows.of(session, model.scope) for session in sessions]
        self.average: AveragedModel | None = None
        if settings.average:
            self.average = AveragedModel(model, avg_fn=_warm_average(settings.average))
        self.totals: dict[Scheme, Tensor] = {}

    @property
    def kept(self) -> MtM:
        """The model that is validated and kept: the averaged one, if there is one."""
        return cast(MtM, self.average.module) if self.average else self.model

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        # Dropout depends on the step alone, so a resumed run draws what the undisturbed one would.
        torch.manual_seed(hash((self.settings.seed, self.global_step)) & 0x7FFFFFFF)

    def training_step(self, batch: tuple[int, np.ndarray], batch_idx: int) -> Tensor:
        index, trials = batch
        masks, rows = self.settings.masks, self.rows[index].to(self.device)
        counts, trial = self.counts_of(index, trials), self.sessions[index].trial[trials]
        tasks = draw_tasks(rows, counts, trial, self.settings.seed, self.global_step, masks)
        log_rates = self.model([task.group for task in tasks])
        loss = tasks_loss(tasks, log_rates, masks.loss)
        with torch.no_grad():
            parts = [_totals(t, r, self.model) for t, r in zip(tasks, log_rates, strict=True)]
        self.log("train/loss", loss, prog_bar=True)
        self.log("train/bits_per_spike", _bits_per_spike(torch.stack(parts).sum(0)), prog_bar=True)
        return loss

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        if self.average:
            self.average.update_parameters(self.model)

    def on_validation_epoch_start(self) -> None:
        self.totals = {}
        self.kept.eval()

    def validation_step(self, batch: tuple[int, np.ndarray], batch_idx: int) -> None:
        index, trials = batch
        rows, trial = self.rows[index].to(self.device), self.sessions[index].trial[trials]
        counts = self.counts_of(index, trials)
        for repeat in range(self.settings.validation_masks):
            key = trial_keys(
                self.settings.seed, VALIDATION_STEP - repeat, rows.session, trial, self.device
            )
            for scheme in possible_schemes(self.model.scope.schemes, rows.regions):
                task = make_task(rows, counts, scheme, key, self.settings.masks)
                (log_rate,) = self.kept([task.group])
                totals = _totals(task, log_rate, self.kept)
                self.totals[scheme] = self.totals.get(scheme, torch.zeros_like(totals)) + totals

    def on_validation_epoch_end(self) -> None:
        scores = {scheme: _bits_per_spike(totals) for scheme, totals in self.totals.items()}
        for scheme, score in scores.items():
            self.log(f"val/{scheme}", score)
        self.log("val/bits_per_spike", torch.stack(list(scores.values())).mean(), prog_bar=True)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        chosen = self.settings.optimizer
        # Decay would pull the read-out bias, a unit's log rate, towards one spike per bin.
        vectors, matrices = (
            [p for p in self.model.parameters() if (p.ndim < 2) == is_vector]
            for is_vector in (True, False)
        )
        optimizer = torch.optim.AdamW(
            [
                {"params": matrices, "weight_decay": chosen.weight_decay},
                {"params": vectors, "weight_decay": 0.0},
            ],
            lr=chosen.learning_rate,
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self.relative_rate)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }

    def relative_rate(self, step: int) -> float:
        """One-cycle cosine: from a tenth up to the full rate, then down to nothing."""
        warm = max(1, round(self.settings.optimizer.warmup * self.steps))
        if step < warm:
            return 0.1 + 0.9 * (1 - math.cos(math.pi * step / warm)) / 2
        return (1 + math.cos(math.pi * min(1.0, (step - warm) / max(1, self.steps - warm)))) / 2

    def counts_of(self, index: int, trials: np.ndarray) -> Tensor:
        """Counts of trials of a session on the device, (B, T, N), as stored."""
        return torch.from_numpy(self.sessions[index].counts[trials]).to(self.device)

    def transfer_batch_to_device(
        self, batch: Any, device: torch.device, dataloader_idx: int
    ) -> Any:
        return batch  # a batch names trials; `counts_of` moves their counts


def _totals(task: Task, log_rate: Tensor, model: MtM) -> Tensor:
    """(NLL of the model, NLL of each unit's training mean, spikes) over the target entries."""
    counts, log_rate = task.group.counts.float(), log_rate.float()
    null = model.null_log_rate[task.group.units].expand_as(log_rate)
    entries = task.target.expand_as(log_rate)
    return torch.stack(
        [
            torch.where(entries, poisson_nll(log_rate, counts), 0).sum(),
            torch.where(entries, poisson_nll(null, counts), 0).sum(),
            torch.where(entries, counts, 0).sum(),
        ]
    )


def _bits_per_spike(totals: Tensor) -> Tensor:
    nll, null, spikes = totals
    return (null - nll) / (spikes.clamp(min=1) * math.log(2))


def _warm_average(decay: float) -> Any:
    """An exponential average that forgets the untrained weights quickly."""

    def average(averaged: Tensor, current: Tensor, n_averaged: Any) -> Tensor:
        weight = min(decay, (1 + int(n_averaged)) / (10 + int(n_averaged)))
        return torch.lerp(current, averaged, weight)

    return average
