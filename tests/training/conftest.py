"""A small cache and an undisturbed run on it, made once for all tests that only look at them."""

import shutil
from pathlib import Path

import pytest
from training_runs import make_cache, tiny_settings

from ibl_mtm.cache.cache import Cache, open_cache
from ibl_mtm.training.run import TrainReport, train


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    """Two sessions of 15 and 20 units, to be read alone."""
    return open_cache(make_cache(tmp_path_factory.mktemp("training") / "cache.zarr"))


@pytest.fixture(scope="session")
def trained(cache: Cache, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TrainReport]:
    """A run of `tiny_settings()`, to be read alone, and its report."""
    run = tmp_path_factory.mktemp("trained") / "run"
    return run, train(tiny_settings(), cache, run, progress=False)


@pytest.fixture
def copy(trained: tuple[Path, TrainReport], tmp_path: Path) -> Path:
    """A copy of that run, to be changed."""
    return shutil.copytree(trained[0], tmp_path / "run")
