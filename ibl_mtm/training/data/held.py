"""Counts that are held in memory, and their way to a device.

held = Held(torch.from_numpy(session.read("train")), session.trials_in("train"))
held.take(trials)                                   # (B, time, unit), where the counts are
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

__all__ = ["Held", "gather", "send"]


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """Bring a tensor to a device, without waiting for the work that is queued there."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


@dataclass(frozen=True)
class Held:
    """Counts of some trials of a session, in the memory of the CPU or of a device.

    Attributes
    ----------
    counts : Tensor (trial, time, unit), uint8 or uint16
    trials : ndarray (trial,)
        Their positions in the session, increasing.
    """

    counts: Tensor
    trials: np.ndarray

    def take(self, trials: np.ndarray) -> Tensor:
        """Counts of trials by their positions in the session, (B, T, N)."""
        positions = np.searchsorted(self.trials, trials)
        if self.counts.device.type == "cpu":  # in one thread: others are busy decoding
            return torch.from_numpy(self.counts.numpy().take(positions, 0))
        return gather(self.counts, send(torch.from_numpy(positions), self.counts.device))


def gather(counts: Tensor, rows: Tensor) -> Tensor:
    """Rows of counts on any device; not every one gathers uint16 itself."""
    if counts.dtype == torch.uint16:
        return counts.view(torch.int16).index_select(0, rows).view(torch.uint16)
    return counts.index_select(0, rows)
