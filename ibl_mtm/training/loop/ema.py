"""The exponential average of a model's weights over steps, exact without touching every row.

average = EMA(model, decay=0.99, steps=3000)
average.update(model, step, rows, before)       # after each optimizer step
average.gather(model, step, rows)               # tables of the averaged model, as of that step
"""

import copy
import math

import torch
from torch import Tensor, nn

from ibl_mtm.model.mtm import MtM
from ibl_mtm.training.loop.rows import Rows

__all__ = ["EMA"]


class EMA(nn.Module):
    """Averaged weights.

    After step n the average is ``w average + (1 - w) weights`` with ``w = min(decay, (1 + n) /
    (10 + n))``, which forgets the untrained weights quickly. A row that steps pass over stays as
    it is, so its average approaches it by a known factor: that is made up for when the row is
    next touched, or read.

    Parameters
    ----------
    model
        To be averaged.
    decay
        Largest weight of the past.
    steps
        Steps at most.
    """

    seen_units: Tensor
    seen_sessions: Tensor
    log_kept: Tensor

    def __init__(self, model: MtM, decay: float, steps: int) -> None:
        super().__init__()
        self.decay = decay
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        # The step after which each row's average was last made up.
        self.register_buffer("seen_units", torch.zeros(len(model.scope.units), dtype=torch.long))
        self.register_buffer(
            "seen_sessions", torch.zeros(len(model.scope.sessions), dtype=torch.long)
        )
        kept = [0.0, *(math.log(self.weight(step)) for step in range(1, steps + 1))]
        log_kept = torch.tensor(kept, dtype=torch.float64).cumsum(0).float()
        self.register_buffer("log_kept", log_kept, persistent=False)

    def weight(self, step: int) -> float:
        """Weight of the past in one step; the first step's weights are taken as they are."""
        return min(self.decay, (1 + step) / (10 + step)) if step else 0.0

    @torch.no_grad()
    def update(self, model: MtM, step: int, rows: Rows, before: dict[str, Tensor]) -> None:
        """Take in the weights after a step.

        Parameters
        ----------
        model
            After step number `step`.
        rows, before
            The rows that the step touched, and their tables before it.
        """
        weight = self.weight(step)
        mine, theirs = (dict(m.named_parameters()) for m in (self.model, model))
        body = [name for name in mine if name not in before]
        torch._foreach_lerp_(
            [mine[name] for name in body], [theirs[name] for name in body], 1 - weight
        )
        for name, old in before.items():
            if name in mine:
                index = rows.index(name)
                made_up = self._make_up(mine[name][index], old, self._seen(name)[index], step - 1)
                mine[name].index_copy_(0, index, torch.lerp(theirs[name][index], made_up, weight))
        self.seen_units[rows.units] = step
        self.seen_sessions[rows.sessions] = step

    @torch.no_grad()
    def gather(self, model: MtM, step: int, rows: Rows) -> dict[str, Tensor]:
        """Tables of the averaged model after a step (see `Rows.gather`)."""
        tables = rows.gather(self.model)
        for name, current in rows.gather(model).items():
            seen = self._seen(name)[rows.index(name)]
            tables[name] = self._make_up(tables[name], current, seen, step)
        return tables

    @torch.no_grad()
    def make_up_all(self, model: MtM, step: int) -> MtM:
        """The averaged model, every row of it made up to a step."""
        for name in (*MtM.UNIT_TABLES, *MtM.SESSION_TABLES):
            table = getattr(self.model, name, None)
            if table is not None:
                table.copy_(self._make_up(table, getattr(model, name), self._seen(name), step))
        self.seen_units.fill_(max(step, 0))
        self.seen_sessions.fill_(max(step, 0))
        return self.model

    def _seen(self, table: str) -> Tensor:
        return self.seen_units if table in MtM.UNIT_TABLES else self.seen_sessions

    def _make_up(self, average: Tensor, current: Tensor, seen: Tensor, step: int) -> Tensor:
        kept = (self.log_kept[max(step, 0)] - self.log_kept[seen]).exp()
        return torch.lerp(current, average, kept.view(-1, *[1] * (average.ndim - 1)))
