"""Figures of activity: a unit's response, a trial's spikes and rates, a decoded trace.

    ds = run.session(eid)                            # of evaluation.zarr
    psth(ds, unit, "CA1").savefig("psth.svg")
    spike_raster(ds, 0, "A test trial", units), rate_raster(ds, 0, "Expected", units)

Each function takes example predictions of one session and returns a `matplotlib.figure.Figure`.
"""

from collections.abc import Mapping, Sequence
from itertools import cycle

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, PowerNorm, to_rgb
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from ibl_mtm.report.figures.style import (
    CONDITION_COLORS,
    INK,
    MUTED,
    RULE,
    RUN_COLORS,
    Look,
    legend_below,
    panel,
    short_name,
    styled,
)

__all__ = ["decoded_trace", "psth", "rate_raster", "spike_raster"]

# Images are transparent where nothing happens, so that they lie on any ground.
_SPIKES = LinearSegmentedColormap.from_list("spikes", [(*to_rgb(INK), 0.0), (*to_rgb(INK), 1.0)])
_RATES = LinearSegmentedColormap.from_list(
    "rates", [(*to_rgb("#1f5fa8"), 0.0), (*to_rgb("#1f5fa8"), 0.85), (*to_rgb("#0b2f5c"), 1.0)]
)
_SMOOTHING = 0.03  # s, the standard deviation of a Gaussian
_SMALLEST_LABELLED = 0.045  # share of the axis that a region's name needs


@styled
def psth(session: xr.Dataset, unit: str, title: str) -> Figure:
    """A unit's trial-averaged response, observed and predicted, by condition.

    The observed one is smoothed by a Gaussian of 30 ms.

    Parameters
    ----------
    session
        psth_observed and psth_predicted (condition, time, unit), spikes/s; n_trials (condition).
    unit
        The unit to show.
    title
        Of the figure.
    """
    one = session.sel(unit=unit)
    figure, axes = panel(title, 3.5, 2.7)
    times = _centres(session)
    bin_ = times[1] - times[0]
    entries: list[tuple[str, Look]] = []
    for condition, color in zip(one["condition"].values, cycle(CONDITION_COLORS), strict=False):
        row = one.sel(condition=condition)
        observed = gaussian_filter1d(row["psth_observed"].values, _SMOOTHING / bin_, mode="nearest")
        axes.plot(times, observed, color=color, lw=1.0, alpha=0.6)
        axes.plot(times, row["psth_predicted"], color=color, lw=1.9)
        entries.append((f"{condition} ({int(row['n_trials'])})", {"color": color, "lw": 1.9}))
    _mark_event(axes, times)
    axes.set_xlim(times[0], times[-1])
    axes.set_ylim(bottom=0)
    axes.set_xlabel("time, s")
    axes.set_ylabel("spikes/s")
    entries.append(("observed", {"color": MUTED, "lw": 1.0, "alpha": 0.7}))
    legend_below(figure, entries)
    return figure


@styled
def spike_raster(session: xr.Dataset, example: int, title: str, units: Sequence[str]) -> Figure:
    """Spikes of a population in one trial, sorted by region.

    Parameters
    ----------
    session
        example_spikes (example, time, unit), with the units' region, order and color.
    example
        Position of the trial among the examples.
    title
        Of the figure.
    units
        The units to show.
    """
    counts = _by_region(session, units)["example_spikes"].isel(example=example)
    figure, axes = panel(title, 3.5, 4.2)
    image = _image(axes, counts, _SPIKES, PowerNorm(0.4, 0, max(2, int(counts.max()))))
    _scale(figure, image, "spikes per bin", ticks=[0, 1, max(2, int(counts.max()))])
    return figure


@styled
def rate_raster(
    session: xr.Dataset,
    example: int,
    title: str,
    units: Sequence[str],
    highest: float | None = None,
) -> Figure:
    """Predicted rates of a population in one trial, sorted by region.

    Parameters
    ----------
    session
        example_rates (example, time, unit), spikes per bin, with the units' region, order, color.
    example, title, units
        As for `spike_raster`.
    highest
        Rate of the darkest shade, so that several runs compare; by default the highest 0.5 % share
        it.
    """
    rates = _by_region(session, units)["example_rates"].isel(example=example)
    if highest is None:
        highest = float(rates.quantile(0.995))
    figure, axes = panel(title, 3.5, 4.2)
    image = _image(axes, rates, _RATES, PowerNorm(0.6, 0, highest))
    _scale(figure, image, "expected spikes per bin")
    return figure


@styled
def decoded_trace(
    observed: xr.DataArray,
    predicted: Mapping[str, xr.DataArray | None],
    title: str,
    measured: str,
) -> Figure:
    """A trace of behaviour in some test trials, and what each run's features decode.

    Parameters
    ----------
    observed
        (example, time)
    predicted
        By run, in the same layout; None for a run that decoded none, whose colour stays free.
    title
        Of the figure.
    measured
        What the trace is measured in.
    """
    figure, axes = panel(title, 9.6, 3.0)
    times = _centres(observed)
    length = times[-1] - times[0]
    starts = np.arange(observed.sizes["example"]) * length * 1.12

    def joined(traces: xr.DataArray) -> NDArray[np.float64]:
        gap = np.full((len(starts), 1), np.nan)
        rows = traces.transpose("example", "time").values
        return np.concatenate([rows, gap], axis=1).ravel()

    x = np.concatenate([starts[:, None] + times - times[0], np.full((len(starts), 1), np.nan)], 1)
    axes.plot(x.ravel(), joined(observed), color=MUTED, lw=1.1)
    entries: list[tuple[str, Look]] = [("observed", {"color": MUTED, "lw": 1.1})]
    for (run, trace), color in zip(predicted.items(), RUN_COLORS, strict=False):
        if trace is not None:
            axes.plot(x.ravel(), joined(trace), color=color, lw=1.6)
            entries.append((short_name(run), {"color": color}))
    if times[0] < 0 < times[-1]:
        axes.vlines(starts - times[0], 0, 1, transform=axes.get_xaxis_transform(), color=RULE,
                    lw=1, zorder=0)  # fmt: skip
    axes.set_xlim(starts[0] - 0.06 * length, starts[-1] + 1.06 * length)
    axes.set_xticks(starts + length / 2, [f"trial {t}" for t in observed["example"].values])
    axes.tick_params(axis="x", length=0)
    axes.spines["bottom"].set_visible(False)
    axes.set_xlabel(f"{length + times[1] - times[0]:.1f} s each; the vertical line is time 0")
    axes.set_ylabel(measured)
    legend_below(figure, entries)
    return figure


def _by_region(session: xr.Dataset, units: Sequence[str]) -> xr.Dataset:
    chosen = session.sel(unit=list(units))
    return chosen.isel(unit=np.lexsort((chosen["region"].values, chosen["order"].values)))


def _centres(data: xr.Dataset | xr.DataArray) -> NDArray[np.float64]:
    edges = np.asarray(data["time"].values, dtype=np.float64)
    return edges + (edges[1] - edges[0]) / 2


def _mark_event(axes: Axes, times: NDArray[np.float64]) -> None:
    if times[0] < 0 < times[-1]:
        axes.axvline(0, color=RULE, lw=1, zorder=0)


def _image(
    axes: Axes, values: xr.DataArray, colors: LinearSegmentedColormap, norm: PowerNorm
) -> AxesImage:
    n, times = values.sizes["unit"], _centres(values)
    half = (times[1] - times[0]) / 2
    image = axes.imshow(
        values.transpose("unit", "time").values,
        aspect="auto",
        interpolation="none",
        cmap=colors,
        norm=norm,
        extent=(times[0] - half, times[-1] + half, n - 0.5, -0.5),
    )
    _mark_event(axes, times)
    axes.set_xlabel("time, s")
    axes.spines["left"].set_visible(False)
    _label_regions(axes, values["region"].values, values["color"].values)
    return image


def _scale(
    figure: Figure, image: AxesImage, label: str, ticks: Sequence[float] | None = None
) -> None:
    bar = figure.colorbar(
        image, ax=image.axes, location="bottom", fraction=0.03, pad=0.02, aspect=40, ticks=ticks
    )
    bar.set_label(label)
    bar.outline.set_visible(False)


def _label_regions(axes: Axes, regions: NDArray[np.str_], colors: NDArray[np.str_]) -> None:
    """Coloured bars left of the rows, with the names of the regions that have room for one."""
    borders = np.flatnonzero(regions[1:] != regions[:-1]) + 1
    ticks, labels = [], []
    for start, stop in zip([0, *borders], [*borders, len(regions)], strict=True):
        bar = Rectangle(
            (-0.04, start - 0.4), 0.025, stop - start - 0.2, facecolor=colors[start],
            edgecolor=MUTED, lw=0.3, transform=axes.get_yaxis_transform(), clip_on=False,
        )  # fmt: skip
        axes.add_patch(bar)
        if stop - start >= _SMALLEST_LABELLED * len(regions):
            ticks.append((start + stop - 1) / 2)
            labels.append(regions[start])
    axes.set_yticks(ticks, labels, color=INK)
    axes.tick_params(axis="y", length=0, pad=11)
