"""Poisson linear dynamical system: components that move linearly, inferred from what is shown.

One system of a session does every task: what is held out is simply not looked at (see
`ibl_mtm.model.dynamics`). How many components take part, and how strongly, is learned with it from
the trials that it is fitted to, so nothing is chosen on the validation trials.
"""

import numpy as np
import torch

from ibl_mtm.evaluation.activity.tasks import ActivityTask
from ibl_mtm.evaluation.baselines.session_data import Array, BaselineData
from ibl_mtm.model.dynamics import LinearDynamics
from ibl_mtm.model.dynamics_fit import fit_dynamics

__all__ = ["COMPONENTS", "choose", "fitted", "predict"]

#: Components at most.
COMPONENTS = 20
#: Items that share the place where their components are looked for.
_TOGETHER = 32


def choose(data: BaselineData, task: ActivityTask) -> tuple[()]:
    """Nothing is left to choose."""
    return ()


def fitted(data: BaselineData) -> LinearDynamics:
    """The system of a session, fitted once for all tasks."""
    if "poisson_lds" not in data.kept:
        counts = torch.from_numpy(data.counts["fit"])
        data.kept["poisson_lds"] = fit_dynamics(counts, COMPONENTS)
    system: LinearDynamics = data.kept["poisson_lds"]
    return system


@torch.no_grad()
def predict(data: BaselineData, task: ActivityTask) -> Array:
    """Expected counts of the test trials (trial, bin that the task asks for, unit)."""
    system = fitted(data)
    counts = torch.from_numpy(data.counts["test"])
    rates = np.zeros(counts.shape, np.float32)
    items = data.items(task)
    for first in range(0, len(items), _TOGETHER):
        some = items[first : first + _TOGETHER]
        # Of nothing that one of them hides, so that no item sees what it predicts.
        together = torch.from_numpy(np.any([held.hidden for held in some], axis=0))
        start = system.infer(counts, ~together[None]).mean
        for held in some:
            hidden = torch.from_numpy(np.ascontiguousarray(held.hidden))
            posterior = system.infer(counts, ~hidden[None], start)
            found = system.log_rates(posterior, torch.from_numpy(held.outputs)).exp()
            rates[..., held.outputs] = found.numpy()
    return rates[:, data.bins(task)]
