"""What a session's linear dynamical system says of everything that a task holds out.

log_rates = by_dynamics(system, counts, items)       # one (trial, time, unit) for each item
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from ibl_mtm.evaluation.activity.tasks import HeldOut
from ibl_mtm.model.dynamics import LinearDynamics

__all__ = ["by_dynamics"]

#: Items that share the place where their components are looked for: more are further from it each.
_TOGETHER = 8
#: Trials at a time.
_BATCH = 128


@torch.no_grad()
def by_dynamics(system: LinearDynamics, counts: Tensor, items: Sequence[HeldOut]) -> list[Tensor]:
    """Predict what items hold out, each from what it shows.

    Parameters
    ----------
    system
        Of N units.
    counts : Tensor (B, T, N)
        Spikes per bin.
    items
        What is held out.

    Returns
    -------
    list of Tensor (B, T, M)
        Log expected counts of the M units that each item asks for.
    """
    # Neighbours share a start, which should know most of what each of them is shown.
    order = sorted(range(len(items)), key=lambda at: items[at].region)
    shown = [int((~items[at].hidden).any(0).sum()) for at in order]
    found: dict[int, Tensor] = {}
    first = 0
    while first < len(order):
        some = order[first : first + max(1, min(_TOGETHER, shown[first] // 4))]
        for at, log_rates in zip(some, _from_one_start(system, counts, some, items), strict=True):
            found[at] = log_rates
        first += len(some)
    return [found[at] for at in range(len(items))]


def _from_one_start(
    system: LinearDynamics, counts: Tensor, some: Sequence[int], items: Sequence[HeldOut]
) -> list[Tensor]:
    """Begin where nothing leads that any of them hides, so that no item sees what it predicts."""
    hidden = [torch.from_numpy(items[at].hidden).to(counts.device) for at in some]
    outputs = [torch.from_numpy(items[at].outputs).to(counts.device) for at in some]
    parts: list[list[Tensor]] = [[] for _ in some]
    for trials in torch.arange(len(counts), device=counts.device).split(_BATCH):
        y = counts[trials]
        start = None
        if len(some) > 1:
            masks = torch.stack([mask.expand(y.shape[1:]) for mask in hidden])
            together = masks.any(0)
            # Of whole regions, together nearly everything is hidden: such a start knows nothing.
            if (~together).sum() > (~masks).sum((1, 2)).max() / 2:
                start = system.infer(y, ~together[None]).mean
        for part, mask, units in zip(parts, hidden, outputs, strict=True):
            part.append(system.log_rates(system.infer(y, ~mask[None], start), units))
    return [torch.cat(part) for part in parts]
