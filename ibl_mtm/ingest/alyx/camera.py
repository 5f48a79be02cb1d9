"""Whether the left camera will do, or the right one is to be fetched as well.

if not left_will_do(files, folder):
    ...                             # the spare files are needed
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from ibl_mtm.ingest.alyx.release import RemoteFile

__all__ = ["left_will_do"]


def left_will_do(files: Iterable[RemoteFile], folder: Path) -> bool:
    """Whether the left camera's files are there and have a time for each frame."""
    rows = {}
    for file in files:
        if "leftCamera." in file.name:
            try:
                rows["times" in file.name] = len(np.load(folder / file.path, mmap_mode="r"))
            except (OSError, ValueError, TypeError):
                return False
    return len(rows) == 2 and rows[True] >= rows[False]
