"""A small bulk release of made-up sessions, as folders and as tar files.

    release = write_release(tmp_path)          # bwm_ephys-1.2.0.tar and bwm_behavior-2.0.0.tar
    release.spikes[pid]                        # times (s), as they were before they were packed

Written from what is known of its format, not with our reader's constants.
"""

import hashlib
import io
import json
import tarfile
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numcodecs import Blosc

__all__ = ["EVALUATED", "Release", "write_release"]

EVALUATED = "16693458-0801-4d35-a3f1-9115c7e5acfd"
_BLOSC = Blosc(cname="zstd", clevel=7, shuffle=Blosc.SHUFFLE)


@dataclass
class Release:
    """What was written, before it was packed."""

    root: Path
    eids: list[str] = field(default_factory=list)
    spikes: dict[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)
    units: pd.DataFrame = field(default_factory=pd.DataFrame)
    trials: pd.DataFrame = field(default_factory=pd.DataFrame)
    wheel: dict[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)
    whisker: dict[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)


def write_release(root: Path, *, packed: bool = True, seed: int = 0) -> Release:
    """Three sessions: one probe; two probes; one of an animal that is evaluated, and its other."""
    rng = np.random.default_rng(seed)
    release = Release(root)
    ephys: dict[str, bytes] = {}
    behavior: dict[str, bytes] = {}
    who = [
        ("aaaaaaaa-0000-4000-8000-000000000001", "mouse_1", 1),
        ("aaaaaaaa-0000-4000-8000-000000000002", "mouse_2", 2),
        (EVALUATED, "mouse_3", 1),
        ("aaaaaaaa-0000-4000-8000-000000000004", "mouse_3", 1),
    ]
    tables: dict[str, list[Any]] = {n: [] for n in ("sessions", "insertions", "units", "trials")}
    for number, (eid, subject, n_probes) in enumerate(who):
        release.eids.append(eid)
        named = {"eid": eid, "subject": subject, "lab": "somelab", "date": f"2021-03-0{number + 1}"}
        tables["sessions"].append({**named, "session_number": 1, "n_insertions": n_probes})
        for probe in range(n_probes):
            pid = f"bbbbbbbb-0000-4000-8000-0000000000{number}{probe}"
            named_probe = {"pid": pid, "probe_name": f"probe{probe:02d}", **named}
            tables["insertions"].append({**named_probe, "session_number": 1})
            ids = 1 + np.sort(rng.choice(300, 6, replace=False))
            for cluster in [0, *ids]:  # one unit is in the table alone
                tables["units"].append(_unit(rng, named_probe, int(cluster)))
            ephys |= _write_spikes(rng, release, pid, ids)
        tables["trials"] += _trials(rng, eid)
        behavior[f"sessions/{eid}.zip"] = _write_behaviour(rng, release, eid, number)
    release.units = pd.DataFrame(tables["units"])
    release.trials = pd.DataFrame(tables["trials"])
    for name, rows in tables.items():
        # As tables of many sessions are, in no order of ours.
        shuffled = pd.DataFrame(rows).sample(frac=1, random_state=1)
        file = io.BytesIO()
        shuffled.to_parquet(file, compression="zstd", index=False)
        ephys[f"metadata/{name}.parquet"] = file.getvalue()
    for dataset, version, files in (
        ("bwm_ephys", "1.2.0", ephys),
        ("bwm_behavior", "2.0.0", behavior),
    ):
        _write_archive(root, dataset, version, files, packed)
    return release


def _unit(rng: np.random.Generator, probe: dict[str, Any], cluster: int) -> dict[str, Any]:
    allen, beryl = [("CA1", "CA1"), ("DG-mo", "DG"), ("LP", "LP")][rng.integers(3)]
    return {
        **{key: probe[key] for key in ("pid", "eid", "probe_name", "subject")},
        "cluster_id": np.int32(cluster),
        "channels": np.int32(rng.integers(384)),
        "label": np.float32(1.0),
        "acronym": allen,
        "beryl_acronym": beryl,
        "x": np.float32(rng.normal()),
        "y": np.float32(rng.normal()),
        "z": np.float32(rng.normal()),
        "depths": np.float32(rng.uniform(20, 3800)),
    }


def _blosc(array: np.ndarray) -> tuple[bytes, dict[str, Any]]:
    array = np.ascontiguousarray(array)
    spec = {"dtype": array.dtype.str, "shape": list(array.shape), "nbytes": array.nbytes}
    return (_BLOSC.encode(array) if array.size else b""), spec


def _write_spikes(
    rng: np.random.Generator, release: Release, pid: str, ids: np.ndarray
) -> dict[str, bytes]:
    times = np.sort(rng.uniform(3.2, 400.0, 4000))
    local = rng.integers(0, len(ids) - 1, len(times))  # the last cluster is silent
    release.spikes[pid] = (times, ids[local])
    ticks = np.rint((times - times[0]) * 1e4).astype(np.uint64)
    deltas = np.diff(ticks, prepend=ticks[:1]).astype(np.uint16)
    origin = int(np.rint(times[0] * 1e4))
    if pid.endswith("0"):  # older shards keep it in the first difference
        deltas[0], origin = origin, 0
    arrays = {
        "spike_times_delta_ticks": deltas,
        "spike_clusters": local.astype(np.int32),
        "cluster_ids": ids.astype(np.int32),
        "cluster_spike_counts": np.bincount(local, minlength=len(ids)).astype(np.int32),
    }
    files, specs = {}, {}
    for name, array in arrays.items():
        payload, spec = _blosc(array)
        files[f"spikes/{pid}/{name}.blosc"] = payload
        specs[name] = {**spec, "entry": f"{name}.blosc"}
    meta = {
        "format": "ibl_ai_agent_spike_shard_v2",
        "time_encoding": "delta_int_ticks",
        "cluster_encoding": "dense_local_indices",
        "time_quantization_us": 100,
        "time_origin_ticks": origin,
        "arrays": specs,
    }
    files[f"spikes/{pid}/meta.json"] = json.dumps(meta).encode()
    return files


def _trials(rng: np.random.Generator, eid: str) -> list[dict[str, Any]]:
    rows = []
    for trial in range(50):
        start = 10.0 + 7 * trial
        left = bool(rng.integers(2))
        contrast = float(rng.choice([0.0, 0.25, 1.0]))
        correct = bool(rng.integers(2))
        rows.append(
            {
                "eid": eid,
                "trial_id": trial,
                "choice": 0 if trial == 3 else int(rng.choice([-1, 1])),
                "feedbackType": 1 if correct else -1,
                "probabilityLeft": 0.5,
                "contrastLeft": contrast if left else np.nan,
                "contrastRight": np.nan if left else contrast,
                "intervals_0": start,
                "stimOn_times": np.nan if trial == 5 else start + 0.5,
                "goCue_times": start + 0.501,
                "firstMovement_times": start + 0.8,
                "response_times": start + 1.2,
                "feedback_times": start + 1.21,
                "intervals_1": start + 3.0,
                "bwm_include": True,
            }
        )
    return rows


def _write_behaviour(rng: np.random.Generator, release: Release, eid: str, number: int) -> bytes:
    file = io.BytesIO()
    n = 40_000
    wheel_times = 2.0 + np.arange(n) * 0.01
    velocity = rng.normal(0, 1, n)
    velocity[7] = np.nan
    frames = 24_000
    energy = np.abs(rng.normal(5, 1, frames))
    release.wheel[eid] = (wheel_times, velocity)
    release.whisker[eid] = (1.5 + np.arange(frames) / 60, energy)
    with zipfile.ZipFile(file, "w") as shard:

        def put(entry: str, array: np.ndarray) -> dict[str, Any]:
            payload, spec = _blosc(array)
            shard.writestr(entry, payload)
            return spec

        ticks = np.rint((wheel_times - wheel_times[0]) / 0.001).astype(np.uint32)
        packed = np.where(np.isnan(velocity), -32768, np.rint(np.nan_to_num(velocity) / 0.005))
        columns = ["paw_l_x", "paw_l_likelihood", "whiskerMotionEnergy"]
        arrays: dict[str, Any] = {
            "wheel.timestamps": {
                "encoding": {
                    "kind": "timestamp_delta_ticks",
                    "start": 2.0,
                    "tick_s": 0.001,
                    "ticks_entry": "arrays/wheel.t.blosc",
                    "ticks_spec": put("arrays/wheel.t.blosc", ticks),
                }
            },
            "wheel.velocity": {
                "encoding": {
                    "kind": "scaled_numeric",
                    "precision": 0.005,
                    "entry": "arrays/wheel.v.blosc",
                    "payload_spec": put("arrays/wheel.v.blosc", packed.astype(np.int16)),
                }
            },
        }
        # The second session has no camera, the first one a right one that saw something else.
        seen = {0: {"leftCamera": energy, "rightCamera": energy[::-1] + 7}, 1: {}}
        cameras = seen.get(number, {"leftCamera": energy})
        for camera, trace in cameras.items():
            scaled = np.rint(trace / 0.05).astype(np.int16)[:, None]
            arrays |= {
                f"{camera}.timestamps": {
                    "encoding": {
                        "kind": "timestamp_fixed_rate",
                        "start": 1.5,
                        "rate_hz": 60.0,
                        "count": frames,
                    }
                },
                f"{camera}.features": {
                    "encoding": {
                        "kind": "feature_matrix",
                        "shape": [frames, 3],
                        "columns": columns,
                        "groups": [
                            {"kind": "likelihood", "columns": [1], "entry": "none"},
                            {
                                "kind": "scaled",
                                "columns": [2],
                                "precision": 0.05,
                                "entry": f"arrays/{camera}.w.blosc",
                                "payload_spec": put(f"arrays/{camera}.w.blosc", scaled),
                            },
                        ],
                    }
                },
            }
        meta = {
            "format": "ibl_ai_agent_behavior_session_shard_v2",
            "arrays": arrays,
            "cameras": {camera: {"columns": columns} for camera in cameras},
        }
        shard.writestr("meta.json", json.dumps(meta))
    return file.getvalue()


def _write_archive(
    root: Path, dataset: str, version: str, files: dict[str, bytes], packed: bool
) -> None:
    manifest = {
        "files": [
            {"path": n, "size_bytes": len(d), "sha256": hashlib.sha256(d).hexdigest()}
            for n, d in sorted(files.items())
        ]
    }
    schema = f"dataset_name: {dataset}\ndataset_version: {version}\n"
    everything = {**files, "manifest.json": json.dumps(manifest).encode()}
    everything["schema.yaml"] = schema.encode()
    root.mkdir(parents=True, exist_ok=True)
    if not packed:
        for name, data in everything.items():
            path = root / dataset / version / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        return
    with tarfile.open(root / f"{dataset}-{version}.tar", "w", format=tarfile.PAX_FORMAT) as tar:
        for name, data in sorted(everything.items()):
            member = tarfile.TarInfo(f"{dataset}/{version}/{name}")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
