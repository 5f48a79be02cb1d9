"""What a report shows, section by section: which figures, of which units, trials and sessions.

    for section in make_sections(runs):
        for plot in section.plots:
            save_figure(plot.figure, plot.folder / plot.name)

A further section is a function from runs to `Section` in `_SECTIONS`. Units and trials are chosen
by rules that each section states, never by hand, and few of them however many sessions there are.
"""

from collections.abc import Mapping, Sequence
from functools import partial

import pandas as pd

from ibl_mtm.evaluation.behaviour.behaviours import Behaviour
from ibl_mtm.evaluation.scored_run import ScoredRun, decoded, region_table
from ibl_mtm.report.behaviour_sections import decoded_by_models, encoded
from ibl_mtm.report.example_sections import (
    decoded_classes,
    decoded_traces,
    single_trial,
    unit_responses,
)
from ibl_mtm.report.figures import regions as region_figures
from ibl_mtm.report.figures import task_scores as figures
from ibl_mtm.report.figures import training as training_figures
from ibl_mtm.report.figures.style import short_name
from ibl_mtm.report.parts import Plot, Section, as_number, figures_of, join_runs
from ibl_mtm.sessions.titles import TASK_TITLES

__all__ = ["all_units", "make_sections"]


def make_sections(runs: Sequence[ScoredRun]) -> list[Section]:
    """All sections of a report, in order; figures of several runs belong to the first."""
    sections = [section(runs) for section in _SECTIONS]
    return [section for section in sections if section.plots or section.missing]


def all_units(runs: Sequence[ScoredRun]) -> pd.DataFrame:
    """The units' scores of all runs in one table, with a column run that knows their order."""
    return join_runs(runs, [run.units for run in runs])


def _scores(runs: Sequence[ScoredRun]) -> Section:
    section = Section(
        "At a glance",
        "How much better than its mean rate a model predicts the spikes of a unit that it is not "
        "shown, of its own future, from its own region or from the other regions; and what "
        "behaviour its rates tell.",
    )
    activity, behaviour = [
        join_runs(runs, [pd.DataFrame(rows(run)) for run in runs])
        for rows in (_activity_rows, partial(_behaviour_rows, behaviours=decoded(runs)))
    ]
    if len(activity):
        section.plots.append(Plot("activity", figures.task_scores(activity), figures_of(runs[0])))
    else:
        section.missing.append("No activity task was scored.")
    if len(behaviour):
        figure = figures.behaviour_scores(behaviour)
        section.plots.append(Plot("behaviour", figure, figures_of(runs[0])))
    else:
        section.missing.append("No behaviour was decoded.")
    return section


def _activity_rows(run: ScoredRun) -> list[dict[str, object]]:
    keys = ("bits_per_spike", "sem", "oracle")
    return [
        {"task": task, **{key: as_number(run.task(task).get(key)) for key in keys}}
        for task in TASK_TITLES
        if run.task(task)
    ]


def _behaviour_rows(run: ScoredRun, behaviours: Mapping[str, Behaviour]) -> list[dict[str, object]]:
    return [
        {
            "behaviour": f"{behaviour.title}, {behaviour.unit}",
            "score": as_number(scores[behaviour.score]),
            "raw_spikes": as_number((scores.get("raw_spikes") or {}).get(behaviour.score)),
            "chance": as_number((scores.get("chance") or {}).get(behaviour.score)),
        }
        for task, behaviour in behaviours.items()
        if (scores := run.task(task))
    ]


def _units(runs: Sequence[ScoredRun]) -> Section:
    section = Section(
        "Single units",
        "Each dot is a unit (at most 300 at even quantiles); above them the median and the "
        "quartiles. Units beyond the axis lie on its border.",
    )
    units = all_units(runs)
    for task in _scored_tasks(units, section):
        plot = Plot(f"units_{task}", figures.unit_scores(units, task), figures_of(runs[0]))
        section.plots.append(plot)
    return section


def _pairs(runs: Sequence[ScoredRun]) -> Section:
    first, others = runs[0], runs[1:]
    section = Section("Run against run", "The same unit under two runs: above the diagonal, "
                      f"{first.name} predicts it better.", columns=4)  # fmt: skip
    units = all_units(runs)
    for number, other in enumerate(others, start=1):
        scored = units[units["bits_per_spike"].notna()]
        keys = ["eid", "unit", "task"]
        a, b = (scored.loc[scored["run"] == run.name, keys] for run in (first, other))
        shared = set(a.merge(b, on=keys)["task"])
        for task in TASK_TITLES:
            if task in shared:
                figure = figures.paired_scores(units, task, first.name, other.name)
                name = f"pairs_{task}" + (f"_{number}" if len(others) > 1 else "")
                section.plots.append(Plot(name, figure, figures_of(first)))
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
            section.missing.append(f"{TASK_TITLES[task]}: no region has 5 scored units.")
            continue
        figure = region_figures.region_scores(units, task, regions)
        section.plots.append(Plot(f"regions_{task}", figure, figures_of(runs[0])))
    return section


def _matrix(runs: Sequence[ScoredRun]) -> Section:
    section = Section(
        "Which regions predict which",
        "Bits/spike of a region's units, predicted from one other region alone; on the diagonal, "
        "each unit from the others of its region. One scale for all runs; below zero in red.",
    )
    regions, tables = region_table(runs), []
    for run in runs:
        pairs = pd.DataFrame(run.scores.get("region_pairs") or [])
        if len(pairs):
            within = run.units[run.units["task"] == "intra_region"]
            by_session = within.groupby(["eid", "region"], as_index=False)["bits_per_spike"].mean()
            own = by_session.groupby("region", as_index=False)["bits_per_spike"].mean()
            own = own.assign(source=own["region"], target=own["region"])
            table = pd.concat([pairs, own]).dropna(subset="bits_per_spike")
            tables.append((run, table))
    highest = max((float(table["bits_per_spike"].max()) for _, table in tables), default=0.0)
    for run, table in tables:
        title = short_name(run.name, 34)
        figure = region_figures.region_matrix(table, regions, title, highest)
        section.plots.append(Plot("region_matrix", figure, figures_of(run)))
    return section


def _training(runs: Sequence[ScoredRun]) -> Section:
    section = Section(
        "Training",
        "Scores while the models were trained; validation by masking scheme, for each run.",
        columns=3,
    )
    curves = join_runs(runs, [run.curves() for run in runs])
    shown = curves[curves["tag"].isin(["train/bits_per_spike", "val/bits_per_spike"])]
    # The mean over other masking schemes is another score: no axis for both.
    groups: dict[frozenset[str], list[str]] = {}
    for run in runs:
        tags = set(curves.loc[curves["run"] == run.name, "tag"]) & set(training_figures.SCHEMES)
        if (shown["run"] == run.name).any():
            groups.setdefault(frozenset(tags), []).append(run.name)
    for number, names in enumerate(groups.values()):
        figure = training_figures.training_curves(curves[curves["run"].isin(names)])
        name = f"training_{number}" if number else "training"
        section.plots.append(Plot(name, figure, figures_of(runs[0])))
    if len(groups) > 1:
        section.missing.append(
            "Runs that were trained with other masks have curves of their own: their scores are "
            "means over other schemes."
        )
    if not groups:
        section.missing.append("No training curves: the run folder has no logs.")
    for run in runs:
        own = curves[curves["run"] == run.name]
        if own["tag"].isin(list(training_figures.SCHEMES)).any():
            figure = training_figures.validation_by_scheme(curves, run.name)
            section.plots.append(Plot("validation_by_scheme", figure, figures_of(run)))
    return section


_SECTIONS = (
    _scores,
    _units,
    _pairs,
    _regions,
    _matrix,
    decoded_by_models,
    encoded,
    unit_responses,
    single_trial,
    decoded_traces,
    decoded_classes,
    _training,
)


def _scored_tasks(units: pd.DataFrame, section: Section) -> list[str]:
    """The tasks that some unit has a score in; the others are noted as missing."""
    scored = set(units.loc[units["bits_per_spike"].notna(), "task"])
    section.missing.extend(
        f"{title} was not scored." for task, title in TASK_TITLES.items() if task not in scored
    )
    return [task for task in TASK_TITLES if task in scored]
