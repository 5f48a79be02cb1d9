"""What a finished training tells of itself: ``training.json``, the last file that it writes.

write_outcome(run, report.to_json())
read_outcome(run)["seconds"]
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ibl_mtm._provenance import __version__, source_commit
from ibl_mtm.disk.replace import replace_file
from ibl_mtm.errors import UserError

__all__ = ["OUTCOME", "cache_of", "read_outcome", "write_outcome"]

OUTCOME = "training.json"
"""It is there if, and only if, the training has ended: the best model appears long before."""


def write_outcome(run: Path, report: Mapping[str, Any]) -> None:
    """Write what a training reports, and what it was computed with, at once."""
    computed = {
        "ibl_mtm": __version__,
        "commit": source_commit(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
    }
    text = json.dumps({**report, **computed}, indent=1)
    replace_file(run / OUTCOME, lambda path: path.write_text(text, encoding="utf-8"))


def read_outcome(run: Path) -> dict[str, Any] | None:
    """What the training of a folder told; None if it has not ended, or there was none."""
    file = run / OUTCOME
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None


def cache_of(run: Path | None) -> str:
    """The cache that a run was trained on, as it tells.

    Raises
    ------
    UserError
        If it does not, or there is no run.
    """
    if run is None:
        raise UserError("give --cache CACHE: which sessions to score")
    told = (read_outcome(run) or {}).get("cache")
    if not told:
        raise UserError(f"{run} does not tell which cache it was trained on; give --cache CACHE")
    return str(told)
