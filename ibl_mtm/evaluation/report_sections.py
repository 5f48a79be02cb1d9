"""What a report shows, section by section: which figures, of which units, trials and sessions.

    for section in make_sections(runs):
        for plot in section.plots:
            save_figure(plot.figure, plot.folder / plot.name)

A further section is a function from runs to `Section` in `_SECTIONS`. Units and trials are chosen
by rules that each section states, never by hand, and few of them however many sessions there are.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import xarray as xr
from matplotlib.figure import Figure

from ibl_mtm.evaluation import activity_figures, figures, region_figures, training_figures
from ibl_mtm.evaluation.behaviour import BEHAVIOURS
from ibl_mtm.evaluation.figure_style import short_name
from ibl_mtm.evaluation.figures import TASKS
from ibl_mtm.evaluation.representative import (
    ENOUGH_SPIKES,
    MOST_RASTER_UNITS,
    busiest_units,
    median_session,
    representative_units,
)
from ibl_mtm.evaluation.scored_run import ScoredRun, region_table

__all__ = ["Plot", "Section", "all_units", "make_sections"]

_MOST_TRACES = 4


@dataclass(frozen=True)
class Plot:
    """A figure, its name, and the folder that its files belong in."""

    name: str
    figure: Figure
    folder: Path


@dataclass(frozen=True)
class Section:
    """A heading, what to know before looking, the figures, and what is missing and why."""

    title: str
    text: str
    plots: list[Plot] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    columns: int = 2


def make_sections(runs: Sequence[ScoredRun]) -> list[Section]:
    """All sections of a report, in order; figures of several runs belong to the first."""
    sections = [section(runs) for section in _SECTIONS]
    return [section for section in sections if section.plots or section.missing]


def all_units(runs: Sequence[ScoredRun]) -> pd.DataFrame:
    """The units' scores of all runs in one table, with a column run that knows their order."""
    return _joined(runs, [run.units for run in runs])


def _scores(runs: Sequence[ScoredRun]) -> Section:
    section = Section(
        "At a glance",
        "How much better than its mean rate a model predicts the spikes of a unit that it is not "
        "shown, of its own future, from its own region or from the other regions; and what "
        "behaviour its rates tell.",
    )
    activity, behaviour = [
        _joined(runs, [pd.DataFrame(rows(run)) for run in runs])
        for rows in (_activity_rows, _behaviour_rows)
    ]
    if len(activity):
        section.plots.append(Plot("activity", figures.task_scores(activity), _folder(runs[0])))
    else:
        section.missing.append("No activity task was scored.")
    if len(behaviour):
        figure = figures.behaviour_scores(behaviour)
        section.plots.append(Plot("behaviour", figure, _folder(runs[0])))
    else:
        section.missing.append("No behaviour was decoded.")
    return section


def _activity_rows(run: ScoredRun) -> list[dict[str, object]]:
    keys = ("bits_per_spike", "sem", "oracle")
    return [
        {"task": task, **{key: _float(run.task(task).get(key)) for key in keys}}
        for task in TASKS
        if run.task(task)
    ]


def _behaviour_rows(run: ScoredRun) -> list[dict[str, object]]:
    return [
        {
            "behaviour": f"{behaviour.title}, {behaviour.unit}",
            "score": _float(scores[behaviour.score]),
            "raw_spikes": _float((scores.get("raw_spikes") or {}).get(behaviour.score)),
            "chance": _float((scores.get("chance") or {}).get(behaviour.score)),
        }
        for task, behaviour in BEHAVIOURS.items()
        if (scores := run.task(task))
    ]


def _float(value: float | None) -> float:
    return float("nan") if value is None else float(value)


def _units(runs: Sequence[ScoredRun]) -> Section:
    section = Section(
        "Single units",
        "Each dot is a unit (at most 300 at even quantiles); above them the median and the "
        "quartiles. Units beyond the axis lie on its border.",
    )
    units = all_units(runs)
    for task in _scored_tasks(units, section):
        plot = Plot(f"units_{task}", figures.unit_scores(units, task), _folder(runs[0]))
        section.plots.append(plot)
    return section


def _pairs(runs: Sequence[ScoredRun]) -> Section:
    first, others = runs[0], runs[1:]
    section = Section("Run against run", "The same unit under two runs: above the diagonal, "
                      f"{first.name} predicts it better.", columns=4)  # fmt: skip
    units = all_units(runs)
    for number, other in enumerate(others, start=1):
        pair = units[units["run"].isin([first.name, other.name])]
        both = pair[pair["bits_per_spike"].notna()].groupby("task")["run"].nunique()
        for task in TASKS:
            if both.get(task, 0) == 2:
                figure = figures.paired_scores(units, task, first.name, other.name)
                name = f"pairs_{task}" + (f"_{number}" if len(others) > 1 else "")
                section.plots.append(Plot(name, figure, _folder(first)))
    return section


def _regions(runs: Sequence[ScoredRun]) -> Section:
    section = Section(
        "Regions",
        "Regions with at least 5 scored units (their number in brackets), in the order and colours "
        "of the Allen atlas; of more than 40 the ones with most units.",
    )
    units, regions = all_units(runs), region_table(runs)
    for task in _scored_tasks(units, section):
        own = units[(units["task"] == task) & units["bits_per_spike"].notna()]
        if own[own["run"] == own["run"].iloc[0]]["region"].value_counts().max() < 5:
            section.missing.append(f"{TASKS[task]}: no region has 5 scored units.")
            continue
        figure = region_figures.region_scores(units, task, regions)
        section.plots.append(Plot(f"regions_{task}", figure, _folder(runs[0])))
    return section


def _responses(runs: Sequence[ScoredRun]) -> Section:
    section = Section(
        "Responses of single units",
        "Mean over test trials of the observed spikes (thin, smoothed by a Gaussian of 30 ms) and "
        "of the co-smoothing prediction (bold): the best, the median and the worst unit of "
        f"{runs[0].name} among those with at least {ENOUGH_SPIKES} spikes in the scored trials. "
        "The number is bits/spike.",
        columns=3,
    )
    for run in runs:
        for rank, (eid, unit, _) in representative_units(runs[0].units).items():
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
            figure = activity_figures.psth(session, unit, title)
            section.plots.append(Plot(f"psth_{rank}", figure, _folder(run)))
    return section


def _trials(runs: Sequence[ScoredRun]) -> Section:
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
    trial = first["example"].values[0]
    section.plots.append(
        Plot(
            "trial_spikes",
            activity_figures.spike_raster(first, 0, f"Spikes, trial {trial}", units),
            _folder(runs[0]),
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
        section.plots.append(Plot("trial_rates", figure, _folder(run)))
    return section


def _matrix(runs: Sequence[ScoredRun]) -> Section:
    section = Section(
        "Which regions predict which",
        "Bits/spike of a region's units, predicted from one other region alone; on the diagonal, "
        "each unit from the others of its region.",
    )
    regions = region_table(runs)
    for run in runs:
        pairs = pd.DataFrame(run.scores.get("region_pairs") or [])
        if len(pairs):
            within = run.units[run.units["task"] == "intra_region"]
            by_session = within.groupby(["eid", "region"], as_index=False)["bits_per_spike"].mean()
            own = by_session.groupby("region", as_index=False)["bits_per_spike"].mean()
            own = own.assign(source=own["region"], target=own["region"])
            table = pd.concat([pairs, own]).dropna(subset="bits_per_spike")
            figure = region_figures.region_matrix(table, regions, short_name(run.name, 34))
            section.plots.append(Plot("region_matrix", figure, _folder(run)))
    return section


def _traces(runs: Sequence[ScoredRun]) -> Section:
    section = Section(
        "Decoded behaviour",
        "Test trials of the session whose R² is the median, decoded by ridge regression.",
        columns=1,
    )
    traces = {task: b for task, b in BEHAVIOURS.items() if b.classes is None}
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
        section.plots.append(Plot(f"trace_{task}", figure, _folder(runs[0])))
    if not section.plots:
        section.missing.append("No trace of behaviour was decoded.")
    return section


def _training(runs: Sequence[ScoredRun]) -> Section:
    section = Section(
        "Training",
        "Scores while the models were trained; validation by masking scheme, for each run.",
        columns=3,
    )
    curves = _joined(runs, [run.curves() for run in runs])
    if curves["tag"].isin(["train/bits_per_spike", "val/bits_per_spike"]).any():
        plot = Plot("training", training_figures.training_curves(curves), _folder(runs[0]))
        section.plots.append(plot)
    else:
        section.missing.append("No training curves: the run folder has no logs.")
    for run in runs:
        own = curves[curves["run"] == run.name]
        if own["tag"].isin(list(training_figures.SCHEMES)).any():
            figure = training_figures.validation_by_scheme(curves, run.name)
            section.plots.append(Plot("validation_by_scheme", figure, _folder(run)))
    return section


_SECTIONS = (
    _scores,
    _units,
    _pairs,
    _regions,
    _matrix,
    _responses,
    _trials,
    _traces,
    _training,
)


def _joined(runs: Sequence[ScoredRun], tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    named = [table.assign(run=run.name) for run, table in zip(runs, tables, strict=True)]
    filled = [table for table in named if len(table)] or named
    joined = pd.concat(filled, ignore_index=True)
    # A run keeps its colour where another one has nothing to show.
    return joined.assign(run=pd.Categorical(joined["run"], [run.name for run in runs]))


def _folder(run: ScoredRun) -> Path:
    return run.path / "figures"


def _same_trials(a: xr.Dataset, b: xr.Dataset) -> bool:
    """Whether two runs stored the same trials of the same units."""
    return a["example"].equals(b["example"]) and a["unit"].equals(b["unit"])


def _scored_tasks(units: pd.DataFrame, section: Section) -> list[str]:
    """The tasks that some unit has a score in; the others are noted as missing."""
    scored = set(units.loc[units["bits_per_spike"].notna(), "task"])
    section.missing.extend(
        f"{title} was not scored." for task, title in TASKS.items() if task not in scored
    )
    return [task for task in TASKS if task in scored]
