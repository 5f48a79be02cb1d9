"""One small experiment that the tests of this folder share, and ways to read its plain files."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from ibl_mtm.simulate.simulation import Simulation, simulate
from ibl_mtm.simulate.truth import Truth, open_truth


@dataclass(frozen=True)
class Experiment:
    """A simulated experiment and its sessions, read without ONE."""

    root: Path
    settings: Simulation
    eids: list[str]

    def alf(self, eid: str) -> Path:
        row = pd.read_parquet(self.root / "sessions.pqt").loc[eid]
        session = self.root / row.lab / "Subjects" / row.subject / str(row.date)
        return session / f"{row.number:03d}" / "alf"

    def sortings(self, eid: str) -> list[Path]:
        """Folders of the newest sorting of each insertion."""
        folders = {p.parent for p in self.alf(eid).glob("probe*/**/spikes.times.npy")}
        return sorted(f for f in folders if not any(f.glob("#*")))

    def spikes(self, eid: str) -> dict[str, NDArray[np.float64]]:
        """Spike times of every cluster, by uuid."""
        spikes = {}
        for folder in self.sortings(eid):
            times = np.load(folder / "spikes.times.npy")
            clusters = np.load(folder / "spikes.clusters.npy")
            uuids = pd.read_csv(folder / "clusters.uuids.csv")["uuids"]
            spikes |= {uuid: times[clusters == k] for k, uuid in enumerate(uuids)}
        return spikes

    def trials(self, eid: str) -> pd.DataFrame:
        return pd.read_parquet(self.alf(eid) / "_ibl_trials.table.pqt")

    def truth(self, eid: str) -> Truth:
        return open_truth(self.root, eid)


@pytest.fixture(scope="session")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    """Four sessions, so that every layout occurs."""
    root = tmp_path_factory.mktemp("experiment") / "ONE"
    settings = Simulation(sessions=4, units=72, trials=150, seed=3)
    return Experiment(root, settings, simulate(root, settings))
