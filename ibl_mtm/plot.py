"""Figures of a session for a notebook; each draws into `ax`, or new axes, and returns them.

    ibl_mtm.plot.raster(ds, trial=12)
    ibl_mtm.plot.psth(ds, unit, by="choice")
    ibl_mtm.plot.prediction(ds, rates, unit, trial=12)
    ibl_mtm.plot.regions(ds)                    # or of a cache

What they show is arrays of `ibl_mtm.population_raster`, `psth` and so on: ask those for numbers.
"""

from collections.abc import Mapping
from itertools import cycle

import numpy as np
import xarray as xr
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from ibl_mtm.cache import queries
from ibl_mtm.errors import UserError
from ibl_mtm.report.figures.style import CONDITION_COLORS, INK, MUTED
from ibl_mtm.sessions.bins import bin_width
from ibl_mtm.sessions.text import as_text, counted

__all__ = ["prediction", "psth", "raster", "regions"]


def raster(ds: xr.Dataset, trial: int, ax: Axes | None = None) -> Axes:
    """Spikes of all units in one trial, sorted by region.

    Parameters
    ----------
    ds
        A session, or some of its units.
    trial
        A value of the coordinate `trial`.
    ax
        Where to draw.

    Raises
    ------
    UserError
        If there is no such trial.
    """
    counts = queries.population_raster(ds, trial)
    axes = _axes(ax)
    edges = _edges(counts.time.values, bin_width(ds))
    axes.pcolormesh(
        edges, np.arange(counts.sizes["unit"] + 1), counts.transpose("unit", "time").values,
        cmap="Greys", vmin=0, rasterized=True,
    )  # fmt: skip
    names = as_text(counts["beryl"])
    starts = np.flatnonzero(np.r_[True, names[1:] != names[:-1]])
    sizes = np.diff(np.r_[starts, len(names)])
    axes.set_yticks(starts + sizes / 2, names[starts])
    axes.hlines(starts[1:], edges[0], edges[-1], color=MUTED, lw=0.4)
    axes.invert_yaxis()
    axes.axvline(0, color=MUTED, lw=0.8)
    axes.set(xlabel="time, s", title=f"trial {trial}, spikes per bin")
    return axes


def psth(ds: xr.Dataset, unit: str, by: str = "choice", ax: Axes | None = None) -> Axes:
    """Mean firing rate of one unit around the event, a line for each kind of trial.

    Parameters
    ----------
    ds
        A session, or some of its trials.
    unit
        A value of the coordinate `unit`.
    by
        As for `ibl_mtm.psth`.
    ax
        Where to draw.

    Raises
    ------
    UserError
        If there is no such unit or variable.
    """
    responses = queries.psth(ds.isel(unit=[_place(ds, unit)]), by).isel(unit=0)
    axes = _axes(ax)
    for value, color in zip(responses[by].values, cycle(CONDITION_COLORS), strict=False):
        one = responses.sel({by: value})
        axes.plot(one.time, one, color=color, label=f"{by} {value} ({int(one.n_trials)})")
    axes.axvline(0, color=MUTED, lw=0.8)
    axes.set(xlabel="time, s", ylabel="spikes/s", title=str(unit))
    axes.legend(frameon=False)
    return axes


def prediction(
    ds: xr.Dataset, rates: xr.DataArray, unit: str, trial: int, ax: Axes | None = None
) -> Axes:
    """Spikes of one unit in one trial, and what was predicted.

    Parameters
    ----------
    ds
        A session.
    rates : DataArray (trial, time, unit)
        Expected spikes per bin, such as `ibl_mtm.predict` returns.
    unit, trial
        Values of these coordinates.
    ax
        Where to draw.

    Raises
    ------
    UserError
        If the session or the rates lack this trial or unit.
    """
    for held, name in ((ds, "the session"), (rates, "the rates")):
        if trial not in held.trial.values:
            raise UserError(f"{name} of {ds.attrs['eid']}: no trial {trial}")
    counts = ds.spikes.sel(trial=trial).isel(unit=_place(ds, unit))
    expected = rates.sel(trial=trial).isel(unit=_place(rates, unit))
    axes = _axes(ax)
    width = bin_width(ds)
    axes.bar(counts.time, counts, width=width, color=INK, alpha=0.35, label="spikes")
    axes.plot(expected.time, expected, color=CONDITION_COLORS[0], label="expected")
    axes.axvline(0, color=MUTED, lw=0.8)
    title = f"{unit}, trial {trial}"
    axes.set(xlabel="time, s", ylabel="spikes per bin", title=title)
    axes.legend(frameon=False)
    return axes


def regions(sessions: xr.Dataset | Mapping[str, xr.Dataset], ax: Axes | None = None) -> Axes:
    """Units of each Beryl region, of a session or of a cache, in the order of the Allen atlas.

    Parameters
    ----------
    sessions
        A session, or a cache, or a part of it.
    ax
        Where to draw.
    """
    if isinstance(sessions, xr.Dataset):
        title = str(sessions.attrs["eid"])
        sessions = {title: sessions}
    else:
        title = counted(len(sessions), "session")
    summary = queries.region_summary(sessions)
    axes = _axes(ax)
    axes.barh(
        as_text(summary["region"]), summary["n_units"], color=as_text(summary["color"]), ec=MUTED,
        lw=0.4,
    )  # fmt: skip
    axes.invert_yaxis()
    axes.set(xlabel="units", title=title)
    return axes


def _axes(ax: Axes | None) -> Axes:
    return plt.subplots(layout="constrained")[1] if ax is None else ax


def _place(held: xr.Dataset | xr.DataArray, unit: str) -> int:
    (at,) = np.nonzero(as_text(held["unit"]) == str(unit))
    if not len(at):
        raise UserError(f"no unit '{unit}' among these {held.sizes['unit']}")
    return int(at[0])


def _edges(centres: np.ndarray, width: float) -> np.ndarray:
    return np.r_[centres - width / 2, centres[-1] + width / 2]
