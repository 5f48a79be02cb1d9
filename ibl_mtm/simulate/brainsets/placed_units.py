"""The units of a brain-wide session: ten parts of the brain along its probes, and their tables.

    placed = place_units(rng, population, part, probes)
    placed.order                       # rows of the population, probe after probe
    placed.table                       # columns of `units` that do not depend on spikes

Outside of the repeated site the simulator's brain has one population. Here it is seven parts,
each with loadings and rates of its own, the same in every animal: so a unit's activity tells
where it is.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ibl_mtm.simulate.alf import draw_uuids
from ibl_mtm.simulate.brain import COLUMNS, ELSEWHERE, FAST, POPULATIONS, SLOW, TASK
from ibl_mtm.simulate.population import Population

__all__ = ["Probe", "apart", "place_units"]

#: Allen acronyms of a population's units, with their Beryl and Cosmos acronyms and Allen ids.
_SITES = {
    "VISa": [
        ("VISa1", "VISa", "Isocortex", 312782550),
        ("VISa2/3", "VISa", "Isocortex", 312782554),
        ("VISa5", "VISa", "Isocortex", 312782562),
    ],
    "CA1": [("CA1", "CA1", "HPF", 382)],
    "DG": [("DG-mo", "DG", "HPF", 10703), ("DG-sg", "DG", "HPF", 632)],
    "LP": [("LP", "LP", "TH", 218)],
    "PO": [("PO", "PO", "TH", 1020)],
}
_PARTS = [
    ("FN", "FN", "CB", 989),
    ("CP", "CP", "CNU", 672),
    ("BLAa", "BLA", "CTXsp", 303),
    ("IRN", "IRN", "HB", 136),
    ("LHA", "LHA", "HY", 194),
    ("MRN", "MRN", "MB", 128),
    ("PIR", "PIR", "OLF", 961),
]
_OUTSIDE = [("root", "root", "root", 997), ("void", "void", "void", 0)]
_OUTSIDE_SHARE = 0.04
_OWN_SD = 0.35  # of a part's own loadings, in log rate
_SHANK = (20.0, 3820.0)  # um from the tip


@dataclass(frozen=True)
class Probe:
    """An insertion: its id, its name and its qualities by name."""

    pid: str
    name: str
    qc: dict[str, str]


@dataclass(frozen=True)
class Placed:
    """Units in the order of the file: rows of the population, and their table."""

    order: NDArray[np.int64]
    table: pd.DataFrame


@cache
def _parts() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Loadings that each part adds, (part, column), and the factor of its rates, (part,)."""
    rng = np.random.default_rng(2609_22064)
    loadings = np.zeros((len(_PARTS), len(COLUMNS)))
    own = [i for i, name in enumerate(COLUMNS) if name in TASK or name.startswith("shared_")]
    loadings[:, own] = _OWN_SD * rng.standard_normal((len(_PARTS), len(own)))
    return loadings, np.exp(np.linspace(-0.9, 0.9, len(_PARTS))[rng.permutation(len(_PARTS))])


def apart(population: Population) -> tuple[Population, NDArray[np.int64]]:
    """The population with those elsewhere dealt out to seven parts; the part of each, or -1."""
    elsewhere = np.flatnonzero(population.population == POPULATIONS.index(ELSEWHERE))
    part = np.full(len(population.population), -1)
    part[elsewhere] = np.arange(len(elsewhere)) % len(_PARTS)
    loadings, factor = _parts()
    weights, baseline = population.weights.copy(), population.baseline.copy()
    before = np.square(weights[elsewhere, : len(FAST) + len(SLOW)]).sum(axis=1)
    weights[elsewhere] += loadings[part[elsewhere]]
    after = np.square(weights[elsewhere, : len(FAST) + len(SLOW)]).sum(axis=1)
    # Their mean rates stay what they were, but for the factor (`draw_population`).
    baseline[elsewhere] *= factor[part[elsewhere]] * np.exp(0.5 * (before - after))
    return replace(population, weights=weights, baseline=baseline), part


def place_units(
    rng: np.random.Generator,
    population: Population,
    part: NDArray[np.int64],
    probes: Sequence[Probe],
) -> Placed:
    """Deal units out to probes, region by region along each.

    Parameters
    ----------
    rng
        Source of randomness.
    population, part
        The units, as `apart` returns them.
    probes
        In the order of the file.
    """
    n = len(part)
    sites = [
        (_PARTS[p],) if p >= 0 else tuple(_SITES[POPULATIONS[population.population[unit]]])
        for unit, p in enumerate(part)
    ]
    place = [site[rng.integers(len(site))] for site in sites]
    for unit in rng.permutation(n)[: round(_OUTSIDE_SHARE * n)]:
        place[unit] = _OUTSIDE[unit % 2]
    region = np.array(place, dtype=object)
    probe = rng.permutation(np.arange(n) % len(probes))
    order, depth = [], np.zeros(n)
    for number in range(len(probes)):
        names = np.unique(region[:, 1].astype(str))
        rank = dict(zip(rng.permutation(names), range(len(names)), strict=True))
        rows = np.flatnonzero(probe == number)
        rows = rows[np.argsort([rank[name] for name in region[rows, 1]], kind="stable")]
        depth[rows] = np.sort(rng.uniform(*_SHANK, len(rows)))
        order.append(rows)
    rows = np.concatenate(order)
    site = np.array([-2.24e-3, -2.0e-3]) + rng.normal(0, 0.3e-3, (len(probes), 2))  # m
    location = np.column_stack([site[probe], -5e-3 + depth * 1e-6])
    table = pd.DataFrame(
        {
            "id": draw_uuids(rng, n),
            "probe_id": [probes[number].pid for number in probe],
            "channels": np.minimum(depth // 10, 383).astype(np.int64),
            "depths": depth,
            "acronym": region[:, 0].astype(str),
            "atlas_id": region[:, 3].astype(np.int64),
            "x": location[:, 0],
            "y": location[:, 1],
            "z": location[:, 2],
            "axial_um": depth,
            "lateral_um": rng.choice([11.0, 27.0, 43.0, 59.0], n),
            "region_allen": region[:, 0].astype(str),
            "region_beryl": region[:, 1].astype(str),
            "region_cosmos": region[:, 2].astype(str),
            "label": population.passes.mean(axis=1),
            **{name: [probes[number].qc[name] for number in probe] for name in probes[0].qc},
        }
    ).iloc[rows]
    numbers = table.groupby("probe_id", sort=False).cumcount().to_numpy()
    return Placed(rows, table.assign(cluster_id=numbers).reset_index(drop=True))
