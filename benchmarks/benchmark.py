"""Speed of BrainWideBench's neural prediction on a full-size session: predicting and scoring.

python benchmarks/benchmark.py [--quick] [--data DIR] [--every N] [--dynamics K]

The transformer is the shipped one, of random weights; its linear dynamics, with units that drift,
are fitted to a part of the session. What is counted are the operations that both need at the least:
of the dynamics one elimination, and one Newton step beside it.
"""

import argparse
import resource
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import xarray as xr

from ibl_mtm.benchmark.data import BenchmarkData
from ibl_mtm.benchmark.predict.adaptation import WINDOWS, adaptation_data
from ibl_mtm.benchmark.predict.neural import neural_tensors, predict_windows
from ibl_mtm.benchmark.score import score_submissions
from ibl_mtm.benchmark.submission import Place, write_predictions
from ibl_mtm.benchmark.tasks import N_BINS, TASKS
from ibl_mtm.benchmark.truth import NeuralTruth
from ibl_mtm.model.dynamics.fit import fit_dynamics
from ibl_mtm.model.dynamics.system import LinearDynamics
from ibl_mtm.model.mtm import MtM
from ibl_mtm.model.scope import Scope
from ibl_mtm.simulate.brainsets.wide_map import WideMap, simulate_map
from ibl_mtm.training.settings import read_run_settings

sys.path.insert(0, str(Path(__file__).parent))
from evaluate import matrix_product_speed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a small session")
    parser.add_argument("--data", type=Path, help="files that are there, instead of simulated ones")
    parser.add_argument("--every", type=int, default=1, help="predict each Nth trial alone")
    parser.add_argument("--dynamics", type=int, help="with so many components alone; 0: without")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = given.data or Path(folder) / "bwb"
        if not given.data:
            size = {"units": 80, "trials": 180} if given.quick else {"scale": "full"}
            simulate_map(root, WideMap(sessions=2, **size))
        session(BenchmarkData(root), Path(folder) / "predictions", given.every, given.dynamics)


def session(data: BenchmarkData, out: Path, every: int, only: int | None) -> None:
    """One session: the shipped model, of random weights, without dynamics and with them."""
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}")
    eid, threads = data.recordings[0], torch.get_num_threads()
    with data.open("ts2", eid) as recording:
        start = time.perf_counter()
        ds, _ = adaptation_data(recording, "ts2")
        n_units = ds.sizes["unit"]
        print(
            f"{n_units} units: {ds.sizes['trial']} windows to adapt to in "
            f"{time.perf_counter() - start:.1f} s"
        )
        units = tuple(recording.unit_ids.tolist())
        settings = read_run_settings("benchmark").model
        for dynamics in (0, settings.dynamics) if only is None else (only,):
            scope = Scope(units, (eid,), (), WINDOWS, ("neuron", "causal"))
            model = MtM(settings.model_copy(update={"dynamics": dynamics}), scope).eval()
            rate = np.log(ds.spikes.values.mean((0, 1)) + 1e-4)
            null = torch.from_numpy(rate).float()
            rows = torch.arange(n_units)
            model.start_units(rows, torch.zeros(n_units), torch.ones(n_units), null)
            if dynamics:
                model.dynamics_share.fill_(0.6)
                model.start_dynamics(rows, 0, fitted(ds, dynamics))
            for name in ("ts2-co_smoothing", "ts2-forecasting"):
                predict(model, recording, name, out, every)
    assert threads == torch.get_num_threads()
    start = time.perf_counter()
    scores = score_submissions(out, data)
    print(f"score of both: {time.perf_counter() - start:.1f} s {scores.failed or ''}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"peak memory {peak:.1f} GB")


def fitted(ds: xr.Dataset, components: int) -> LinearDynamics:
    """Linear dynamics with drifting units, fitted to few windows and in few passes."""
    some = slice(None, None, max(1, ds.sizes["trial"] // 200))
    counts = torch.from_numpy(ds.spikes.values[some].astype(np.float32))
    times = torch.from_numpy(ds.window_start.values[some])
    start = time.perf_counter()
    system = fit_dynamics(counts, components, iterations=8, times=times)
    print(f"dynamics of {len(counts)} windows fitted in {time.perf_counter() - start:.1f} s")
    return system


def predict(model: MtM, recording, name: str, out: Path, every: int) -> None:
    """Some trials after the others, beside a matrix product each: others use the cores too."""
    truth = NeuralTruth.of(recording, TASKS[name], "test")
    pieces = truth.pieces[::every]
    shares, products, took = [], [], 0.0
    # Windows that are not predicted have any rate: they take their part in what is scored.
    whole = np.full((len(truth.starts), truth.task.n_steps, len(truth.units)), -3.0, np.float16)
    n = flop_per_window(model, truth.n_units, truth.task.n_steps * len(truth.columns))
    for at in range(0, len(pieces), 20 // every or 1):
        part = replace(truth, pieces=pieces[at : at + (20 // every or 1)])
        products.append(matrix_product_speed(torch.float32))
        start = time.perf_counter()
        predictions = predict_windows(model, recording.eid, recording.unit_ids, part)
        tensors, about = neural_tensors(part, predictions)
        took += (passed := time.perf_counter() - start)
        shares.append(len(part.starts) * n / passed / products[-1])
        whole[np.isin(truth.starts, part.starts)] = tensors["predictions"]
    n_windows = sum(map(len, pieces))
    tensors |= {"predictions": whole, "window_timestamps": truth.starts}
    about |= {"unit_filtering": recording.build, "dataset_version": recording.version}
    write_predictions(out, Place("random", name, recording.eid, 43), tensors, about)
    K = model.settings.dynamics
    with_ = f"with {K} dynamics" if K else "transformer alone"
    print(
        f"{name}, {with_}: {n_windows:,} of {len(truth.starts):,} windows in {took:.1f} s "
        f"({1e3 * took / n_windows:.2f} ms each); {n / 1e6:.1f} MFLOP each "
        f"at {np.median(shares):.0%} of a matrix product "
        f"({np.median(products) / 1e9:.0f} GFLOP/s; medians of {len(shares)} parts)",
        flush=True,
    )


def flop_per_window(model: MtM, n_units: int, n_asked: int) -> float:
    """Multiplications and additions of a forward pass, and of the least that dynamics take."""
    s, n = model.settings, N_BINS + 2
    read = (N_BINS * n_units + n_asked) * s.width
    block = n * (4 * s.width**2 + 2 * s.width * s.mlp) + 2 * n**2 * s.width
    convolution = N_BINS * s.convolution * s.width  # of each feature by itself
    K = s.dynamics
    # Log rates, the slope, and the information of each bin; of K x K matrices each bin's pivot and
    # its inverse, the products with its neighbours', and the covariance; what is read out.
    newton = N_BINS * n_units * (2 * K + K * (K + 1) // 2)
    solved = N_BINS * (K**3 + 4 * K**3)
    spread = n_asked * (K**2 + K)
    return 2.0 * (read + s.layers * block + convolution + newton + solved + spread)


if __name__ == "__main__":
    main()
