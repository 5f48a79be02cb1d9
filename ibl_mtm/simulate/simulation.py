"""Simulate a repeated-site experiment into a folder, as the IBL would have recorded it.

    eids = simulate(Path("ONE"), Simulation(sessions=4, units=80, trials=240, seed=0))
    one = One(cache_dir="ONE", mode="local")

The same settings give the same bytes. Sessions differ in layout: one probe or two, sorted by
pykilosort or iblsorter, one with a dated revision beside an older sorting.
"""

import datetime
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from pydantic import Field, model_validator

from ibl_mtm.config.yaml_settings import Settings
from ibl_mtm.simulate.alf import InsertionEntry, SessionEntry, draw_uuids, write_one_tables
from ibl_mtm.simulate.marked_folder import experiment_in, in_turn
from ibl_mtm.simulate.session import SessionPlan, write_session
from ibl_mtm.simulate.trials import FULL_PACING, SMALL_PACING

__all__ = ["Simulation", "plan_session", "simulate"]

GENERATOR = 1  # raised whenever the same settings no longer give the same experiment
# Each purpose has random numbers of its own, so that changing one leaves the others as they were.
PURPOSES = (
    "sizes",
    "ids",
    "datasets",
    "trials",
    "latents",
    "behaviour",
    "population",
    "insertions",
    "probe00",
    "probe01",
)
FIRST_DAY = datetime.date(2024, 9, 2)
LABS = ("simlab_a", "simlab_b")
FULL_UNITS, FULL_TRIALS = 900, 600


class Layout(NamedTuple):
    """How a session was sorted: each insertion's sorter, and the date of a revision."""

    sorters: tuple[str, ...]
    revision: str | None = None


LAYOUTS = (
    Layout(("pykilosort",)),
    Layout(("iblsorter", "pykilosort")),
    Layout(("pykilosort",), revision="2024-05-06"),
    Layout(("iblsorter", "iblsorter")),
)


class Simulation(Settings):
    """Settings of a simulated experiment.

    Parameters
    ----------
    sessions
        Number of sessions, each of another animal.
    units
        Clusters in a session, give or take 10 %; at full scale in an insertion, and 900 unless
        told otherwise.
    trials
        Trials in a session; at full scale 600 unless told otherwise.
    seed
        Draws the animals. The brain that they share is the same for every seed.
    scale
        ``small`` has short trials and mostly good units; ``full`` is as large as a recording:
        over an hour, about 15 million spikes an insertion, mostly poorly isolated units.
    """

    sessions: int = Field(default=4, ge=1)
    units: int = Field(default=80, ge=10, le=50_000)
    trials: int = Field(default=240, ge=1)
    seed: int = Field(default=0, ge=0)
    scale: Literal["small", "full"] = "small"

    @model_validator(mode="before")
    @classmethod
    def _default_to_full_size(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("scale") == "full":
            return {"units": FULL_UNITS, "trials": FULL_TRIALS} | values
        return values


def simulate(
    root: Path, simulation: Simulation, progress: Callable[[str], None] | None = None
) -> list[str]:
    """Write an experiment, with the tables that ONE reads and the true rates beside it.

    Parameters
    ----------
    root
        A folder that is new, empty, or holds this very experiment: finished (nothing is done) or
        interrupted (it is written again).
    simulation
        What to simulate.
    progress
        Called with a line of text as each session begins.

    Returns
    -------
    The eids, in order of session.

    Raises
    ------
    UserError
        If the folder holds anything else, or cannot be made.
    """
    root = Path(root)
    plans = [plan_session(simulation, index) for index in range(simulation.sessions)]
    eids = [plan.entry.eid for plan in plans]
    about = {"generator": GENERATOR, **simulation.model_dump()}
    with experiment_in(root, about) as to_write:
        if to_write:
            _write(root, plans, progress)
    return eids


def _write(
    root: Path, plans: Sequence[SessionPlan], progress: Callable[[str], None] | None
) -> None:
    for plan in in_turn(plans, progress, lambda p: f"{p.entry.subject}, {p.n_units} units"):
        write_session(root, plan)
    write_one_tables(root, [p.entry for p in plans], [p.generator("datasets") for p in plans])


def plan_session(simulation: Simulation, index: int) -> SessionPlan:
    """Lay out a session: its layout depends on its index alone, its ids on seed and index."""

    def generator(purpose: str) -> np.random.Generator:
        return np.random.default_rng([simulation.seed, index, PURPOSES.index(purpose)])

    layout = LAYOUTS[index % len(LAYOUTS)]
    rng = generator("ids")
    eid, *pids = draw_uuids(rng, 1 + len(layout.sorters))
    insertions = tuple(
        InsertionEntry(pid, f"probe{number:02d}", str(rng.integers(10**10, 2 * 10**10)))
        for number, pid in enumerate(pids)
    )
    entry = SessionEntry(
        eid=eid,
        lab=LABS[index % len(LABS)],
        subject=f"SIM{simulation.seed}_{index + 1:03d}",
        date=FIRST_DAY + datetime.timedelta(days=index),
        number=1,
        insertions=insertions,
    )
    full = simulation.scale == "full"
    return SessionPlan(
        entry=entry,
        sorters=layout.sorters,
        revision=layout.revision,
        n_units=_count_units(simulation, index) * (len(insertions) if full else 1),
        n_trials=simulation.trials,
        good=0.2 if full else 0.75,
        pacing=FULL_PACING if full else SMALL_PACING,
        generator=generator,
    )


def _count_units(simulation: Simulation, index: int) -> int:
    """A number within 10 % of what was asked for, another one for every session if possible."""
    spread = round(0.1 * simulation.units)
    rng = np.random.default_rng([simulation.seed, 0, PURPOSES.index("sizes")])
    offsets = rng.permutation(2 * spread + 1)
    return simulation.units - spread + int(offsets[index % len(offsets)])
