"""A model trained end to end for one TS1 task: another decoder for val to choose among.

found = train_for_task(model, recording, task, truth)
found.val, found.test, found.about              # as decoders of features have them

A copy of the adapted model gets a read-out of the task (zero at first: the mean of the train
windows) and everything is trained on the train windows, as the benchmark's own entries are. The
step that is kept is best on val by the task's metric.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ibl_mtm.benchmark.metrics import score_trials
from ibl_mtm.benchmark.predict.features import counts_of
from ibl_mtm.benchmark.tasks import N_BINS, Task
from ibl_mtm.benchmark.truth import TrialTruth
from ibl_mtm.brainsets.recording import Recording
from ibl_mtm.model.group import Group
from ibl_mtm.model.loss import poisson_nll
from ibl_mtm.model.mtm import MtM

__all__ = ["Schedule", "TrainedForTask", "train_for_task"]

_AT_ONCE = 32


@dataclass(frozen=True)
class Schedule:
    """How long, and how fast.

    Attributes
    ----------
    steps, every
        Steps in all, and from one look at val to the next.
    batch
        Windows in a step.
    rate, body_rate
        Learning rate of the read-out, and of all that was trained before.
    """

    steps: int = 200
    every: int = 20
    batch: int = 32
    rate: float = 3e-3
    body_rate: float = 3e-4


@dataclass(frozen=True)
class TrainedForTask:
    """Predictions for val and test windows, and how they came about."""

    about: dict[str, Any]
    val: NDArray[np.float64]
    test: NDArray[np.float64]


class _Head(nn.Module):
    """Reads a class out of every bin, each by a weight of its own; or a trace, bin by bin."""

    course: Tensor

    def __init__(self, task: Task, width: int, course: Tensor) -> None:
        super().__init__()
        self.is_class = task.is_class
        self.register_buffer("course", course)
        self.weight = nn.Parameter(torch.zeros(task.n_outputs, width))
        if task.is_class:
            self.query = nn.Parameter(torch.zeros(task.n_outputs, width))
            self.when = nn.Parameter(torch.zeros(N_BINS, task.n_outputs))

    def forward(self, h: Tensor) -> Tensor:
        """(B, 50, D) -> (B, 1, class) or (B, 50, 1)."""
        if not self.is_class:
            return h @ self.weight.T + self.course
        share = (h @ self.query.T + self.when).softmax(1)
        return (share * (h @ self.weight.T)).sum(1, keepdim=True) + self.course


def train_for_task(
    model: MtM,
    recording: Recording,
    task: Task,
    truth: Mapping[str, TrialTruth],
    seed: int = 0,
    schedule: Schedule = Schedule(),
) -> TrainedForTask | None:
    """Train a copy of a model for a task.

    Parameters
    ----------
    model
        Adapted to the recording; it stays as it is.
    recording
        Of all units.
    task
        Of TS1.
    truth
        Of train, val and test; of the last the windows alone are read.
    seed
        Of dropout and of the order of windows.
    schedule
        How long, and how fast.

    Returns
    -------
    TrainedForTask or None
        None where train windows hold a single class, so that there is nothing to learn, or where no
        step has a score on val.
    """
    target = torch.from_numpy(truth["train"].values.astype(np.float32))[..., 0]
    if task.is_class and len(target.unique()) < 2:
        return None
    counts = {
        split: torch.from_numpy(counts_of(recording, of.start, model).astype(np.int16))
        for split, of in truth.items()
    }
    body = copy.deepcopy(model).train()
    mask = truth["train"].mask
    there = torch.ones_like(target, dtype=torch.bool) if mask is None else torch.from_numpy(mask)
    head = _Head(task, model.settings.width, _start(task, target, there))
    weight = _class_weights(task, target)
    body.requires_grad_()
    optimizer = torch.optim.AdamW(
        [
            {"params": list(head.parameters()), "lr": schedule.rate},
            {"params": list(body.parameters()), "lr": schedule.body_rate},
        ],
        weight_decay=0.0,
    )
    unit_rows = body.scope.rows_of(recording.unit_ids)
    session = body.scope.sessions.index(recording.eid)
    nothing = torch.zeros(1, 1, 1, dtype=torch.bool)

    def states(some: Tensor) -> Tensor:
        return body.encode([Group(some, nothing, unit_rows, session, "neuron")])[:, -N_BINS:]

    @torch.inference_mode()
    def predictions(split: str) -> NDArray[np.float64]:
        body.eval()
        parts = [head(states(some)) for some in counts[split].split(_AT_ONCE)]
        body.train()
        return torch.cat(parts).double().numpy()

    best_score, best = -np.inf, None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for step in range(schedule.steps):
            chosen = torch.randperm(len(target))[: schedule.batch]
            loss = _loss(
                task, head(states(counts["train"][chosen])), target[chosen], there[chosen], weight
            )
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_([*head.parameters(), *body.parameters()], 1.0)
            optimizer.step()
            if (step + 1) % schedule.every == 0:
                val = predictions("val")
                score = score_trials(task, val, truth["val"].values, truth["val"].mask)[task.metric]
                if np.isfinite(score) and score > best_score:
                    best_score = score
                    about = {"features": "end to end", "step": step + 1}
                    best = TrainedForTask(about, val, predictions("test"))
    return best


def _start(task: Task, target: Tensor, there: Tensor) -> Tensor:
    """What is said before anything is learned: log shares of classes, or the mean course."""
    if task.is_class:
        counts = torch.bincount(target[:, 0].long(), minlength=task.n_outputs)
        return (counts / counts.sum()).clamp(min=1e-6).log()
    n = there.sum(0).clamp(min=1)
    course = torch.where(there, target, 0).sum(0) / n
    if task.metric == "poisson_d2":
        course = course.clamp(min=1e-3).log()
    return course[:, None]


def _class_weights(task: Task, target: Tensor) -> Tensor | None:
    """Classes weigh alike, as balanced accuracy has it; one that never occurs has no part."""
    if not task.is_class:
        return None
    counts = torch.bincount(target[:, 0].long(), minlength=task.n_outputs)
    return torch.where(counts > 0, len(target) / (counts.clamp(min=1) * (counts > 0).sum()), 0.0)


def _loss(task: Task, said: Tensor, target: Tensor, there: Tensor, weight: Tensor | None) -> Tensor:
    if task.is_class:
        return nn.functional.cross_entropy(said[:, 0], target[:, 0].long(), weight)
    said = said[..., 0]
    each = poisson_nll(said, target) if task.metric == "poisson_d2" else (said - target) ** 2
    return torch.where(there, each, 0).sum() / there.sum().clamp(min=1)
