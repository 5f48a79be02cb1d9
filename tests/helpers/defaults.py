"""What a function does, or a dataclass is, unless told otherwise.

defaults_of("ibl_mtm.training.run:train")["resume"]         # False
"""

import dataclasses
import inspect
import pkgutil
from typing import Any

__all__ = ["defaults_of"]


def defaults_of(place: str) -> dict[str, Any]:
    """Truth values and numbers that need not be given, by name."""
    found = pkgutil.resolve_name(place)
    if dataclasses.is_dataclass(found):
        values = {field.name: field.default for field in dataclasses.fields(found)}
    else:
        values = {name: p.default for name, p in inspect.signature(found).parameters.items()}
    return {name: value for name, value in values.items() if isinstance(value, bool | int | float)}
