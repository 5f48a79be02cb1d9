"""Poisson linear dynamical system: components that move linearly, inferred from what is shown.

One system of a session does every task: what is held out is simply not looked at (see
`ibl_mtm.model.dynamics.system`). How many components take part, and how strongly, is learned with
it from the trials that it is fitted to, so nothing is chosen on the validation trials.

With a drift each unit also has a gain that wanders over the session, known in a test trial from
training trials near it in time (see `ibl_mtm.model.dynamics.drift`).
"""

import numpy as np
import torch

from ibl_mtm.evaluation.activity.by_dynamics import by_dynamics
from ibl_mtm.evaluation.activity.tasks import ActivityTask
from ibl_mtm.evaluation.baselines.session_data import Array, BaselineData
from ibl_mtm.model.dynamics.fit import fit_dynamics
from ibl_mtm.model.dynamics.system import LinearDynamics

__all__ = ["COMPONENTS", "choose", "fitted", "predict", "predict_drifting"]

#: Components at most.
COMPONENTS = 20


def choose(data: BaselineData, task: ActivityTask) -> tuple[()]:
    """Nothing is left to choose."""
    return ()


def fitted(data: BaselineData, drift: bool = False) -> LinearDynamics:
    """The system of a session, fitted once for all tasks."""
    name = "poisson_lds_drift" if drift else "poisson_lds"
    if name not in data.kept:
        counts = torch.from_numpy(data.counts["fit"])
        times = torch.from_numpy(data.start["fit"]) if drift else None
        data.kept[name] = fit_dynamics(counts, COMPONENTS, times=times)
    system: LinearDynamics = data.kept[name]
    return system


def predict(data: BaselineData, task: ActivityTask, drift: bool = False) -> Array:
    """Expected counts of the test trials (trial, bin that the task asks for, unit)."""
    counts, items = torch.from_numpy(data.counts["test"]), data.items(task)
    rates = np.zeros(counts.shape, np.float32)
    times = torch.from_numpy(data.start["test"]) if drift else None
    found = by_dynamics(fitted(data, drift), counts, items, times)
    for held, (log_rates, _) in zip(items, found, strict=True):
        rates[..., held.outputs] = log_rates.exp().numpy()
    return rates[:, data.bins(task)]


def predict_drifting(data: BaselineData, task: ActivityTask) -> Array:
    """As `predict`, by a system whose units' gains drift over the session."""
    return predict(data, task, drift=True)
