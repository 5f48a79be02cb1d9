"""Brain regions by acronym: the Allen atlas, its Beryl and Cosmos parcellations, names, colours.

regions_of(np.array(["CA1", "DG-mo"]), "Beryl")         # array(['CA1', 'DG'])
region_table(["CA1", "unknown"])                        # one row each: name, order, colour
"""

from collections.abc import Iterable
from functools import cache
from typing import Any, Literal

import numpy as np
import pandas as pd
from iblatlas.regions import BrainRegions
from numpy.typing import NDArray

from ibl_mtm.sessions.schema import UNKNOWN_COLOR

__all__ = ["UNKNOWN", "atlas", "region_table", "regions_of", "resolve_regions"]

UNKNOWN = "unknown"
"""Acronym of a unit whose place in the brain is not known; `void` is known to be outside it."""


@cache
def atlas() -> BrainRegions:
    """The Allen atlas' table of regions, as it comes with iblatlas (no download)."""
    return BrainRegions()


def regions_of(acronym: NDArray[np.str_], mapping: Literal["Beryl", "Cosmos"]) -> NDArray[np.str_]:
    """Translate Allen acronyms, one for one; `unknown` stays so.

    Raises
    ------
    ValueError
        If the atlas has no such acronym. (iblatlas itself drops those, which would shift every
        region behind them to another unit.)
    """
    unique, inverse = np.unique(np.asarray(acronym, dtype=str), return_inverse=True)
    strange = np.setdiff1d(unique, [*atlas().acronym, UNKNOWN])
    if strange.size:
        raise ValueError(f"'{strange[0]}' is no acronym of the Allen atlas")
    known = unique != UNKNOWN
    mapped = unique.astype(object)
    mapped[known] = atlas().acronym2acronym(unique[known], mapping=mapping)
    return mapped.astype(str)[inverse]


def resolve_regions(names: Iterable[Any]) -> tuple[pd.DataFrame, list[str]]:
    """Regions as people write them: Allen acronyms or ids, or names of their own.

    Parameters
    ----------
    names
        One for each unit; empty or missing where it is not known.

    Returns
    -------
    Columns region, beryl and cosmos, one row for each unit; a name of one's own is kept, and
    `unknown` in Beryl and Cosmos. And these names, sorted.

    Raises
    ------
    ValueError
        If an id is none of the Allen atlas.
    """
    known = set(atlas().acronym.tolist())
    region = np.array([_plain_name(name) for name in names], dtype=object)
    own = np.array([name not in known and name != UNKNOWN for name in region], dtype=bool)
    allen = np.where(own, UNKNOWN, region).astype(str)
    table = pd.DataFrame(
        {
            "region": region.astype(str),
            "beryl": regions_of(allen, "Beryl"),
            "cosmos": regions_of(allen, "Cosmos"),
        }
    )
    return table, sorted(set(region[own].tolist()))


def _plain_name(name: Any) -> str:
    """A region's acronym, from an acronym, a name or an Allen id (negative on the left)."""
    if name is None or name is pd.NA or (isinstance(name, float) and np.isnan(name)):
        return UNKNOWN
    if isinstance(name, int | float | np.integer | np.floating):
        row = np.flatnonzero(atlas().id == int(name))
        if not len(row) or int(name) != name:
            raise ValueError(f"{name} is no id of the Allen atlas")
        return str(atlas().acronym[row[0]])
    text = str(name).strip()
    return text if text and text.lower() not in ("nan", "none", UNKNOWN) else UNKNOWN


def region_table(acronyms: Iterable[str]) -> pd.DataFrame:
    """Describe regions: columns acronym, name, order (in the Allen tree) and color (#rrggbb).

    Rows are in the order of the Allen tree; what it lacks comes last, in grey: `unknown`, and
    names of a lab's own.
    """
    br = atlas()
    first = {acronym: row for row, acronym in reversed(list(enumerate(br.acronym)))}
    rows = []
    for acronym in set(acronyms):
        if acronym == UNKNOWN:
            rows.append((UNKNOWN, "location not known", int(br.order.max()) + 1, UNKNOWN_COLOR))
            continue
        if acronym not in first:
            rows.append((acronym, "not of the Allen atlas", int(br.order.max()) + 1, UNKNOWN_COLOR))
            continue
        row = first[acronym]
        color = "#{:02x}{:02x}{:02x}".format(*br.rgb[row])
        rows.append((acronym, str(br.name[row]), int(br.order[row]), color))
    table = pd.DataFrame(rows, columns=["acronym", "name", "order", "color"])
    return table.sort_values(["order", "acronym"], ignore_index=True)
