"""One simulated session: what it is called, what is recorded, and all of its files.

    write_session(root, plan_session(simulation, index=0))

A session depends on the seed, its index and the settings, and on no other session.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ibl_mtm.simulate.alf import SessionEntry, draw_uuids, write_table
from ibl_mtm.simulate.behaviour import draw_camera, draw_licks, draw_wheel
from ibl_mtm.simulate.brain import make_brain
from ibl_mtm.simulate.latents import draw_drift, draw_fast, task_variables
from ibl_mtm.simulate.population import draw_population
from ibl_mtm.simulate.probe import choose_channels, draw_amplitudes, place_channels
from ibl_mtm.simulate.sorting import Clusters, write_sortings
from ibl_mtm.simulate.trials import Pacing, Trials, draw_trials
from ibl_mtm.simulate.truth import GRID, Truth, to_fixed_point, unit_dtype, write_truth

__all__ = ["SessionPlan", "write_session"]

AFTER = 60.0  # s of recording after the last trial


@dataclass(frozen=True)
class SessionPlan:
    """Everything about a session but its data.

    Parameters
    ----------
    entry
        Its names and ids.
    sorters
        Collection of each insertion's sorting, such as ``pykilosort``.
    revision
        Date of a newer sorting beside an older one, or None where there is only one sorting.
    n_units, n_trials
        Its size.
    good
        Fraction of units that pass all quality criteria.
    pacing
        How long its trials last.
    generator
        Gives the random generator for a named purpose.
    """

    entry: SessionEntry
    sorters: tuple[str, ...]
    revision: str | None
    n_units: int
    n_trials: int
    good: float
    pacing: Pacing
    generator: Callable[[str], np.random.Generator]


def write_session(root: Path, plan: SessionPlan) -> None:
    """Simulate a session and write its files and its true rates.

    Memory holds its latents and behaviours and one block of spikes, never all spikes.
    """
    alf = plan.entry.folder(root) / "alf"
    alf.mkdir(parents=True, exist_ok=True)
    trials = draw_trials(plan.generator("trials"), plan.n_trials, plan.pacing)
    duration = float(np.ceil(trials.end + AFTER))
    latents = _write_behaviour(alf, plan, trials, duration)

    population = draw_population(plan.generator("population"), plan.n_units, plan.good)
    rng = plan.generator("insertions")
    on_second = rng.permutation(plan.n_units) < plan.n_units * rng.uniform(0.35, 0.65)
    insertion = (on_second & (len(plan.sorters) == 2)).astype(np.int64)
    order = rng.permutation(plan.n_units)
    order = order[np.argsort(insertion[order], kind="stable")]
    units = np.zeros(plan.n_units, unit_dtype(latents.shape[1]))
    units["uuid"] = draw_uuids(rng, plan.n_units)
    units["population"] = population.population[order]
    units["baseline"] = population.baseline[order]
    units["weights"] = to_fixed_point(population.weights[order], "weights")
    brain = make_brain()
    truth = Truth(latents, brain.lags, units, brain.padding)
    write_truth(root, plan.entry.eid, truth)

    for number, (sorter, entry) in enumerate(zip(plan.sorters, plan.entry.insertions, strict=True)):
        rows = np.flatnonzero(insertion[order] == number)
        rng = plan.generator(entry.name)
        channels = place_channels(rng, side=(-1, 1)[number])
        channel = choose_channels(rng, channels, units["population"][rows])
        passes = population.passes[order][rows]
        clusters = Clusters(
            uuid=units["uuid"][rows],
            channel=channel,
            depth=channels.local[channel, 1],
            amplitude=draw_amplitudes(rng, passes),
            width=population.width[order][rows],
            passes=passes,
        )
        of_probe = replace(truth, units=units[rows])
        collection = alf / entry.name / sorter
        write_sortings(collection, plan.revision, rng, channels, clusters, of_probe)


def _write_behaviour(
    alf: Path, plan: SessionPlan, trials: Trials, duration: float
) -> NDArray[np.int16]:
    """Write trials, wheel, licks and camera; return the latents that units follow."""
    padding = make_brain().padding
    n_steps = round(duration / GRID)
    rng = plan.generator("latents")
    fast, drift = draw_fast(rng, n_steps + 2 * padding), draw_drift(rng, n_steps + 2 * padding)
    within = slice(padding, padding + n_steps)

    rng = plan.generator("behaviour")
    fidget, arousal = fast[within, 1], fast[within, 0]
    wheel = draw_wheel(rng, trials, fidget, duration)
    licks = draw_licks(rng, trials, duration)
    camera = draw_camera(rng, arousal, wheel, licks, duration)

    write_table(alf / "_ibl_trials.table.pqt", trials.table)
    arrays = {f"_ibl_trials.{name}": values for name, values in trials.extra.items()}
    arrays |= {
        "_ibl_wheel.timestamps": wheel.timestamps,
        "_ibl_wheel.position": wheel.position,
        "licks.times": licks,
        "_ibl_leftCamera.times": camera.times,
        "leftCamera.ROIMotionEnergy": camera.motion_energy,
    }
    for name, values in arrays.items():
        np.save(alf / f"{name}.npy", values)

    times = (np.arange(-padding, n_steps + padding, dtype=np.float64) + 0.5) * GRID
    task = task_variables(trials, np.pad(wheel.speed, padding), times)
    return to_fixed_point(np.concatenate([fast, drift, task], axis=1), "latents")
