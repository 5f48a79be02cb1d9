"""The one brain that all simulated animals share: its regions, its dynamics, its cell types.

    brain = make_brain()
    brain.loadings[2]          # (cell type, column): the typical weights of population 2

Nothing here depends on the seed of an experiment, so what a model learns from some animals holds
for others. An animal adds only scatter around the typical loadings (`population.py`).

The log rate of a unit is a weighted sum of the columns of a session's latents: shared fast latents,
which reach each population with a lead or lag of its own; shared and private slow drift; task
variables; and each population's private fast latents.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "BEHAVING",
    "COLUMNS",
    "ELSEWHERE",
    "FAST",
    "POPULATIONS",
    "REPEATED_SITE",
    "SLOW",
    "TASK",
    "Brain",
    "Oscillator",
    "make_brain",
]

REPEATED_SITE = ("VISa", "CA1", "DG", "LP", "PO")
ELSEWHERE = "elsewhere"
POPULATIONS = (*REPEATED_SITE, ELSEWHERE)

N_SHARED = 3
N_PRIVATE = 2
TASK = (
    "stimulus_left",
    "stimulus_right",
    "move_left",
    "move_right",
    "reward",
    "error",
    "engaged",
    "prior",
    "wheel_speed",
)
FAST = (
    *(f"shared_{k}" for k in range(N_SHARED)),
    *(f"{p}_{k}" for p in POPULATIONS for k in range(N_PRIVATE)),
)
SLOW = ("shared_drift", *(f"{p}_drift" for p in POPULATIONS))
COLUMNS = (*FAST, *SLOW, *TASK)
BEHAVING = ("shared_0", "shared_1", *TASK)
"""What behaviour follows: whisking the first shared latent, fidgeting the second, and the task."""

# Standard deviations of log rate, chosen so that simulated units are as variable as recorded ones.
SHARED_SD, PRIVATE_SD, DRIFT_SD = 0.58, 0.47, 0.34
# How strongly each population (rows as in POPULATIONS) follows each task variable.
TASK_SD = np.array(
    [
        #  stimulus    movement    feedback    engaged prior speed
        [0.55, 0.70, 0.35, 0.35, 0.30, 0.30, 0.45, 0.15, 0.15],  # VISa
        [0.20, 0.25, 0.35, 0.35, 0.45, 0.40, 0.40, 0.15, 0.25],  # CA1
        [0.20, 0.20, 0.30, 0.30, 0.40, 0.45, 0.40, 0.10, 0.25],  # DG
        [0.60, 0.75, 0.45, 0.45, 0.25, 0.25, 0.50, 0.15, 0.15],  # LP
        [0.30, 0.35, 0.60, 0.60, 0.30, 0.30, 0.45, 0.15, 0.25],  # PO
        [0.20, 0.20, 0.40, 0.40, 0.30, 0.30, 0.35, 0.10, 0.20],  # elsewhere
    ]
)
# Grid steps of 10 ms by which a population follows (+) or leads (-) the shared latents, and by
# which it follows the stimulus: thalamus first, then cortex, then hippocampus.
SHARED_LAG = np.array([[0, 1, -3], [3, -4, 0], [6, -6, 2], [-4, 5, -5], [-3, 3, 4], [0, 0, 0]])
STIMULUS_LAG = np.array([1, 4, 5, 0, 1, 2])
CELL_TYPES = 3


@dataclass(frozen=True)
class Oscillator:
    """A damped oscillator driven by white noise: a smooth latent with unit variance.

    Parameters
    ----------
    timescale
        Inverse of the undamped angular frequency, s.
    damping
        Damping ratio; 1 is critical.
    """

    timescale: float
    damping: float


@dataclass(frozen=True)
class Brain:
    """What all animals have in common.

    Attributes
    ----------
    oscillators
        One per column of `FAST`.
    loadings
        (population, cell type, column): typical weights on `COLUMNS`, in log rate.
    scatter
        (population, column): standard deviation of a unit's own weights around its type's.
    lags
        (population, column): grid steps by which the population follows the column.
    """

    oscillators: tuple[Oscillator, ...]
    loadings: NDArray[np.float64]
    scatter: NDArray[np.float64]
    lags: NDArray[np.int16]

    @property
    def padding(self) -> int:
        """Steps by which latents must reach beyond the recording, on either side."""
        return int(np.abs(self.lags).max())


@cache
def make_brain() -> Brain:
    """The brain of every simulated animal; always the same."""
    rng = np.random.default_rng(240714668)
    # By turns swinging and creeping back: both forget within about 0.2 s.
    timescale = np.where(np.arange(len(FAST)) % 2, 0.030, 0.062) * rng.uniform(
        0.75, 1.25, len(FAST)
    )
    damping = np.where(np.arange(len(FAST)) % 2, 2.0, 0.8) * rng.uniform(0.8, 1.2, len(FAST))
    oscillators = tuple(map(Oscillator, timescale.tolist(), damping.tolist()))
    size = _typical_size()
    # Seven tenths of the variance of a weight lies between types, the rest within.
    directions = rng.standard_normal((len(POPULATIONS), CELL_TYPES, len(COLUMNS)))
    return Brain(
        oscillators=oscillators,
        loadings=np.sqrt(0.7) * size[:, None] * directions,
        scatter=np.sqrt(0.3) * size,
        lags=_lags(),
    )


def _typical_size() -> NDArray[np.float64]:
    """(population, column): root mean square of a weight."""
    size = np.zeros((len(POPULATIONS), len(COLUMNS)))
    size[:, :N_SHARED] = SHARED_SD / np.sqrt(N_SHARED)
    size[:, COLUMNS.index("shared_drift")] = DRIFT_SD / np.sqrt(2)
    size[:, -len(TASK) :] = TASK_SD
    for row, population in enumerate(POPULATIONS):
        size[row, [COLUMNS.index(f"{population}_{k}") for k in range(N_PRIVATE)]] = (
            PRIVATE_SD * np.sqrt([0.65, 0.35])
        )
        size[row, COLUMNS.index(f"{population}_drift")] = DRIFT_SD / np.sqrt(2)
    return size


def _lags() -> NDArray[np.int16]:
    lags = np.zeros((len(POPULATIONS), len(COLUMNS)), np.int16)
    lags[:, :N_SHARED] = SHARED_LAG
    for name in ("stimulus_left", "stimulus_right"):
        lags[:, COLUMNS.index(name)] = STIMULUS_LAG
    return lags
