"""Speed of evaluation: leave-one-unit-out co-smoothing, decoding, and 20 sessions on all cores.

python benchmarks/evaluate.py [--quick] [--only co_smoothing | decoding | sessions]
"""

import argparse
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from ibl_mtm.cache.cache import open_cache
from ibl_mtm.cache.store import create_cache, write_session
from ibl_mtm.config.yaml_settings import validate_settings
from ibl_mtm.evaluation.activity.predict import (
    Population,
    Precision,
    predict_held_out,
    predict_unmasked,
)
from ibl_mtm.evaluation.behaviour.linear_decoders import Features, decode_class, decode_trace
from ibl_mtm.evaluation.evaluate import evaluate
from ibl_mtm.evaluation.metrics import bits_per_spike
from ibl_mtm.model.mtm import MtM
from ibl_mtm.model.scope import Scope
from ibl_mtm.model.settings import ModelSettings
from ibl_mtm.sessions.trial_format import TrialFormat
from ibl_mtm.training.run import train
from ibl_mtm.training.settings import RunSettings

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "helpers"))
from synthetic import make_regions, make_session

PUBLISHED = 178.0  # s, the published code for 100 units and 80 trials, on 2 cores of another day
N_TIME = 100
PARTS = ("co_smoothing", "decoding", "sessions")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the trials")
    parser.add_argument("--only", choices=PARTS, help="this part alone")
    given = parser.parse_args()
    parts = (given.only,) if given.only else PARTS
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}")
    if "co_smoothing" in parts:
        co_smoothing(n_units=100, n_trials=8 if given.quick else 80)
    if "decoding" in parts:
        with threadpool_limits(1, user_api="blas"):  # as in an evaluation
            decoding(n_units=676, n_trials=300)
    if "sessions" in parts:
        sessions(n_sessions=20, n_trials=60 if given.quick else 300)


def co_smoothing(n_units: int, n_trials: int) -> None:
    """The paper's sizes, in float32 and in bfloat16, beside a matrix product in the same run."""
    torch.manual_seed(0)
    units = tuple(str(unit) for unit in range(n_units))
    scope = Scope(units, ("eid",), (), TrialFormat(N_TIME, 0.02, "stimOn_times", -0.5), ("neuron",))
    model = MtM(ModelSettings(), scope).eval()
    rng = np.random.default_rng(0)
    rate = rng.lognormal(np.log(4 * 0.02), 1, n_units)
    counts = rng.poisson(rate, (n_trials, N_TIME, n_units)).astype(np.uint8)
    null = torch.from_numpy(np.log(counts.mean((0, 1)) + 1e-4)).float()
    rows = torch.arange(n_units)
    model.start_units(rows, torch.zeros(n_units), torch.ones(n_units), null)
    torch.nn.init.normal_(model.read_out, std=0.02)  # log rates that vary by about half
    calibrate(model, counts, units)
    flop = n_units * n_trials * flop_per_trial(model, n_units)
    print(f"\nleave-one-unit-out, {n_units} units x {n_trials} trials, {flop / 1e12:.1f} TFLOP")
    scores = {}
    precisions: tuple[Precision, ...] = ("bf16", "32")
    for precision in precisions:
        region = np.full(n_units, "")
        population = Population(model, counts, "eid", np.array(units), region, precision)
        dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        before = matrix_product_speed(dtype)
        start, score = time.perf_counter(), np.full(n_units, np.nan)
        for held, rates in predict_held_out(population, "co_smoothing"):
            score[held.outputs] = bits_per_spike(rates, counts[:, :, held.outputs])
        seconds = time.perf_counter() - start
        product = (before + matrix_product_speed(dtype)) / 2
        scores[precision] = score
        ratio = f", {PUBLISHED / seconds:.1f} times the published code" if n_trials == 80 else ""
        print(
            f"  {precision:5} {seconds:6.1f} s, {flop / seconds / 1e9:4.0f} GFLOP/s, "
            f"{flop / seconds / product:4.0%} of a matrix product ({product / 1e9:.0f}){ratio}"
        )
    change = np.abs(scores["bf16"] - scores["32"]).max()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(
        f"  largest change of a unit's bits/spike by bf16: {change:.1e}; peak memory {peak:.1f} GB"
    )


@torch.no_grad()
def calibrate(model: MtM, counts: np.ndarray, units: tuple[str, ...]) -> None:
    """Let each unit's mean rate be its mean count, as in every trained model."""
    population = Population(model, counts, "eid", np.array(units), np.full(len(units), ""), "32")
    mean = np.exp(predict_unmasked(population, "neuron")).mean((0, 1))
    model.read_out_bias += torch.from_numpy(np.log((counts.mean((0, 1)) + 1e-4) / mean)).float()


def flop_per_trial(model: MtM, n_units: int) -> float:
    """Multiplications and additions of a forward pass without its read-out."""
    s = model.settings
    assert s.stitch_width
    read_in = n_units * s.stitch_width + 2 * s.stitch_width**2 + 2 * s.stitch_width * s.width
    n = N_TIME + 2
    block = n * (4 * s.width**2 + 2 * s.width * s.mlp) + 2 * n**2 * s.width
    return 2.0 * (N_TIME * read_in + s.layers * block)


def matrix_product_speed(dtype: torch.dtype, n: int = 2048) -> float:
    """FLOP/s of a product of two square matrices: the best of five."""
    a, b = torch.randn(n, n).to(dtype), torch.randn(n, n).to(dtype)
    return 2 * n**3 / min(seconds(lambda: a @ b) for _ in range(5))


def decoding(n_units: int, n_trials: int) -> None:
    """Choice and a trace from all bins of all units, cross-validation included."""
    rng = np.random.default_rng(0)
    choice = rng.choice([-1, 1], n_trials)
    log_rates = rng.normal(size=(n_trials, N_TIME, n_units)).astype(np.float32)
    log_rates[:, :, :20] += 0.05 * choice[:, None, None]
    trace = log_rates[:, :, :40].sum(2) + rng.normal(size=(n_trials, N_TIME))
    test = np.arange(n_trials) % 5 == 0
    print(f"\ndecoding, {n_units} units x {N_TIME} bins, {n_trials} trials")
    took = seconds(lambda: decode_class(Features(log_rates), choice, ~test, test))
    print(f"  choice {took:.2f} s")
    took = seconds(lambda: decode_trace(Features(log_rates), trace, ~test, test))
    print(f"  whisker motion energy {took:.2f} s")


def sessions(n_sessions: int, n_trials: int) -> None:
    """Share of all cores that an evaluation of many sessions uses: all of it, default tasks."""
    settings = {
        "model": {"width": 128, "layers": 2, "heads": 4, "mlp": 256, "stitch_width": None},
        "batch_size": 16,
        "steps": 2,
        "validate_every": 2,
    }
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        create_cache(root / "cache.zarr")
        for seed in range(n_sessions):
            ds = make_session(n_units=60, n_trials=n_trials, n_bins=N_TIME, seed=seed)
            write_session(root / "cache.zarr", ds, make_regions())
        cache = open_cache(root / "cache.zarr")
        train(validate_settings(settings, RunSettings, "benchmark"), cache, root / "run",
              progress=False)  # fmt: skip
        before, start = time.process_time(), time.perf_counter()
        evaluate(root / "run", cache).write(root / "run")
        took, used = time.perf_counter() - start, time.process_time() - before
    cores = len(os.sched_getaffinity(0))
    print(f"\nevaluating {n_sessions} sessions of 60 units x {n_trials} trials")
    print(f"  {took:.1f} s on {cores} cores, {used / took / cores:.0%} of them used")


def seconds(work: Callable[[], object]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
