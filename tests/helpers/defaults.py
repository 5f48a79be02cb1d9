"""What a function does, or a dataclass is, unless told otherwise; numbers of a module.

defaults_of("ibl_mtm.training.run:train")["resume"]         # False
changed("ibl_mtm.benchmark.tasks", {"N_BINS": 50})          # []
"""

import dataclasses
import importlib
import inspect
import pkgutil
from collections.abc import Mapping
from typing import Any

import numpy as np

__all__ = ["changed", "defaults_of"]


def changed(module: str, before: Mapping[str, Any]) -> list[str]:
    """Names of a module's numbers that are not what they were."""
    found = importlib.import_module(module)
    return [
        name
        for name, value in before.items()
        if np.shape(getattr(found, name)) != np.shape(value)
        or not np.allclose(getattr(found, name), value, rtol=1e-12, atol=0)
    ]


def defaults_of(place: str) -> dict[str, Any]:
    """Truth values and numbers that need not be given, by name."""
    found = pkgutil.resolve_name(place)
    if dataclasses.is_dataclass(found):
        values = {field.name: field.default for field in dataclasses.fields(found)}
    else:
        values = {name: p.default for name, p in inspect.signature(found).parameters.items()}
    return {name: value for name, value in values.items() if isinstance(value, bool | int | float)}
