"""Decoded behaviour in the layout that the IBL's brain-wide benchmark takes.

    write_submission(scores, Path("submission.zip"), "mtm", 0, unit_filtering="all_units")

A zip of ``LABEL/TASK/EID/seed_N.safetensors``, one file per task, recording and seed. Files of
other seeds that the zip already holds stay, so that the runs of several seeds make one submission.

The layout and the keys are those of the benchmark's validator (app-brain-wide-bench,
``app/validation/validate_submission.py``, and ibl-bwb-eval 0.1.0).
"""

import os
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

import numpy as np
from safetensors.numpy import save

from ibl_mtm.errors import UserError
from ibl_mtm.evaluation.behaviour.decoding_scores import ClassScore, TraceScore
from ibl_mtm.evaluation.score_session import SessionScores

__all__ = ["BENCHMARK_TASKS", "DATASET_VERSION", "UnitFiltering", "write_submission"]

UnitFiltering = Literal["all_units", "custom"]
"""Which units the benchmark is told were used: all that were sorted, or those of a filter."""

Decoded = ClassScore | TraceScore | tuple[np.ndarray, np.ndarray]

DATASET_VERSION = "0.1.0"
"""Of the benchmark's public data, whose recordings and numbers of trials a submission refers to."""

BENCHMARK_TASKS = {
    "choice": "ts1-choice",
    "feedback": "ts1-reward",
    "contrast": "ts1-stimulus_contrast",
    "whisker_motion_energy": "ts1-whisker_motion_energy",
    "wheel_speed": "ts1-wheel_speed",
    "lick_rate": "ts1-licking_rate",
}
"""What the benchmark calls each behaviour that it asks for; contrast has five classes there."""


def write_submission(
    scores: Mapping[str, SessionScores],
    path: Path,
    label: str,
    seed: int,
    unit_filtering: UnitFiltering,
) -> list[str]:
    """Write what was decoded of the test trials under the headline prompt.

    Parameters
    ----------
    scores
        `Evaluation.scores`.
    path
        The zip; one that exists is added to.
    label
        What to call the submission.
    seed
        The run's.
    unit_filtering
        Whether a filter left units out.

    Returns
    -------
    The names of the files that were written.

    Raises
    ------
    UserError
        If none of `BENCHMARK_TASKS` was decoded, or `path` is another kind of file.
    """
    files = dict(_files(scores, label, seed, unit_filtering))
    if not files:
        known = ", ".join(BENCHMARK_TASKS)
        raise UserError(f"nothing to export: decode some of {known} (--task all)")
    kept: dict[str, bytes] = {}
    if path.exists():
        if not zipfile.is_zipfile(path):
            raise UserError(f"{path} exists and is no zip; give --export another name")
        with zipfile.ZipFile(path) as old:
            kept = {name: old.read(name) for name in old.namelist() if name not in files}
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    with zipfile.ZipFile(aside, "w", zipfile.ZIP_DEFLATED) as new:
        for name, content in sorted((kept | files).items()):
            new.writestr(name, content)
    aside.replace(path)
    return sorted(files)


def _files(
    scores: Mapping[str, SessionScores], label: str, seed: int, unit_filtering: UnitFiltering
) -> Iterator[tuple[str, bytes]]:
    for eid, session in scores.items():
        for task, name in BENCHMARK_TASKS.items():
            decoded = session.behaviour.decoded
            score: Decoded | None
            score = session.behaviour.contrast if task == "contrast" else decoded.get(task)
            if score is None:
                continue
            tensors = _tensors(score, session.trial, session.time)
            metadata = {
                "label": label,
                "task": name,
                "recording_id": eid,
                "seed": str(seed),
                "unit_filtering": unit_filtering,
                "dataset_version": DATASET_VERSION,
            }
            yield f"{label}/{name}/{eid}/seed_{seed}.safetensors", save(tensors, metadata)


def _tensors(score: Decoded, trial: np.ndarray, time: np.ndarray) -> dict[str, np.ndarray]:
    """``predictions`` (trial, time, 1) or logits (trial, 1, class), ``trial_id``, ``timestamps``.

    Trials are numbered as in the session's own table; timestamps (trial, time) are the centres of
    bins, in s relative to the alignment event. Classes are in the benchmark's order: -1, +1, and
    contrasts from the lowest on.
    """
    if isinstance(score, tuple):
        trials, odds = score
        predictions = odds[:, None].astype(np.float32)
        return {"predictions": predictions, "trial_id": trial[trials].astype(np.int64)}
    trial_id = trial[score.trials].astype(np.int64)
    if isinstance(score, ClassScore):
        logits = np.stack([-score.logit / 2, score.logit / 2], axis=-1)
        return {"predictions": logits[:, None].astype(np.float32), "trial_id": trial_id}
    return {
        "predictions": score.predicted[..., None].astype(np.float32),
        "trial_id": trial_id,
        "timestamps": np.tile(time.astype(np.float32), (len(trial_id), 1)),
    }
