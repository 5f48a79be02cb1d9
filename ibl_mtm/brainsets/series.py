"""A signal sampled at a constant rate, whose times are implied.

wheel = recording.series("wheel")
first = wheel.first(window_start)            # row of the first sample that is not before it
wheel.values["wheel_speed"][first : first + 50]
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["RegularSeries", "first_row"]

# A time that is a sample's own but for rounding is that sample (torch_brain's tolerance, in
# samples).
_SNAP = 1e-9


def first_row(start: float, rate: float, time: ArrayLike) -> NDArray[np.int64]:
    """Rows of the first samples that are not before these times (see `RegularSeries.first`)."""
    position = (np.asarray(time, np.float64) - start) * rate
    nearest = np.round(position)
    on_grid = np.abs(position - nearest) <= _SNAP
    rows: NDArray[np.int64] = np.where(on_grid, nearest, np.ceil(position)).astype(np.int64)
    return rows


@dataclass(frozen=True)
class RegularSeries:
    """Signals on one regular grid.

    Parameters
    ----------
    domain
        Where it was recorded (s, session clock), shape (n, 2): from the first sample to one
        sample after the last; between two intervals the samples stand for nothing.
    rate
        Samples per second.
    values
        Each signal by name, of shape (n_samples,) or (n_samples, 2).
    """

    domain: NDArray[np.float64]
    rate: float
    values: dict[str, NDArray[Any]]

    @property
    def start(self) -> float:
        """Time of the first sample (s, session clock)."""
        return float(self.domain[0, 0])

    @property
    def end(self) -> float:
        """End of the domain (s): one sample after the last one."""
        return float(self.domain[-1, 1])

    def __len__(self) -> int:
        return len(next(iter(self.values.values())))

    @property
    def times(self) -> NDArray[np.float64]:
        """Time of every sample: `start + k / rate` (s)."""
        times: NDArray[np.float64] = self.start + np.arange(len(self)) / self.rate
        return times

    @property
    def recorded(self) -> NDArray[np.bool_]:
        """Which samples were recorded, and do not just fill a gap."""
        recorded = np.zeros(len(self), dtype=bool)
        for first, last in self.first(self.domain):
            recorded[first:last] = True
        return recorded

    def first(self, time: ArrayLike) -> NDArray[np.int64]:
        """Rows of the first samples that are not before these times (s).

        Neither clipped nor checked: before the first sample it is negative or 0, behind the last
        one it is the number of samples or more.
        """
        return first_row(self.start, self.rate, time)
