"""What a session's linear dynamical system says of everything that a task holds out.

for log_rates, gain in by_dynamics(system, counts, items): ...     # one pair for each item
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from ibl_mtm.evaluation.activity.tasks import HeldOut
from ibl_mtm.model.dynamics.system import LinearDynamics

__all__ = ["Predicted", "by_dynamics"]

Predicted = tuple[Tensor, Tensor | None]

#: Items that share the place where their components are looked for: more are further from it each.
_TOGETHER = 8
#: Trials at a time.
_BATCH = 128


@torch.no_grad()
def by_dynamics(
    system: LinearDynamics,
    counts: Tensor,
    items: Sequence[HeldOut],
    times: Tensor | None = None,
) -> list[Predicted]:
    """Predict what items hold out, each from what it shows.

    Parameters
    ----------
    system
        Of N units.
    counts : Tensor (B, T, N)
        Spikes per bin.
    items
        What is held out.
    times : Tensor (B,), optional
        When the trials were, s on the session's clock, for a system that drifts.

    Returns
    -------
    list of (Tensor (B, T, M), Tensor (B, M) or None)
        Log expected counts of the M units that each item asks for, and the units' gains in the
        trial that are part of them, where the system has a drift.
    """
    # Neighbours share a start, which should know most of what each of them is shown.
    order = sorted(range(len(items)), key=lambda at: items[at].region)
    shown = [int((~items[at].hidden).any(0).sum()) for at in order]
    found: dict[int, Predicted] = {}
    first = 0
    while first < len(order):
        some = order[first : first + max(1, min(_TOGETHER, shown[first] // 4))]
        for at, one in zip(some, _from_one_start(system, counts, some, items, times), strict=True):
            found[at] = one
        first += len(some)
    return [found[at] for at in range(len(items))]


def _from_one_start(
    system: LinearDynamics,
    counts: Tensor,
    some: Sequence[int],
    items: Sequence[HeldOut],
    times: Tensor | None,
) -> list[Predicted]:
    """Begin where nothing leads that any of them hides, so that no item sees what it predicts."""
    hidden = [torch.from_numpy(items[at].hidden).to(counts.device) for at in some]
    outputs = [torch.from_numpy(items[at].outputs).to(counts.device) for at in some]
    parts: list[list[Tensor]] = [[] for _ in some]
    own: list[list[Tensor]] = [[] for _ in some]
    for trials in torch.arange(len(counts), device=counts.device).split(_BATCH):
        y = counts[trials]
        gains = system.gains(None if times is None else times[trials], len(y))
        start = None
        if len(some) > 1:
            masks = torch.stack([mask.expand(y.shape[1:]) for mask in hidden])
            together = masks.any(0)
            # Of whole regions, together nearly everything is hidden: such a start knows nothing.
            if (~together).sum() > (~masks).sum((1, 2)).max() / 2:
                start = system.infer(y, ~together[None], gains=gains)
        for part, gain, mask, units in zip(parts, own, hidden, outputs, strict=True):
            posterior = system.infer(y, ~mask[None], start, gains)
            part.append(system.log_rates(posterior, units))
            if (of_units := posterior.gain_of(units)) is not None:
                gain.append(of_units)
    return [
        (torch.cat(part), torch.cat(gain) if gain else None)
        for part, gain in zip(parts, own, strict=True)
    ]
