"""The folder of a run: who may write there, and whether a request goes on with what it holds.

with claim_folder(run, resume=False, overwrite=True):
    empty_folder(run)
    ...
"""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from filelock import FileLock, Timeout
from lightning.pytorch.utilities import rank_zero_only

from ibl_mtm.config.yaml_settings import read_settings
from ibl_mtm.errors import UserError
from ibl_mtm.sessions.view import Session
from ibl_mtm.training.settings import RunSettings

__all__ = [
    "CHECKPOINT",
    "check_unchanged",
    "claim_folder",
    "empty_folder",
    "on_first_process",
    "write_request",
]

CHECKPOINT = Path("checkpoints") / "last.ckpt"
#: Settings that do not decide the outcome of a training.
_FREE: Any = {"trainer": True, "data": {"memory_gb", "device_cache"}}
_LOCK, _SETTINGS, _UNITS = ".lock", "config.yaml", "units.parquet"


def on_first_process() -> bool:
    """Whether this is the process of a run on several devices that writes and reports."""
    return not rank_zero_only.rank  # type: ignore[attr-defined]


@contextmanager
def claim_folder(run: Path, *, resume: bool, overwrite: bool) -> Iterator[None]:
    """Hold a folder against other trainings; the system lets go of it when the process dies.

    Of the processes of one training only the first holds it.

    Raises
    ------
    UserError
        If another training uses it, it holds an earlier run that was not to be replaced, or
        there is nothing in it to resume.
    """
    if not on_first_process():
        yield
        return
    if resume and not (run / CHECKPOINT).is_file():
        raise UserError(f"{run} holds no checkpoint to resume from ({run / CHECKPOINT} is missing)")
    run.mkdir(parents=True, exist_ok=True)
    lock = FileLock(run / _LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise UserError(
            f"{run} is in use by another training; wait for it, or give another folder"
        ) from None
    try:
        if not (resume or overwrite) and _contents(run):
            raise UserError(f"{run} exists; use --overwrite to replace it or --resume to go on")
        yield
    finally:
        lock.release()


def empty_folder(run: Path) -> None:
    """Remove what an earlier run left in a claimed folder."""
    for path in _contents(run):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def write_request(run: Path, settings: RunSettings, sessions: Sequence[Session]) -> None:
    """Write down what was asked for: ``config.yaml`` and ``units.parquet``."""
    (run / _SETTINGS).write_text(
        yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False), encoding="utf-8"
    )
    _unit_table(sessions).to_parquet(run / _UNITS)


def check_unchanged(run: Path, settings: RunSettings, sessions: Sequence[Session]) -> None:
    """Make sure that a resumed run would go on with its own settings and units.

    Only how it is computed (``trainer``) and where counts are held may differ.

    Raises
    ------
    UserError
        Names the first key or session that differs.
    """
    before = _flat(read_settings(run / _SETTINGS, RunSettings).model_dump(exclude=_FREE))
    now = _flat(settings.model_dump(exclude=_FREE))
    for key in sorted(before.keys() | now.keys()):
        if before.get(key) != now.get(key):
            raise UserError(
                f"{run} was begun with {key}={before.get(key)}, not {now.get(key)}; "
                "--resume goes on with the run's own settings"
            )
    columns = ["eid", "unit"]
    old = pd.read_parquet(run / _UNITS)[columns].reset_index(drop=True)
    new = _unit_table(sessions)[columns]
    if not new.equals(old):
        differ = set(map(tuple, new.values)) ^ set(map(tuple, old.values))
        names = sorted({eid for eid, _ in differ}) or ["all, in another order"]
        raise UserError(
            f"the data are not those that {run} was begun with (units of session {names[0]}); "
            "--resume needs the same sessions in the same cache"
        )


def _contents(run: Path) -> list[Path]:
    return [path for path in run.iterdir() if path.name != _LOCK]


def _flat(values: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{above}{key}.") if isinstance(value, dict) else {above + key: value}
    return flat


def _unit_table(sessions: Sequence[Session]) -> pd.DataFrame:
    return pd.concat(
        [
            pd.DataFrame(
                {
                    "eid": session.eid,
                    "unit": session.units,
                    "region": session.region,
                    "training_rate": np.exp(session.training.log_mean),
                }
            )
            for session in sessions
        ],
        ignore_index=True,
    )
