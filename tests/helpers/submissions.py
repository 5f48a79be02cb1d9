"""Predictions that the benchmark would take, made of its ground truth and noise: no model.

write_submission(folder, root)                # LABEL/TASK/RECORDING/seed_N of every task
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from ibl_mtm.benchmark.data import BenchmarkData
from ibl_mtm.benchmark.entity_ids import encode_ids
from ibl_mtm.benchmark.submission import Place, write_predictions
from ibl_mtm.benchmark.tasks import COSMOS_LABELS, TASKS, Task
from ibl_mtm.benchmark.truth import NeuralTruth, scored_units, trial_truth

__all__ = ["write_submission"]


def write_submission(
    folder: Path,
    root: Path,
    label: str = "noisy",
    seeds: Sequence[int] = (43, 44, 45),
    tasks: Sequence[str] = tuple(TASKS),
    noise: float = 1.0,
) -> None:
    data = BenchmarkData(root)
    for name in tasks:
        task = TASKS[name]
        if task.suite == "ts3":
            _write_regions(folder, data, task, label, seeds, noise)
            continue
        for eid in data.recordings:
            if task.suite == "ts1":
                _write_behaviour(folder, data, task, eid, label, seeds, noise)
            else:
                _write_activity(folder, data, task, eid, label, seeds, noise)


def _about(task: Task) -> dict[str, str]:
    return {"unit_filtering": task.build, "dataset_version": "0.1.0"}


def _write_behaviour(
    folder: Path,
    data: BenchmarkData,
    task: Task,
    eid: str,
    label: str,
    seeds: Sequence[int],
    noise: float,
) -> None:
    with data.open(task, eid) as recording:
        truth = trial_truth(recording, task, "test")
    for seed in seeds:
        rng = np.random.default_rng(seed)
        y = truth.values
        if task.is_class:
            p = noise * rng.normal(size=(len(y), 1, task.n_outputs))
            p[np.arange(len(y)), 0, y[:, 0, 0].astype(int)] += 1
        elif task.metric == "poisson_d2":
            p = np.log(0.05 + 0.3 * y + 0.1 * noise * rng.random(y.shape))
        else:
            p = y + 0.7 * noise * rng.normal(size=y.shape)
        tensors = {"predictions": p.astype(np.float32), "trial_id": truth.trial_id}
        if truth.timestamps is not None:
            tensors["timestamps"] = truth.timestamps
        write_predictions(folder, Place(label, task.name, eid, seed), tensors, _about(task))


def _write_activity(
    folder: Path,
    data: BenchmarkData,
    task: Task,
    eid: str,
    label: str,
    seeds: Sequence[int],
    noise: float,
) -> None:
    with data.open(task, eid) as recording:
        truth = NeuralTruth.of(recording, task, "test")
        targets = np.concatenate([part for _, part in truth.targets()])
    mean = np.log(targets.reshape(-1, targets.shape[-1]).mean(0) + 1e-6)
    for seed in seeds:
        rng = np.random.default_rng(seed)
        p = mean + 0.3 * (targets > 0) + 0.01 * noise * rng.normal(size=targets.shape)
        tensors = {
            "predictions": p.astype(np.float16),
            "window_timestamps": truth.starts,
            "unit_ids": encode_ids(truth.units),
        }
        about = {**_about(task), "context_window": 1.0, "bin_size": 0.02}
        write_predictions(folder, Place(label, task.name, eid, seed), tensors, about)


def _write_regions(
    folder: Path, data: BenchmarkData, task: Task, label: str, seeds: Sequence[int], noise: float
) -> None:
    tables = []
    for eid in data.recordings:
        with data.open(task, eid) as recording:
            tables.append(scored_units(recording, "eval"))
    units = pd.concat(tables)
    for seed in seeds:
        rng = np.random.default_rng(seed)
        p = noise * rng.random((len(units), len(COSMOS_LABELS)))
        p[np.arange(len(units)), units["target"]] += 0.3
        tensors = {"pred_proba": p.astype(np.float32), "entity_ids": encode_ids(units["name"])}
        about = {**_about(task), "label_names": ",".join(COSMOS_LABELS)}
        write_predictions(folder, Place(label, task.name, "", seed), tensors, about)
