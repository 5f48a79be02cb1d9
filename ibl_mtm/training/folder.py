"""The folder of a run: who may write there, and whether a request goes on with what it holds.

with claim_folder(run, resume=False, overwrite=True):
    empty_folder(run)
    ...

A folder that is no run is never emptied, and of one that is only what a run writes is removed.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
import yaml
from filelock import FileLock, Timeout
from lightning.pytorch.utilities import rank_zero_only

from ibl_mtm.config.yaml_settings import read_settings
from ibl_mtm.disk.ownership import MARKER, is_marked, mark, remove
from ibl_mtm.disk.targets import check_folder
from ibl_mtm.errors import UserError
from ibl_mtm.sessions.deal import TRIALS, write_deals
from ibl_mtm.sessions.view import Session
from ibl_mtm.training.settings import RunSettings

__all__ = [
    "CHECKPOINT",
    "check_unchanged",
    "claim_folder",
    "empty_folder",
    "is_run",
    "on_first_process",
    "settle_rank",
    "write_request",
]

CHECKPOINT = Path("checkpoints") / "last.ckpt"
#: Settings that do not decide the outcome of a training.
_FREE: Any = {"trainer": True, "data": {"memory_gb", "device_cache", "evaluated_animals"}}
_LOCK, _SETTINGS, _UNITS = ".lock", "config.yaml", "units.parquet"
_OF_A_RUN = {"data", "masks", "model", "optimizer", "trainer"}
#: What a training that got anywhere leaves.
_TRAINED = ("model.safetensors", str(CHECKPOINT), "training.json")
#: All that training, `eval` and `report` write into the folder of a run.
_OWN = (
    _SETTINGS,
    _UNITS,
    TRIALS,
    "init.json",
    "config.json",
    "model.safetensors",
    "training.json",
    "checkpoints",
    "logs",
    "wandb",
    "metrics.json",
    "per_unit.parquet",
    "evaluation.zarr",
    "figures",
)


def on_first_process() -> bool:
    """Whether this is the process of a run on several devices that writes and reports."""
    return not rank_zero_only.rank  # type: ignore[attr-defined]


def settle_rank(n_processes: int) -> None:
    """Make the only process of a training its first, whatever the environment says.

    Lightning takes a process's number from RANK, LOCAL_RANK or SLURM_PROCID, which under ``srun``
    tell apart trainings that have nothing to do with each other.
    """
    if n_processes == 1:
        rank_zero_only.rank = 0  # type: ignore[attr-defined]


@contextmanager
def claim_folder(run: Path, *, resume: bool, overwrite: bool) -> Iterator[None]:
    """Hold a folder against other trainings; the system lets go of it when the process dies.

    Of the processes of one training only the first holds it. A folder that was made for nothing,
    because the training was refused, is removed.

    Raises
    ------
    UserError
        If another training uses it, it holds an earlier run that was not to be replaced, or
        files that are of no run, or there is nothing in it to resume.
    """
    if not on_first_process():
        yield
        return
    if resume and not (run / CHECKPOINT).is_file():
        raise UserError(f"{run} holds no checkpoint to resume from ({run / CHECKPOINT} is missing)")
    check_folder(run)
    _refuse_what_is_no_run(run)
    made = [folder for folder in (run, *run.parents) if not folder.exists()]
    run.mkdir(parents=True, exist_ok=True)
    lock = FileLock(run / _LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise UserError(
            f"{run} is in use by another training; wait for it, or give another folder"
        ) from None
    try:
        if not (resume or overwrite) and any((run / name).exists() for name in _TRAINED):
            raise UserError(f"{run} exists; use --overwrite to replace it or --resume to go on")
        yield
    except BaseException:
        if made and not _contents(run):
            remove(run, [_LOCK, MARKER])
            with suppress(OSError):  # somebody else was quick to put something there
                for folder in made:
                    folder.rmdir()
        raise
    finally:
        lock.release()


def empty_folder(run: Path) -> None:
    """Remove what an earlier run left in a claimed folder, and make it the folder of a run."""
    remove(run, _OWN)
    for name in _OWN:  # what a process that was killed had begun to write
        remove(run, [path.name for path in run.glob(f".{Path(name).stem}.*")])
    mark(run, "run")


def _refuse_what_is_no_run(folder: Path) -> None:
    """Refuse a folder of somebody's before so much as a lock is written there."""
    contents = _contents(folder) if folder.is_dir() else []
    if contents and not is_run(folder):
        some = ", ".join(sorted(path.name for path in contents)[:3])
        raise UserError(
            f"{folder} is not the folder of a run: it holds {some}; give --run a folder of its own"
        )


def is_run(folder: Path) -> bool:
    """Whether a training made this folder."""
    # Runs of earlier versions have no marker; the settings of a run name every key.
    if is_marked(folder, "run"):
        return True
    file = folder / _SETTINGS
    if not (file.is_file() and (folder / _UNITS).is_file()):
        return False
    try:
        settings = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError):
        return False
    return isinstance(settings, dict) and settings.keys() >= _OF_A_RUN


def write_request(
    run: Path,
    settings: RunSettings,
    sessions: Sequence[Session],
    others: Mapping[str, Sequence[str]] = MappingProxyType({}),
) -> None:
    """Write down what was asked for: ``config.yaml``, ``units.parquet``, ``trials.parquet``.

    `others` are units of sessions that are not at hand, by eid.
    """
    (run / _SETTINGS).write_text(
        yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False), encoding="utf-8"
    )
    rows = [
        pd.DataFrame({"eid": eid, "unit": units, "region": "", "training_rate": np.nan})
        for eid, units in others.items()
    ]
    tables = [_unit_table(sessions)] if sessions else []
    columns = ["eid", "unit", "region", "training_rate"]
    units = pd.concat([*tables, *rows], ignore_index=True) if tables or rows else None
    (pd.DataFrame(columns=columns) if units is None else units).to_parquet(run / _UNITS)
    if sessions:
        write_deals(run, {session.eid: session.deal for session in sessions})


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
    if now["steps"] == before["steps"] is not None:
        now["epochs"] = before["epochs"]  # which steps overrule; earlier versions kept both
    for key in sorted(before.keys() | now.keys()):
        if before.get(key) != now.get(key):
            more = ""
            if key in ("steps", "epochs"):  # the learning rate follows from the last step
                more = f"; to train on, start a new run from this one: --run NEW --init {run}"
            raise UserError(
                f"{run} was begun with {key}={before.get(key)}, not {now.get(key)}; "
                f"--resume goes on with the run's own settings{more}"
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
    return [path for path in run.iterdir() if path.name not in (_LOCK, MARKER)]


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
