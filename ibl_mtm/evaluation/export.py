"""Decoded behaviour in the layout that the IBL's brain-wide benchmark takes.

    write_submission(evaluation, Path("submission.zip"), label="mtm", seed=0)

A zip of ``LABEL/TASK/EID/seed_N.safetensors``, one file per task, recording and seed. Files of
other seeds that the zip already holds stay, so that the runs of several seeds make one submission.
"""

import os
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from safetensors.numpy import save

from ibl_mtm.errors import UserError
from ibl_mtm.evaluation.behaviour_scores import ClassScore, TraceScore
from ibl_mtm.evaluation.session import SessionScores

__all__ = ["BENCHMARK_TASKS", "write_submission"]

BENCHMARK_TASKS = {
    "choice": "ts1-choice",
    "feedback": "ts1-reward",
    "contrast_side": "ts1-stimulus_contrast",
    "whisker_motion_energy": "ts1-whisker_motion_energy",
    "wheel_speed": "ts1-wheel_speed",
    "lick_rate": "ts1-licking_rate",
}
"""What the benchmark calls each behaviour that it asks for."""


def write_submission(
    scores: Mapping[str, SessionScores], path: Path, label: str, seed: int
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

    Returns
    -------
    The names of the files that were written.

    Raises
    ------
    UserError
        If none of `BENCHMARK_TASKS` was decoded, or `path` is another kind of file.
    """
    files = dict(_files(scores, label, seed))
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
    scores: Mapping[str, SessionScores], label: str, seed: int
) -> Iterator[tuple[str, bytes]]:
    for eid, session in scores.items():
        for task, name in BENCHMARK_TASKS.items():
            score = session.behaviour.decoded.get(task)
            if score is None:
                continue
            tensors = _tensors(score, session.trial, session.time)
            metadata = {"label": label, "task": name, "recording_id": eid, "seed": str(seed)}
            yield f"{label}/{name}/{eid}/seed_{seed}.safetensors", save(tensors, metadata)


def _tensors(
    score: ClassScore | TraceScore, trial: np.ndarray, time: np.ndarray
) -> dict[str, np.ndarray]:
    """``predictions`` (trial, time, 1) or logits (trial, 1, class), ``trial_id``, ``timestamps``.

    Trials are numbered as in the session's own table; timestamps are the centres of bins, in s
    relative to the alignment event. Classes are in the order -1, +1.
    """
    trial_id = trial[score.trials].astype(np.int64)
    if isinstance(score, ClassScore):
        logits = np.stack([-score.logit / 2, score.logit / 2], axis=-1)
        return {"predictions": logits[:, None].astype(np.float32), "trial_id": trial_id}
    return {
        "predictions": score.predicted[..., None].astype(np.float32),
        "trial_id": trial_id,
        "timestamps": time.astype(np.float64),
    }
