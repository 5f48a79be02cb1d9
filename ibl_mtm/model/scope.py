"""What a model knows, by name: its rows are numbered in the order of these.

scope = Scope(units, sessions, regions, trial_format, schemes)
scope.rows_of(units)                            # (N,)
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from ibl_mtm.model.masking import Scheme
from ibl_mtm.sessions.trial_format import TrialFormat

__all__ = ["Scope"]


@dataclass(frozen=True)
class Scope:
    """What a model knows: its rows are numbered in the order of these names."""

    units: tuple[str, ...]
    sessions: tuple[str, ...]
    regions: tuple[str, ...]
    trial_format: TrialFormat
    #: The schemes that it was trained on.
    schemes: tuple[Scheme, ...]
    #: Where `regions` come from, and how many units of a session make one.
    region_map: str = "beryl"
    min_units_per_region: int = 5
    #: Whether units outside of regions (void, root, unknown) make up regions of their own.
    void_and_root: str = "leave_out"

    def rows_of(self, units: Iterable[str]) -> Tensor:
        """Rows of units by their uuids, (N,), int64.

        Raises
        ------
        ValueError
            If the model does not know one of them.
        """
        row = {unit: at for at, unit in enumerate(self.units)}
        try:
            return torch.tensor([row[unit] for unit in units], dtype=torch.long)
        except KeyError as error:
            raise ValueError(f"unit {error.args[0]} is none of the model's {len(row)}") from None
