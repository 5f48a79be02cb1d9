"""Bits/spike on validation masks: the mean over units, as the test score is, and pooled.

totals = new_totals(n_units)
add_to(totals, rows, log_rate, counts, target, null_log_rate)
mean_over_units(totals), pooled(totals)
"""

import math

import torch
from torch import Tensor

from ibl_mtm.model.loss import poisson_nll

__all__ = ["add_to", "mean_over_units", "new_totals", "pooled"]

#: Units of which fewer spikes are expected in the masked entries say little: left out of the mean.
FEWEST = 5.0


def new_totals(n_units: int) -> Tensor:
    """Sums for each unit, (N, 3): nats gained on the null model, spikes expected by it, spikes."""
    return torch.zeros(n_units, 3)


def add_to(
    totals: Tensor,
    units: Tensor,
    log_rate: Tensor,
    counts: Tensor,
    target: Tensor,
    null_log_rate: Tensor,
) -> None:
    """Add the target entries of some trials.

    Parameters
    ----------
    totals : Tensor (U, 3)
        Changed in place.
    units : Tensor (N,), int64
        Rows of it.
    log_rate, counts : Tensor (B, T, N)
        Predicted log expected counts, and counts.
    target : Tensor, bool, broadcastable to (B, T, N)
    null_log_rate : Tensor (N,)
        Log of each unit's mean count over the training trials: the null model.
    """
    log_rate, counts = log_rate.float(), counts.float()
    entries = target.expand_as(log_rate)
    null = null_log_rate.expand_as(log_rate)
    gain = poisson_nll(null, counts) - poisson_nll(log_rate, counts)
    parts = [torch.where(entries, part, 0).sum((0, 1)) for part in (gain, null.exp(), counts)]
    totals.index_add_(0, units, torch.stack(parts, 1))


def mean_over_units(totals: Tensor) -> Tensor:
    """Bits/spike, the mean over units.

    Each unit's gain is divided by the spikes that its training mean lets expect, not by those that
    happen to fall into the masked entries: in the mean the same, with much less noise.
    """
    gain, expected, _ = totals.unbind(-1)
    enough = expected >= FEWEST
    if not enough.any():
        return gain.sum() / (expected.sum().clamp(min=1) * math.log(2))
    return (gain[enough] / expected[enough]).mean() / math.log(2)


def pooled(totals: Tensor) -> Tensor:
    """Bits/spike of all units' spikes taken together."""
    gain, _, spikes = totals.sum(-2)
    return gain / (spikes.clamp(min=1) * math.log(2))
