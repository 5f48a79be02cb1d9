"""Sections of a report about models with behaviour inside: decoding, encoding, what adds what.

section = encoded(runs)
"""

from collections.abc import Sequence

import pandas as pd

from ibl_mtm.evaluation.behaviour.behaviours import BEHAVIOURS
from ibl_mtm.evaluation.scored_run import ScoredRun, decoded, region_table
from ibl_mtm.report.figures import behaviour_inside as figures
from ibl_mtm.report.figures.regions import region_scores
from ibl_mtm.report.figures.style import short_name
from ibl_mtm.report.parts import Plot, Section, figures_of

__all__ = ["decoded_by_models", "encoded", "modality_title"]

_NONE = float("nan")
_FEWEST_UNITS = 5  # of a region that is shown


def modality_title(name: str) -> str:
    """What to call a modality, or several of one variable (with a ``+`` between)."""
    titles = [BEHAVIOURS[part].title if part in BEHAVIOURS else part for part in name.split("+")]
    first, *others = titles
    word = first.split()[0] + " "
    return " and ".join([first, *(title.removeprefix(word).lower() for title in others)])


def decoded_by_models(runs: Sequence[ScoredRun]) -> Section:
    """Behaviour that models answer themselves, beside readouts and raw spikes."""
    section = Section(
        "Decoding by the model",
        "Behaviour that a model answers itself from spikes alone (filled, with its interval over "
        "trials), read out linearly from its rates (open), and decoded from raw spikes.",
    )
    rows = []
    for run in runs:
        for task, behaviour in decoded(runs).items():
            scores, key = run.task(task), behaviour.score
            own = scores.get("by_model")
            if not own:
                continue
            low, high = (own.get("intervals") or {}).get(key, (_NONE, _NONE))
            rows.append(
                {
                    "run": run.name,
                    "behaviour": f"{behaviour.title}, {behaviour.unit}",
                    "by_model": own[key],
                    "low": low,
                    "high": high,
                    "readout": scores[key],
                    "raw_spikes": (scores.get("raw_spikes") or {}).get(key, _NONE),
                    "oracle": (scores.get("oracle") or {}).get(key, _NONE),
                }
            )
    if rows:
        table = _of_runs(runs, pd.DataFrame(rows))
        plot = Plot("decoded_inside", figures.decoded_inside(table), figures_of(runs[0]))
        section.plots.append(plot)
    return section


def encoded(runs: Sequence[ScoredRun]) -> Section:
    """Spikes from behaviour alone, by region, and what each modality adds to the others."""
    section = Section(
        "Spikes from behaviour",
        "Bits/spike of all units from behaviour alone; and what is lost where one variable of it "
        "is not shown. What two variables both tell is in neither's share; below zero (red) is "
        "noise. Regions with at least 5 units, their number in brackets.",
    )
    tables = [
        run.units[(run.units["task"] == "encoding") & run.units["bits_per_spike"].notna()].assign(
            run=run.name
        )
        for run in runs
    ]
    if not any(map(len, tables)):
        return section
    regions = region_table(runs)
    own = _of_runs(runs, pd.concat([table for table in tables if len(table)], ignore_index=True))
    if own[own["run"] == own["run"].iloc[0]]["region"].value_counts().max() >= _FEWEST_UNITS:
        figure = region_scores(own, "encoding", regions)
        section.plots.append(Plot("regions_encoding", figure, figures_of(runs[0])))
    gains = [(run, run.task("encoding").get("adds") or {}) for run in runs]
    rows = [
        {
            "run": run.name,
            "modality": modality_title(name),
            "bits_per_spike": found["bits_per_spike"],
            "sem": found.get("sem", _NONE),
        }
        for run, adds in gains
        for name, found in adds.items()
    ]
    if not rows:
        section.missing.append("What each modality adds was not scored.")
        return section
    figure = figures.modality_gains(_of_runs(runs, pd.DataFrame(rows)))
    section.plots.append(Plot("modality_gains", figure, figures_of(runs[0])))
    shown = [(run, table) for run, adds in gains if len(table := _by_region(adds))]
    highest = max((float(table["bits_per_spike"].max()) for _, table in shown), default=0.0)
    for run, table in shown:
        title = f"Added, {short_name(run.name, 34)}"
        figure = figures.region_gains(table, regions, title, highest)
        section.plots.append(Plot("region_gains", figure, figures_of(run)))
    return section


def _by_region(adds: dict[str, dict[str, object]]) -> pd.DataFrame:
    rows = [
        {"region": region, "modality": modality_title(name), **scores}
        for name, found in adds.items()
        for region, scores in found["regions"].items()  # type: ignore[attr-defined]
    ]
    table = pd.DataFrame(rows, columns=["region", "modality", "bits_per_spike", "n_units"])
    return table[table.groupby("region")["n_units"].transform("max") >= _FEWEST_UNITS]


def _of_runs(runs: Sequence[ScoredRun], table: pd.DataFrame) -> pd.DataFrame:
    """A run keeps its colour where another one has nothing to show."""
    return table.assign(run=pd.Categorical(table["run"], [run.name for run in runs]))
