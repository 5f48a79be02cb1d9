"""Everything that one wants to know of a session before using it.

session_card(cache, eid)["regions"]       # {"CA1": 20, "DG": 18}
"""

import json
from typing import Any

import numpy as np

from ibl_mtm.cache.cache import Cache
from ibl_mtm.errors import UserError
from ibl_mtm.sessions.text import as_text

__all__ = ["session_card"]


#: Attributes that are mappings, which an open session has as JSON text.
_MAPPINGS = {"definition", "brainset", "bulk_release"}


def session_card(cache: Cache, eid: str) -> dict[str, Any]:
    """Describe one session.

    Returns
    -------
    dict
        As plain Python: the session's row of `Cache.sessions`; ``regions``, units by Beryl
        region; ``splits``, trials by split; ``variables`` with dims, dtype and unit;
        ``provenance``, all other attributes.

    Raises
    ------
    UserError
        If the cache has no such session, or several.
    """
    eid, *others = cache.find(eid)
    if others:
        raise UserError(
            f"{cache[eid].attrs['subject']} has {1 + len(others)} sessions; choose one of "
            f"{', '.join([eid, *others])}"
        )
    ds = cache[eid]
    row = json.loads(cache.sessions.loc[[eid]].to_json(orient="records"))[0]
    counted = [np.unique(as_text(ds[name]), return_counts=True) for name in ("beryl", "split")]
    regions, splits = (
        dict(zip(names.tolist(), counts.tolist(), strict=True)) for names, counts in counted
    )
    provenance = {str(key): value for key, value in ds.attrs.items() if key not in row}
    for name in _MAPPINGS & provenance.keys():
        provenance[name] = json.loads(str(provenance[name]))
    return {
        "eid": eid,
        **row,
        "regions": dict(sorted(regions.items(), key=lambda pair: -pair[1])),
        "splits": splits,
        "variables": {
            str(name): {
                "dims": list(variable.dims),
                "dtype": str(variable.dtype),
                "units": variable.attrs.get("units", ""),
            }
            for name, variable in ds.variables.items()
        },
        "provenance": provenance,
    }
