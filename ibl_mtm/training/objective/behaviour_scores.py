"""What a model gains on each modality, on validation masks.

totals = new_behaviour_totals(n_modalities)
add_behaviour_to(totals, task, answer)
totals[:, 0] / totals[:, 1]                     # share of the null model's loss that is gained
"""

import torch
from torch import Tensor

from ibl_mtm.model.modalities import Answer
from ibl_mtm.training.objective.draw_tasks import Task

__all__ = ["add_behaviour_to", "new_behaviour_totals"]


def new_behaviour_totals(n_modalities: int) -> Tensor:
    """Sums for each modality, (K + V, 2): nats gained on the null model, nats of the null model."""
    return torch.zeros(n_modalities, 2)


def add_behaviour_to(totals: Tensor, task: Task, answer: Answer) -> None:
    """Add the entries of behaviour that a task asks for; the totals are changed in place."""
    behaviour, asked = task.group.behaviour, task.asked
    if behaviour is None or asked is None:
        return
    there, known = answer.observed(behaviour)
    there, known = there & asked.traces, known & asked.classes
    sums = []
    for said in (answer, answer.null()):
        traces, classes = said.nll(behaviour)
        of_traces = torch.where(there, traces, 0).sum((0, 1))
        sums.append(torch.cat([of_traces, torch.where(known, classes, 0).sum(0)]))
    own, null = sums
    totals += torch.stack([null - own, null], 1)
