"""Questions to sessions: responses, units, trials and regions, as labelled arrays.

    ca1 = select_units(cache[eid], min_label=1, regions="CA1")
    psth(ca1, by="choice").mean("unit").plot.line(x="time")
    population_raster(ca1, trial=12)
    region_summary(cache).to_pandas()

Each function takes what it is given, changes nothing, and returns an xarray object.
"""

import difflib
from collections.abc import Collection, Mapping

import numpy as np
import pandas as pd
import xarray as xr

from ibl_mtm.cache.tables import region_rows
from ibl_mtm.errors import UserError
from ibl_mtm.sessions.bins import bin_width
from ibl_mtm.sessions.schema import MISSING, UNKNOWN_COLOR, VARIABLES
from ibl_mtm.sessions.text import as_text

__all__ = ["population_raster", "psth", "region_summary", "select_units"]

_MAPS = ("region", "beryl", "cosmos")


def psth(ds: xr.Dataset | xr.DataArray, by: str = "choice") -> xr.DataArray:
    """Mean firing rate of each unit around the event, by kind of trial.

    Parameters
    ----------
    ds
        A session, or some of its trials and units; or counts or predictions of one, (trial, time,
        unit) per bin. The width of bins is that of their coordinate ``time``.
    by
        A variable of trials, such as ``choice``, ``contrast``, ``feedback`` or
        ``probability_left``, one that your task keeps (`trials: {keep: …}` in the catalog), or
        one that ``assign_coords`` added. Trials that lack a value take no part.

    Returns
    -------
    xarray.DataArray
        (`by`, time, unit) float64, spikes/s: the mean over `included` trials (over all trials of
        a session without a trials table). Its coordinate ``n_trials`` says over how many.

    Raises
    ------
    UserError
        If trials have no such variable, no trial is left, or bins have no width.

    Examples
    --------
    >>> responses = psth(ds, by="choice")
    >>> responses.dims
    ('choice', 'time', 'unit')
    >>> responses.choice.values.tolist(), responses.n_trials.values.tolist()
    ([-1, 1], [11, 14])
    """
    counts = ds if isinstance(ds, xr.DataArray) else ds["spikes"]
    if set(counts.dims) != {"trial", "time", "unit"}:
        dims = ", ".join(map(str, counts.dims))
        raise UserError(
            f"a mean over trials needs trials, bins and units, not {dims}; "
            "select one of them by a list, as in ds.isel(trial=[17])"
        )
    known = [str(name) for name, c in ds.coords.items() if c.dims == ("trial",) and name != "trial"]
    if by not in known:
        raise UserError(
            f"trials have no variable '{by}'; {_nearest(by, known)}they have {', '.join(known)}"
        )
    labels = pd.Series(ds[by].values.astype(object))
    keep = labels.notna().to_numpy(copy=True)
    if by in VARIABLES and MISSING in VARIABLES[by].values:
        keep &= ds[by].values != MISSING
    if ds[by].dtype.kind in "OTU":
        keep &= as_text(ds[by]) != ""
    if "included" in ds.coords:
        keep &= ds["included"].values
    if not keep.any():
        raise UserError(f"no included trial has a value of '{by}'")
    kept = counts.isel(trial=keep)
    rates = kept.groupby(by).mean() / bin_width(ds)
    n_trials = kept[by].groupby(by).count().values
    rates = rates.assign_coords(n_trials=(by, n_trials)).transpose(by, "time", "unit")
    return rates.rename("rate").assign_attrs(long_name="mean firing rate", units="spikes/s")


def select_units(
    ds: xr.Dataset,
    min_label: float | None = None,
    regions: str | Collection[str] | None = None,
) -> xr.Dataset:
    """The session with some of its units; every criterion that is given must hold.

    Parameters
    ----------
    ds
        A session.
    min_label
        Least quality score, 0 to 1; 1 asks for good units. A unit without a score passes none.
    regions
        Acronyms, in any of the session's three maps: ``CA1`` and ``DG-mo`` (Allen), ``DG``
        (Beryl), ``HPF`` (Cosmos). A unit in any of them is taken.

    Returns
    -------
    xarray.Dataset
        As lazy as `ds`; it may have no units left.

    Raises
    ------
    UserError
        If no unit of the session, whatever its label, lies in one of the regions.

    Examples
    --------
    >>> select_units(ds, min_label=1, regions=["CA1", "DG"]).sizes["unit"]
    2
    >>> sorted(set(select_units(ds, regions="TH").beryl.values.tolist()))
    ['LP', 'PO']
    """
    keep = np.ones(ds.sizes["unit"], bool)
    if min_label is not None:
        # Thirds are stored as float32.
        keep &= ds["label"].values >= min_label - 1e-6
    if regions is not None:
        wanted = [regions] if isinstance(regions, str) else list(regions)
        names = np.stack([as_text(ds[name]) for name in _MAPS])
        for acronym in wanted:
            if acronym not in names:
                raise UserError(
                    f"session {ds.attrs['eid']} has no unit in '{acronym}'; "
                    f"{_nearest(acronym, np.unique(names))}its Beryl regions are "
                    f"{', '.join(np.unique(names[1]))}"
                )
        keep &= np.isin(names, wanted).any(0)
    return ds.isel(unit=np.flatnonzero(keep))


def population_raster(ds: xr.Dataset, trial: int) -> xr.DataArray:
    """What all units did in one trial, sorted by region, and from its top to its bottom.

    Parameters
    ----------
    ds
        A session, or some of its units.
    trial
        A value of the coordinate `trial`.

    Returns
    -------
    xarray.DataArray
        (unit, time) spikes per bin. Units go by Beryl region in the Allen order, those without
        one last; then by probe, and by depth, the shallowest first. Beside the session's own
        coordinates of units stands ``color``, the region's in the Allen atlas (``#rrggbb``).

    Raises
    ------
    UserError
        If the session has no such trial.

    Examples
    --------
    >>> raster = population_raster(ds, trial=12)
    >>> raster.dims, raster.beryl.values[[0, -1]].tolist()
    (('unit', 'time'), ['VISa', 'PO'])
    """
    trials = ds["trial"].values
    if trial not in trials:
        raise UserError(
            f"session {ds.attrs['eid']} has no trial {trial}; it has {len(trials)}, "
            f"of numbers {trials.min()} to {trials.max()}"
        )
    place = _beryl_rows(ds)
    # The acronym too: some regions share a place in the atlas, such as void and root.
    keys = -ds["depth"].values, as_text(ds["probe"]), as_text(ds["beryl"]), place["order"]
    counts = ds["spikes"].sel(trial=trial).transpose("unit", "time")
    return counts.assign_coords(color=("unit", place["color"].to_numpy())).isel(
        unit=np.lexsort(keys)
    )


def region_summary(cache: Mapping[str, xr.Dataset]) -> xr.Dataset:
    """How many units of which region a cache has; opens each of its sessions once.

    Parameters
    ----------
    cache
        A cache, or a part of it.

    Returns
    -------
    xarray.Dataset
        Along ``region``, the Beryl regions in the Allen order and ``unknown`` last: ``n_units``,
        ``n_good_units`` (label 1), ``n_sessions``, ``n_subjects``, ``mean_rate`` (Hz, over
        units), ``name`` and ``color`` (``#rrggbb``). ``.to_pandas()`` makes it a table.

    Raises
    ------
    UserError
        If the cache has no session.

    Examples
    --------
    >>> region_summary(cache).to_pandas()[["n_units", "n_sessions"]]
            n_units  n_sessions
    region
    VISa          4           2
    CA1           6           2
    DG            5           2
    LP            5           2
    PO            4           2
    """
    tables = []
    for ds in cache.values():
        units = _beryl_rows(ds).rename_axis("region").reset_index()
        units["rate"] = ds["firing_rate"].values.astype(np.float64)
        units["good"] = ds["label"].values >= 1
        units["eid"], units["subject"] = ds.attrs["eid"], ds.attrs["subject"]
        tables.append(units)
    if not tables:
        raise UserError("the cache has no session to summarise")
    groups = pd.concat(tables).groupby("region")
    summary = groups.agg(
        n_units=("rate", "size"),
        n_good_units=("good", "sum"),
        n_sessions=("eid", "nunique"),
        n_subjects=("subject", "nunique"),
        mean_rate=("rate", "mean"),
        name=("name", "first"),
        color=("color", "first"),
        order=("order", "first"),
    )
    found = summary.sort_values("order", kind="stable").drop(columns="order").to_xarray()
    found["mean_rate"].attrs["units"] = "Hz"
    return found


def _beryl_rows(ds: xr.Dataset) -> pd.DataFrame:
    """Name, order and color of each unit's Beryl region; what has none comes last, in grey."""
    rows = region_rows(ds.attrs).reindex(as_text(ds["beryl"]))
    return rows.fillna({"name": "no region", "order": np.inf, "color": UNKNOWN_COLOR})


def _nearest(name: str, known: Collection[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"did you mean '{close[0]}'? " if close else ""
