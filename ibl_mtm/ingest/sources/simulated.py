"""Sessions of a simulated experiment, which is simulated where it is not there yet."""

from pathlib import Path

from ibl_mtm.config.catalog import SimulatedSource
from ibl_mtm.config.yaml_settings import validate_settings
from ibl_mtm.simulate.simulation import Simulation, plan_session, simulate

__all__ = ["simulate_sessions"]


def simulate_sessions(source: SimulatedSource, root: Path, *, dry_run: bool) -> list[str]:
    """Eids of the experiment's sessions; their files are in `root` then, unless `dry_run`."""
    values = source.model_dump(exclude={"kind", "path"})
    simulation = validate_settings(values, Simulation, "source")
    if not dry_run:
        simulate(root, simulation)
    plans = [plan_session(simulation, index) for index in range(simulation.sessions)]
    return [plan.entry.eid for plan in plans]
