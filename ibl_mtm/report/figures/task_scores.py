"""Figures of scores: tasks, behaviour, units, and runs against each other.

    units = pd.concat({run.name: run.units for run in runs}, names=["run"]).reset_index("run")
    unit_scores(units, "co_smoothing").savefig("co_smoothing.svg")

Each function takes a table and returns a `matplotlib.figure.Figure`; colours stand for runs in
the order in which the table names them.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from ibl_mtm.report.figures.style import (
    INK,
    MUTED,
    RULE,
    RUN_COLORS,
    SHADES,
    draw_means,
    finish_rows,
    legend_below,
    panel,
    robust_range,
    run_colors,
    run_entries,
    short_name,
    spread_around_zero,
    styled,
    write_cells,
)
from ibl_mtm.sessions.titles import TASK_TITLES

__all__ = [
    "behaviour_scores",
    "confusions",
    "paired_scores",
    "task_scores",
    "unit_scores",
]

_MOST_DOTS = 300  # of a run in one panel: more add ink and bytes, not shape
_MOST_PAIRS = 800
_MOST_WRITTEN = 10  # classes of a matrix whose numbers have room


@styled
def task_scores(scores: pd.DataFrame) -> Figure:
    """Scores of all runs in the activity tasks, beside what the true rates score.

    Parameters
    ----------
    scores
        One row per run and task with columns run, task, bits_per_spike, sem, oracle (NaN where
        unknown).
    """
    runs, tasks = run_colors(scores), [task for task in TASK_TITLES if task in set(scores["task"])]
    figure, axes = panel("Activity", height=_height(len(tasks), len(runs)))
    draw_means(axes, scores, "task", tasks, 0.6)
    oracle = scores.groupby("task")["oracle"].mean().reindex(tasks)
    known = oracle.notna().to_numpy()
    at = np.flatnonzero(known)
    axes.vlines(oracle[known], at - 0.4, at + 0.4, color=INK, lw=1.6)
    finish_rows(axes, [TASK_TITLES[task] for task in tasks])
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
    offsets = spread_around_zero(len(runs) + 1, 0.6)
    for (run, color), offset in zip(runs.items(), offsets, strict=False):
        own = scores[scores["run"] == run].set_index("behaviour").reindex(names)
        axes.plot(own["score"], np.arange(len(names)) + offset, "o", color=color, ms=5.5)
    references = scores.groupby("behaviour")[["raw_spikes", "chance"]].mean().reindex(names)
    at = np.arange(len(names))
    axes.plot(references["raw_spikes"], at + offsets[-1], "D", color=MUTED, ms=4.5)
    known = references["chance"].notna().to_numpy()
    axes.vlines(references["chance"][known], at[known] - 0.4, at[known] + 0.4, color=MUTED, lw=1.4)
    finish_rows(axes, names)
    axes.set_xlim(min(0.0, axes.get_xlim()[0]), 1)
    axes.set_xlabel("score on test trials")
    entries = run_entries(runs)
    entries.append(("raw spikes", {"color": MUTED, "marker": "D", "ls": "", "ms": 4.5}))
    if known.any():
        entries.append(("chance", {"color": MUTED, "marker": "|", "ls": "", "ms": 9, "mew": 1.4}))
    legend_below(figure, entries)
    return figure


@styled
def confusions(counts: NDArray[np.int64], levels: Sequence[str], title: str) -> Figure:
    """As which class the test trials of each were decoded.

    Parameters
    ----------
    counts : ndarray (K, K)
        Trials of each class (row) that were decoded as each (column).
    levels
        Names of the classes.
    title
        Of the figure.
    """
    figure, axes = panel(title, 3.4, 3.3)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap=SHADES, norm=Normalize(0, 1), interpolation="none")
    if len(levels) <= _MOST_WRITTEN:
        write_cells(axes, shares, digits=2, strong=0.6, size=7.5)
    names = [short_name(level) for level in levels]
    axes.set_xticks(range(len(names)), names, rotation=90 if len(names) > 5 else 0, color=INK)
    axes.set_yticks(range(len(names)), [f"{n} ({k:,})" for n, k in zip(names, counts.sum(axis=1),
                    strict=True)], color=INK)  # fmt: skip
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_xlabel("decoded as")
    axes.set_ylabel("class (test trials)")
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
        One of `TASK_TITLES`.
    """
    own = units[(units["task"] == task) & units["bits_per_spike"].notna()]
    runs = run_colors(own)
    rows = [(run, own.loc[own["run"] == run, "bits_per_spike"].to_numpy()) for run in runs]
    colors = list(runs.values())
    if "oracle" in own and own["oracle"].notna().any():
        known = own[own["oracle"].notna()]
        first = known[known["run"] == next(iter(run_colors(known)))]
        rows.append(("true rates", first["oracle"].to_numpy()))
        colors.append(MUTED)
    figure, axes = panel(TASK_TITLES[task], height=0.75 + 0.55 * len(rows))
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
        One of `TASK_TITLES`.
    a, b
        Names of the two runs.
    """
    pairs = _pairs(units, task, a, b)
    low, high = robust_range(pairs.to_numpy().ravel())
    figure, axes = panel(TASK_TITLES[task], 2.6, 2.9)
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
    axes.set_title(TASK_TITLES[task], pad=18)
    axes.text(
        0, 1.02, f"better in {better:.0%} of {len(pairs)} units", color=MUTED, fontsize=7.5,
        transform=axes.transAxes, va="bottom",
    )  # fmt: skip
    return figure


def _height(rows: int, dots: int) -> float:
    return 1.1 + rows * (0.24 + 0.14 * dots)


def _pairs(units: pd.DataFrame, task: str, a: str, b: str) -> pd.DataFrame:
    own = units[(units["task"] == task) & units["run"].isin([a, b])].astype({"run": str})
    table = own.pivot(index=["eid", "unit"], columns="run", values="bits_per_spike")
    return table[[a, b]].dropna()


def _even(n: int) -> NDArray[np.float64]:
    return (np.arange(n) + 0.5) / n
