"""Which units and trials of a session are used."""

from typing import Literal

from pydantic import Field, field_validator

from ibl_mtm.config.dataset import Split
from ibl_mtm.config.yaml_settings import Settings

__all__ = ["SelectionSettings"]


class SelectionSettings(Settings):
    """Which units and trials are used, as filters on reading."""

    #: Split of trials; null: the one in the cache.
    split: Split | None = None

    @field_validator("split")
    @classmethod
    def _by_rule(cls, split: Split | None) -> Split | None:
        if split is not None and split.kind == "file":
            raise ValueError("kind 'file' is for datasets of the catalog; null takes their split")
        return split

    #: Units below this rate over the training trials (Hz) are left out.
    min_rate: float = Field(0.0, ge=0)
    #: Units below this quality label are left out; 1 keeps good units only.
    min_label: float = Field(0.0, ge=0, le=1)
    #: Train on trials that pass the behavioural rules only (the paper: on all).
    included_only: bool = False
    #: Which region map the region schemes use.
    regions: Literal["region", "beryl", "cosmos"] = "beryl"
    #: Units that a region of a session needs to take part as a region (the paper: 1).
    min_units_per_region: int = Field(5, ge=1)
    #: Units outside of regions (void, root, unknown) take part in no region task, or (the paper)
    #: those of each name are a region.
    void_and_root: Literal["leave_out", "use"] = "leave_out"
