"""Spikes with known rates: drawn in blocks of time, so memory does not grow with the recording.

    for times, unit in draw_spikes(rng, truth):
        ...

Within a step of the rates' grid the rate is constant, and a spike is equally likely anywhere in
it: the spikes are exactly an inhomogeneous Poisson process with the rates of `truth`.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ibl_mtm.simulate.truth import GRID, Truth

__all__ = ["Activity", "draw_spikes"]

_BLOCK = 2_000_000  # rates held in memory at a time
PRESENCE_BIN = 10.0  # s


class Activity:
    """Counts and extremes of each unit's spikes, gathered block by block.

    Attributes
    ----------
    count
        (unit,) number of spikes.
    largest, smallest
        (unit,) amplitudes, V.
    presence
        (unit,) fraction of consecutive 10 s in which the unit has a spike.
    """

    def __init__(self, n_units: int, duration: float) -> None:
        self.count = np.zeros(n_units, np.int64)
        self.largest = np.full(n_units, -np.inf)
        self.smallest = np.full(n_units, np.inf)
        self._seen = np.zeros((n_units, int(np.ceil(duration / PRESENCE_BIN))), bool)

    @property
    def presence(self) -> NDArray[np.float64]:
        return self._seen.mean(1)

    def add(
        self, times: NDArray[np.float64], unit: NDArray[np.int64], amplitude: NDArray[np.floating]
    ) -> None:
        """Take in a block of spikes."""
        self.count += np.bincount(unit, minlength=len(self.count))
        np.maximum.at(self.largest, unit, amplitude)
        np.minimum.at(self.smallest, unit, amplitude)
        self._seen[unit, (times / PRESENCE_BIN).astype(np.int64)] = True


def draw_spikes(
    rng: np.random.Generator, truth: Truth
) -> Iterator[tuple[NDArray[np.float64], NDArray[np.int64]]]:
    """Draw the spikes of all units of `truth`.

    Yields
    ------
    times, unit
        (spike,) s, in order of time, and the row of each spike's unit; one pair a block.
    """
    n_units = len(truth.units)
    length = max(1, _BLOCK // n_units)
    for begin in range(0, truth.n_steps, length):
        steps = np.arange(begin, min(begin + length, truth.n_steps))
        # Laid end to end, the steps of all units are one process: draw how many spikes there are,
        # then where each falls.
        mass = np.cumsum(truth.rates(steps).ravel() * GRID)
        position = np.sort(rng.random(rng.poisson(mass[-1]))) * mass[-1]
        cell = np.minimum(np.searchsorted(mass, position, "right"), len(mass) - 1)
        times = (steps[cell // n_units] + rng.random(len(cell))) * GRID
        order = np.argsort(times, kind="stable")
        yield times[order], (cell % n_units)[order]
