"""The folder of a simulated experiment: whose it is, whether it is finished.

with experiment_in(root, about) as to_write:
    if to_write:
        ...                                 # write it; when this ends it is marked as finished
"""

import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock

from ibl_mtm.disk.replace import replace_file
from ibl_mtm.errors import UserError
from ibl_mtm.one_files.marker import MARKER, TRUTH_FOLDER

__all__ = ["experiment_in", "in_turn"]

_logger = logging.getLogger(__name__)

Plan = TypeVar("Plan")


@contextmanager
def experiment_in(root: Path, about: Mapping[str, Any]) -> Iterator[bool]:
    """Claim a folder for an experiment; whether it is still to be written.

    Parameters
    ----------
    root
        A folder that is new, empty, or holds this very experiment, finished or interrupted.
    about
        All that the experiment follows from; kept in the folder.

    Raises
    ------
    UserError
        If the folder holds anything else, or cannot be made or written.
    """
    if _is_complete(root, about):
        yield False
        return
    folder = root / TRUTH_FOLDER
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make {folder}: {error.strerror}") from None
    # Two ingests of one dataset may both want it simulated: the second waits and finds it done.
    try:
        with FileLock(folder / "simulation.lock"):
            if _is_complete(root, about):
                yield False
                return
            _mark(root, about, complete=False)
            yield True
            _mark(root, about, complete=True)
    except OSError as error:
        raise UserError(
            f"cannot write {error.filename or root}: {error.strerror}; make room or give another "
            "path, then run the same command again"
        ) from error


def in_turn(
    plans: Sequence[Plan], progress: Callable[[str], None] | None, of: Callable[[Plan], str]
) -> Iterator[Plan]:
    """Plans of sessions, each told to the log and to `progress` as it begins."""
    for number, plan in enumerate(plans, start=1):
        line = f"session {number} of {len(plans)}: {of(plan)}"
        _logger.info(line)
        if progress is not None:
            progress(line)
        yield plan


def _mark(root: Path, about: Mapping[str, Any], complete: bool) -> None:
    text = json.dumps({**about, "complete": complete}, indent=2) + "\n"
    replace_file(root / TRUTH_FOLDER / MARKER, lambda aside: aside.write_text(text, "utf-8"))


def _is_complete(root: Path, about: Mapping[str, Any]) -> bool:
    """Whether the folder holds this experiment already; refuses one that holds another."""
    marker = root / TRUTH_FOLDER / MARKER
    if root.exists() and not root.is_dir():
        raise UserError(f"{root} is a file; name a folder to simulate into")
    if not marker.is_file():
        if root.is_dir() and any(path.name != TRUTH_FOLDER for path in root.iterdir()):
            raise UserError(f"{root} is not empty; name a new folder to simulate into")
        return False
    found = json.loads(marker.read_text(encoding="utf-8"))
    complete = found.pop("complete")
    if found != about:
        settings = ", ".join(f"{key}={value}" for key, value in found.items())
        raise UserError(
            f"{root} holds another simulated experiment ({settings}); name a new folder"
        )
    return bool(complete)
