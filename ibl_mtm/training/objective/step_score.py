"""Bits/spike of a training step under its own masks, for the log.

scores += totals_of(task, log_rate, null_log_rate)
bits_per_spike(scores)
"""

import math

import torch
from torch import Tensor

from ibl_mtm.model.loss import poisson_nll
from ibl_mtm.training.objective.draw_tasks import Task

__all__ = ["bits_per_spike", "totals_of"]


def totals_of(task: Task, log_rate: Tensor, null_log_rate: Tensor) -> Tensor:
    """(NLL of the model, NLL of each unit's training mean, spikes) over the target entries."""
    counts, log_rate = task.group.counts.float(), log_rate.float()
    null = null_log_rate[task.group.units].expand_as(log_rate)
    entries = task.target.expand_as(log_rate)
    return torch.stack(
        [
            torch.where(entries, poisson_nll(log_rate, counts), 0).sum(),
            torch.where(entries, poisson_nll(null, counts), 0).sum(),
            torch.where(entries, counts, 0).sum(),
        ]
    )


def bits_per_spike(totals: Tensor) -> Tensor:
    nll, null, spikes = totals
    return (null - nll) / (spikes.clamp(min=1) * math.log(2))
