"""Sections of a report that show predictions themselves: of units, of a trial, of behaviour.

section = unit_responses(runs)

Units and trials are chosen by rules that each section states.
"""

from collections.abc import Sequence

import numpy as np
import xarray as xr

from ibl_mtm.evaluation.scored_run import ScoredRun, decoded
from ibl_mtm.report.figures import activity as activity_figures
from ibl_mtm.report.figures.style import short_name
from ibl_mtm.report.figures.task_scores import confusions
from ibl_mtm.report.parts import Plot, Section, figures_of
from ibl_mtm.report.representative import (
    ENOUGH_SPIKES,
    MOST_RASTER_UNITS,
    busiest_units,
    median_session,
    representative_units,
)

__all__ = ["decoded_classes", "decoded_traces", "single_trial", "unit_responses"]

_MOST_TRACES = 4


def unit_responses(runs: Sequence[ScoredRun]) -> Section:
    """Mean responses of the best, the median and the worst unit, observed and predicted."""
    section = Section(
        "Responses of single units",
        "Mean over test trials of the observed spikes (thin, smoothed by a Gaussian of 30 ms) and "
        "of the co-smoothing prediction (bold): the best, the median and the worst unit of "
        f"{runs[0].name} among those with at least {ENOUGH_SPIKES} spikes in the scored trials. "
        "The number is bits/spike.",
        columns=3,
    )
    chosen = representative_units(runs[0].units)
    stored = {
        rank: [s for s in (run.session(eid) for run in runs) if s is not None and unit in s["unit"]]
        for rank, (eid, unit, _) in chosen.items()
    }
    for run in runs:
        for rank, (eid, unit, _) in chosen.items():
            session = run.session(eid)
            if session is None or unit not in session["unit"]:
                section.missing.append(f"{run.name} stored no prediction of the {rank} unit.")
                continue
            own = run.units
            own = own[(own["eid"] == eid) & (own["unit"] == unit) & (own["task"] == "co_smoothing")]
            score = f"{own['bits_per_spike'].iloc[0]:.2f}" if len(own) else "not scored"
            score = score.replace("-", "−")
            region = str(session["region"].sel(unit=unit).item())
            title = f"{rank.capitalize()}, {region}: {score}"
            if len(runs) > 1:
                title += f" · {short_name(run.name)}"
            highest = _highest_response(stored[rank], unit) if len(runs) > 1 else None
            figure = activity_figures.psth(session, unit, title, highest)
            section.plots.append(Plot(f"psth_{rank}", figure, figures_of(run)))
    if section.plots:
        shown = "; ".join(
            f"{rank}: {unit} of session {eid}" for rank, (eid, unit, _) in chosen.items()
        )
        section.missing.append(f"Shown are the units {shown}.")
    return section


def _highest_response(sessions: Sequence[xr.Dataset], unit: str) -> float:
    """What the axis of a unit must reach in every run."""
    curves = [
        s.sel(unit=unit)[f"psth_{kind}"] for s in sessions for kind in ("observed", "predicted")
    ]
    return 1.05 * max(float(curve.max()) for curve in curves) or 1.0


def single_trial(runs: Sequence[ScoredRun]) -> Section:
    """Spikes of one trial, and the rates that each run expects."""
    section = Section(
        "A single trial",
        "The first stored test trial of the session whose co-smoothing score is the median: its "
        f"spikes, and the rates that each run expects. Of more than {MOST_RASTER_UNITS} units the "
        "ones with most spikes are shown, sorted by region.",
        columns=3,
    )
    eid = median_session(runs[0], "co_smoothing", "bits_per_spike")
    first = runs[0].session(eid) if eid else None
    if eid is None or first is None:
        section.missing.append(f"{runs[0].name} stored no single trials.")
        return section
    units = busiest_units(runs[0].units, eid, first)
    section.missing.append(f"Shown is session {eid}.")
    trial = first["example"].values[0]
    section.plots.append(
        Plot(
            "trial_spikes",
            activity_figures.spike_raster(first, 0, f"Spikes, trial {trial}", units),
            figures_of(runs[0]),
        )
    )
    rates = first["example_rates"].sel(unit=units).isel(example=0)
    highest = float(rates.quantile(0.995))
    for run in runs:
        session = run.session(eid)
        if session is None or not _same_trials(session, first):
            section.missing.append(f"{run.name} stored no rates of this trial.")
            continue
        figure = activity_figures.rate_raster(
            session, 0, f"Rates, {short_name(run.name)}", units, highest
        )
        section.plots.append(Plot("trial_rates", figure, figures_of(run)))
    return section


def decoded_traces(runs: Sequence[ScoredRun]) -> Section:
    """Traces of behaviour in a few trials, observed and decoded."""
    section = Section(
        "Decoded behaviour",
        "Test trials of the session whose R² is the median, decoded by ridge regression.",
        columns=1,
    )
    traces = {task: b for task, b in decoded(runs).items() if b.classes is None}
    for task, behaviour in traces.items():
        eid = median_session(runs[0], task, "r2")
        sessions = {run.name: run.session(eid) for run in runs} if eid else {}
        traced = {
            name: session.isel(example=slice(_MOST_TRACES))
            for name, session in sessions.items()
            if session is not None and f"{task}_predicted" in session
        }
        first = traced.get(runs[0].name)
        if first is None:
            continue
        predicted = {
            run.name: traced[run.name][f"{task}_predicted"]
            if run.name in traced and _same_trials(traced[run.name], first)
            else None
            for run in runs
        }
        figure = activity_figures.decoded_trace(
            first[f"{task}_observed"], predicted, behaviour.title, behaviour.measured
        )
        section.plots.append(Plot(f"trace_{task}", figure, figures_of(runs[0])))
    if not section.plots:
        section.missing.append("No trace of behaviour was decoded.")
    return section


def decoded_classes(runs: Sequence[ScoredRun]) -> Section:
    """Of classes of three or more, which is taken for which."""
    section = Section(
        "Decoded classes",
        "Share of the test trials of each class that were decoded as each, all sessions together. "
        "Shown for classes of three or more that the sessions have in common.",
        columns=3,
    )
    for task, behaviour in decoded(runs).items():
        for run in runs:
            scores = run.task(task)
            if "confusion" in scores:
                title = f"{behaviour.title}, {short_name(run.name)}"
                counts = np.array(scores["confusion"])
                figure = confusions(counts, scores["levels"], title)
                section.plots.append(Plot(f"classes_{task}", figure, figures_of(run)))
    return section


def _same_trials(a: xr.Dataset, b: xr.Dataset) -> bool:
    """Whether two runs stored the same trials of the same units."""
    return a["example"].equals(b["example"]) and a["unit"].equals(b["unit"])
