"""What a session's linear dynamical system says of everything that a task holds out.

for log_rates, gain in by_dynamics(system, counts, items): ...     # one pair for each item
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

import torch
from torch import Tensor

from ibl_mtm.evaluation.activity.tasks import HeldOut
from ibl_mtm.model.dynamics.posterior import Gains, Posterior
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
    at_once = _at_once(counts.device)
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
        for first in range(0, len(some), at_once):
            few = slice(first, first + at_once)
            found = _infer(system, y, hidden[few], start, gains)
            for part, gain, units, posterior in zip(
                parts[few], own[few], outputs[few], found, strict=True
            ):
                part.append(system.log_rates(posterior, units))
                if (of_units := posterior.gain_of(units)) is not None:
                    gain.append(of_units)
    return [
        (torch.cat(part), torch.cat(gain) if gain else None)
        for part, gain in zip(parts, own, strict=True)
    ]


def _at_once(device: torch.device) -> int:
    """Items: many small steps keep a GPU waiting, a few large ones a CPU's caches."""
    return 1 if device.type == "cpu" else _TOGETHER


def _infer(
    system: LinearDynamics,
    y: Tensor,
    hidden: Sequence[Tensor],
    start: Posterior | None,
    gains: Gains | None,
) -> list[Posterior]:
    """Posteriors of the same trials under several masks, in one call."""
    n, B = len(hidden), len(y)
    if n == 1:
        return [system.infer(y, ~hidden[0][None], start, gains)]
    visible = torch.cat([(~mask).expand(B, *y.shape[1:]) for mask in hidden])
    found = system.infer(torch.cat([y] * n), visible, _repeat(start, n), _repeat(gains, n))
    return [_take(found, slice(i * B, (i + 1) * B)) for i in range(n)]


_OfTrials = TypeVar("_OfTrials", Posterior, Gains)


def _repeat(table: _OfTrials | None, n: int) -> _OfTrials | None:
    """Of the same trials, n times one after the other."""
    if table is None:
        return None
    return _each(table, lambda tensor: torch.cat([tensor] * n))


def _take(table: _OfTrials, rows: slice) -> _OfTrials:
    return _each(table, lambda tensor: tensor[rows])


def _each(table: _OfTrials, change: Callable[[Tensor], Tensor]) -> _OfTrials:
    there = {name: tensor for name, tensor in vars(table).items() if tensor is not None}
    return replace(table, **{name: change(tensor) for name, tensor in there.items()})
