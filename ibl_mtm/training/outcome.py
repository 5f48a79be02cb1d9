"""What a finished training tells of itself: ``training.json``, the last file that it writes.

write_outcome(run, report.to_json())
read_outcome(run)["seconds"]
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ibl_mtm._provenance import __version__, source_commit

__all__ = ["OUTCOME", "read_outcome", "write_outcome"]

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
    aside = run / f".{OUTCOME}.{os.getpid()}"
    aside.write_text(json.dumps({**report, **computed}, indent=1), encoding="utf-8")
    aside.replace(run / OUTCOME)


def read_outcome(run: Path) -> dict[str, Any] | None:
    """What the training of a folder told; None if it has not ended, or there was none."""
    file = run / OUTCOME
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None
