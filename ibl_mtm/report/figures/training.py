"""Figures of training: scores against optimizer steps.

curves = pd.concat([run.curves().assign(run=run.name) for run in runs])
training_curves(curves).savefig("training.svg")
"""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ibl_mtm.report.figures.style import (
    CONDITION_COLORS,
    MUTED,
    RULE,
    Look,
    legend_below,
    panel,
    robust_range,
    run_colors,
    run_entries,
    short_name,
    styled,
)

__all__ = ["SCHEMES", "training_curves", "validation_by_scheme"]

SCHEMES = {
    "val/neuron": "neuron",
    "val/causal": "causal",
    "val/intra_region": "intra-region",
    "val/inter_region": "inter-region",
}
"""The scalars of validation and the masking schemes they belong to."""

_MOST_STEPS = 400  # of a curve: more add bytes, not shape


@styled
def training_curves(curves: pd.DataFrame) -> Figure:
    """Bits per spike in training and validation against optimizer steps.

    Parameters
    ----------
    curves
        Columns run, tag, step, value; the tags train/bits_per_spike and val/bits_per_spike.
    """
    figure, axes = panel("Training and validation", 3.6, 2.9)
    runs = run_colors(curves)
    shown = curves[curves["tag"].isin(["train/bits_per_spike", "val/bits_per_spike"])]
    for run, color in runs.items():
        own = shown[shown["run"] == run]
        _curve(axes, own[own["tag"].str.startswith("train")], color, lw=0.8, alpha=0.45)
        _curve(axes, own[own["tag"].str.startswith("val")], color, lw=1.8)
    _finish_curves(axes, shown["value"])
    entries = run_entries(runs, marker="", ls="-")
    entries += [
        ("training", {"color": MUTED, "lw": 0.8}),
        ("validation", {"color": MUTED, "lw": 1.8}),
    ]
    legend_below(figure, entries)
    return figure


@styled
def validation_by_scheme(curves: pd.DataFrame, run: str) -> Figure:
    """Bits per spike in validation under each masking scheme.

    Parameters
    ----------
    curves
        Columns run, tag, step, value; the tags of `SCHEMES`.
    run
        The run to show.
    """
    figure, axes = panel(f"Validation of {short_name(run)}", 3.6, 2.9)
    shown = curves[(curves["run"] == run) & curves["tag"].isin(list(SCHEMES))]
    entries: list[tuple[str, Look]] = []
    for (tag, scheme), color in zip(SCHEMES.items(), CONDITION_COLORS, strict=True):
        own = shown[shown["tag"] == tag]
        if len(own):
            _curve(axes, own, color)
            entries.append((scheme, {"color": color}))
    _finish_curves(axes, shown["value"])
    legend_below(figure, entries)
    return figure


def _curve(axes: Axes, own: pd.DataFrame, color: str, lw: float = 1.4, alpha: float = 1.0) -> None:
    picked = np.linspace(0, len(own) - 1, min(len(own), _MOST_STEPS)).astype(int)
    thinned = own.iloc[picked]
    axes.plot(thinned["step"], thinned["value"], color=color, lw=lw, alpha=alpha)


def _finish_curves(axes: Axes, values: pd.Series) -> None:
    low, high = robust_range(values.dropna().to_numpy())
    axes.set_ylim(low, high)
    axes.axhline(0, color=MUTED, lw=0.7, zorder=0)
    axes.grid(axis="y", color=RULE, lw=0.6)
    axes.set_axisbelow(True)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.set_xlabel("optimizer step")
    axes.set_ylabel("bits/spike")
