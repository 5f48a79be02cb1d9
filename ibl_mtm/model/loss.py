"""Losses: Poisson of the masked entries of counts, and those of behaviour."""

import math
from typing import Literal

import torch
from torch import Tensor, nn

__all__ = ["Reduction", "class_nll", "gaussian_nll", "masked_loss", "null_loss", "poisson_nll"]

Reduction = Literal["mean", "sum"]


def poisson_nll(log_rate: Tensor, counts: Tensor) -> Tensor:
    """Negative log-likelihood of counts, without the term log(k!) that no model can change.

    Parameters
    ----------
    log_rate, counts : Tensor, same shape
        Log expected counts per bin, and counts.
    """
    return log_rate.exp() - counts * log_rate


def gaussian_nll(mean: Tensor, log_variance: Tensor, values: Tensor) -> Tensor:
    """Negative log-likelihood of values under a normal distribution (nats).

    Parameters
    ----------
    mean, values : Tensor, same shape
    log_variance : Tensor, broadcastable to it
        Log of the variance.
    """
    error = (values - mean).square()
    return 0.5 * (math.log(2 * math.pi) + log_variance + error * (-log_variance).exp())


def class_nll(logit: Tensor, label: Tensor) -> Tensor:
    """Cross-entropy of one of two classes (nats).

    Parameters
    ----------
    logit : Tensor
        Log odds of +1.
    label : Tensor, same shape
        -1 or +1.
    """
    return nn.functional.softplus(-label * logit)


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


def null_loss(null_log_rate: Tensor, n_time: int, reduction: Reduction = "mean") -> Tensor:
    """Expected loss of all spikes of a trial under the null model: a scalar, above 0.

    Parameters
    ----------
    null_log_rate : Tensor (N,)
        Log of each unit's mean count per bin.
    n_time
        Bins of a trial.
    reduction
        As for `masked_loss`.
    """
    mean = null_log_rate.exp()
    # Counts above one a bin have losses below 0: what is left out of them is log(k!).
    loss = torch.where(null_log_rate < 0, mean - mean * null_log_rate, mean)
    return loss.mean() if reduction == "mean" else n_time * loss.sum()
