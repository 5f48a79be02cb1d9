"""Small files of other programs: arrays, and tables with a suffix that tells their kind.

read_array(eid, path), read_table(eid, path), read_signals(eid, folder, {"speed": "speed.csv"}, [])
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ibl_mtm.errors import SessionError
from ibl_mtm.ingest.outcome import one_line

__all__ = ["read_array", "read_signals", "read_table"]


def read_array(eid: str, path: Path, *, flat: bool = True) -> NDArray[Any]:
    """An array of numbers; never one of Python objects, which could run any code.

    Raises
    ------
    SessionError
        Names the file.
    """
    try:
        array: NDArray[Any] = np.load(path, allow_pickle=False)
    except FileNotFoundError:
        raise SessionError(eid, f"{path}: missing") from None
    except (OSError, ValueError, EOFError) as error:
        raise SessionError(eid, f"{path}: cannot be read ({one_line(error)})") from error
    if flat and array.ndim > 1 and max(array.shape) == array.size:
        array = array.ravel()  # a row or a column, as MATLAB writes them
    return array


def read_table(eid: str, path: Path) -> pd.DataFrame:
    """A table: ``.csv``, ``.tsv``, ``.parquet`` or ``.pqt``.

    Raises
    ------
    SessionError
        Names the file.
    """
    try:
        if path.suffix in (".parquet", ".pqt"):
            return pd.read_parquet(path)
        if path.suffix in (".csv", ".tsv"):
            return pd.read_csv(path, sep="\t" if path.suffix == ".tsv" else ",")
    except FileNotFoundError:
        raise SessionError(eid, f"{path}: missing") from None
    except (OSError, ValueError) as error:  # of pandas and Arrow, each a ValueError
        raise SessionError(eid, f"{path}: cannot be read ({one_line(error)})") from error
    raise SessionError(eid, f"{path}: no table (.csv, .tsv, .parquet)")


def read_signals(
    eid: str, folder: Path, places: Mapping[str, str], notes: list[str]
) -> dict[str, Any]:
    """Traces from tables of two columns, time (s) and value; a missing file becomes a note."""
    found = {}
    for name, where in places.items():
        path = folder / where
        if path.is_file():
            found[name] = read_table(eid, path)
        else:
            notes.append(f"signal {name}: {where}: missing")
    return found
