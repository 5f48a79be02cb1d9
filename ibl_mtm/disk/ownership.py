"""Whose a folder is: a command deletes nothing but what it made, and a marker file tells.

mark(Path("runs/mtm"), "run")
is_marked(Path("runs/mtm"), "run")          # True
is_marked(Path("thesis"), "run")            # False: nothing there is ours to delete
remove(Path("runs/mtm"), ["logs", "metrics.json"])
"""

import shutil
from collections.abc import Iterable
from pathlib import Path

__all__ = ["MARKER", "is_marked", "mark", "remove"]

MARKER = ".ibl-mtm"
"""Names what the folder is to ibl-mtm, in one word."""


def mark(folder: Path, what: str) -> None:
    """Say what a folder is: before anything else is written there, or it is found unmarked."""
    (folder / MARKER).write_text(f"{what}\n", encoding="utf-8")


def is_marked(folder: Path, what: str) -> bool:
    """Whether a folder was made as this, by this program."""
    file = folder / MARKER
    return file.is_file() and file.read_text(encoding="utf-8", errors="replace").strip() == what


def remove(folder: Path, names: Iterable[str]) -> None:
    """Remove files and folders by name; of one that is a link, the link alone."""
    for name in names:
        path = folder / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
