"""Words for a unit's quality, as Phy has them, and what becomes of noise.

probe = without_noise("probe imec0", times, clusters, units, notes)
"""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

__all__ = ["LABELS", "without_noise"]

LABELS = {"good": 1.0, "mua": 0.0, "unsorted": np.nan, "": np.nan}
"""What they are in the cache, whose good units have 1."""


def without_noise(
    what: str,
    times: NDArray[Any],
    clusters: NDArray[Any],
    units: pd.DataFrame,
    notes: list[str],
) -> dict[str, Any]:
    """A probe for `make_recording` without the clusters that somebody called noise.

    Parameters
    ----------
    what
        What notes call the probe.
    times, clusters
        Of every spike.
    units
        With columns cluster_id and label (words).
    notes
        How many were left out is added to them, and words that mean nothing here.
    """
    words = units["label"].fillna("").astype(str).str.strip().str.lower()
    noise = words == "noise"
    if noise.any():
        notes.append(f"{what}: {int(noise.sum())} clusters are noise, and left out")
    strange = sorted(set(words[~noise]) - set(LABELS))
    if strange:
        notes.append(f"{what}: quality '{strange[0]}' is none of good, mua, noise; label is NaN")
    kept = units.assign(label=words.where(words.isin(list(LABELS)), "unsorted"))[~noise]
    its = np.isin(clusters, units["cluster_id"][noise].to_numpy(), invert=True)
    return {"times": times[its], "clusters": clusters[its], "units": kept.reset_index(drop=True)}
