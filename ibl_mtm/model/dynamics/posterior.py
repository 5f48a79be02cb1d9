"""What is known of a session's components and of its units' gains, before and after looking."""

from dataclasses import dataclass, replace

from torch import Tensor

__all__ = ["Gains", "Posterior", "of_units"]


@dataclass(frozen=True)
class Gains:
    """What is known of units' gains in B trials before any of their spikes.

    Attributes
    ----------
    mean : Tensor (B, N)
    variance : Tensor (B, N), optional
        None: they are known, and what is visible does not change them.
    """

    mean: Tensor
    variance: Tensor | None = None


@dataclass(frozen=True)
class Posterior:
    """Components given what is visible.

    Attributes
    ----------
    mean : Tensor (B, T, K)
    covariance : Tensor (B, T, K, K)
        Of each bin.
    between : Tensor (B, T - 1, K, K)
        Covariance of each bin (rows) with the next one (columns).
    gain : Tensor (B, N), optional
        Of units in the trial, at their mode, where the system has a drift.
    """

    mean: Tensor
    covariance: Tensor
    between: Tensor
    gain: Tensor | None = None

    def gain_of(self, units: Tensor | None = None) -> Tensor | None:
        """Gains (B, N), or those of some units: (M,) of all trials, or (B, M) each its own."""
        return None if self.gain is None else of_units(self.gain, units)

    def last(self, n: int) -> "Posterior":
        """Of the last n bins alone."""
        first = self.mean.shape[1] - n
        return replace(
            self,
            mean=self.mean[:, first:],
            covariance=self.covariance[:, first:],
            between=self.between[:, first:],
        )


def of_units(table: Tensor, units: Tensor | None) -> Tensor:
    """Columns of (B, N): (M,) the same of all trials, or (B, M) each trial's own."""
    if units is None:
        return table
    return table[:, units] if units.ndim == 1 else table.gather(1, units)
