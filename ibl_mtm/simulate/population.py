"""The units of one animal: where they are, how they are tuned, how well they are isolated.

    population = draw_population(rng, n_units=80, good=0.75)
    population.weights[:, COLUMNS.index("reward")]

The weights scatter around those of a unit's cell type, which are the same in every animal.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ibl_mtm.simulate.brain import (
    CELL_TYPES,
    FAST,
    POPULATIONS,
    REPEATED_SITE,
    SLOW,
    make_brain,
)

__all__ = ["Population", "draw_population"]

MEDIAN_RATE = 4.9  # Hz, of well isolated units
TYPE_ODDS = (0.5, 0.35, 0.15)
TYPE_RATE = (0.95, 0.95, 1.9)  # the last type are fast-spiking cells
TYPE_WIDTH = (0.62, 0.50, 0.24)  # ms from trough to peak
# A poorly isolated unit is a fragment of a cell: it keeps its tuning, but not all of its spikes.
FRAGMENT = 0.52


@dataclass(frozen=True)
class Population:
    """Units of one session, ordered by population.

    Attributes
    ----------
    population
        (unit,) index into `POPULATIONS`.
    baseline
        (unit,) Hz, the rate where all latents are 0; 0 for a cluster that has no spikes.
    weights
        (unit, column) loadings on `COLUMNS`, in log rate.
    passes
        (unit, 3) whether the unit passes each of the IBL's three quality criteria: sliding
        refractory period, noise cut-off, amplitude. Their mean is the label.
    width
        (unit,) ms from trough to peak of the waveform.
    """

    population: NDArray[np.int64]
    baseline: NDArray[np.float64]
    weights: NDArray[np.float64]
    passes: NDArray[np.bool_]
    width: NDArray[np.float64]


def draw_population(
    rng: np.random.Generator, n_units: int, good: float, *, elsewhere: float = 0.1
) -> Population:
    """Draw a session's units.

    Parameters
    ----------
    rng
        Source of randomness.
    n_units
        How many.
    good
        Fraction of them that passes every criterion.
    elsewhere
        Fraction of them outside of the repeated site.
    """
    brain = make_brain()
    population = np.repeat(np.arange(len(POPULATIONS)), _count_units(rng, n_units, elsewhere))
    cell_type = rng.choice(CELL_TYPES, n_units, p=TYPE_ODDS)
    weights = brain.loadings[population, cell_type]
    weights = weights + brain.scatter[population] * rng.standard_normal(weights.shape)
    weights *= np.exp(0.32 * rng.standard_normal((n_units, 1)))

    is_good = rng.random(n_units) < good
    failed = rng.integers(1, 8, n_units)  # every way to fail at least one of three
    passes = is_good[:, None] | ((failed[:, None] & np.array([1, 2, 4])) == 0)

    mean_rate = MEDIAN_RATE * np.exp(0.85 * rng.standard_normal(n_units))
    mean_rate *= np.array(TYPE_RATE)[cell_type] * np.where(is_good, 1.0, FRAGMENT)
    # The mean of exp(x) is exp(variance / 2) for the Gaussian latents: divide it out.
    variance = np.square(weights[:, : len(FAST) + len(SLOW)]).sum(1)
    baseline = mean_rate * np.exp(-0.5 * variance)
    n_silent = max(1, n_units // 40)
    baseline[((np.arange(n_silent) + 0.5) * n_units / n_silent).astype(np.int64)] = 0
    passes[baseline == 0] = False

    width = np.array(TYPE_WIDTH)[cell_type] * np.exp(0.12 * rng.standard_normal(n_units))
    return Population(population, baseline, weights, passes, width)


def _count_units(
    rng: np.random.Generator, n_units: int, elsewhere_share: float
) -> NDArray[np.int64]:
    """Units in each population: a share of them elsewhere, the rest in similar numbers."""
    most = int(max(0.5, elsewhere_share) * n_units)
    elsewhere = min(max(4, round(elsewhere_share * n_units)), most)
    share = 1 + rng.uniform(-0.12, 0.12, len(REPEATED_SITE))
    counts = (share / share.sum() * (n_units - elsewhere)).astype(np.int64)
    counts[np.argsort(counts)[: n_units - elsewhere - counts.sum()]] += 1
    return np.append(counts, elsewhere)
