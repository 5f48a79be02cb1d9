"""Examples with ``>>>`` in docstrings are run: of the public API, and of whatever else has some.

They find `cache` (two sessions, 11 and 13 units), `ds` (one of them), and `model` (one that knows
both, untrained), and a folder with the cache as ``cache.zarr``.
"""

import doctest
import importlib
import inspect
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from synthetic import make_regions, make_session

import ibl_mtm
from ibl_mtm.cache.store import create_cache, write_session
from ibl_mtm.sessions.trial_format import trial_format
from ibl_mtm.training.checkpoint.build import build_model
from ibl_mtm.training.data.describe import describe_sessions

PACKAGE = Path(ibl_mtm.__file__).parent
FLAGS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS


def examples() -> list[doctest.DocTest]:
    """Of every module whose source has some."""
    found = []
    for file in sorted(PACKAGE.rglob("*.py")):
        if ">>> " in file.read_text(encoding="utf-8"):
            parts = file.relative_to(PACKAGE.parent).with_suffix("").parts
            module = importlib.import_module(".".join(parts))
            found += [test for test in doctest.DocTestFinder().find(module) if test.examples]
    return found


EXAMPLES = examples()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, object]]:
    folder = tmp_path_factory.mktemp("doctests")
    create_cache(folder / "cache.zarr")
    for seed in (1, 2):
        ds = make_session(n_units=9 + 2 * seed, n_trials=40, n_bins=20, seed=seed)
        write_session(folder / "cache.zarr", ds, make_regions())
    cache = ibl_mtm.open_cache(folder / "cache.zarr")
    changes = ["data.min_units_per_region=2", "model.width=16", "model.layers=1"]
    settings = ibl_mtm.read_run_settings("mtm_small", [*changes, "model.heads=2", "model.mlp=16"])
    eid = next(eid for eid in cache if cache.sessions.subject[eid] == "SYN_001")
    torch.manual_seed(0)
    sessions = describe_sessions(cache, settings.data)
    model = build_model(settings, sessions, trial_format(cache[eid])).eval()
    before = Path.cwd()
    os.chdir(folder)
    yield {"cache": cache, "ds": cache[eid].load(), "model": model, "eid": eid, "ibl_mtm": ibl_mtm}
    os.chdir(before)


@pytest.mark.parametrize("test", EXAMPLES, ids=lambda test: test.name.removeprefix("ibl_mtm."))
def test_an_example_gives_what_it_says(test: doctest.DocTest, world: dict[str, object]) -> None:
    test.globs.update(world)
    output: list[str] = []
    doctest.DocTestRunner(optionflags=FLAGS).run(test, out=output.append)
    assert not output, "".join(output)


def test_what_is_offered_at_the_front_door_has_examples() -> None:
    """All but what needs a run folder: those examples stand in the tutorial, which is run."""
    told = {test.name.rpartition(".")[2] for test in EXAMPLES}
    offered = {name for name in ibl_mtm.__all__ if inspect.isfunction(getattr(ibl_mtm, name))}
    of_runs = {
        "compare_runs",
        "evaluate",
        "evaluate_baseline",
        "load_model",
        "read_scored_run",
        "train",
        "write_report",
    }
    assert offered - of_runs - told == set()
