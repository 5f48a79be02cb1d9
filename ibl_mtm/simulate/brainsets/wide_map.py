"""Simulate a brain-wide map into a folder, in the files that BrainWideBench publishes.

    eids = simulate_map(Path("bwb"), WideMap(sessions=6, units=80, trials=180, seed=0))
    file_of(Path("bwb"), "all_units", "eval", eids[0])

A third of the sessions is for evaluation, of animals of their own; the true rates lie beside.
The same settings give the same arrays.
"""

import datetime
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field, model_validator

from ibl_mtm.brainsets.layout import BUILDS, Regime
from ibl_mtm.config.yaml_settings import Settings
from ibl_mtm.simulate.alf import draw_uuids
from ibl_mtm.simulate.brainsets.bench_files import write_file
from ibl_mtm.simulate.brainsets.placed_units import Probe
from ibl_mtm.simulate.brainsets.recorded import Plan, record
from ibl_mtm.simulate.marked_folder import experiment_in, in_turn
from ibl_mtm.simulate.trials import Pacing
from ibl_mtm.simulate.truth import write_truth

__all__ = ["WideMap", "plan_recording", "simulate_map"]

GENERATOR = 2  # raised whenever the same settings no longer give the same experiment
PURPOSES = (
    "ids",
    "trials",
    "onsets",
    "latents",
    "behaviour",
    "population",
    "units",
    "spikes",
    "amplitudes",
)
FIRST_DAY = datetime.date(2025, 9, 1)
LABS = ("simlab_a", "simlab_b", "simlab_c")
# 700 and more of them are selected, as in the largest sessions of the map; an hour of trials.
FULL_UNITS, FULL_TRIALS = 1000, 500
_GOOD = {"small": 0.75, "full": 0.85}
# Longer pauses than in the other simulation: chunks of 300 s are dealt out in fives.
_PACING = {
    "small": Pacing(pause=(2.0, 4.6), response_window=12.0),
    "full": Pacing(pause=(1.0, 3.6), response_window=60.0),
}
_QUALITIES = ("qc_neural_raw", "qc_neural_spikesorting", "qc_neural_alignment", "qc_neural")


class WideMap(Settings):
    """Settings of a simulated brain-wide map.

    Parameters
    ----------
    sessions
        Number of sessions; a third of them, at least one, for evaluation.
    units
        Units in a session, before any is selected; 1000 at full scale unless told otherwise.
    trials
        Trials in a session; 500 at full scale unless told otherwise.
    seed
        Draws the animals. The brain that they share is the same for every seed.
    scale
        ``small``: 20 minutes; ``full``: an hour, 700 units or more of each session selected, which
        no probe of an evaluated session fails.
    """

    sessions: int = Field(default=6, ge=2)
    units: int = Field(default=80, ge=20, le=50_000)
    trials: int = Field(default=180, ge=20)
    seed: int = Field(default=0, ge=0)
    scale: Literal["small", "full"] = "small"

    @model_validator(mode="before")
    @classmethod
    def _default_to_full_size(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("scale") == "full":
            return {"units": FULL_UNITS, "trials": FULL_TRIALS} | values
        return values

    @property
    def n_eval(self) -> int:
        """Sessions for evaluation."""
        return max(1, self.sessions // 3)


def simulate_map(
    root: Path, settings: WideMap, progress: Callable[[str], None] | None = None
) -> list[str]:
    """Write a brain-wide map, both builds and both regimes, with the true rates beside it.

    Parameters
    ----------
    root
        A folder that is new, empty, or holds this very experiment: finished (nothing is done) or
        interrupted (it is written again).
    settings
        What to simulate.
    progress
        Called with a line of text as each session begins.

    Returns
    -------
    The eids, those for evaluation first.

    Raises
    ------
    UserError
        If the folder holds anything else, or cannot be made.
    """
    root = Path(root)
    plans = [plan_recording(settings, index) for index in range(settings.sessions)]
    about = {"generator": GENERATOR, "layout": "brainsets", **settings.model_dump()}
    with experiment_in(root, about) as to_write:
        for plan in in_turn(
            plans if to_write else [], progress, lambda p: f"{p.subject}, {p.n_units} units"
        ):
            recorded = record(plan)
            for build in BUILDS:
                write_file(root, recorded, build)
            write_truth(root, plan.eid, recorded.truth)
    return [plan.eid for plan in plans]


def plan_recording(settings: WideMap, index: int) -> Plan:
    """Lay out a session: what is irregular about it depends on its index alone."""

    def generator(purpose: str) -> np.random.Generator:
        return np.random.default_rng([settings.seed, 5000 + index, PURPOSES.index(purpose)])

    regime: Regime = "eval" if index < settings.n_eval else "pretrain"
    of_regime = index if regime == "eval" else index - settings.n_eval
    rng = generator("ids")
    eid, *pids = draw_uuids(rng, 3)
    full = settings.scale == "full"
    return Plan(
        eid=eid,
        subject=_subject(settings, regime, of_regime),
        lab=LABS[index % len(LABS)],
        date=(FIRST_DAY + datetime.timedelta(days=index)).isoformat(),
        regime=regime,
        probes=_probes(regime, of_regime, pids, full),
        n_units=settings.units - (index % 3),
        n_trials=settings.trials - (index % 4),
        good=_GOOD[settings.scale],
        pacing=_PACING[settings.scale],
        missing={1: ("licks",), 3: ("whisker",), 5: ("paws", "whisker")}.get(of_regime, ())
        if regime == "pretrain"
        else (),
        gap=regime == "pretrain" and of_regime == 2,
        late=regime == "eval" and of_regime == 1,
        generator=generator,
    )


def _subject(settings: WideMap, regime: Regime, number: int) -> str:
    """Name of the animal: the third session of a regime is of the same animal as the second."""
    animal = number - (number >= 2)
    return f"WIDE{settings.seed}_{'E' if regime == 'eval' else 'P'}{animal + 1:02d}"


def _probes(regime: Regime, number: int, pids: list[str], full: bool) -> tuple[Probe, ...]:
    """Two probes, or in every fourth session one; some of them of poor quality.

    At full scale none is whose units the evaluation would lose.
    """
    second = "FAIL" if regime == "eval" and number == 0 else ("PASS", "WARNING")[number % 2]
    if number == 2 and regime == "pretrain":
        second = "FAIL"
    if full and regime == "eval":
        second = "PASS"
    worst = {"probe00": "PASS", "probe01": second}
    names = ("probe00",) if number % 4 == 3 else ("probe00", "probe01")
    return tuple(
        Probe(
            pid,
            name,
            {q: "PASS" if q == "qc_neural_alignment" else worst[name] for q in _QUALITIES},
        )
        for pid, name in zip(pids, names, strict=False)
    )
