"""A recorded session as the files of BrainWideBench: one with all units, one with those selected.

write_file(root, record(plan), "selected_units")
"""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ibl_mtm.brainsets.intervals import inside, intersect
from ibl_mtm.brainsets.layout import (
    BEHAVIOURS,
    BRAINSET,
    RATE,
    SPLITS,
    Build,
    file_of,
)
from ibl_mtm.disk.replace import replace_file
from ibl_mtm.simulate.brainsets.containers import (
    put,
    write_arrays,
    write_data,
    write_intervals,
    write_regular,
    write_spikes,
)
from ibl_mtm.simulate.brainsets.recorded import Recorded, Series
from ibl_mtm.simulate.brainsets.splits import causal, chunked, held_out
from ibl_mtm.simulate.brainsets.windows import TIMES, TaskWindow, task_windows, trial_domains

__all__ = ["write_file"]

VERSION = "0.1.0"
_FILTERS = {
    "firing_rate": "firing_rate > 1.0",
    "probe_qc": "qc_neural == PASS",
    "unit_qc": "label == 1.0",
}
_TEMPLATE = (8, 64)  # channels and samples of a waveform
_LEAST_SD = 1e-8

Intervals = NDArray[np.float64]


def write_file(root: Path, recorded: Recorded, build: Build) -> Path:
    """Write a session's file of one build; it appears whole or not at all."""
    plan = recorded.plan
    path = file_of(root, build, plan.regime, plan.eid)
    path.parent.mkdir(parents=True, exist_ok=True)

    def write(aside: Path) -> None:
        with h5py.File(aside, "w") as file:
            _write(file, recorded, build)

    replace_file(path, write)
    return path


def _write(file: h5py.File, recorded: Recorded, build: Build) -> None:
    kept, filters = _selected(recorded, build)
    units = recorded.units[kept].reset_index(drop=True)
    of_kept = kept[recorded.unit]
    times = recorded.times[of_kept]
    unit = (np.cumsum(kept) - 1)[recorded.unit[of_kept]]
    extent = (float(times[0]), float(times[-1]))
    windows = task_windows(recorded.trials)
    domains = _domains(recorded, trial_domains(windows), extent)

    _write_names(file, recorded, build, filters, extent)
    _write_units(file, recorded, units, build)
    rng = recorded.plan.generator("amplitudes")
    amplitude = 1e-4 * np.exp(0.2 * rng.standard_normal(len(recorded.times)))[of_kept]
    depth = units["depths"].to_numpy()[unit]
    write_spikes(file, times, {"unit_index": unit, "amplitude": amplitude, "depth": depth})
    table = recorded.trials
    columns = {str(n): table[n].to_numpy() for n in table if n not in ("start", "end")}
    write_intervals(file, "trials", table[["start", "end"]], columns, TIMES)
    _write_windows(file, recorded, windows)
    for name, series in recorded.series.items():
        write_regular(file, name, series.domain, RATE, series.signals)
    for name, bounds in domains.items():
        write_intervals(file, f"{name}_domain", bounds)
    scope = next(iter(domains)).split("_")[0]
    train = domains[f"{scope}_train"]
    _write_normalisation(file, f"{scope}_normalize", recorded, windows["movement_window"], train)


def _selected(recorded: Recorded, build: Build) -> tuple[NDArray[np.bool_], tuple[str, ...]]:
    """Which units a build keeps, and by which filters."""
    units = recorded.units
    if build == "all_units":
        return np.ones(len(units), dtype=bool), ()
    kept = (units["firing_rate"] > 1.0) & (units["label"] == 1.0)
    if recorded.plan.regime == "pretrain":
        return kept.to_numpy(), ("firing_rate", "unit_qc")
    return (kept & (units["qc_neural"] == "PASS")).to_numpy(), tuple(_FILTERS)


def _domains(
    recorded: Recorded, trials: Intervals, extent: tuple[float, float]
) -> dict[str, Intervals]:
    """Domains of the regime by name, those of the first scope first."""
    if recorded.plan.regime == "pretrain":
        found = causal(trials, extent, (0.9, 0.1))
        return {f"pretrain_{split}": d for split, d in zip(SPLITS[:2], found, strict=True)}
    ts1 = causal(trials, extent, (0.4, 0.2, 0.4))
    ts2 = chunked(trials, extent)
    return {f"ts1_{split}": d for split, d in zip(SPLITS, ts1, strict=True)} | {
        f"ts2_{split}": d for split, d in zip(SPLITS, ts2, strict=True)
    }


def _write_names(
    file: h5py.File,
    recorded: Recorded,
    build: Build,
    filters: tuple[str, ...],
    extent: tuple[float, float],
) -> None:
    plan = recorded.plan
    write_data(file, "", [extent], lab=plan.lab)
    write_data(
        file,
        "brainset",
        id=BRAINSET,
        origin_version="0.0.1",
        derived_version=VERSION,
        source="one-api",
        description="simulated by ibl-mtm",
        torch_brain_version="0.2.0a0",
        unit_filtering=build,
        unit_filters=",".join(filters),
        unit_filter_thresholds=", ".join(_FILTERS[name] for name in filters),
    )
    write_data(file, "subject", id=plan.subject, species="MUS_MUSCULUS")
    write_data(file, "session", id=plan.eid, recording_date=f"{plan.date} 00:00:00")
    device = f"{plan.lab}_{plan.subject}_{plan.date.replace('-', '')}"
    write_data(file, "device", id=device, recording_tech="NEUROPIXELS_ARRAY")
    qc = {name: "PASS" if name in recorded.series else "FAIL" for name in BEHAVIOURS}
    worst = "FAIL" if "FAIL" in qc.values() else "PASS"
    by_name = {f"qc_behavior_{name}": value for name, value in qc.items()}
    write_data(file, "behavior_qc", **by_name, qc_behavior=worst)
    write_data(file, "provenance", pipeline_commit="simulated", pipeline_dirty=False)


def _write_units(file: h5py.File, recorded: Recorded, units: pd.DataFrame, build: Build) -> None:
    plan = recorded.plan
    columns: dict[str, Any] = {str(n): units[n].to_numpy() for n in units}
    columns["location"] = units[["x", "y", "z"]].to_numpy()
    shape = np.outer(np.hanning(_TEMPLATE[0]), -np.hanning(_TEMPLATE[1])) * 1e-4
    columns["wf_template"] = np.tile(shape.astype(np.float32), (len(units), 1, 1))
    if plan.regime == "eval" and build == "selected_units":
        for split in ("test", "val"):
            flags = held_out(units["id"].tolist(), f"ts2_co_smoothing_{split}")
            columns[f"ts2_co_smoothing_is_held_out_{split}"] = flags
    write_arrays(file, "units", columns)
    probes: dict[str, Any] = {
        "id": [probe.pid for probe in plan.probes],
        "name": [probe.name for probe in plan.probes],
        **{name: [probe.qc[name] for probe in plan.probes] for name in plan.probes[0].qc},
    }
    write_arrays(file, "probes", probes)


def _write_windows(file: h5py.File, recorded: Recorded, windows: dict[str, TaskWindow]) -> None:
    group = write_data(file, "task_aligned_intervals", trial_domains(windows))
    for name, (bounds, columns) in windows.items():
        counts = {}
        if name == "movement_window" and (paws := recorded.series.get("paws")) is not None:
            for side in ("left", "right"):
                sure = paws.signals[f"is_{side}_paw_confident"]
                edges = _rows(paws, bounds)
                before = np.concatenate([[0], np.cumsum(sure)])
                counts[f"num_{side}_paw_confident"] = np.diff(before[edges], axis=1)[:, 0]
        write_intervals(group, name, bounds, columns | counts)


def _rows(series: Series, bounds: Intervals) -> NDArray[np.int64]:
    """First rows that are not before these times, within the series."""
    n = len(next(iter(series.signals.values())))
    rows = np.ceil(np.round((bounds - series.domain[0, 0]) * RATE, 9)).astype(np.int64)
    return np.clip(rows, 0, n)


def _write_normalisation(
    file: h5py.File, name: str, recorded: Recorded, window: TaskWindow, train: Intervals
) -> None:
    """Mean and deviation of the samples in the windows of movement that train."""
    group = write_data(file, name)
    pieces = intersect(window.bounds, train)
    for behaviour in ("whisker", "paws"):
        series = recorded.series.get(behaviour)
        if series is None:
            continue
        own = write_data(group, behaviour)
        whole = _rows(series, pieces[inside(pieces, series.domain)])
        rows = np.concatenate([np.arange(first, last) for first, last in whole])
        for signal, values in series.signals.items():
            if not signal.endswith(("_energy", "_speed", "_v_xy")):
                continue
            chosen = rows
            if behaviour == "paws":
                chosen = rows[series.signals[f"is_{signal.split('_')[0]}_paw_confident"][rows]]
            mean = values[chosen].mean(axis=0)
            std = np.maximum(values[chosen].std(axis=0), _LEAST_SD)
            if np.ndim(mean) == 0:
                write_data(own, signal, mean=float(mean), std=float(std))
            else:
                put(write_data(own, signal), {"mean": mean, "std": std})
