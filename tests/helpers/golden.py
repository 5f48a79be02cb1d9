"""What golden files tell of arrays: numbers that no rounding of a machine's arithmetic moves.

numbers_of(array)       # [length, mean, spread, a mean that knows order]
"""

import numpy as np
from numpy.typing import NDArray

__all__ = ["numbers_of"]


def numbers_of(values: NDArray[np.generic]) -> list[float]:
    """Length, and of the finite values mean, standard deviation and a mean weighted by place."""
    x = values.astype(float).ravel()
    known = x[np.isfinite(x)]
    if not len(known):
        return [len(x), 0.0, 0.0, 0.0]
    ramp = np.linspace(0, 1, len(known))
    numbers = known.mean(), known.std(), known @ ramp / len(known)
    return [len(x), *(float(f"{number:.9g}") for number in numbers)]
