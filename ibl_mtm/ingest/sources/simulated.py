"""Sessions of a simulated experiment, which is simulated where it is not there yet."""

from collections.abc import Iterator
from contextlib import contextmanager

from ibl_mtm.config.sources import SimulatedSource
from ibl_mtm.config.yaml_settings import validate_settings
from ibl_mtm.ingest.on_disk.folder import Folder
from ibl_mtm.ingest.sources.local import OnDisk
from ibl_mtm.ingest.sources.source import Search
from ibl_mtm.simulate.simulation import Simulation, plan_session, simulate

__all__ = ["find"]


@contextmanager
def find(search: Search) -> Iterator[OnDisk]:
    """Find the experiment's sessions; a dry run simulates nothing."""
    source, root = search.dataset.source, search.folder
    assert isinstance(source, SimulatedSource)
    values = source.model_dump(exclude={"kind", "path"})
    simulation = validate_settings(values, Simulation, "source")
    if not search.dry_run:
        simulate(root, simulation)
    plans = [plan_session(simulation, index) for index in range(simulation.sessions)]
    known = search.listed or [plan.entry.eid for plan in plans]
    yield OnDisk(search.choose(known), Folder(root, root))
