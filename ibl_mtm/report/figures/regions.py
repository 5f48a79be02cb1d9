"""Figures of regions of the brain: how well each is predicted, and which predict which.

    region_scores(units, "co_smoothing", cache.regions).savefig("regions.svg")

Each function takes tables and returns a `matplotlib.figure.Figure`.
"""

import numpy as np
import pandas as pd
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from ibl_mtm.report.figures.style import (
    INK,
    MUTED,
    SIGNED_SHADES,
    finish_rows,
    legend_below,
    panel,
    run_colors,
    run_entries,
    spread_around_zero,
    styled,
    write_cells,
)
from ibl_mtm.sessions.titles import UNIT_TITLES

__all__ = ["region_matrix", "region_scores"]

_MOST_REGIONS = 40
_MOST_WRITTEN = 10  # regions of a matrix whose numbers have room
_FEWEST_UNITS = 5  # that make a region's quartiles worth showing


@styled
def region_scores(units: pd.DataFrame, task: str, regions: pd.DataFrame) -> Figure:
    """Median and quartiles of the units of each region, in the order of the Allen atlas.

    Parameters
    ----------
    units
        As for `ibl_mtm.report.figures.task_scores.unit_scores`, with column region besides. Regions
        with fewer than 5 scored units are left out; of more than 40 the ones with most units are
        shown.
    task
        One of `UNIT_TITLES`.
    regions
        Indexed by region in the order to show, with column color (#rrggbb).
    """
    own = units[(units["task"] == task) & units["bits_per_spike"].notna()]
    runs = run_colors(own)
    sizes = own[own["run"] == next(iter(runs))]["region"].value_counts()
    largest = set(sizes[sizes >= _FEWEST_UNITS].index[:_MOST_REGIONS])
    names = [region for region in regions.index if region in largest]
    figure, axes = panel(UNIT_TITLES[task], height=1.1 + 0.24 * max(len(names), 2))
    scores = own[own["region"].isin(names)].groupby(["run", "region"], observed=True)[
        "bits_per_spike"
    ]
    quartiles = scores.quantile(np.array([0.25, 0.5, 0.75])).unstack()
    offsets = spread_around_zero(len(runs), 0.5)
    for (run, color), offset in zip(runs.items(), offsets, strict=False):
        q1, median, q3 = quartiles.reindex([(run, name) for name in names]).to_numpy().T
        at = np.arange(len(names)) + offset
        axes.hlines(at, q1, q3, color=color, lw=1.4, alpha=0.6)
        axes.plot(median, at, "o", color=color, ms=4.5)
    for row, name in enumerate(names):
        axes.plot(-0.025, row, "s", color=regions.loc[name, "color"], ms=6.5, mec=MUTED, mew=0.4,
                  transform=axes.get_yaxis_transform(), clip_on=False)  # fmt: skip
    finish_rows(axes, [f"{name} ({sizes[name]})" for name in names])
    axes.tick_params(axis="y", pad=13)
    axes.set_xlabel("bits/spike, median and quartiles over units")
    legend_below(figure, run_entries(runs))
    return figure


@styled
def region_matrix(
    scores: pd.DataFrame, regions: pd.DataFrame, title: str, highest: float | None = None
) -> Figure:
    """Which regions predict which: bits/spike of the rows' units from the columns' regions.

    Parameters
    ----------
    scores
        One row per pair with columns source, target, bits_per_spike; a region from itself is its
        units, each left out, from the others of the region.
    regions
        Indexed by region in the order to show; of more than 40 the ones in most pairs are shown.
    title
        Of the figure.
    highest
        Score of the darkest shade, so that several runs compare; by default the highest here.
    """
    table = scores.pivot(index="target", columns="source", values="bits_per_spike")
    pairs = scores["target"].value_counts()
    largest = set(pairs.index[:_MOST_REGIONS]) | (set(scores["source"]) - set(pairs.index))
    names = [region for region in regions.index if region in largest]
    table = table.reindex(index=names, columns=names)
    figure, axes = panel(title, 4.6, 4.4)
    values = table.to_numpy(dtype=np.float64)
    highest = max(float(np.nanmax(values)) if highest is None else highest, 0.05)
    image = axes.imshow(
        values, cmap=SIGNED_SHADES, norm=Normalize(0, highest), interpolation="none"
    )
    if len(names) <= _MOST_WRITTEN:
        write_cells(axes, values, digits=2, strong=0.6 * highest, size=7.5)
    size = 7.5 if len(names) <= 20 else 4.5
    axes.set_xticks(range(len(names)), names, rotation=90, color=INK, fontsize=size)
    axes.set_yticks(range(len(names)), names, color=INK, fontsize=size)
    for at, name in enumerate(names):
        color = regions.loc[name, "color"]
        look = {"color": color, "ms": 5, "mec": MUTED, "mew": 0.3, "clip_on": False}
        axes.plot(-0.018, at, "s", transform=axes.get_yaxis_transform(), **look)
        axes.plot(at, -0.018, "s", transform=axes.get_xaxis_transform(), **look)
    axes.tick_params(length=0, pad=9)
    axes.spines[:].set_visible(False)
    axes.set_xlabel("predicted from")
    axes.set_ylabel("units of")
    below = "min" if np.nanmin(values) < 0 else "neither"
    bar = figure.colorbar(image, ax=axes, fraction=0.04, pad=0.03, extend=below)
    bar.set_label("bits/spike")
    bar.outline.set_visible(False)
    return figure
