"""The whole way at once, small: simulate, ingest, train MtM and its baseline, evaluate, report.

result = run_demo(Path("demo"))
result.report         # demo/report.html
"""

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ibl_mtm.cache.cache import open_cache
from ibl_mtm.config.catalog import load_catalog
from ibl_mtm.config.yaml_settings import find_shipped
from ibl_mtm.errors import UserError
from ibl_mtm.evaluation.evaluate import evaluate
from ibl_mtm.ingest.run import ingest
from ibl_mtm.report.page import write_report
from ibl_mtm.training.run import train
from ibl_mtm.training.settings import read_run_settings

__all__ = ["DemoResult", "run_demo"]

DATASET = "demo"
#: Run folders and the configuration that each is trained with.
RUNS = {"mtm": "demo_mtm.yaml", "temporal": "demo_temporal.yaml"}
#: Instead of the catalog's and the configurations' own, to see that all of it works on a machine.
QUICK_SOURCE = {"sessions": 2, "units": 40, "trials": 120}
QUICK_TRAINING = ("steps=40", "validate_every=20")


@dataclass(frozen=True)
class DemoResult:
    """What the demo made: the report's path, and the scores of MtM and of its baseline."""

    report: Path
    scores: list[dict[str, Any]]


def run_demo(
    out: Path, say: Callable[[str], None] = lambda message: None, *, quick: bool = False
) -> DemoResult:
    """Run the demo.

    Parameters
    ----------
    out
        Folder for everything it makes; an earlier demo there is replaced.
    say
        Called with a line of text at each step.
    quick
        Two small sessions and forty steps: whether it works, not what it reaches.

    Raises
    ------
    UserError
        If `out` holds something that no demo made.
    """
    start = time.perf_counter()

    def tell(message: str) -> None:
        say(f"[{time.perf_counter() - start:4.0f} s] {message}")

    cache_path, runs, page = out / "cache.zarr", out / "runs", out / "report.html"
    if out.exists() and any(out.iterdir()) and not cache_path.is_dir():
        raise UserError(f"{out} holds other files; give the demo a folder of its own with --out")
    out.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(runs, ignore_errors=True)

    dataset = load_catalog(find_shipped("data_catalog.yaml")).dataset(DATASET)
    if quick:
        source = dataset.source.model_copy(update=QUICK_SOURCE)
        dataset = dataset.model_copy(update={"source": source})
    n_sessions = QUICK_SOURCE["sessions"] if quick else "four"
    tell(f"simulating and ingesting {n_sessions} sessions of a repeated-site experiment")
    report = ingest(dataset, DATASET, cache_path)
    if report.failed:
        raise UserError(f"the demo's sessions could not be ingested: {report.failed}")
    cache = open_cache(cache_path)
    tell(repr(cache).splitlines()[0])
    scores = []
    for name, config in RUNS.items():
        tell(f"training {name} ({config})")
        train(read_run_settings(config, QUICK_TRAINING if quick else ()), cache, runs / name)
        tell(f"evaluating {name} on held-out trials")
        evaluation = evaluate(runs / name, cache, oracle=cache_path.with_suffix(".one"))
        evaluation.write(runs / name)
        scores.append(evaluation.metrics)
    write_report([runs / name for name in RUNS], page)
    tell("done")
    return DemoResult(page, scores)
