"""Behaviour on one grid of 50 Hz, as BrainWideBench publishes it: whisker, paws, licks, wheel.

    grid = Grid(start=3.0071, n=60_000)
    whisker_signals(camera, grid)            # names and arrays of shape (n_samples, …)

Signals follow the wheel, the licks and latents that units follow too, so they can be decoded.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ibl_mtm.brainsets.layout import RATE
from ibl_mtm.simulate.behaviour import Camera, Wheel
from ibl_mtm.simulate.truth import GRID

__all__ = ["Grid", "lick_signals", "paw_signals", "wheel_signals", "whisker_signals"]

Signals = dict[str, NDArray[Any]]

CONFIDENT = 0.9  # likelihood of a paw's position
UNSURE = 0.05  # share of the time in which a paw is hidden


@dataclass(frozen=True)
class Grid:
    """Samples at 50 Hz: the time of the first (s), and how many."""

    start: float
    n: int

    @property
    def times(self) -> NDArray[np.float64]:
        """Time of each sample, s."""
        return self.start + np.arange(self.n) / RATE

    @property
    def end(self) -> float:
        """One sample after the last one, s."""
        return self.start + self.n / RATE


def whisker_signals(camera: Camera, grid: Grid) -> Signals:
    """Motion energy of the whisker pad."""
    return {"whisker_motion_energy": np.interp(grid.times, camera.times, camera.motion_energy)}


def wheel_signals(wheel: Wheel, grid: Grid) -> Signals:
    """Position (rad), velocity and speed (rad/s) of the wheel."""
    # It reports movement only: between samples it stood still.
    at = np.searchsorted(wheel.timestamps, grid.times, side="right") - 1
    position = np.where(at < 0, wheel.position[0], wheel.position[np.maximum(at, 0)])
    velocity = np.gradient(np.convolve(np.pad(position, 2, "edge"), np.ones(5) / 5, "valid")) * RATE
    return {"wheel_pos": position, "wheel_vel": velocity, "wheel_speed": np.abs(velocity)}


def lick_signals(licks: NDArray[np.float64], grid: Grid) -> Signals:
    """Rate of licks: counts of each 20 ms, times 50."""
    sample = np.floor((licks - grid.start) * RATE).astype(np.int64)
    inside = (sample >= 0) & (sample < grid.n)
    counts = np.bincount(sample[inside], minlength=grid.n)
    return {"licking_rate": counts * RATE}


def paw_signals(
    rng: np.random.Generator,
    latents: NDArray[np.float64],
    wheel: Wheel,
    grid: Grid,
) -> Signals:
    """Both paws: position (px), likelihood, velocity and speed (px/s), where they are certain.

    Parameters
    ----------
    rng
        Source of randomness.
    latents
        (step, 2) on the grid of the rates: what the left and the right paw follow at rest.
    wheel
        Both paws turn it.
    grid
        Where to sample.
    """
    steps = (np.arange(len(latents)) + 0.5) * GRID
    turning = np.interp(grid.times, steps, wheel.speed)
    signals: Signals = {}
    for number, side in enumerate(("left", "right")):
        own = np.interp(grid.times, steps, latents[:, number])
        direction = rng.standard_normal((2, 2))
        drive = np.stack([120 * turning, 45 * own], axis=1)
        velocity = drive @ direction + 12 * rng.standard_normal((grid.n, 2))
        likelihood = 1 - 0.08 * rng.random(grid.n)
        hidden = _stretches(rng, grid.n)
        likelihood[hidden] = rng.uniform(0.3, 0.95, int(hidden.sum()))
        surely = np.pad(likelihood >= CONFIDENT, 1, constant_values=True)
        signals |= {
            f"{side}_paw": 200.0 + np.cumsum(velocity, axis=0) / RATE,
            f"{side}_paw_likelihood": likelihood,
            f"{side}_paw_v_xy": velocity,
            f"{side}_paw_speed": np.linalg.norm(velocity, axis=1),
            # Eroded by a sample; what lies beyond the ends counts as certain.
            f"is_{side}_paw_confident": surely[:-2] & surely[1:-1] & surely[2:],
        }
    return signals


def _stretches(rng: np.random.Generator, n: int) -> NDArray[np.bool_]:
    """Samples of a few long stretches: a trial's whole window may lie in one."""
    length = 100
    hidden = np.zeros(n, dtype=bool)
    for first in rng.integers(0, max(1, n - length), max(1, round(UNSURE * n / length))):
        hidden[first : first + length] = True
    return hidden
