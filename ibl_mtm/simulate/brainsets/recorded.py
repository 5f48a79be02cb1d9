"""One simulated session of the brain-wide map: what was recorded, before it becomes files.

recorded = record(plan)
recorded.units, recorded.times, recorded.unit          # every unit and its spikes
recorded.truth                                         # the rates that they were drawn from
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ibl_mtm.brainsets.layout import RATE, Regime
from ibl_mtm.simulate.behaviour import draw_camera, draw_licks, draw_wheel
from ibl_mtm.simulate.brain import FAST, make_brain
from ibl_mtm.simulate.brainsets.placed_units import Probe, apart, place_units
from ibl_mtm.simulate.brainsets.signals import (
    Grid,
    Signals,
    lick_signals,
    paw_signals,
    wheel_signals,
    whisker_signals,
)
from ibl_mtm.simulate.brainsets.windows import encode
from ibl_mtm.simulate.latents import draw_drift, draw_fast, task_variables
from ibl_mtm.simulate.population import draw_population
from ibl_mtm.simulate.spikes import draw_spikes
from ibl_mtm.simulate.trials import Pacing, Trials, draw_trials
from ibl_mtm.simulate.truth import GRID, Truth, to_fixed_point, unit_dtype

__all__ = ["Plan", "Recorded", "Series", "record"]

AFTER = 40.0  # s of recording after the last trial
_PAUSE = 45.0  # s in the middle of a session in which nothing happens
_ELSEWHERE = 0.6  # of all units, outside of the repeated site
_WHEEL_LATER = 10  # samples by which the wheel's series begins after the others


@dataclass(frozen=True)
class Plan:
    """Everything about a session but its data.

    Parameters
    ----------
    eid, subject, lab, date, regime
        Its names; the date as YYYY-MM-DD.
    probes
        In the order of the file.
    n_units, n_trials, good, pacing
        Its size, the share of good units, and how long trials last.
    missing
        Behaviours that its files do not have.
    gap
        Whether the whisker camera lost frames for 12 s.
    late
        Whether the cameras start after the first trials.
    generator
        Gives the random generator for a named purpose.
    """

    eid: str
    subject: str
    lab: str
    date: str
    regime: Regime
    probes: tuple[Probe, ...]
    n_units: int
    n_trials: int
    good: float
    pacing: Pacing
    missing: tuple[str, ...]
    gap: bool
    late: bool
    generator: Callable[[str], np.random.Generator]


@dataclass(frozen=True)
class Series:
    """Signals on the 50 Hz grid and the intervals in which they were recorded, shape (n, 2)."""

    domain: NDArray[np.float64]
    signals: Signals


@dataclass(frozen=True)
class Recorded:
    """A session as recorded: all units, whatever a build keeps of them.

    Attributes
    ----------
    plan
        Its names.
    trials
        In the benchmark's codes.
    series
        Behaviour by name, without what is missing.
    units
        One row per unit.
    times, unit
        Spikes in order of time (s), and their rows in `units`.
    truth
        The rates, of the units in this order.
    """

    plan: Plan
    trials: pd.DataFrame
    series: dict[str, Series]
    units: pd.DataFrame
    times: NDArray[np.float64]
    unit: NDArray[np.int64]
    truth: Truth


def record(plan: Plan) -> Recorded:
    """Simulate a session."""
    trials = _with_pause(draw_trials(plan.generator("trials"), plan.n_trials, plan.pacing))
    duration = float(np.ceil(trials.end + AFTER))
    latents, series = _behaviour(plan, trials, duration)

    rng = plan.generator("population")
    drawn = draw_population(rng, plan.n_units, plan.good, elsewhere=_ELSEWHERE)
    population, part = apart(drawn)
    placed = place_units(plan.generator("units"), population, part, plan.probes)
    brain = make_brain()
    records = np.zeros(plan.n_units, unit_dtype(latents.shape[1]))
    records["uuid"] = placed.table["id"]
    records["population"] = population.population[placed.order]
    records["baseline"] = population.baseline[placed.order]
    records["weights"] = to_fixed_point(population.weights[placed.order], "weights")
    truth = Truth(latents, brain.lags, records, brain.padding)
    times, unit = map(
        np.concatenate, zip(*draw_spikes(plan.generator("spikes"), truth), strict=True)
    )
    count = np.bincount(unit, minlength=plan.n_units)
    units = placed.table.assign(
        spike_count=count,
        firing_rate=count / duration,
        presence_ratio=np.minimum(1.0, count / 100),
    )
    return Recorded(plan, _encoded(plan, trials), series, units, times, unit, truth)


def _with_pause(trials: Trials) -> Trials:
    """The trials, those of the second half later."""
    later = np.arange(len(trials.table)) >= len(trials.table) // 2
    shift = _PAUSE * later
    table = trials.table.copy()
    for name in map(str, table):
        if name.endswith("_times") or name.startswith("intervals_"):
            table[name] += shift
    extra = {n: v + shift if n.endswith("_times") else v for n, v in trials.extra.items()}
    return replace(trials, table=table, extra=extra)


def _encoded(plan: Plan, trials: Trials) -> pd.DataFrame:
    """Trials in the benchmark's codes; of some the onset of movement was not found, or wrong."""
    rng = plan.generator("onsets")
    onset = trials.table["firstMovement_times"].to_numpy(np.float64).copy()
    early, lost = np.array_split(rng.permutation(len(onset))[: max(2, len(onset) // 20)], 2)
    onset[early] = trials.table["stimOn_times"].to_numpy()[early] - 0.08
    onset[lost] = np.nan
    return encode(trials.table, trials.extra, onset)


def _behaviour(
    plan: Plan, trials: Trials, duration: float
) -> tuple[NDArray[np.int16], dict[str, Series]]:
    """The latents that units follow, and the behaviours."""
    padding = make_brain().padding
    n_steps = round(duration / GRID)
    rng = plan.generator("latents")
    fast, drift = draw_fast(rng, n_steps + 2 * padding), draw_drift(rng, n_steps + 2 * padding)
    within = fast[padding : padding + n_steps]
    rng = plan.generator("behaviour")
    wheel = draw_wheel(rng, trials, within[:, 1], duration)
    licks = draw_licks(rng, trials, duration)
    camera = draw_camera(rng, within[:, 0], wheel, licks, duration)
    times = (np.arange(-padding, n_steps + padding, dtype=np.float64) + 0.5) * GRID
    task = task_variables(trials, np.pad(wheel.speed, padding), times)
    latents = to_fixed_point(np.concatenate([fast, drift, task], axis=1), "latents")

    start = rng.uniform(3.0, 5.0)
    if plan.late:
        start = float(trials.table["intervals_1"].iloc[1])
    grid = Grid(start, int((duration - 5.0 - start) * RATE))
    later = Grid(start + _WHEEL_LATER / RATE, grid.n - _WHEEL_LATER)
    shared = [FAST.index(f"shared_{k}") for k in (1, 2)]
    whole = np.array([[grid.start, grid.end]])
    series = {
        "whisker": Series(whole, whisker_signals(camera, grid)),
        "paws": Series(whole, paw_signals(rng, within[:, shared], wheel, grid)),
        "licks": Series(whole, lick_signals(licks, grid)),
        "wheel": Series(np.array([[later.start, later.end]]), wheel_signals(wheel, later)),
    }
    if plan.gap:
        series["whisker"] = _with_gap(series["whisker"], grid)
    return latents, {name: s for name, s in series.items() if name not in plan.missing}


def _with_gap(series: Series, grid: Grid) -> Series:
    """The series without 12 s in its first half: a domain of two intervals, NaN between."""
    first, last = grid.n // 3, grid.n // 3 + round(12 * RATE)
    lost = (np.arange(grid.n) >= first) & (np.arange(grid.n) < last)
    edges = grid.start + np.array([0, first, last, grid.n]) / RATE
    signals = {name: np.where(lost, np.nan, values) for name, values in series.signals.items()}
    return Series(edges.reshape(2, 2), signals)
