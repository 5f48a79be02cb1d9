"""The time bins of a session: how wide they are, and wider ones.

bin_width(ds)                       # 0.02, from the coordinate `time`
rebin(ds, 0.1)                      # sums of counts, means of traces, five bins each
"""

from typing import Any, TypeVar

import numpy as np
import xarray as xr

from ibl_mtm.errors import UserError

__all__ = ["bin_width", "rebin"]

Data = TypeVar("Data", xr.Dataset, xr.DataArray)

#: Counts are summed over bins; every other variable of time is averaged.
_COUNTS = ("spikes", "lick_count")


def bin_width(data: xr.Dataset | xr.DataArray) -> float:
    """Width of the bins (s).

    It is the distance of the values of ``time``: the attribute ``bin_size`` is carried along by
    xarray when bins are joined, and then says what is no longer so. It counts for a single bin.

    Raises
    ------
    UserError
        If bins are not evenly spaced, or the width of a single one is not known.
    """
    time = np.asarray(data["time"].values, dtype=np.float64)
    if time.size < 2:
        if "bin_size" not in data.attrs:
            raise UserError("the width of a single time bin is not known; select two or more")
        return float(data.attrs["bin_size"])
    steps = np.diff(time)
    if not np.allclose(steps, steps[0], rtol=1e-6, atol=1e-9) or steps[0] <= 0:
        raise UserError(
            "the time bins are not evenly spaced, so they have no width; select a slice of them "
            "(ds.sel(time=slice(0, 0.5))), and join bins with ibl_mtm.rebin"
        )
    return float(steps.mean())


def rebin(data: Data, width: float) -> Data:
    """Join time bins into wider ones.

    Parameters
    ----------
    data
        A session, or an array of one with ``time``.
    width
        Of the new bins (s), a multiple of the old.

    Returns
    -------
    The same with fewer bins: ``spikes`` and ``lick_count`` summed, rates and traces averaged (NaN
    where a bin of them is missing), ``time`` again the left edge, ``bin_size`` the new width.

    Raises
    ------
    UserError
        If the old bins do not fill the new ones.

    Examples
    --------
    >>> wide = rebin(ds, 0.1)                    # from bins of 0.02 s
    >>> ds.sizes["time"], wide.sizes["time"], wide.attrs["bin_size"]
    (20, 4, 0.1)
    >>> int(wide.spikes.sum()) == int(ds.spikes.sum())
    True
    """
    before, n_bins = bin_width(data), data.sizes["time"]
    n_joined = round(width / before)
    if n_joined < 1 or not np.isclose(width, n_joined * before, rtol=1e-6) or n_bins % n_joined:
        fitting = [f"{n * before:g}" for n in range(1, n_bins + 1) if n_bins % n == 0]
        raise UserError(
            f"{n_bins} bins of {before:g} s cannot be joined to bins of {width:g} s; "
            f"widths that can be had: {', '.join(fitting)}"
        )
    edges = data["time"].values[::n_joined]

    def join(array: xr.DataArray) -> xr.DataArray:
        if "time" not in array.dims:
            return array
        windows: Any = array.drop_vars("time").coarsen(time=n_joined)
        if array.name in _COUNTS:
            # Sums of bytes need more than a byte.
            return windows.sum(keep_attrs=True).astype(np.uint16 if array.dtype.itemsize < 4
                                                       else array.dtype)  # fmt: skip
        return windows.reduce(np.mean, keep_attrs=True)

    if isinstance(data, xr.DataArray):
        joined = join(data).assign_coords(time=edges)
    else:
        names = [name for name, array in data.data_vars.items() if "time" in array.dims]
        joined = data.drop_dims("time").assign({name: join(data[name]) for name in names})
        joined = joined.assign_coords(time=edges)[list(data.data_vars)]
    joined["time"].attrs.update(data["time"].attrs)
    return joined.assign_attrs(
        {**data.attrs, **({"bin_size": n_joined * before} if "bin_size" in data.attrs else {})}
    )
