"""Train a model on a cache into a run folder.

settings = read_settings(Path("mtm_small.yaml"), RunSettings)
report = train(settings, open_cache("cache.zarr"), Path("runs/mtm"))
"""

import logging
import shutil
import time
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pandas as pd
import torch
import yaml
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger
from torch.utils.data import DataLoader, IterableDataset

from ibl_mtm.cache.cache import Cache
from ibl_mtm.errors import UserError
from ibl_mtm.model.mtm import MtM, Scope, TrialFormat
from ibl_mtm.model.mtm import transform as transform_counts
from ibl_mtm.training.data import Session, batches, load_session, steps_per_epoch, trial_format
from ibl_mtm.training.module import VALIDATION_BATCH, Training
from ibl_mtm.training.pretrained import save_model
from ibl_mtm.training.progress import ProgressBar
from ibl_mtm.training.settings import RunSettings

__all__ = ["TrainReport", "build_model", "fit", "train"]

# Lightning announces devices and products at every start.
logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)

MONITOR = "val/bits_per_spike"


@dataclass(frozen=True)
class TrainReport:
    """What `ibl-mtm train --json` prints.

    Attributes
    ----------
    run
        The run folder.
    steps
        Optimizer steps taken.
    best_step
        The step whose weights were kept.
    val
        Bits/spike of each scheme at that step, on the validation trials.
    seconds
        Time that training took.
    """

    run: str
    steps: int
    best_step: int
    val: dict[str, float]
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """As plain Python."""
        return asdict(self)


def train(
    settings: RunSettings,
    cache: Cache,
    run: Path,
    *,
    resume: bool = False,
    overwrite: bool = False,
    progress: bool = True,
) -> TrainReport:
    """Train a model on every session of a cache.

    Parameters
    ----------
    settings
        The run's; written to ``config.yaml`` as they are.
    cache
        Sessions to train on; use `Cache.where` for a part of them.
    run
        Folder of the run.
    resume
        Go on from ``checkpoints/last.ckpt``.
    overwrite
        Delete an earlier run of this folder first.
    progress
        Show a progress bar on standard error.

    Raises
    ------
    UserError
        If the folder holds another run, there is nothing to resume, or the data do not fit.
    """
    if not len(cache):
        raise UserError(f"{cache.path} holds no session to train on")
    checkpoint = run / "checkpoints" / "last.ckpt"
    if resume and not checkpoint.is_file():
        raise UserError(f"{run} holds no checkpoint to resume from ({checkpoint} is missing)")
    if run.exists() and any(run.iterdir()) and not resume:
        if not overwrite:
            raise UserError(f"{run} exists; use --overwrite to replace it or --resume to go on")
        shutil.rmtree(run)
    format_, sessions = _load(cache, settings)
    run.mkdir(parents=True, exist_ok=True)
    (run / "config.yaml").write_text(
        yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False), encoding="utf-8"
    )
    _unit_table(sessions).to_parquet(run / "units.parquet")
    return fit(settings, sessions, format_, run, checkpoint if resume else None, progress)


def fit(
    settings: RunSettings,
    sessions: Sequence[Session],
    format_: TrialFormat,
    run: Path,
    checkpoint: Path | None = None,
    progress: bool = True,
) -> TrainReport:
    """Train on sessions in memory (see `train`)."""
    per_epoch = steps_per_epoch(sessions, settings.batch_size)
    steps = settings.steps or per_epoch * (settings.epochs or 100)
    every = min(steps, settings.validate_every or per_epoch)
    torch.manual_seed(settings.seed)
    model = build_model(settings, sessions, format_)
    module = Training(settings, model, sessions, steps)
    keep = KeepBest(run)
    callbacks: list[Callback] = [
        keep,
        ModelCheckpoint(run / "checkpoints", filename="last", enable_version_counter=False),
    ]
    if settings.patience:
        callbacks.append(EarlyStopping(MONITOR, patience=settings.patience, mode="max"))
    if progress:
        callbacks.append(ProgressBar(settings.name))
    trainer = pl.Trainer(
        accelerator=settings.accelerator,
        devices=1,
        precision=settings.precision,
        max_steps=steps,
        val_check_interval=every,
        check_val_every_n_epoch=None,
        limit_val_batches=1.0,
        num_sanity_val_steps=0,
        gradient_clip_val=settings.optimizer.clip,
        callbacks=callbacks,
        logger=TensorBoardLogger(run, name="", version="logs"),
        log_every_n_steps=min(every, 10),
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    start = time.perf_counter()
    with warnings.catch_warnings():
        # Batches come from memory, in an order that follows from the step alone (see `batches`).
        for expected in ("does not have many workers", "`__len__` defined", "not resumable"):
            warnings.filterwarnings("ignore", f".*{expected}.*")
        warnings.filterwarnings("ignore", ".*LeafSpec.*is deprecated")  # Lightning of PyTorch
        warnings.filterwarnings("ignore", "Checkpoint directory .* exists and is not empty")
        trainer.fit(
            module,
            DataLoader(_Train(sessions, settings, module), batch_size=None, collate_fn=_as_it_is),
            DataLoader(
                _validation_batches(sessions),  # type: ignore[arg-type]  # a list will do
                batch_size=None,
                collate_fn=_as_it_is,
            ),
            ckpt_path=checkpoint,
            weights_only=True,
        )
    return TrainReport(
        run=str(run),
        steps=trainer.global_step,
        best_step=keep.best_step,
        val=keep.val,
        seconds=round(time.perf_counter() - start, 1),
    )


def build_model(settings: RunSettings, sessions: Sequence[Session], format_: TrialFormat) -> MtM:
    """A new model for these sessions, its unit rows initialised from their training trials."""
    scope = Scope(
        units=tuple(str(unit) for session in sessions for unit in session.units),
        sessions=tuple(session.eid for session in sessions),
        regions=tuple(sorted({str(r) for s in sessions for r in s.region} - {""})),
        trial_format=format_,
        schemes=tuple(scheme for scheme, weight in settings.masks.schemes.items() if weight > 0),
        region_map=settings.data.regions,
        min_units_per_region=settings.data.min_units_per_region,
    )
    model = MtM(settings.model, scope)
    first = 0
    for session in sessions:
        rows = torch.arange(first, first + len(session.units))
        counts = torch.from_numpy(session.counts[session.trials_in("train")]).float()
        x = transform_counts(counts, settings.model.transform).flatten(0, 1)
        # A unit that never fires has no spread: leave its input as it is.
        scale = torch.where(x.std(0) > 0, x.std(0), 1.0)
        model.start_units(rows, x.mean(0), scale, torch.from_numpy(session.log_mean).float())
        first += len(rows)
    return model


class KeepBest(Callback):
    """Save the model whenever its mean validation score is the best so far."""

    def __init__(self, run: Path) -> None:
        self.run = run
        self.best, self.best_step = -np.inf, 0
        self.val: dict[str, float] = {}

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        score = float(trainer.callback_metrics[MONITOR])
        if not np.isfinite(score):
            raise UserError(
                f"training diverged: {MONITOR} is {score} at step {trainer.global_step}; the best "
                f"model so far is kept in {self.run}. Lower optimizer.learning_rate"
            )
        if score <= self.best:
            return
        assert isinstance(pl_module, Training)
        self.best, self.best_step = score, trainer.global_step
        self.val = {
            name.removeprefix("val/"): round(float(value), 6)
            for name, value in trainer.callback_metrics.items()
            if name.startswith("val/") and name != MONITOR
        }
        save_model(pl_module.kept, self.run)

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "best_step": self.best_step, "val": self.val}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best, self.best_step = state_dict["best"], state_dict["best_step"]
        self.val = state_dict["val"]


class _Train(IterableDataset):
    """Training batches from the step that training has reached."""

    def __init__(self, sessions: Sequence[Session], settings: RunSettings, module: Training):
        self.sessions, self.settings, self.module = sessions, settings, module

    def __len__(self) -> int:
        return self.module.steps

    def __iter__(self) -> Any:
        start = self.module.global_step
        order = batches(self.sessions, self.settings.batch_size, self.settings.seed, start)
        for _, batch in order:
            yield batch


def _as_it_is(batch: Any) -> Any:
    """Keep a batch's trial numbers as they are; PyTorch would turn them into tensors."""
    return batch


def _validation_batches(sessions: Sequence[Session]) -> list[tuple[int, np.ndarray]]:
    parts = [
        (index, part)
        for index, session in enumerate(sessions)
        for trials in [session.trials_in("val")]
        for part in np.array_split(trials, -(-len(trials) // VALIDATION_BATCH))
        if len(trials)
    ]
    if not parts:
        raise UserError("there are no validation trials: give data.split a share for them")
    return parts


def _load(cache: Cache, settings: RunSettings) -> tuple[TrialFormat, list[Session]]:
    formats = {eid: trial_format(ds) for eid, ds in cache.items()}
    first, *others = formats
    for eid in others:
        if formats[eid] != formats[first]:
            raise UserError(
                f"sessions {first} and {eid} have trials of different formats "
                f"({formats[first]} and {formats[eid]}); train on one of them with `where`"
            )
    return formats[first], [load_session(cache[eid], settings.data) for eid in cache]


def _unit_table(sessions: Sequence[Session]) -> pd.DataFrame:
    return pd.concat(
        [
            pd.DataFrame(
                {
                    "eid": session.eid,
                    "unit": session.units,
                    "region": session.region,
                    "training_rate": np.exp(session.log_mean),
                }
            )
            for session in sessions
        ],
        ignore_index=True,
    )
