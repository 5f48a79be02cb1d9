"""Sections of a report about models with behaviour inside: decoding, encoding, what adds what.

section = encoded(runs)
"""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from ibl_mtm.evaluation.behaviour.behaviours import BEHAVIOURS, Behaviour
from ibl_mtm.evaluation.scored_run import ScoredRun, decoded, region_table
from ibl_mtm.report.figures import behaviour_inside as figures
from ibl_mtm.report.figures.regions import region_scores
from ibl_mtm.report.figures.style import short_name
from ibl_mtm.report.parts import Plot, Section, as_number, figures_of, join_runs

__all__ = ["decoded_by_models", "encoded", "modality_title"]

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
        "trials), read out linearly from its rates (open), and decoded from raw spikes. Bars: what "
        "the latents of simulated sessions tell.",
    )
    behaviours = decoded(runs)
    table = join_runs(runs, [pd.DataFrame(_answered(run, behaviours)) for run in runs])
    if len(table):
        plot = Plot("decoded_inside", figures.decoded_inside(table), figures_of(runs[0]))
        section.plots.append(plot)
    return section


def _answered(run: ScoredRun, behaviours: Mapping[str, Behaviour]) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for task, behaviour in behaviours.items():
        scores, key = run.task(task), behaviour.score
        if own := scores.get("by_model"):
            low, high = (own.get("intervals") or {}).get(key, (None, None))
            rows.append(
                {
                    "behaviour": f"{behaviour.title}, {behaviour.unit}",
                    "by_model": as_number(own[key]),
                    "low": as_number(low),
                    "high": as_number(high),
                    "readout": as_number(scores[key]),
                    "raw_spikes": as_number((scores.get("raw_spikes") or {}).get(key)),
                    "oracle": as_number((scores.get("oracle") or {}).get(key)),
                }
            )
    return rows


def encoded(runs: Sequence[ScoredRun]) -> Section:
    """Spikes from behaviour alone, by region, and what each modality adds to the others."""
    section = Section(
        "Spikes from behaviour",
        "Bits/spike of all units from behaviour alone; and what is lost where one variable of it "
        "is not shown. What two variables both tell is in neither's share; below zero (red) is "
        "noise. Regions with at least 5 units, their number in brackets.",
    )
    units = join_runs(runs, [run.units[run.units["task"] == "encoding"] for run in runs])
    own = units[units["bits_per_spike"].notna()]
    if not len(own):
        return section
    regions = region_table(runs)
    if own[own["run"] == own["run"].iloc[0]]["region"].value_counts().max() >= _FEWEST_UNITS:
        figure = region_scores(own, "encoding", regions)
        section.plots.append(Plot("regions_encoding", figure, figures_of(runs[0])))
    gains = [run.task("encoding").get("adds") or {} for run in runs]
    table = join_runs(runs, [pd.DataFrame(_totals(adds)) for adds in gains])
    if not len(table):
        section.missing.append("What each modality adds was not scored.")
        return section
    figure = figures.modality_gains(table)
    section.plots.append(Plot("modality_gains", figure, figures_of(runs[0])))
    shown = [(run, _by_region(adds)) for run, adds in zip(runs, gains, strict=True)]
    shown = [(run, table) for run, table in shown if len(table)]
    highest = max((float(table["bits_per_spike"].max()) for _, table in shown), default=0.0)
    for run, table in shown:
        title = f"Added, {short_name(run.name, 34)}"
        figure = figures.region_gains(table, regions, title, highest)
        section.plots.append(Plot("region_gains", figure, figures_of(run)))
    return section


def _totals(adds: Mapping[str, Any]) -> list[dict[str, object]]:
    return [
        {
            "modality": modality_title(name),
            "bits_per_spike": found["bits_per_spike"],
            "sem": as_number(found.get("sem")),
        }
        for name, found in adds.items()
    ]


def _by_region(adds: Mapping[str, Any]) -> pd.DataFrame:
    rows = [
        {"region": region, "modality": modality_title(name), **scores}
        for name, found in adds.items()
        for region, scores in found["regions"].items()
    ]
    table = pd.DataFrame(rows, columns=["region", "modality", "bits_per_spike", "n_units"])
    return table[table.groupby("region")["n_units"].transform("max") >= _FEWEST_UNITS]
