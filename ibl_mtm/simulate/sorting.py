"""What a spike sorter leaves behind: an insertion's spikes, clusters and channels, as files.

    write_sortings(alf / "probe00" / "pykilosort", None, rng, channels, clusters, truth)

Spikes are drawn and written block by block; no array of all of them is ever made.
"""

from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ibl_mtm.simulate.alf import GrowingArray, draw_uuids, write_table, write_uuids
from ibl_mtm.simulate.probe import Channels, make_metrics
from ibl_mtm.simulate.spikes import Activity, draw_spikes
from ibl_mtm.simulate.truth import GRID, Truth

__all__ = ["Clusters", "write_sortings"]

SAMPLING_RATE = 30_000  # Hz, of the probe
OLDER_KEEPS = 0.7  # an older sorting found this fraction of the clusters


@dataclass(frozen=True)
class Clusters:
    """One insertion's clusters, in the order of their ids.

    Attributes
    ----------
    uuid
        (cluster,)
    channel
        (cluster,) row of the insertion's channels.
    depth
        (cluster,) um above the tip.
    amplitude
        (cluster,) V, median.
    width
        (cluster,) ms from trough to peak.
    passes
        (cluster, 3) as in `Population`.
    """

    uuid: NDArray[np.str_]
    channel: NDArray[np.int64]
    depth: NDArray[np.float64]
    amplitude: NDArray[np.float64]
    width: NDArray[np.float64]
    passes: NDArray[np.bool_]

    def __getitem__(self, rows: NDArray[np.int64]) -> "Clusters":
        return Clusters(**{name: getattr(self, name)[rows] for name in self.__dataclass_fields__})


def write_sortings(
    collection: Path,
    revision: str | None,
    rng: np.random.Generator,
    channels: Channels,
    clusters: Clusters,
    truth: Truth,
) -> None:
    """Write an insertion's spikes, clusters and channels.

    Parameters
    ----------
    collection
        Folder of the sorting, such as ``alf/probe00/pykilosort``.
    revision
        Date of a newer sorting, in a folder of its own within `collection`, which then holds an
        older one; or None where there is only one sorting.
    rng
        Source of randomness.
    channels, clusters
        The insertion, and what the (newer) sorting found.
    truth
        Rates of `clusters`.
    """
    duration = truth.n_steps * GRID
    with ExitStack() as stack:
        n = len(clusters.uuid)
        everything = np.arange(n)
        if revision is None:
            sortings = [_Sorting(stack, collection, everything, n, duration)]
        else:
            kept = np.sort(rng.choice(n, max(1, round(OLDER_KEEPS * n)), replace=False))
            sortings = [
                _Sorting(stack, collection / f"#{revision}#", everything, n, duration),
                _Sorting(stack, collection, kept, n, duration),
            ]
        for times, unit in draw_spikes(rng, truth):
            noise = rng.standard_normal((2, len(times)), np.float32)
            amplitude = clusters.amplitude[unit] * np.exp(0.15 * noise[0])
            depth = clusters.depth[unit] + 10 * noise[1]
            for sorting in sortings:
                sorting.append(times, unit, amplitude, depth)
    for sorting in sortings:
        own = clusters[sorting.kept]
        if len(own.uuid) < n:
            # Another run of a sorter finds other clusters: none of them keeps its uuid.
            own = replace(own, uuid=np.array(draw_uuids(rng, len(own.uuid))))
        metrics = make_metrics(rng, own.passes, own.amplitude, sorting.activity, duration)
        _write_clusters(sorting.folder, channels, own, metrics)


class _Sorting:
    """The growing spike files of one sorting, which knows some of an insertion's units."""

    def __init__(
        self, stack: ExitStack, folder: Path, kept: NDArray[np.int64], n_units: int, duration: float
    ) -> None:
        self.folder = folder
        self.kept = kept
        self.activity = Activity(len(kept), duration)
        self._id = np.full(n_units, -1)
        self._id[kept] = np.arange(len(kept))
        files = {
            "times": np.float64,
            "samples": np.int64,
            "clusters": np.uint16,
            "templates": np.uint16,
            "amps": np.float32,
            "depths": np.float32,
        }
        self._files = {
            name: stack.enter_context(GrowingArray(folder / f"spikes.{name}.npy", dtype))
            for name, dtype in files.items()
        }

    def append(
        self,
        times: NDArray[np.float64],
        unit: NDArray[np.int64],
        amplitude: NDArray[np.float64],
        depth: NDArray[np.float64],
    ) -> None:
        cluster = self._id[unit]
        if len(self.kept) < len(self._id):
            known = cluster >= 0
            times, cluster = times[known], cluster[known]
            amplitude, depth = amplitude[known], depth[known]
        self.activity.add(times, cluster, amplitude)
        values = {
            "times": times,
            "samples": times * SAMPLING_RATE,
            "clusters": cluster,
            "templates": cluster,
            "amps": amplitude,
            "depths": depth,
        }
        for name, file in self._files.items():
            file.append(values[name])


def _write_clusters(
    folder: Path, channels: Channels, clusters: Clusters, metrics: pd.DataFrame
) -> None:
    arrays: dict[str, NDArray[Any]] = {
        "clusters.channels": clusters.channel,
        "clusters.depths": clusters.depth,
        "clusters.amps": clusters.amplitude,
        "clusters.peakToTrough": clusters.width,
        "channels.localCoordinates": channels.local,
        "channels.mlapdv": channels.mlapdv,
        "channels.brainLocationIds_ccf_2017": channels.allen_ids,
        "channels.rawInd": np.arange(len(channels.local)),
        "channels.labels": channels.labels,
    }
    for name, values in arrays.items():
        np.save(folder / f"{name}.npy", values)
    write_uuids(folder / "clusters.uuids.csv", clusters.uuid.tolist())
    write_table(folder / "clusters.metrics.pqt", metrics)
