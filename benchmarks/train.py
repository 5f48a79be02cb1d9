"""How fast a model trains: steps and trials per second, and the share of the hardware's limit.

    python benchmarks/train.py                     # both sizes, fp32 and bf16
    python benchmarks/train.py --size paper --precision bf16-mixed --steps 2000 --compile
    python benchmarks/train.py --sessions 1 459 --units 1350    # what many sessions cost
    python benchmarks/train.py --size small small_behaviour     # what behaviour in the model costs

Every row is a training as `ibl-mtm train` runs it, on random counts. Its limit is a large matrix
product in the same precision, timed in turn with the steps. `data` is the share of the time in
which the device has nothing to do because a batch is being prepared. On one CPU thread all times
are the process's own, so that a busy machine does little harm.
"""

import argparse
import json
import resource
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import torch
from lightning.pytorch.callbacks import Callback

from ibl_mtm.model.settings import ModelSettings
from ibl_mtm.sessions.deal import Deal
from ibl_mtm.sessions.modalities import (
    ModalityValues,
    SessionBehaviour,
    classes_in,
    describe_modalities,
    traces_in,
)
from ibl_mtm.sessions.spikes import Spikes
from ibl_mtm.sessions.trial_format import TrialFormat
from ibl_mtm.sessions.view import Session, sum_counts
from ibl_mtm.training.checkpoint.build import build_model
from ibl_mtm.training.data.loader import CPU, Loader
from ibl_mtm.training.loop.module import Training
from ibl_mtm.training.loop.trainer import make_loaders, make_trainer, quiet
from ibl_mtm.training.settings import RunSettings, read_run_settings

N_TIME, N_TRIALS, WARM_UP = 100, 280, 5
#: Units of a session; the trials in a batch and all else are the configuration's.
SIZES = {"paper": 668, "small": 100, "small_behaviour": 100}
CONFIGS = {"paper": "mtm", "small": "mtm_small", "small_behaviour": "mtm_small_behaviour"}


def make_behaviour(names: Sequence[str], n_trials: int, train: np.ndarray) -> SessionBehaviour:
    """Random values of some modalities."""
    rng = np.random.default_rng(1)
    n_traces, n_classes = len(traces_in(names)), len(classes_in(names))
    values = ModalityValues(
        rng.poisson(0.5, (n_trials, N_TIME, n_traces)).astype(np.float32),
        rng.choice([-1, 0, 1], (n_trials, n_classes)).astype(np.int8),
    )
    return SessionBehaviour(values, describe_modalities(values, train, names))


def make_sessions(
    n_sessions: int, n_units: int, n_trials: int, modalities: Sequence[str] = ()
) -> list[Session]:
    """Sessions of random counts, all read from the same array."""
    rng = np.random.default_rng(0)
    counts = rng.poisson(0.1, (n_trials, N_TIME, n_units)).astype(np.uint8)
    split = np.where(np.arange(n_trials) < 0.8 * n_trials, "train", "val")
    regions = np.array([f"R{i % 5}" for i in range(n_units)])

    def decode(number: int, chunk: np.ndarray) -> None:
        chunk[:] = counts

    spikes = Spikes("session", counts.shape, counts.dtype, n_trials, decode)
    train = np.flatnonzero(split == "train")
    training = sum_counts(spikes, train)
    behaviour = make_behaviour(modalities, n_trials, train) if modalities else None
    return [
        Session(
            eid=f"session-{number}",
            spikes=spikes,
            trial=np.arange(n_trials),
            split=split,
            units=np.array([f"{number}-{unit}" for unit in range(n_units)]),
            region=regions,
            training=training,
            deal=Deal(
                np.arange(n_trials), 2.0 * np.arange(n_trials), 2.0, split, split != "", "made up"
            ),
            start=2.0 * np.arange(n_trials),
            trial_positions=np.arange(n_trials),
            unit_positions=np.arange(n_units),
            behaviour=behaviour,
        )
        for number in range(n_sessions)
    ]


def flops_per_trial(model: ModelSettings, n_units: int) -> float:
    """Floating-point operations of the matrix products of a trial, forward and backward."""
    width, tokens = model.width, N_TIME + 2
    stitch = model.stitch_width
    embed = (
        n_units * stitch + stitch * 2 * stitch + 2 * stitch * width if stitch else (n_units * width)
    )
    block = 4 * width**2 + 2 * width * model.mlp
    attention = 2 * tokens * width
    per_trial = N_TIME * (embed + width * n_units) + model.layers * tokens * (block + attention)
    return 3 * 2 * per_trial


class Yardstick:
    """A large matrix product, timed in turn with training steps."""

    def __init__(self, device: torch.device, precision: str) -> None:
        self.size = 8192 if device.type == "cuda" else 1536
        kind = torch.bfloat16 if precision == "bf16-mixed" else torch.float32
        self.a = torch.randn(self.size, self.size, device=device, dtype=kind)
        self.rates: list[float] = []

    def measure(self) -> None:
        """Time it once."""
        start = _now(self.a.device)
        for _ in range(4):
            self.a @ self.a
        self.rates.append(4 * 2 * self.size**3 / (_now(self.a.device) - start))


class Stopwatch(Callback):
    """Times of spans of steps, with the yardstick measured between them."""

    def __init__(self, yardstick: Yardstick, steps: int) -> None:
        self.yardstick, self.span = yardstick, max(1, steps // 8)
        self.seconds: list[float] = []
        self.start = 0.0

    def on_train_batch_start(self, trainer, module, batch, batch_idx) -> None:  # type: ignore[no-untyped-def]
        if batch_idx >= WARM_UP and (batch_idx - WARM_UP) % self.span == 0:
            self.yardstick.measure()
            self.start = _now(module.device)

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx) -> None:  # type: ignore[no-untyped-def]
        if batch_idx >= WARM_UP and (batch_idx - WARM_UP + 1) % self.span == 0:
            self.seconds.append((_now(module.device) - self.start) / self.span)


class TimedTraining(Training):
    """A training that knows how long batches take to prepare."""

    preparing = 0.0

    def tasks_of(self, batch, rows):  # type: ignore[no-untyped-def]
        start = time.process_time()
        tasks = super().tasks_of(batch, rows)
        if self.global_step >= WARM_UP:
            self.preparing += time.process_time() - start
        return tasks


class TimedLoader(Loader):
    """A loader that knows how long it lets training wait."""

    waiting = 0.0

    def training(self, start=0, place=CPU):  # type: ignore[no-untyped-def]
        batches = super().training(start, place)
        while True:
            begin = time.perf_counter()
            batch = next(batches)
            if batch.step >= WARM_UP:
                self.waiting += time.perf_counter() - begin
            yield batch


def measure(settings: RunSettings, n_units: int, n_sessions: int, steps: int) -> dict[str, object]:
    """Train and time the steps."""
    settings = settings.model_copy(update={"validate_every": None, "patience": None})
    n_trials = N_TRIALS if n_sessions == 1 else 64
    sessions = make_sessions(n_sessions, n_units, n_trials, settings.model.modalities)
    format_ = TrialFormat(N_TIME, 0.02, "stimOn_times", -0.5)
    torch.manual_seed(0)
    module = TimedTraining(settings, build_model(settings, sessions, format_), sessions, steps)
    with tempfile.TemporaryDirectory() as folder:
        # Validation would come after the last step: it is not measured here.
        trainer, *_ = make_trainer(settings, Path(folder), steps, steps + 1, progress=False)
        yardstick = Yardstick(trainer.strategy.root_device, settings.trainer.precision)
        watch = Stopwatch(yardstick, steps - WARM_UP)
        trainer.callbacks.append(watch)
        with quiet(), closing(TimedLoader(sessions, settings)) as loader:
            trainer.fit(module, make_loaders(module, loader)[0])
    step = float(np.median(watch.seconds))
    limit = float(np.median(yardstick.rates))
    flops = settings.batch_size * flops_per_trial(settings.model, n_units)
    on_gpu = yardstick.a.is_cuda  # the module itself is back on the CPU by now
    memory = (
        torch.cuda.max_memory_allocated()
        if on_gpu
        else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    )
    return {
        "config": settings.name,
        "device": torch.cuda.get_device_name()
        if on_gpu
        else f"CPU, {torch.get_num_threads()} threads",
        "precision": settings.trainer.precision,
        "sessions": n_sessions,
        "units": n_units,
        "ms/step": 1000 * step,
        "steps/s": 1 / step,
        "trials/s": settings.batch_size / step,
        "GFLOP/step": flops / 1e9,
        "GFLOP/s": flops / step / 1e9,
        "product GFLOP/s": limit / 1e9,
        "of limit": flops / step / limit,
        "data": (module.preparing + loader.waiting) / (steps - WARM_UP) / step,
        "peak GB": memory / 1e9,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", choices=SIZES, nargs="+", default=["paper", "small"])
    parser.add_argument(
        "--precision", choices=["32", "bf16-mixed"], nargs="+", default=["32", "bf16-mixed"]
    )
    parser.add_argument("--sessions", type=int, nargs="+", default=[1])
    parser.add_argument("--units", type=int)
    parser.add_argument("--steps", type=int, default=45)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--out", type=Path, help="Write the rows here as JSON too.")
    parser.add_argument("settings", nargs="*", metavar="KEY=VALUE")
    chosen = parser.parse_args()
    rows = []
    for size in chosen.size:
        for precision in chosen.precision:
            for n_sessions in chosen.sessions:
                overrides = [
                    f"trainer.precision={precision}",
                    f"trainer.compile={chosen.compile}",
                ]
                settings = read_run_settings(CONFIGS[size], [*overrides, *chosen.settings])
                row = measure(settings, chosen.units or SIZES[size], n_sessions, chosen.steps)
                rows.append(row)
                print("  ".join(f"{key} {_short(value)}" for key, value in row.items()), flush=True)
    if chosen.out:
        chosen.out.write_text(json.dumps(rows, indent=1))


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time() if torch.get_num_threads() == 1 else time.perf_counter()


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
