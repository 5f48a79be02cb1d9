"""The rows that a step works on: small tables of their own, cut from the model's large ones.

rows = Rows(SessionRows.of(sessions, model.scope), device)
tables = rows.gather(model)                       # leaves that gradients end at
log_rates = torch.func.functional_call(model, tables, (groups,))

A model of hundreds of sessions has hundreds of thousands of unit rows, of which a step reads one
session's: so neither gradients nor optimizer nor averages may have the size of the tables.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from ibl_mtm.model.mtm import MtM
from ibl_mtm.training.data.held import send
from ibl_mtm.training.objective.draw_tasks import SessionRows, Task

__all__ = ["Rows"]


class Rows:
    """Rows of some sessions.

    Parameters
    ----------
    sessions
        Sessions, none twice.
    device
        Where the model is.
    """

    def __init__(self, sessions: Sequence[SessionRows], device: torch.device) -> None:
        units = torch.cat([session.units for session in sessions])
        self.units = send(units, device)
        self.sessions = send(torch.tensor([session.session for session in sessions]), device)
        self.place: dict[int, tuple[Tensor, int]] = {}
        first = 0
        for position, session in enumerate(sessions):
            last = first + len(session.units)
            self.place[session.session] = (torch.arange(first, last, device=device), position)
            first = last

    def index(self, table: str) -> Tensor:
        """Where these rows are in one of the model's tables."""
        return self.units if table in MtM.UNIT_TABLES else self.sessions

    def gather(self, model: MtM) -> dict[str, Tensor]:
        """Copies of these rows of every table; those of parameters require a gradient."""
        tables = {}
        for name in (*MtM.UNIT_TABLES, *MtM.SESSION_TABLES, *MtM.BEHAVIOUR_TABLES):
            table = getattr(model, name, None)
            if table is not None:
                values = table.detach()[self.index(name)]
                tables[name] = values.requires_grad_(isinstance(table, torch.nn.Parameter))
        return tables

    def localise(self, task: Task) -> Task:
        """A task on the device, addressed to the tables of `gather`."""
        units, session = self.place[task.group.session]
        return task.on(units.device, units, session)
