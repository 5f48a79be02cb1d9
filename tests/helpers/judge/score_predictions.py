"""Scores of predictions by the official scorers, with ground truth read by torch_brain.

python score_predictions.py PREDICTIONS DATA WORK      # prints {"LABEL/TASK/EID/SEED": {...}}
"""

import json
import sys
from pathlib import Path

import h5py
import numpy as np
import torch
from ibl_bwb_eval.entity_ids import encode_entity_ids
from ibl_bwb_eval.scoring import aggregation, ts1, ts2, ts3
from ibl_bwb_eval.tasks import COSMOS_LABELS, get_ts1_readout_spec, get_ts1_supported_tasks
from safetensors.torch import save_file
from torch_brain.data import Data
from torch_brain.utils.binning import bin_spikes

BRAINSET = "ibl_brain_wide_bench_2026"


def write(truth: Path, task: str, eid: str, tensors: dict, metadata: dict | None = None) -> None:
    path = truth / task / eid / "ground_truth.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({k: v.contiguous() for k, v in tensors.items()}, str(path), metadata=metadata)


def behaviour(data: Data, eid: str, truth: Path) -> None:
    for task in get_ts1_supported_tasks():
        spec = get_ts1_readout_spec(task)
        windows = data.get_nested_attribute(spec.interval_key)
        if spec.mask_counts_key:
            windows = windows.select_by_mask(data.get_nested_attribute(spec.mask_counts_key) > 0)
        sampled = data.task_aligned_intervals.domain & data.ts1_test_domain & windows
        sampled = sampled & data.get_nested_attribute(spec.domain_key)
        values, trials, masks = [], [], []
        for start, end in zip(sampled.start, sampled.end, strict=True):
            piece = data.slice(start, end)
            value = piece.get_nested_attribute(spec.value_key)
            if task == "licking_rate":
                value = np.round(value / 50.0).astype(np.int32)
            elif spec.timestamp_key and task != "wheel_speed":
                stored = data.get_nested_attribute(f"ts1_normalize.{spec.value_key}")
                value = ((value - stored.mean) / stored.std).astype(np.float32)
            values.append(np.asarray(value, np.float32))
            trials.append(piece.get_nested_attribute(f"{spec.interval_key}.trial_index"))
            if spec.mask_key:
                masks.append(piece.get_nested_attribute(spec.mask_key))
        stacked = np.stack(values)[..., None] if spec.timestamp_key else np.stack(values)
        tensors = {
            "values": torch.tensor(stacked),
            "trial_id": torch.tensor(np.concatenate(trials)),
        }
        if masks:
            tensors["mask"] = torch.tensor(np.stack(masks))
        write(truth, f"ts1-{task}", eid, tensors)


def activity(data: Data, eid: str, truth: Path) -> None:
    ids = np.array([f"{eid}/{unit}" for unit in data.units.id.astype(str)])
    held = data.units.ts2_co_smoothing_is_held_out_test
    sampled = data.task_aligned_intervals.domain & data.ts2_test_domain
    starts, counts = [], []
    for start, end in zip(sampled.start, sampled.end, strict=True):
        steps = torch.arange(start, end, 0.02, dtype=torch.float64)
        found = [t.item() for t in steps if t + 1.0 <= end]
        if found[-1] + 1.0 < end:
            found.append(end - 1.0)
        for t in found:
            piece = data.slice(t, t + 1.0)
            counts.append(bin_spikes(piece.spikes, len(ids), 0.02, dtype=np.float32))
        starts += found
    whole = np.stack(counts)
    times = torch.tensor(starts, dtype=torch.float64)
    for task, targets, names in (
        ("co_smoothing", whole[:, :, held], ids[held]),
        ("forecasting", whole[:, -5:], ids),
    ):
        tensors = {"targets": torch.tensor(targets), "window_timestamps": times}
        write(truth, f"ts2-{task}", eid, tensors | {"unit_ids": encode_entity_ids(names)})


def regions(recordings: dict[str, Data], truth: Path) -> None:
    names, targets = [], []
    for eid, data in recordings.items():
        units = data.units
        region = units.region_cosmos.astype(str)
        keep = np.isin(region, COSMOS_LABELS) & (units.label == 1.0) & (units.firing_rate > 1.0)
        for quality in (units.qc_neural, units.qc_neural_alignment):
            keep &= quality.astype(str) == "PASS"
        names += [f"{eid}/{unit}" for unit in units.id.astype(str)[keep]]
        targets += [COSMOS_LABELS.index(name) for name in region[keep]]
    tensors = {"targets": torch.tensor(targets), "entity_ids": encode_entity_ids(np.array(names))}
    write(truth, "ts3-unit_cosmos", "", tensors, {"label_names": ",".join(COSMOS_LABELS)})


def main(predictions: Path, root: Path, work: Path) -> None:
    torch.set_num_threads(1)
    opened: dict[str, dict[str, Data]] = {}
    for build in ("all_units", "selected_units"):
        files = sorted((root / build / BRAINSET / "eval").glob("*.h5"))
        opened[build] = {file.stem: Data.from_hdf5(h5py.File(file)) for file in files}
    for eid, data in opened["all_units"].items():
        behaviour(data, eid, work)
    for eid, data in opened["selected_units"].items():
        activity(data, eid, work)
    regions(opened["selected_units"], work)
    raw = ts1.score_dir(predictions, work) | ts2.score_dir(predictions, work)
    raw |= aggregation.from_ts3(ts3.score_dir(predictions, work), "ts3-unit_cosmos")
    scores = {"/".join(map(str, key)): found for key, found in raw.items()}
    primary = {
        f"ts1-{task}": get_ts1_readout_spec(task).primary_metric
        for task in get_ts1_supported_tasks()
    }
    primary |= {"ts2-co_smoothing": "poisson_d2", "ts2-forecasting": "poisson_d2"}
    primary |= {"ts3-unit_cosmos": "macro/f1-score"}
    summary = {"/".join(key): found for key, found in aggregation.aggregate_over_seeds(raw).items()}
    ranks = aggregation.rank(aggregation.aggregate(raw), primary)
    (work / "scores.json").write_text(
        json.dumps({"scores": scores, "summary": summary, "ranks": ranks})
    )


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]))
