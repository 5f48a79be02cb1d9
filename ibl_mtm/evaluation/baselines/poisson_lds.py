"""Poisson linear dynamical system: components that move linearly, inferred from what is shown.

One system of a session does every task: what is held out is simply not looked at (see
`ibl_mtm.model.dynamics`). How many components take part, and how strongly, is learned with it from
the trials that it is fitted to, so nothing is chosen on the validation trials.
"""

import numpy as np
import torch

from ibl_mtm.evaluation.activity.by_dynamics import by_dynamics
from ibl_mtm.evaluation.activity.tasks import ActivityTask
from ibl_mtm.evaluation.baselines.session_data import Array, BaselineData
from ibl_mtm.model.dynamics import LinearDynamics
from ibl_mtm.model.dynamics_fit import fit_dynamics

__all__ = ["COMPONENTS", "choose", "fitted", "predict"]

#: Components at most.
COMPONENTS = 20


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


def predict(data: BaselineData, task: ActivityTask) -> Array:
    """Expected counts of the test trials (trial, bin that the task asks for, unit)."""
    counts, items = torch.from_numpy(data.counts["test"]), data.items(task)
    rates = np.zeros(counts.shape, np.float32)
    for held, log_rates in zip(items, by_dynamics(fitted(data), counts, items), strict=True):
        rates[..., held.outputs] = log_rates.exp().numpy()
    return rates[:, data.bins(task)]
