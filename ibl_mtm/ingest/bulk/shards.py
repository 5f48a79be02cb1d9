"""Arrays of the bulk release as they were before they were packed: spikes, wheel, motion energy.

    times, unit, ids = read_spikes(archive, pid)        # s, row in ids, cluster ids
    behaviour = open_behaviour(archive, eid)
    behaviour.array("wheel.velocity")

Each is a Blosc frame beside a description of it in JSON; what they lost in packing is theirs:
spike times are to 0.1 ms.
"""

import io
import json
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numcodecs.blosc import Blosc  # type: ignore[import-untyped]
from numpy.typing import NDArray

from ibl_mtm.ingest.bulk.archive import Archive

__all__ = ["BehaviourShard", "open_behaviour", "read_spikes"]

_SPIKES = {
    "format": "ibl_ai_agent_spike_shard_v2",
    "time_encoding": "delta_int_ticks",
    "cluster_encoding": "dense_local_indices",
}
_BEHAVIOUR = ("ibl_ai_agent_behavior_session_shard_v2", "ibl_agent_behavior_session_shard_v2")

Read = Callable[[str], bytes]


def read_spikes(
    archive: Archive, pid: str
) -> tuple[NDArray[np.float64], NDArray[np.int32], NDArray[np.int64]]:
    """Spikes of an insertion's good units.

    Returns
    -------
    Times (s, in order), the row of each spike's cluster, and the ids of the clusters.

    Raises
    ------
    ValueError
        If the files are damaged, or of another format; names them.
    """
    folder = f"spikes/{pid}"
    meta = json.loads(archive.read(f"{folder}/meta.json"))
    for key, expected in _SPIKES.items():
        if meta.get(key) != expected:
            raise ValueError(f"{folder}: {key} {meta.get(key)}, expected {expected}")

    def array(name: str) -> NDArray[Any]:
        spec = meta["arrays"][name]
        return _unpack(archive.read(f"{folder}/{spec['entry']}"), spec)

    deltas, row = array("spike_times_delta_ticks"), array("spike_clusters")
    ids, counts = array("cluster_ids"), array("cluster_spike_counts")
    if row.shape != deltas.shape or not np.array_equal(
        np.bincount(row, minlength=len(ids)), counts
    ):
        raise ValueError(f"{folder}: its spikes are not those that its counts tell of")
    ticks = np.cumsum(deltas, dtype=np.int64) + int(meta["time_origin_ticks"])
    times = ticks * int(meta["time_quantization_us"]) / 1e6
    return times, row.astype(np.int32), ids.astype(np.int64)


@dataclass(frozen=True)
class BehaviourShard:
    """Behaviour of one session: its arrays are unpacked when asked for."""

    name: str
    meta: Mapping[str, Any]
    read: Read

    def array(self, name: str) -> NDArray[np.float64] | None:
        """A signal or its times, as `wheel.timestamps`; None where there is none."""
        spec = self.meta["arrays"].get(name)
        return None if spec is None else _decode(spec, self.read)

    def feature(self, camera: str, column: str) -> NDArray[np.float64] | None:
        """One column of what a camera saw, as `whiskerMotionEnergy`."""
        columns = (self.meta.get("cameras", {}).get(camera) or {}).get("columns", [])
        spec = self.meta["arrays"].get(f"{camera}.features")
        if column not in columns or spec is None:
            return None
        at = columns.index(column)
        encoding = spec.get("encoding", {})
        if encoding.get("kind") != "feature_matrix":
            matrix = _decode(spec, self.read)
            found: NDArray[np.float64] = matrix[:, at]
            return found
        for group in encoding["groups"]:
            if at in group["columns"]:
                block = _decode_group(group, self.read)
                found = block.reshape(len(block), -1)[:, group["columns"].index(at)]
                return found
        raise ValueError(f"{self.name}: {camera}.features holds no {column}")


def open_behaviour(archive: Archive, eid: str) -> BehaviourShard | None:
    """Behaviour of a session; None where the archive has none.

    Raises
    ------
    ValueError
        If its file is damaged, or of another format; names it.
    """
    name = f"sessions/{eid}.zip"
    if name not in archive:
        return None
    shard = zipfile.ZipFile(io.BytesIO(archive.read(name)))
    meta = json.loads(shard.read("meta.json"))
    if meta.get("format") not in _BEHAVIOUR:
        raise ValueError(f"{name}: format {meta.get('format')}, expected {_BEHAVIOUR[0]}")
    return BehaviourShard(name, meta, shard.read)


def _unpack(data: bytes, spec: Mapping[str, Any]) -> NDArray[Any]:
    shape = tuple(spec["shape"])
    if 0 in shape:  # an empty frame cannot be decoded
        return np.zeros(shape, np.dtype(spec["dtype"]))
    return np.frombuffer(Blosc().decode(data), np.dtype(spec["dtype"])).reshape(shape)


def _decode(spec: Mapping[str, Any], read: Read) -> NDArray[np.float64]:
    encoding = spec.get("encoding", {})
    kind = encoding.get("kind", "raw_blosc")
    if kind == "raw_blosc":
        return _unpack(read(spec["entry"]), spec).astype(np.float64)
    if kind == "timestamp_fixed_rate":
        return float(encoding["start"]) + np.arange(int(encoding["count"])) / encoding["rate_hz"]
    if kind == "timestamp_delta_ticks":
        # Offsets from the start, whatever their name says.
        ticks = _unpack(read(encoding["ticks_entry"]), encoding["ticks_spec"])
        return float(encoding["start"]) + ticks.astype(np.float64) * encoding["tick_s"]
    if kind == "scaled_numeric":
        packed = _unpack(read(encoding["entry"]), encoding["payload_spec"])
        return _unscale(packed, encoding["precision"])
    raise ValueError(f"an array is packed as {kind}, which is not known")


def _decode_group(group: Mapping[str, Any], read: Read) -> NDArray[np.float64]:
    kind = group["kind"]
    if kind == "delta_scaled":
        first = _unpack(read(group["first_entry"]), group["first_spec"]).astype(np.int64)
        deltas = _unpack(read(group["delta_entry"]), group["delta_spec"]).astype(np.int64)
        whole = np.concatenate([first, first + np.cumsum(deltas, axis=0)], axis=0)
        return whole * float(group["precision"])
    packed = _unpack(read(group["entry"]), group["payload_spec"])
    if kind == "scaled":
        return _unscale(packed, group["precision"])
    if kind in ("float16", "raw"):
        return packed.astype(np.float64)
    raise ValueError(f"a column is packed as {kind}, which is not known")


def _unscale(packed: NDArray[Any], precision: float) -> NDArray[np.float64]:
    """Integers times a precision; the smallest of their kind stands for a missing value."""
    missing = packed == np.iinfo(packed.dtype).min
    return np.where(missing, np.nan, packed.astype(np.float64) * float(precision))
