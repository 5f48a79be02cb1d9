"""A file that appears whole or not at all.

replace_file(run / "metrics.json", lambda path: path.write_text(text))
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["replace_file"]


def replace_file(file: Path, write: Callable[[Path], Any]) -> None:
    """Write a file aside, then put it in its place; one that fails leaves what was there."""
    aside = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        write(aside)
        aside.replace(file)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
