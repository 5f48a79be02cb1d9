"""Brain regions by acronym: the Allen atlas, its Beryl and Cosmos parcellations, names, colours.

regions_of(np.array(["CA1", "DG-mo"]), "Beryl")         # array(['CA1', 'DG'])
region_table(["CA1", "unknown"])                        # one row each: name, order, colour
"""

from collections.abc import Iterable
from functools import cache
from typing import Literal

import numpy as np
import pandas as pd
from iblatlas.regions import BrainRegions
from numpy.typing import NDArray

from ibl_mtm.sessions.schema import UNKNOWN_COLOR

__all__ = ["UNKNOWN", "atlas", "region_table", "regions_of"]

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


def region_table(acronyms: Iterable[str]) -> pd.DataFrame:
    """Describe regions: columns acronym, name, order (in the Allen tree) and color (#rrggbb).

    Rows are in the order of the Allen tree, `unknown` last.
    """
    br = atlas()
    first = {acronym: row for row, acronym in reversed(list(enumerate(br.acronym)))}
    rows = []
    for acronym in set(acronyms):
        if acronym == UNKNOWN:
            rows.append((UNKNOWN, "location not known", int(br.order.max()) + 1, UNKNOWN_COLOR))
            continue
        row = first[acronym]
        color = "#{:02x}{:02x}{:02x}".format(*br.rgb[row])
        rows.append((acronym, str(br.name[row]), int(br.order[row]), color))
    table = pd.DataFrame(rows, columns=["acronym", "name", "order", "color"])
    return table.sort_values(["order", "acronym"], ignore_index=True)
