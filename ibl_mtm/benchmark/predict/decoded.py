"""Predictions for TS1: behaviour decoded linearly from spikes and from what a model makes of them.

found = predict_behaviour(recording, TASKS["ts1-choice"], model)
found.tensors, found.chosen                     # what a file holds; decoder and its score on val

Decoders are fitted to windows of the train domain. Which features, how many of their components
and how strong a penalty is chosen on val by the task's own metric.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression, Ridge

from ibl_mtm.benchmark.metrics import score_trials
from ibl_mtm.benchmark.predict.end_to_end import train_for_task
from ibl_mtm.benchmark.predict.features import Reduced, window_features
from ibl_mtm.benchmark.tasks import N_BINS, Task
from ibl_mtm.benchmark.truth import TrialTruth, trial_truth
from ibl_mtm.brainsets.recording import Recording
from ibl_mtm.model.mtm import MtM

__all__ = ["Found", "predict_behaviour"]

INVERSE_PENALTIES = (1e-3, 1e-2, 1e-1, 1.0)
PENALTIES = (1.0, 10.0, 100.0, 1e3, 1e4)
RANKS = (1, 2, 4)
LAGS = np.arange(-8, 9, 2)
"""Bins around a sample that a trace is read from."""
_COMPONENTS = 40
_FLOORS = (0.02, 0.1, 0.3)  # of the mean rate: licks predicted below are as few as that

Array = NDArray[np.float64]
Features = dict[str, dict[str, np.ndarray]]


@dataclass(frozen=True)
class Found:
    """Predictions of a TS1 task.

    Attributes
    ----------
    tensors
        ``predictions``, ``trial_id`` and, of traces, ``timestamps``, as files hold them.
    chosen
        The features and penalty, and the score on val that chose them.
    """

    tensors: dict[str, np.ndarray]
    chosen: dict[str, Any]


@dataclass(frozen=True)
class _Candidate:
    """A decoder that was fitted: its predictions for val and test."""

    about: dict[str, Any]
    val: Array
    test: Array


def predict_behaviour(
    recording: Recording,
    task: Task,
    model: MtM | None = None,
    *,
    end_to_end: bool = False,
    seed: int = 0,
    low_rank: bool = False,
) -> Found:
    """Decode the test windows of a task.

    Parameters
    ----------
    recording
        Of all units.
    task
        Of TS1.
    model
        Adapted to the session; without one, spikes alone are decoded. Decoders draw nothing.
    end_to_end
        Also train a copy of the model for the task (see `train_for_task`), and take that if it is
        best on val.
    seed
        Of that training.
    low_rank
        Decode a trace as a whole, by a regression of low rank, instead of sample by sample.

    Raises
    ------
    SessionError
        If the file lacks something, or a split has no window.
    """
    truth = {split: trial_truth(recording, task, split) for split in ("train", "val", "test")}
    for split, of in truth.items():
        if not len(of.trial_id):
            raise recording.wrong(f"no window of {task.name} in ts1_{split}_domain")
    features = {split: window_features(recording, of.start, model) for split, of in truth.items()}
    fit = _fit_classes if task.is_class else _fit_low_rank if low_rank else _fit_traces
    best, best_score = None, -np.inf
    candidates = fit(task, features, truth["train"])
    if end_to_end and model is not None:
        candidates = chain(candidates, _trained(model, recording, task, truth, seed))
    for candidate in candidates:
        values, mask = truth["val"].values, truth["val"].mask
        score = score_trials(task, candidate.val, values, mask)[task.metric]
        if best is None or score > best_score:  # of NaN, the first
            best, best_score = candidate, score if np.isfinite(score) else best_score
    assert best is not None
    test = truth["test"]
    tensors: dict[str, np.ndarray] = {
        "predictions": best.test.astype(np.float32),
        "trial_id": test.trial_id,
    }
    if test.timestamps is not None:
        tensors["timestamps"] = test.timestamps
    reached = float(best_score) if np.isfinite(best_score) else None
    return Found(tensors, {**best.about, f"val {task.metric}": reached})


def _trained(
    model: MtM, recording: Recording, task: Task, truth: dict[str, TrialTruth], seed: int
) -> Iterator[_Candidate]:
    found = train_for_task(model, recording, task, truth, seed)
    if found is not None:
        yield _Candidate(found.about, found.val, found.test)


def _fit_classes(task: Task, features: Features, train: TrialTruth) -> Iterator[_Candidate]:
    target = train.values[:, 0, 0].astype(int)
    shape = {
        split: (len(next(iter(of.values()))), 1, task.n_outputs) for split, of in features.items()
    }
    known = np.unique(target)
    if len(known) == 1:  # nothing to tell apart
        always = np.eye(task.n_outputs)[known[0]]
        val, test = (np.broadcast_to(always, shape[split]) for split in ("val", "test"))
        yield _Candidate({"features": "none"}, val, test)
        return
    for source in features["train"]:
        for pooled in (False, True):
            flat = {split: _flat(of[source], pooled) for split, of in features.items()}
            reduced = Reduced(flat["train"], len(target))
            x = {split: reduced(values) for split, values in flat.items()}
            for c in INVERSE_PENALTIES:
                fitted = LogisticRegression(C=c, class_weight="balanced", max_iter=2000).fit(
                    x["train"], target
                )
                odds = {s: np.full(shape[s], -20.0) for s in ("val", "test")}
                for split, logits in odds.items():
                    logits[:, 0, known] = fitted.predict_log_proba(x[split]).clip(-20)
                about = {"features": source, "pooled": pooled, "C": c}
                yield _Candidate(about, odds["val"], odds["test"])


def _flat(values: np.ndarray, pooled: bool) -> np.ndarray:
    return values.mean(1) if pooled else values.reshape(len(values), -1)


def _fit_traces(task: Task, features: Features, train: TrialTruth) -> Iterator[_Candidate]:
    target = train.values[..., 0].astype(np.float64)
    counts = np.ones_like(target, bool) if train.mask is None else train.mask
    course = _course(target, counts)  # what every window has in common
    rest = (target - course)[counts]
    for source, known in features["train"].items():
        reduced = Reduced(known.reshape(-1, known.shape[-1]), _COMPONENTS)
        x = {split: _lagged(reduced, of[source]) for split, of in features.items()}
        for penalty in PENALTIES:
            fitted = Ridge(alpha=penalty).fit(x["train"][counts], rest)
            about = {"features": source, "alpha": penalty}
            traces = {
                split: course
                + fitted.predict(x[split].reshape(-1, x[split].shape[-1])).reshape(
                    x[split].shape[:2]
                )
                for split in ("val", "test")
            }
            yield from _of_traces(task, about, traces, float(target.mean()))


def _fit_low_rank(task: Task, features: Features, train: TrialTruth) -> Iterator[_Candidate]:
    """Ridge regression of whole traces on whole windows, by few courses in time.

    The best weights of low rank are those of full rank, projected onto the first singular vectors
    of what they fit and weigh (Mukherjee & Zhu, 2011, doi 10.1002/sam.10138).
    """
    target = train.values[..., 0].astype(np.float64)
    counts = np.ones_like(target, bool) if train.mask is None else train.mask
    course = _course(target, counts)
    rest = np.where(counts, target - course, 0.0)  # of a sample that does not count, nothing
    for source, known in features["train"].items():
        reduced = Reduced(known.reshape(-1, known.shape[-1]), _COMPONENTS)
        x = {split: _whole(reduced, of[source]) for split, of in features.items()}
        x = {split: values - x["train"].mean(0) for split, values in x.items()}
        for penalty in PENALTIES:
            weights = Ridge(alpha=penalty, fit_intercept=False).fit(x["train"], rest).coef_.T
            both = np.concatenate([x["train"] @ weights, np.sqrt(penalty) * weights])
            directions = np.linalg.svd(both, full_matrices=False)[2]
            for rank in RANKS:
                keep = directions[:rank].T @ directions[:rank]
                traces = {split: course + x[split] @ (weights @ keep) for split in ("val", "test")}
                about = {"features": source, "alpha": penalty, "rank": rank}
                yield from _of_traces(task, about, traces, float(target.mean()))


def _of_traces(
    task: Task, about: dict[str, Any], traces: dict[str, Array], mean: float
) -> Iterator[_Candidate]:
    """Traces as they are asked for; of licks the logs, with several floors."""
    if task.metric != "poisson_d2":
        yield _Candidate(about, traces["val"][..., None], traces["test"][..., None])
        return
    for floor in _FLOORS:
        logs = {s: np.log(np.maximum(t, floor * max(mean, 1e-4))) for s, t in traces.items()}
        yield _Candidate({**about, "floor": floor}, logs["val"][..., None], logs["test"][..., None])


def _course(target: Array, counts: NDArray[np.bool_]) -> Array:
    """Mean over windows of each sample; the overall mean where none counts."""
    n = counts.sum(0)
    total = np.where(counts, target, 0).sum(0)
    course: Array = np.where(n > 0, total / np.maximum(n, 1), total.sum() / max(n.sum(), 1))
    return course


def _whole(reduced: Reduced, values: np.ndarray) -> Array:
    """Components of all bins side by side, (window, 50 x component)."""
    return reduced(values.reshape(-1, values.shape[-1])).reshape(len(values), -1)


def _lagged(reduced: Reduced, values: np.ndarray) -> Array:
    """Components at and around each bin, (window, 50, lag x component)."""
    n, n_time, width = values.shape
    x = reduced(values.reshape(-1, width)).reshape(n, n_time, -1)
    at = np.clip(np.arange(N_BINS)[:, None] + LAGS, 0, N_BINS - 1)
    return x[:, at].reshape(n, n_time, -1)
