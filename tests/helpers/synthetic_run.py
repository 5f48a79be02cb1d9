"""Run folders as evaluation leaves them, with known contents: for tests of figures and report."""

import json
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr
import yaml
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.event_file_writer import EventFileWriter

REGIONS = {  # acronym: (Cosmos, order in the Allen atlas, its colour, how well it is predicted)
    "VISa": ("Isocortex", 331, "#009fac", 0.32),
    "CA1": ("HPF", 458, "#7ed04b", 0.24),
    "DG": ("HPF", 464, "#7ed04b", 0.10),
    "LP": ("TH", 682, "#ff909f", 0.42),
    "PO": ("TH", 685, "#ff909f", 0.36),
    "root": ("root", 1, "#ffffff", 0.05),
}
GAIN = {"co_smoothing": 1.0, "forward_prediction": 0.25, "intra_region": 0.8, "inter_region": 0.65}
BIN = 0.02


@dataclass(frozen=True)
class Size:
    """How much a synthetic run holds."""

    sessions: int = 2
    units: int = 24
    bins: int = 100
    examples: int = 4
    whisker: bool = True
    regions: tuple[str, ...] = tuple(REGIONS)
    contiguous: bool = False


def eids(n: int) -> list[str]:
    """Ids of sessions, the same in every run."""
    rng = np.random.default_rng(99)
    digits = "0123456789abcdef"
    text = ["".join(rng.choice(list(digits), 32)) for _ in range(n)]
    return [f"{t[:8]}-{t[8:12]}-4{t[13:16]}-a{t[17:20]}-{t[20:]}" for t in text]


def write_run(path: Path, quality: float = 1.0, size: Size = Size()) -> Path:
    """Write a run whose predictions are the better the higher `quality` is; returns its path."""
    path.mkdir(parents=True)
    tables = []
    for number, eid in enumerate(eids(size.sessions)):
        session, table = _session(eid, number, quality, size)
        session.to_zarr(path / "evaluation.zarr" / eid, zarr_format=3, consolidated=False)
        tables.append(table)
    units = pd.concat(tables, ignore_index=True)
    units.to_parquet(path / "per_unit.parquet")
    (path / "metrics.json").write_text(json.dumps(_metrics(path, units, quality, size)))
    settings = {
        "name": path.name,
        "seed": 0,
        "masking": {"schemes": ["neuron", "causal"] if quality >= 1 else ["temporal"]},
        "model": {"width": 128, "layers": 4, "dropout": 0.4},
        "training": {"steps": 1200, "batch": 32, "learning_rate": 1e-3},
    }
    (path / "config.yaml").write_text(yaml.safe_dump(settings, sort_keys=False))
    _write_logs(path / "logs" / "version_0", quality)
    return path


def _session(eid: str, number: int, quality: float, size: Size) -> tuple[xr.Dataset, pd.DataFrame]:
    rng = np.random.default_rng(number)  # the same spikes in every run
    noise = np.random.default_rng(1000 + number + int(100 * quality))
    n = size.units
    names = [f"{eid[:8]}-unit-{i:03d}" for i in range(n)]
    regions = rng.choice(size.regions, n).astype(object)  # variable-length strings in Zarr
    edges = -0.5 + BIN * np.arange(size.bins)
    base = rng.lognormal(np.log(4), 0.9, n)
    peak, width = rng.uniform(0.05, 0.7, n), rng.uniform(0.05, 0.3, n)
    gain = rng.normal(0.3, 0.8, (2, n))
    bump = np.exp(-0.5 * ((edges[:, None] - peak) / width) ** 2)
    truth = base * np.exp(gain[:, None, :] * bump)  # (condition, time, unit), spikes/s
    observed = rng.poisson(truth * 25 * BIN) / 25 / BIN
    predicted = base * (truth / base) ** min(1, 0.9 * quality)
    drift = np.cumsum(rng.normal(0, 0.08, (size.examples, size.bins, 3)), axis=1)
    shared = np.exp(drift @ rng.normal(0, 0.5, (3, n)))
    rates = truth[np.arange(size.examples) % 2] * shared * BIN
    spikes = rng.poisson(rates).astype(np.uint8)
    blurred = truth[np.arange(size.examples) % 2] * shared ** (0.7 * quality) * BIN
    whisker = np.abs(np.cumsum(rng.normal(size=(size.examples, size.bins)), axis=1)) + 2
    smooth = np.apply_along_axis(np.convolve, 1, whisker, np.ones(9) / 9, mode="same")
    if size.contiguous:
        observed, predicted = observed.mean(0, keepdims=True), predicted.mean(0, keepdims=True)
    conditions = ["all windows"] if size.contiguous else ["choice left", "choice right"]
    ds = xr.Dataset(
        {
            "psth_observed": (("condition", "time", "unit"), observed.astype(np.float32)),
            "psth_predicted": (("condition", "time", "unit"), predicted.astype(np.float32)),
            "n_trials": ("condition", [48] if size.contiguous else [26, 22]),
            "example_spikes": (("example", "time", "unit"), spikes),
            "example_rates": (("example", "time", "unit"), blurred.astype(np.float32)),
        },
        coords={
            "condition": np.array(conditions, dtype=object),
            "time": edges,
            "unit": np.array(names, dtype=object),
            "example": 7 + 5 * np.arange(size.examples),
            "region": ("unit", regions),
            "order": ("unit", [REGIONS[r][1] for r in regions]),
            "color": ("unit", np.array([REGIONS[r][2] for r in regions], dtype=object)),
        },
    )
    if size.whisker:
        decoded = quality * smooth + noise.normal(0, 0.2, smooth.shape)
        ds["whisker_motion_energy_observed"] = (("example", "time"), whisker.astype(np.float32))
        ds["whisker_motion_energy_predicted"] = (("example", "time"), decoded.astype(np.float32))
    counts = np.maximum(1, (base * 2 * 48).astype(int))
    own = np.array([REGIONS[r][3] for r in regions]) * rng.lognormal(0, 0.5, n)
    tables = []
    for task, share in GAIN.items():
        if task == "inter_region" and len(size.regions) == 1:
            continue
        spread = noise.normal(0, 1.2 / np.sqrt(counts) + 0.03, n)
        tables.append(
            pd.DataFrame(
                {
                    "eid": eid,
                    "unit": names,
                    "region": regions,
                    "cosmos": [REGIONS[r][0] for r in regions],
                    "task": task,
                    "bits_per_spike": own * share * quality * 0.7 + spread,
                    "n_spikes": counts,
                    "firing_rate": base.astype(np.float32),
                    "label": rng.choice([1 / 3, 2 / 3, 1], n).astype(np.float32),
                    "oracle": own * (0.7 if task == "forward_prediction" else 1),
                }
            )
        )
    table = pd.concat(tables)
    table.loc[table["unit"] == names[3], "bits_per_spike"] = np.nan  # a silent unit
    return ds, table


def _metrics(path: Path, units: pd.DataFrame, quality: float, size: Size) -> dict:
    sessions = {
        eid: _tasks(units[units["eid"] == eid], quality - 0.03 * n, size)
        for n, eid in enumerate(eids(size.sessions))
    }
    skipped = {}
    if len(size.regions) == 1:
        skipped = {eid: {"inter_region": "has one region only"} for eid in sessions}
    if size.contiguous:
        for eid in sessions:
            skipped.setdefault(eid, {})["psth_r2"] = "has no trials"
    if not size.whisker:
        for eid in sessions:
            skipped.setdefault(eid, {})["whisker_motion_energy"] = "has no camera"
    return {
        "run": str(path),
        "tasks": _tasks(units, quality, size),
        "sessions": sessions,
        "skipped": skipped,
        "region_pairs": [
            {
                "source": a,
                "target": b,
                "bits_per_spike": 0.1 * quality + 0.01 * len(a + b),
                "n_units": 8,
                "n_sessions": size.sessions,
            }
            for a in size.regions
            for b in size.regions
            if a != b and "root" not in (a, b)
        ],
        "simulated": True,
        "cache": "demo/cache.zarr",
        "provenance": {
            "ibl_mtm": "0.1.0",
            "torch": "2.13.0",
            "date": "2026-11-20T10:00:00Z",
            "dataset": "demo",
            "split": "random, 70/10/20, seed 42",
            "sessions": {
                eid: {
                    "subject": f"SIM-{n // 2:03d}",
                    "lab": "simlab",
                    "date": f"2026-01-{n % 28 + 1:02d}",
                    "n_units": size.units,
                    "n_test": 48,
                }
                for n, eid in enumerate(sessions)
            },
        },
    }


def _tasks(units: pd.DataFrame, quality: float, size: Size) -> dict:
    tasks: dict = dict.fromkeys([*GAIN, "choice", "whisker_motion_energy"])
    for task, own in units.groupby("task"):
        scored = own[own["bits_per_spike"].notna()]
        bits, oracle = scored["bits_per_spike"].mean(), scored["oracle"].mean()
        tasks[task] = {
            "bits_per_spike": bits,
            "sem": scored["bits_per_spike"].sem(),
            "median_units": scored["bits_per_spike"].median(),
            "n_units": len(scored),
            "psth_r2": None if size.contiguous else 0.5 * quality,
            "residual_r2": None if size.contiguous else 0.12 * quality,
            "oracle": oracle,
            "fraction_of_oracle": bits / oracle,
        }
    accuracy = 0.6 + 0.2 * quality
    if not size.contiguous:
        prompts = {
            p: accuracy - 0.01 * i for i, p in enumerate(["neuron", "causal", "intra_region"])
        }
        tasks["choice"] = {
            "accuracy": accuracy,
            "balanced_accuracy": accuracy - 0.02,
            "prompt": "neuron",
            "by_prompt": {p: {"accuracy": a, "balanced_accuracy": a} for p, a in prompts.items()},
            "raw_spikes": {"accuracy": 0.71, "balanced_accuracy": 0.70},
            "majority": 0.55,
            "chance": {"accuracy": 0.52, "balanced_accuracy": 0.5},
        }
    if size.whisker:
        tasks["whisker_motion_energy"] = {
            "r2": 0.4 * quality,
            "prompt": "neuron",
            "by_prompt": {"neuron": {"r2": 0.4 * quality}, "causal": {"r2": 0.37 * quality}},
            "raw_spikes": {"r2": 0.42},
        }
    return tasks


def write_scalars(folder: Path, scalars: Iterable[tuple[str, float, int]]) -> None:
    """Write (tag, value, step) as a training logs them, without the weight of torch."""
    folder.mkdir(parents=True)
    log = EventFileWriter(str(folder))
    for tag, value, step in scalars:
        summary = Summary(value=[Summary.Value(tag=tag, simple_value=value)])
        log.add_event(Event(wall_time=time.time(), step=step, summary=summary))
    log.close()


def _write_logs(folder: Path, quality: float) -> None:
    rng = np.random.default_rng(5)
    shares = {"bits_per_spike": 0.9, "neuron": 1, "causal": 0.2, "intra_region": 0.8}
    shares["inter_region"] = 0.6
    scalars = []
    for step in range(0, 1201, 20):
        rise = 0.3 * quality * (1 - np.exp(-step / 300))
        scalars.append(("train/loss", 0.3 - rise / 4 + rng.normal(0, 0.003), step))
        scalars.append(("train/bits_per_spike", rise + rng.normal(0, 0.02), step))
        if step % 100 == 0:
            scalars += [(f"val/{name}", share * rise, step) for name, share in shares.items()]
    write_scalars(folder, scalars)
