"""A small simulated experiment, made once, and copies of its sessions to spoil."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from alyx_server import PASSWORD, AlyxServer

from ibl_mtm.config.dataset import Dataset
from ibl_mtm.config.sources import LocalSource
from ibl_mtm.ingest import retry
from ibl_mtm.ingest.recording import session_id
from ibl_mtm.ingest.run import ingest
from ibl_mtm.simulate.simulation import Simulation, simulate


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    """Attempts follow each other at once; `test_ingest_retry` tells how waits grow."""
    monkeypatch.setattr(retry, "_FIRST_WAIT", 0.01)
    monkeypatch.setattr(retry, "_LONGEST_WAIT", 0.05)


@dataclass(frozen=True)
class Experiment:
    """Where a simulated experiment lies: one probe; two probes; one probe, sorted anew."""

    root: Path
    eids: tuple[str, ...]

    def alf(self, index: int) -> Path:
        """The folder `alf` of a session, by its number in the experiment."""
        return next(self.root.glob(f"*/Subjects/*_{index + 1:03d}/*/001/alf"))

    def dataset(self, **settings) -> Dataset:
        return Dataset(source=LocalSource(kind="local", path=self.root), **settings)

    def copy_session(
        self, root: Path, number: int, index: int = 0, spoil: Callable[[Path], object] | None = None
    ) -> str:
        """Copy a session into a folder without cache tables, and spoil its files; its new eid."""
        place = ("lab", "mouse", "2024-01-01", f"{number:03d}")
        lab, *rest = place
        alf = root.joinpath(lab, "Subjects", *rest, "alf")
        shutil.copytree(self.alf(index), alf)
        if spoil is not None:
            spoil(alf)
        return session_id(*place)


@pytest.fixture(scope="session")
def experiment(tmp_path_factory) -> Experiment:
    root = tmp_path_factory.mktemp("experiment") / "ONE"
    eids = simulate(root, Simulation(sessions=3, units=20, trials=30, seed=1))
    return Experiment(root, tuple(eids))


@pytest.fixture
def server(experiment, monkeypatch):
    monkeypatch.setenv("IBL_MTM_PASSWORD", PASSWORD)
    with AlyxServer(experiment.root) as server:
        yield server


@pytest.fixture(scope="session")
def from_disk(experiment, tmp_path_factory):
    """The cache of the same sessions, from their own folder."""
    cache = tmp_path_factory.mktemp("from_disk") / "cache.zarr"
    assert not ingest(experiment.dataset(), "truth", cache).failed
    return cache
