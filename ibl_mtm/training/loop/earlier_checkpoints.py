"""Checkpoints of earlier versions, in which callbacks have other names.

rename_states(checkpoint)                       # in place, before Lightning gives states back
"""

from typing import Any

__all__ = ["rename_states"]


def rename_states(checkpoint: dict[str, Any]) -> None:
    """Give the states of callbacks the names, and forms, that they have now."""
    states = checkpoint["callbacks"]
    if "KeepBest" in states:
        states["BestCheckpoint"] = states.pop("KeepBest")
    if "Clock" in states:
        states["Timer"] = {"time_elapsed": {"train": states.pop("Clock")["seconds"]}}
