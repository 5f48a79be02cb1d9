"""Evaluated runs with known scores, as few files as results are made from."""

import json
from pathlib import Path

import pandas as pd
import yaml

ALL_SCHEMES = dict.fromkeys(("neuron", "causal", "intra_region", "inter_region"), 1.0)


def write_scored(
    path: Path,
    name: str,
    scores: dict,
    *,
    seed: int = 0,
    animals: int | None = None,
    schemes: dict | None = None,
    prompt: bool = True,
    simulated: bool = True,
    split: str = "random, seed 42",
    mice: int | None = None,
) -> Path:
    """Write a run; `scores` maps sessions to tasks to scores, or to whole entries.

    `animals` are sessions that it was pre-trained on, of so many `mice` if the source tells.
    """
    path.mkdir(parents=True)
    sessions = {eid: {t: _entry(t, v) for t, v in tasks.items()} for eid, tasks in scores.items()}
    metrics = {
        "run": str(path),
        "tasks": {},
        "sessions": sessions,
        "simulated": simulated,
        "seconds": 6.0,
        "commit": "abc",
        "provenance": {"dataset": "made-up", "split": split, "sessions": {}},
    }
    (path / "metrics.json").write_text(json.dumps(metrics))
    pd.DataFrame({"eid": []}).to_parquet(path / "per_unit.parquet")
    masks = {"schemes": ALL_SCHEMES if schemes is None else schemes}
    settings = {"name": name, "seed": seed, "masks": masks, "model": {"prompt": prompt}}
    (path / "config.yaml").write_text(yaml.safe_dump(settings))
    outcome = {"seed": seed, "seconds": 60.0, "threads": 1, "commit": "abc"}
    if animals is not None:
        source = path.parent / f"source-{animals}"
        taken = {"matched": 1, "new": 1, "left_out": animals - 1}
        outcome["init"] = {"from": str(source), "sessions": taken}
        source.mkdir(exist_ok=True)
        told = {} if mice is None else {"n_animals": mice}
        (source / "training.json").write_text(json.dumps({"seconds": 600.0, "threads": 1} | told))
    (path / "training.json").write_text(json.dumps(outcome))
    return path


def write_scored_baseline(path: Path, name: str, scores: dict, **options) -> Path:
    """Write scores of a baseline: no training is behind them."""
    write_scored(path, name, scores, **options)
    for file in ("config.yaml", "training.json"):
        (path / file).unlink()
    metrics = json.loads((path / "metrics.json").read_text())
    del metrics["run"]
    (path / "metrics.json").write_text(json.dumps(metrics | {"baseline": name}))
    return path


def _entry(task, value):
    if value is None or isinstance(value, dict):
        return value
    return {
        {"choice": "accuracy", "whisker_motion_energy": "r2"}.get(task, "bits_per_spike"): value
    }
