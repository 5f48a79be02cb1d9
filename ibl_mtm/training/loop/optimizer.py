"""AdamW whose tables are updated only at the rows that a step touched.

optimizer = RowAdamW([{"params": body}, {"params": tables}], lr=1e-3)
optimizer.touch(table, index, gradient)         # instead of table.grad
optimizer.step()
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

__all__ = ["RowAdamW"]


class RowAdamW(torch.optim.AdamW):
    """AdamW (Loshchilov & Hutter, ICLR 2019) for a model that is mostly tables.

    A row is updated in the steps that touch it: only then is it decayed, do its moments move, and
    is a step counted for its bias correction. Between these steps nothing of it changes. That is
    how AdamW treats one small parameter per session, since it passes over parameters without a
    gradient; the cost of a step depends on the touched rows, not on the table.

    Parameters that were not touched but have a gradient are updated as usual.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.touched: dict[Tensor, tuple[Tensor, Tensor]] = {}

    def touch(self, table: Tensor, index: Tensor, gradient: Tensor) -> None:
        """Have the next step update some rows.

        Parameters
        ----------
        table : Tensor (R, ...)
            One of the optimizer's parameters.
        index : Tensor (N,), int64
            Rows, none twice.
        gradient : Tensor (N, ...)
            Their gradient.
        """
        self.touched[table] = (index, gradient)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step."""
        loss = super().step(closure)
        for group in self.param_groups:
            for table in group["params"]:
                if table in self.touched:
                    self._update(table, *self.touched.pop(table), group)
        return loss

    def _update(
        self, table: Tensor, index: Tensor, gradient: Tensor, group: dict[str, Any]
    ) -> None:
        state, (beta_1, beta_2), rate = self.state[table], group["betas"], group["lr"]
        if not state:
            state["exp_avg"], state["exp_avg_sq"] = (torch.zeros_like(table) for _ in range(2))
            # One count for each row, under the name that AdamW looks for when it loads a state.
            state["step"] = torch.zeros(len(table), device=table.device)
        mean = state["exp_avg"][index].lerp_(gradient, 1 - beta_1)
        square = state["exp_avg_sq"][index].mul_(beta_2)
        square.addcmul_(gradient, gradient, value=1 - beta_2)
        touches = state["step"][index] + 1
        for name, value in (("exp_avg", mean), ("exp_avg_sq", square), ("step", touches)):
            state[name].index_copy_(0, index, value)
        column = touches.view(-1, *[1] * (table.ndim - 1))
        size = (square / (1 - beta_2**column)).sqrt_().add_(group["eps"])
        change = mean.div_(1 - beta_1**column).div_(size)
        values = table[index].mul_(1 - rate * group["weight_decay"]).sub_(change, alpha=rate)
        table.index_copy_(0, index, values)
