"""Names of units as files of predictions hold them: a matrix of bytes, one row per name.

    encode_ids([f"{eid}/{unit}"])                   # (1, 73) uint8, padded with zeros
    decode_ids(matrix)                              # the names again

As `ibl_bwb_eval.entity_ids` of `ibl-bwb-eval` 0.1.0.
"""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

__all__ = ["decode_ids", "encode_ids", "unit_names"]


def unit_names(eid: str, units: Iterable[str]) -> NDArray[np.str_]:
    """What the benchmark calls units of a recording: ``EID/UUID``."""
    return np.array([f"{eid}/{unit}" for unit in units], dtype=str)


def encode_ids(names: Iterable[str]) -> NDArray[np.uint8]:
    """Names as rows of ASCII bytes, (n, length of the longest)."""
    rows = np.array([name.encode("ascii") for name in names])
    return np.ascontiguousarray(rows[:, None].view(np.uint8).reshape(len(rows), -1))


def decode_ids(matrix: NDArray[np.uint8]) -> NDArray[np.str_]:
    """Names of rows of bytes, (n,).

    Raises
    ------
    ValueError
        If a byte is no ASCII character, or it is no matrix of bytes.
    """
    if matrix.ndim != 2 or matrix.dtype != np.uint8:
        raise ValueError(f"{matrix.dtype} of shape {matrix.shape} where a matrix of uint8 was due")
    return np.array([row.tobytes().rstrip(b"\0").decode("ascii") for row in matrix], dtype=str)
