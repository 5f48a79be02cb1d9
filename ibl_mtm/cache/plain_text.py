"""Text of Zarr 3 as Python's own strings, still read only when it is asked for.

ds = with_plain_text(xr.open_zarr("cache.zarr/EID"))

xarray reads Zarr's strings as NumPy's ``StringDType``, which ``astype(str)``, netCDF, pickles of
older NumPy and many a function of pandas do not take.
"""

from typing import Any

import numpy as np
import xarray as xr
from xarray.backends import BackendArray
from xarray.core import indexing

__all__ = ["with_plain_text"]


class _PlainText(BackendArray):
    """Text of a variable as objects, read piece by piece."""

    def __init__(self, variable: xr.Variable) -> None:
        self.variable = variable
        self.shape, self.dtype = variable.shape, np.dtype(object)

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        return indexing.explicit_indexing_adapter(
            key, self.shape, indexing.IndexingSupport.OUTER, self._read
        )

    def _read(self, key: tuple[Any, ...]) -> Any:
        return np.asarray(self.variable[key].values).astype(object)


def with_plain_text(ds: xr.Dataset) -> xr.Dataset:
    """The dataset with strings of any kind as objects; nothing but indexes is read."""
    for variable in ds.variables.values():
        if variable.dtype.kind == "O":  # as older versions read them; written as they were stored
            variable.encoding.pop("dtype", None)
    is_text = [name for name, v in ds.variables.items() if v.dtype.kind == "T"]
    return ds.assign_coords(
        {name: _plain(ds.variables[name]) for name in is_text if name in ds.coords}
    ).assign({name: _plain(ds.variables[name]) for name in is_text if name not in ds.coords})


def _plain(variable: xr.Variable) -> xr.Variable:
    data: Any
    if variable.chunks is not None:
        data = variable.data.astype(object)
    elif isinstance(variable, xr.IndexVariable):
        data = variable.values.astype(object)
    else:
        data = indexing.LazilyIndexedArray(_PlainText(variable))
    return xr.Variable(variable.dims, data, variable.attrs)
