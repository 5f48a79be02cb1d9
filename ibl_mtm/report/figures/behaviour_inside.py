"""Figures of models that have behaviour inside: what they answer of it, and what it tells of units.

    decoded_inside(scores).savefig("decoded_inside.svg")

Each function takes a table and returns a `matplotlib.figure.Figure`.
"""

import numpy as np
import pandas as pd
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from ibl_mtm.report.figures.style import (
    INK,
    MUTED,
    SIGNED_SHADES,
    Look,
    draw_means,
    finish_rows,
    legend_below,
    panel,
    run_colors,
    run_entries,
    spread_around_zero,
    styled,
    write_cells,
)

__all__ = ["decoded_inside", "modality_gains", "region_gains"]

_MOST_REGIONS = 40


@styled
def decoded_inside(scores: pd.DataFrame) -> Figure:
    """How well models decode behaviour themselves, their linear readouts, and raw spikes.

    Parameters
    ----------
    scores
        One row per run and behaviour with columns run, behaviour (what to call it), by_model, low,
        high (an interval of it, NaN where there is none), readout, raw_spikes and oracle (NaN where
        unknown), all on one scale that ends at 1.
    """
    runs, names = run_colors(scores), list(scores["behaviour"].unique())
    figure, axes = panel("Decoded from spikes", height=1.3 + len(names) * (0.3 + 0.2 * len(runs)))
    offsets = spread_around_zero(2 * len(runs) + 1, 0.7)
    at = np.arange(len(names))
    for (run, color), place in zip(runs.items(), offsets[::2], strict=False):
        own = scores[scores["run"] == run].set_index("behaviour").reindex(names)
        axes.hlines(at + place, own["low"], own["high"], color=color, lw=1.4, alpha=0.6)
        axes.plot(own["by_model"], at + place, "o", color=color, ms=5.5)
        axes.plot(own["readout"], at + place + offsets[1] - offsets[0], "o", mfc="none",
                  color=color, ms=4.5, mew=1.2)  # fmt: skip
    known = scores.groupby("behaviour")[["raw_spikes", "oracle"]].mean().reindex(names)
    axes.plot(known["raw_spikes"], at + offsets[-1], "D", color=MUTED, ms=4.5)
    there = known["oracle"].notna().to_numpy()
    axes.vlines(known["oracle"][there], at[there] - 0.4, at[there] + 0.4, color=INK, lw=1.6)
    finish_rows(axes, names)
    axes.set_xlim(min(0.0, axes.get_xlim()[0]), 1.02)
    axes.set_xlabel("score on test trials, with its 95 % interval")
    entries: list[tuple[str, Look]] = run_entries(runs)
    entries += [
        ("its linear readout", {"color": MUTED, "marker": "o", "mfc": "none", "ls": "", "ms": 4.5}),
        ("raw spikes", {"color": MUTED, "marker": "D", "ls": "", "ms": 4.5}),
    ]
    if there.any():
        look: Look = {"color": INK, "marker": "|", "ls": "", "ms": 9, "mew": 1.6}
        entries.append(("true latents", look))
    legend_below(figure, entries)
    return figure


@styled
def modality_gains(gains: pd.DataFrame) -> Figure:
    """What each modality adds to what all others tell of the spikes.

    Parameters
    ----------
    gains
        One row per run and modality with columns run, modality (what to call it), bits_per_spike
        and sem (NaN where unknown).
    """
    runs, names = run_colors(gains), list(gains["modality"].unique())
    figure, axes = panel(
        "Added by each modality", height=1.1 + len(names) * (0.2 + 0.1 * len(runs))
    )
    draw_means(axes, gains, "modality", names, 0.5)
    finish_rows(axes, names)
    axes.set_xlabel("bits/spike lost without it, mean ± standard error")
    legend_below(figure, run_entries(runs))
    return figure


@styled
def region_gains(
    gains: pd.DataFrame, regions: pd.DataFrame, title: str, highest: float | None = None
) -> Figure:
    """The same for the units of each region.

    Parameters
    ----------
    gains
        One row per region and modality with columns region, modality (what to call it),
        bits_per_spike and n_units; of more than 40 regions the ones with most units are shown.
    regions
        Indexed by region in the order to show, with column color (#rrggbb).
    title
        Of the figure.
    highest
        Gain of the darkest shade, so that several runs compare; by default the highest here.
    """
    sizes = gains.groupby("region")["n_units"].max().sort_values(ascending=False)
    largest = set(sizes.index[:_MOST_REGIONS])
    names = [region for region in regions.index if region in largest]
    kinds = list(gains["modality"].unique())
    table = gains.pivot(index="region", columns="modality", values="bits_per_spike")
    # As it is written: what is nothing then is not below zero.
    values = table.reindex(index=names, columns=kinds).to_numpy(np.float64).round(3)
    figure, axes = panel(title, height=1.9 + 0.26 * max(len(names), 2))
    if highest is None:
        highest = float(np.nanmax(values, initial=0.0))
    highest = max(highest, 0.005)
    image = axes.imshow(
        values, cmap=SIGNED_SHADES, norm=Normalize(0, highest), interpolation="none", aspect="auto"
    )
    write_cells(axes, values, digits=3, strong=0.5 * highest, size=6.5)
    axes.set_xticks(range(len(kinds)), kinds, rotation=35, ha="right", color=INK, fontsize=7.5)
    labels = [f"{name} ({sizes[name]})" for name in names]
    axes.set_yticks(range(len(names)), labels, color=INK, fontsize=7.5)
    for row, name in enumerate(names):
        axes.plot(-0.018, row, "s", color=regions.loc[name, "color"], ms=5.5, mec=MUTED, mew=0.4,
                  transform=axes.get_yaxis_transform(), clip_on=False)  # fmt: skip
    axes.tick_params(length=0)
    axes.tick_params(axis="y", pad=10)
    axes.spines[:].set_visible(False)
    bar = figure.colorbar(image, ax=axes, fraction=0.04, pad=0.03, extend="min")
    bar.set_label("bits/spike")
    bar.outline.set_visible(False)
    return figure
