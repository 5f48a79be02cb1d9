"""Training for one modality alone: whether every session has it, and asking for nothing else.

check_target(sessions, settings.model.modalities, "choice")
task = ask_only(task, number, n_traces)
"""

from collections.abc import Sequence
from dataclasses import replace

import torch

from ibl_mtm.errors import UserError
from ibl_mtm.model.behaviour_masks import BehaviourMask
from ibl_mtm.sessions.modalities import classes_in, traces_in
from ibl_mtm.sessions.view import Session
from ibl_mtm.training.objective.draw_tasks import Task

__all__ = ["ask_only", "check_target"]


def check_target(sessions: Sequence[Session], modalities: Sequence[str], target: str) -> None:
    """Make sure that every session has what a run is trained for.

    Raises
    ------
    UserError
        Names the first session that does not have it.
    """
    at = (*traces_in(modalities), *classes_in(modalities)).index(target)
    for session in sessions:
        if session.behaviour is None or not session.behaviour.statistics.null[at] > 0:
            raise UserError(
                f"session {session.eid} has no {target} in its training trials (or one that never "
                f"changes), for which target={target} trains; leave it out with --where"
            )


def ask_only(task: Task, modality: int, n_traces: int) -> Task:
    """The same, asking for no other modality than that of a number (traces before classes)."""
    if task.asked is None:
        return task
    traces, classes = (torch.zeros_like(asked) for asked in vars(task.asked).values())
    if modality < n_traces:
        traces[..., modality] = task.asked.traces[..., modality]
    else:
        at = modality - n_traces
        classes[..., at] = task.asked.classes[..., at]
    return replace(task, asked=BehaviourMask(traces, classes))
