"""Figures of scores: tasks, units, regions, and runs against each other.

    units = pd.concat({run.name: run.units for run in runs}, names=["run"]).reset_index("run")
    unit_scores(units, "co_smoothing").savefig("co_smoothing.svg")

Each function takes a table and returns a `matplotlib.figure.Figure`; colours stand for runs in
the order in which the table names them.
"""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, Normalize, to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from ibl_mtm.evaluation.figure_style import (
    INK,
    MUTED,
    RULE,
    RUN_COLORS,
    legend_below,
    panel,
    robust_range,
    run_colors,
    run_entries,
    short_name,
    styled,
)

__all__ = [
    "TASKS",
    "behaviour_scores",
    "paired_scores",
    "region_matrix",
    "region_scores",
    "task_scores",
    "unit_scores",
]

TASKS = {
    "co_smoothing": "Co-smoothing",
    "forward_prediction": "Forward prediction",
    "intra_region": "Intra-region",
    "inter_region": "Inter-region",
}
"""The activity tasks and what to call them."""

# Transparent where nothing is predicted, so that it lies on any ground.
_PREDICTED = LinearSegmentedColormap.from_list(
    "predicted", [(*to_rgb("#1f5fa8"), 0.0), (*to_rgb("#1f5fa8"), 0.85), (*to_rgb("#0b2f5c"), 1.0)]
)
_ON_DARK = "#f4f7fa"
_MOST_DOTS = 300  # of a run in one panel: more add ink and bytes, not shape
_MOST_PAIRS = 800
_MOST_REGIONS = 40
_MOST_WRITTEN = 10  # regions of a matrix whose numbers have room
_FEWEST_UNITS = 5  # that make a region's quartiles worth showing


@styled
def task_scores(scores: pd.DataFrame) -> Figure:
    """Scores of all runs in the activity tasks, beside what the true rates score.

    Parameters
    ----------
    scores
        One row per run and task with columns run, task, bits_per_spike, sem, oracle (NaN where
        unknown).
    """
    runs, tasks = run_colors(scores), [task for task in TASKS if task in set(scores["task"])]
    figure, axes = panel("Activity", height=_height(len(tasks), len(runs)))
    offsets = _spread_around_zero(len(runs), 0.6)
    for (run, color), offset in zip(runs.items(), offsets, strict=False):
        own = scores[scores["run"] == run].set_index("task").reindex(tasks)
        axes.errorbar(
            own["bits_per_spike"],
            np.arange(len(tasks)) + offset,
            xerr=own["sem"].fillna(0),
            fmt="o",
            color=color,
            markersize=5.5,
            elinewidth=1.4,
        )
    oracle = scores.groupby("task")["oracle"].mean().reindex(tasks)
    known = oracle.notna().to_numpy()
    at = np.flatnonzero(known)
    axes.vlines(oracle[known], at - 0.4, at + 0.4, color=INK, lw=1.6)
    _finish_rows(axes, [TASKS[task] for task in tasks])
    axes.set_xlabel("bits/spike, mean over sessions ± standard error")
    entries = run_entries(runs)
    if known.any():
        entries.append(("true rates", {"color": INK, "marker": "|", "ls": "", "ms": 9, "mew": 1.6}))
    legend_below(figure, entries)
    return figure


@styled
def behaviour_scores(scores: pd.DataFrame) -> Figure:
    """How well behaviour is decoded from each run's rates, and from the raw spikes.

    Parameters
    ----------
    scores
        One row per run and behaviour with columns run, behaviour (what to call it), score,
        raw_spikes and chance (NaN where there is none), all on one scale that ends at 1.
    """
    runs, names = run_colors(scores), list(scores["behaviour"].unique())
    figure, axes = panel("Behaviour", height=_height(len(names), len(runs) + 1))
    offsets = _spread_around_zero(len(runs) + 1, 0.6)
    for (run, color), offset in zip(runs.items(), offsets, strict=False):
        own = scores[scores["run"] == run].set_index("behaviour").reindex(names)
        axes.plot(own["score"], np.arange(len(names)) + offset, "o", color=color, ms=5.5)
    references = scores.groupby("behaviour")[["raw_spikes", "chance"]].mean().reindex(names)
    at = np.arange(len(names))
    axes.plot(references["raw_spikes"], at + offsets[-1], "D", color=MUTED, ms=4.5)
    known = references["chance"].notna().to_numpy()
    axes.vlines(references["chance"][known], at[known] - 0.4, at[known] + 0.4, color=MUTED, lw=1.4)
    _finish_rows(axes, names)
    axes.set_xlim(min(0.0, axes.get_xlim()[0]), 1)
    axes.set_xlabel("score on test trials")
    entries = run_entries(runs)
    entries.append(("raw spikes", {"color": MUTED, "marker": "D", "ls": "", "ms": 4.5}))
    if known.any():
        entries.append(("chance", {"color": MUTED, "marker": "|", "ls": "", "ms": 9, "mew": 1.4}))
    legend_below(figure, entries)
    return figure


@styled
def unit_scores(units: pd.DataFrame, task: str) -> Figure:
    """How the scores of single units are distributed: dots at even quantiles, median, quartiles.

    Parameters
    ----------
    units
        One row per run, unit and task with columns run, task, bits_per_spike, and oracle where
        the true rates are known.
    task
        One of `TASKS`.
    """
    own = units[(units["task"] == task) & units["bits_per_spike"].notna()]
    runs = run_colors(own)
    rows = [(run, own.loc[own["run"] == run, "bits_per_spike"].to_numpy()) for run in runs]
    colors = list(runs.values())
    if "oracle" in own and own["oracle"].notna().any():
        first = own[(own["run"] == next(iter(runs))) & own["oracle"].notna()]
        rows.append(("true rates", first["oracle"].to_numpy()))
        colors.append(MUTED)
    figure, axes = panel(TASKS[task], height=0.75 + 0.55 * len(rows))
    low, high = robust_range(np.concatenate([scores for _, scores in rows]))
    for row, ((_, scores), color) in enumerate(zip(rows, colors, strict=False)):
        shown = np.quantile(scores, _even(min(len(scores), _MOST_DOTS)))
        # Multiples of the golden ratio scatter dots evenly, and alike in every drawing.
        jitter = (np.arange(len(shown)) * 0.618034 % 1 - 0.5) * 0.42
        axes.scatter(
            shown.clip(low, high), row + 0.08 + jitter, s=7, color=color, alpha=0.35, linewidths=0
        )
        q1, median, q3 = np.quantile(scores, [0.25, 0.5, 0.75]).clip(low, high)
        axes.hlines(row - 0.32, q1, q3, color=color, lw=3)
        axes.plot(median, row - 0.32, "o", color=color, ms=5.5, mec=INK, mew=0.8)
    axes.set_yticks(range(len(rows)), [short_name(name) for name, _ in rows], color=INK)
    axes.set_ylim(len(rows) - 0.5, -0.6)
    axes.set_xlim(low, high)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.axvline(0, color=MUTED, lw=0.7, zorder=0)
    axes.set_xlabel("bits/spike of a unit")
    return figure


@styled
def paired_scores(units: pd.DataFrame, task: str, a: str, b: str) -> Figure:
    """The same units under two runs, each a dot; above the diagonal `a` is better.

    Parameters
    ----------
    units
        As for `unit_scores`, with columns eid and unit besides.
    task
        One of `TASKS`.
    a, b
        Names of the two runs.
    """
    pairs = _pairs(units, task, a, b)
    low, high = robust_range(pairs.to_numpy().ravel())
    figure, axes = panel(TASKS[task], 2.6, 2.9)
    # The same place in every figure, so that a row of them lines up.
    figure.set_layout_engine("none")
    axes.set_position((0.22, 0.16, 0.75, 0.75 * 2.6 / 2.9))
    axes.axhline(0, color=RULE, lw=0.6, zorder=0)
    axes.axvline(0, color=RULE, lw=0.6, zorder=0)
    axes.plot([low, high], [low, high], color=MUTED, lw=0.8)
    shown = pairs.iloc[np.linspace(0, len(pairs) - 1, min(len(pairs), _MOST_PAIRS)).astype(int)]
    axes.scatter(
        shown[b].clip(low, high),
        shown[a].clip(low, high),
        s=8,
        color=RUN_COLORS[0],
        alpha=0.4,
        linewidths=0,
    )
    axes.set(xlim=(low, high), ylim=(low, high), aspect="equal")
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.set_xlabel(f"{short_name(b)}, bits/spike")
    axes.set_ylabel(f"{short_name(a)}, bits/spike")
    better = (pairs[a] > pairs[b]).mean()
    axes.set_title(TASKS[task], pad=18)
    axes.text(
        0, 1.02, f"better in {better:.0%} of {len(pairs)} units", color=MUTED, fontsize=7.5,
        transform=axes.transAxes, va="bottom",
    )  # fmt: skip
    return figure


@styled
def region_scores(units: pd.DataFrame, task: str, regions: pd.DataFrame) -> Figure:
    """Median and quartiles of the units of each region, in the order of the Allen atlas.

    Parameters
    ----------
    units
        As for `unit_scores`, with column region besides. Regions with fewer than 5 scored units
        are left out; of more than 40 the ones with most units are shown.
    task
        One of `TASKS`.
    regions
        Indexed by region in the order to show, with column color (#rrggbb).
    """
    own = units[(units["task"] == task) & units["bits_per_spike"].notna()]
    runs = run_colors(own)
    sizes = own[own["run"] == next(iter(runs))]["region"].value_counts()
    largest = set(sizes[sizes >= _FEWEST_UNITS].index[:_MOST_REGIONS])
    names = [region for region in regions.index if region in largest]
    figure, axes = panel(TASKS[task], height=1.1 + 0.24 * max(len(names), 2))
    scores = own[own["region"].isin(names)].groupby(["run", "region"], observed=True)[
        "bits_per_spike"
    ]
    quartiles = scores.quantile(np.array([0.25, 0.5, 0.75])).unstack()
    offsets = _spread_around_zero(len(runs), 0.5)
    for (run, color), offset in zip(runs.items(), offsets, strict=False):
        q1, median, q3 = quartiles.reindex([(run, name) for name in names]).to_numpy().T
        at = np.arange(len(names)) + offset
        axes.hlines(at, q1, q3, color=color, lw=1.4, alpha=0.6)
        axes.plot(median, at, "o", color=color, ms=4.5)
    for row, name in enumerate(names):
        axes.plot(-0.025, row, "s", color=regions.loc[name, "color"], ms=6.5, mec=MUTED, mew=0.4,
                  transform=axes.get_yaxis_transform(), clip_on=False)  # fmt: skip
    _finish_rows(axes, [f"{name} ({sizes[name]})" for name in names])
    axes.tick_params(axis="y", pad=13)
    axes.set_xlabel("bits/spike, median and quartiles over units")
    legend_below(figure, run_entries(runs))
    return figure


@styled
def region_matrix(scores: pd.DataFrame, regions: pd.DataFrame, title: str) -> Figure:
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
    """
    table = scores.pivot(index="target", columns="source", values="bits_per_spike")
    pairs = scores["target"].value_counts()
    largest = set(pairs.index[:_MOST_REGIONS]) | (set(scores["source"]) - set(pairs.index))
    names = [region for region in regions.index if region in largest]
    table = table.reindex(index=names, columns=names)
    figure, axes = panel(title, 4.6, 4.4)
    values = table.to_numpy(dtype=np.float64)
    highest = max(float(np.nanmax(values)), 0.05)
    image = axes.imshow(values, cmap=_PREDICTED, norm=Normalize(0, highest), interpolation="none")
    if len(names) <= _MOST_WRITTEN:
        for row, column in zip(*np.nonzero(np.isfinite(values)), strict=True):
            value = values[row, column]
            text = f"{value:.2f}".replace("-0.00", "0.00").replace("-", "−")
            axes.text(column, row, text, ha="center", va="center", fontsize=7.5,
                      color=_ON_DARK if value > 0.6 * highest else INK)  # fmt: skip
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
    bar = figure.colorbar(image, ax=axes, fraction=0.04, pad=0.03)
    bar.set_label("bits/spike")
    bar.outline.set_visible(False)
    return figure


def _height(rows: int, dots: int) -> float:
    return 1.1 + rows * (0.24 + 0.14 * dots)


def _finish_rows(axes: Axes, names: list[str]) -> None:
    axes.set_yticks(range(len(names)), names, color=INK)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.axvline(0, color=MUTED, lw=0.7, zorder=0)
    axes.grid(axis="x", color=RULE, lw=0.6)
    axes.set_axisbelow(True)


def _pairs(units: pd.DataFrame, task: str, a: str, b: str) -> pd.DataFrame:
    own = units[(units["task"] == task) & units["run"].isin([a, b])].astype({"run": str})
    table = own.pivot(index=["eid", "unit"], columns="run", values="bits_per_spike")
    return table[[a, b]].dropna()


def _even(n: int) -> NDArray[np.float64]:
    return (np.arange(n) + 0.5) / n


def _spread_around_zero(n: int, width: float) -> NDArray[np.float64]:
    return (_even(n) - 0.5) * width
