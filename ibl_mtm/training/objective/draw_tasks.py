"""What a training step asks of the model: which trials are masked how.

(rows,) = SessionRows.of([session], scope)
tasks = draw_tasks(rows, counts, trial, seed=0, step=7, masks=settings.masks)
loss = tasks_loss(tasks, model([t.group for t in tasks]), reduction="mean")
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from ibl_mtm.model.behaviour_masks import (
    ASKS_BEHAVIOUR,
    BehaviourMask,
    draw_behaviour_mask,
    sources_of,
)
from ibl_mtm.model.draws import keys, uniform
from ibl_mtm.model.group import Group
from ibl_mtm.model.loss import Reduction, masked_loss, null_loss
from ibl_mtm.model.masking import Scheme, draw_mask
from ibl_mtm.model.modalities import Answer, Behaviour
from ibl_mtm.model.scope import Scope
from ibl_mtm.sessions.modalities import ModalityValues
from ibl_mtm.sessions.view import Session
from ibl_mtm.training.data.held import send
from ibl_mtm.training.objective.schemes import has_behaviour, possible_schemes
from ibl_mtm.training.settings import MaskSettings

__all__ = [
    "SessionRows",
    "Task",
    "behaviour_losses",
    "draw_tasks",
    "tasks_loss",
    "trial_keys",
]

#: A number that no trial has, for draws that are the same for all trials.
_NO_TRIAL = np.array([(1 << 32) - 1])


@dataclass(frozen=True)
class SessionRows:
    """A session as the model numbers it.

    Attributes
    ----------
    session
        Its row.
    units : Tensor (N,), int64
        Rows of its units.
    regions : Tensor (N,), int64
        Region of each unit in the model's list; -1 for none that takes part.
    sources : Tensor (K + V,), int64, optional
        Of a session that has some of the run's modalities (see `sources_of`).
    """

    session: int
    units: Tensor
    regions: Tensor
    sources: Tensor | None = None

    @classmethod
    def of(
        cls, sessions: Sequence[Session], scope: Scope, modalities: Sequence[str] = ()
    ) -> "list[SessionRows]":
        """Look the names of sessions up in a model's scope; traces come before classes."""
        unit_row, session_row, region_row = (
            {name: row for row, name in enumerate(names)}
            for names in (scope.units, scope.sessions, scope.regions)
        )
        return [
            cls(
                session=session_row[session.eid],
                units=torch.tensor([unit_row[unit] for unit in session.units]),
                regions=torch.tensor([region_row.get(region, -1) for region in session.region]),
                sources=sources_of(modalities) if has_behaviour(session) else None,
            )
            for session in sessions
        ]


@dataclass(frozen=True)
class Task:
    """One group of trials, and the entries of it that count, of spikes and of behaviour."""

    group: Group
    target: Tensor
    asked: BehaviourMask | None = None

    def on(self, device: torch.device, units: Tensor, session: int) -> "Task":
        """The same on a device, for tables in which the session has these rows."""
        hidden = send(self.group.hidden, device)
        target = hidden if self.target is self.group.hidden else send(self.target, device)
        counts = send(self.group.counts, device)
        region = None if self.group.region is None else send(self.group.region, device)
        group = replace(
            self.group, counts=counts, hidden=hidden, region=region, units=units, session=session
        )
        if group.behaviour is None or self.asked is None:
            return Task(group, target)
        shown = [send(tensor, device) for tensor in vars(group.behaviour).values()]
        asked = [send(tensor, device) for tensor in vars(self.asked).values()]
        group = replace(group, behaviour=Behaviour(*shown))
        return Task(group, target, BehaviourMask(*asked))


def trial_keys(seed: int, step: int, session: int, trial: np.ndarray) -> Tensor:
    """Keys of masks: one for each (seed, step, session, trial), (B,)."""
    return keys(seed, step, torch.as_tensor(trial.astype(np.int64)) + (session << 32))


def draw_tasks(
    rows: SessionRows,
    counts: Tensor,
    trial: np.ndarray,
    seed: int,
    step: int,
    masks: MaskSettings,
    behaviour: ModalityValues | None = None,
) -> list[Task]:
    """Draw schemes and masks for trials of one session; masks are drawn on the CPU.

    Parameters
    ----------
    counts : Tensor (B, T, N)
    trial : ndarray (B,)
        Trial numbers: with `seed` and `step` they decide the masks, whatever else is in a batch.
    behaviour
        Of these trials, for a model with modalities.

    Returns
    -------
    list of Task
        At most one for each scheme; those with causal attention last.
    """
    weights = {s: w for s, w in masks.schemes.items() if w > 0}
    schemes = possible_schemes(list(weights), rows.regions, rows.sources is not None)
    if not schemes:
        raise ValueError("none of the masking schemes is possible in this session")
    key = trial_keys(seed, step, rows.session, trial)
    if masks.draw_region_per == "step":
        rows = replace(rows, regions=_one_region(rows, seed, step))
    # The scheme and its mask come from different keys, or they would depend on each other.
    cumulative = np.cumsum([weights[s] for s in schemes]) / sum(weights[s] for s in schemes)
    if masks.draw_per == "step":
        drawn = np.random.default_rng([seed, step]).random(1).repeat(len(trial))
    else:
        drawn = uniform(key, 1)[:, 0].numpy()
    chosen = np.searchsorted(cumulative, drawn, side="right").clip(max=len(schemes) - 1)
    tasks = []
    for index, scheme in sorted(enumerate(schemes), key=lambda pair: pair[1] == "causal"):
        (members,) = np.nonzero(chosen == index)
        if len(members):
            part = torch.as_tensor(members)
            chosen_counts = counts.index_select(0, send(part, counts.device))
            own = None if behaviour is None else behaviour.take(members)
            key_of = key[part] ^ (index + 1)
            tasks.append(make_task(rows, chosen_counts, scheme, key_of, masks, own))
    return tasks


def _one_region(rows: SessionRows, seed: int, step: int) -> Tensor:
    """Regions of a session's units in a step: one that is drawn, and none for all other units."""
    eligible = rows.regions[rows.regions >= 0].unique()
    if not len(eligible):
        return rows.regions
    drawn = uniform(trial_keys(seed, step, rows.session, _NO_TRIAL), 1)
    region = eligible[int(drawn * len(eligible))]
    return torch.where(rows.regions == region, rows.regions, -1)


def make_task(
    rows: SessionRows,
    counts: Tensor,
    scheme: Scheme,
    key: Tensor,
    masks: MaskSettings,
    behaviour: ModalityValues | None = None,
) -> Task:
    """Mask trials of one session under one scheme."""
    mask = draw_mask(scheme, key, counts.shape[1], rows.regions, masks.ratios)
    group = Group(
        counts,
        mask.hidden,
        rows.units,
        rows.session,
        scheme,
        causal=scheme == "causal",
        region=mask.region,
    )
    if behaviour is None or rows.sources is None:
        return Task(group, mask.target)
    traces, classes = torch.from_numpy(behaviour.traces), torch.from_numpy(behaviour.classes)
    there = (~traces.isnan()).any(1), classes != 0
    hidden = draw_behaviour_mask(scheme, key, counts.shape[1], there, rows.sources, masks.ratios)
    shown = Behaviour(traces, classes, hidden.traces, hidden.classes)
    asks = scheme in ASKS_BEHAVIOUR
    asked = BehaviourMask(hidden.traces & asks, hidden.classes & asks)
    return Task(replace(group, behaviour=shown), mask.target, asked)


def tasks_loss(
    tasks: Sequence[Task],
    log_rates: Sequence[Tensor],
    reduction: Reduction,
    answers: Sequence[Answer] = (),
    null_log_rate: Tensor | None = None,
    weight: float = 1.0,
) -> Tensor:
    """Mean loss over trials; trials without a target count as 0.

    Parameters
    ----------
    tasks, log_rates
        What was asked, and what a model says of spikes.
    reduction
        Of the spikes' loss.
    answers
        What a model with modalities says of behaviour, for each task.
    null_log_rate : Tensor (U,), optional
        Of units, by which behaviour is weighed beside spikes; needed with `answers`.
    weight
        Of behaviour: at 1 one of which nothing is known weighs as a trial's spikes (see
        `null_loss`) of which nothing is known.
    """
    losses = [
        masked_loss(log_rate.float(), task.group.counts.float(), task.target, reduction)
        for task, log_rate in zip(tasks, log_rates, strict=True)
    ]
    if not answers:
        return torch.cat(losses).mean()
    assert null_log_rate is not None
    of_behaviour = [
        weight
        * null_loss(null_log_rate[task.group.units], task.group.counts.shape[1], reduction)
        * behaviour_losses(task, answer)
        for task, answer in zip(tasks, answers, strict=True)
    ]
    return (torch.cat(losses) + torch.cat(of_behaviour)).mean()


def behaviour_losses(task: Task, answer: Answer) -> Tensor:
    """Loss of each trial's behaviour, (B,): the mean over the modalities that it asks for.

    Each modality's is the mean over its target entries, in units of what the null model has: the
    mean and variance, or the share, of the session's training trials. What is missing is no entry.
    """
    if task.group.behaviour is None or task.asked is None:
        nothing = answer.mean.sum((1, 2)) + answer.logit.sum(1) + answer.log_variance.sum()
        return 0 * nothing  # whoever shares gradients waits for those of every parameter
    traces, classes = answer.nll(task.group.behaviour)
    there, known = answer.observed(task.group.behaviour)
    there, known = there & task.asked.traces, known & task.asked.classes
    n = torch.cat([there.sum(1), known.long()], 1)  # (B, K + V)
    nll = torch.cat([torch.where(there, traces, 0).sum(1), torch.where(known, classes, 0)], 1)
    null = torch.where(answer.scales.null > 0, answer.scales.null, 1)
    return (nll / (n.clamp(min=1) * null)).sum(1) / (n > 0).sum(1).clamp(min=1)
