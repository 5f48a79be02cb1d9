"""The Poisson loss of the masked entries."""

from typing import Literal

import torch
from torch import Tensor

__all__ = ["Reduction", "masked_loss", "poisson_nll"]

Reduction = Literal["mean", "sum"]


def poisson_nll(log_rate: Tensor, counts: Tensor) -> Tensor:
    """Negative log-likelihood of counts, without the term log(k!) that no model can change.

    Parameters
    ----------
    log_rate, counts : Tensor, same shape
        Log expected counts per bin, and counts.
    """
    return log_rate.exp() - counts * log_rate


def masked_loss(
    log_rate: Tensor, counts: Tensor, target: Tensor, reduction: Reduction = "mean"
) -> Tensor:
    """Loss of each trial over its target entries.

    Parameters
    ----------
    log_rate, counts : Tensor (B, T, N)
    target : Tensor, bool, broadcastable to (B, T, N)
        Entries that count.
    reduction
        ``mean`` divides by the number of a trial's target entries, so that a scheme that masks
        much weighs as much as one that masks little; ``sum`` is the paper's.

    Returns
    -------
    Tensor (B,)
        0 for a trial without a target.
    """
    target = target.expand_as(log_rate)
    loss = torch.where(target, poisson_nll(log_rate, counts), 0).sum((1, 2))
    if reduction == "sum":
        return loss
    return loss / target.sum((1, 2)).clamp(min=1)
