"""Figures of results: scores of every row as dots, or as curves over numbers of animals.

draw(results)      # a matplotlib Figure
"""

from textwrap import fill
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ibl_mtm.experiments.read import TASK_TITLES, tasks_of
from ibl_mtm.experiments.results import Results
from ibl_mtm.report.figures.style import (
    INK,
    MUTED,
    RULE,
    RUN_COLORS,
    legend_below,
    run_entries,
    short_name,
    styled,
)

__all__ = ["draw"]


@styled
def draw(results: Results) -> Figure:
    """The figure of a kind of results: curves for scaling, else a dot for each row."""
    tasks = tasks_of(results.lines)
    columns = len(tasks) if len(tasks) <= 4 else 3
    n_lines = -(-len(tasks) // columns)
    curves = results.kind == "scaling"
    height = 2.1 if curves else 0.9 + 0.28 * len(results.rows)
    figure = Figure(
        figsize=(
            0.4 + (2.0 if columns > 3 else 2.3) * columns + (0 if curves else 1.6),
            0.5 + height * n_lines,
        ),
        layout="constrained",
    )
    FigureCanvasAgg(figure)
    figure.suptitle(results.title, x=0.01, ha="left", fontsize=9.5, fontweight="bold", color=INK)
    axes = figure.subplots(n_lines, columns, squeeze=False, sharey=False)
    for place, task in zip(axes.flat, tasks, strict=False):
        title, unit = TASK_TITLES[task]
        place.set_title(title)
        (_curve if curves else _dots)(place, results, task)
        (place.set_ylabel if curves else place.set_xlabel)(unit)
        if not curves and place not in axes[:, 0]:
            place.set_yticklabels([])
    for place in axes.flat[len(tasks) :]:
        place.set_axis_off()
    if curves:
        series = dict.fromkeys(row.series for row in results.rows.values())
        colors = dict(zip(series, RUN_COLORS, strict=False))
        if len(colors) > 1:
            legend_below(figure, run_entries(colors, ls="-"))
    return figure


def _dots(axes: Axes, results: Results, task: str) -> None:
    """Mean and standard error of each row, and a small dot for each session and run."""
    names = list(results.rows)
    lines = results.lines[results.lines["task"] == task]
    summary = results.summary[results.summary["task"] == task].set_index("row")
    for at, name in enumerate(names):
        own = lines.loc[lines["row"] == name, "score"]
        axes.plot(own, np.full(len(own), at), "o", ms=2.6, color=RULE, zorder=1)
        if name in summary.index:
            scored: Any = summary.loc[name]
            color = RUN_COLORS[0] if scored["best"] else MUTED
            error = None if pd.isna(scored["sem"]) else scored["sem"]
            look: dict[str, Any] = {"fmt": "o", "ms": 5, "color": color, "lw": 1.2, "zorder": 2}
            axes.errorbar(scored["mean"], at, xerr=error, **look)
    axes.set_yticks(
        range(len(names)),
        [fill(short_name(name, 60), 26, break_on_hyphens=False) for name in names],
    )
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.grid(axis="x", color=RULE, lw=0.5)
    axes.set_axisbelow(True)


def _curve(axes: Axes, results: Results, task: str) -> None:
    """Mean over numbers of animals with a band of one standard error; thin: each session."""
    counts = sorted({row.animals for row in results.rows.values()})
    at = {count: place for place, count in enumerate(counts)}
    series = list(dict.fromkeys(row.series for row in results.rows.values()))
    lines = results.lines[results.lines["task"] == task]
    summary = results.summary[results.summary["task"] == task].set_index("row")
    for name, color in zip(series, RUN_COLORS, strict=False):
        own = {row: info for row, info in results.rows.items() if info.series == name}
        rows = sorted((row for row in own if row in summary.index), key=lambda r: own[r].animals)
        x = [at[own[row].animals] for row in rows]
        mean = summary.loc[rows, "mean"].to_numpy(float)
        sem = pd.to_numeric(summary.loc[rows, "sem"]).fillna(0).to_numpy(float)
        by_session = lines[lines["row"].isin(rows)].pivot_table("score", "row", "eid")
        for _, scores in by_session.reindex(rows).items():
            axes.plot(x, scores, color=color, lw=0.6, alpha=0.45)
        axes.fill_between(x, mean - sem, mean + sem, color=color, alpha=0.18, lw=0)
        axes.plot(x, mean, "o-", color=color, ms=4)
    axes.set_xticks(range(len(counts)), [str(count) for count in counts])
    axes.set_xlabel("animals pre-trained on")
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.grid(axis="y", color=RULE, lw=0.5)
    axes.set_axisbelow(True)
