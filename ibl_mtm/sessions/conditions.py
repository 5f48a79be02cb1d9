"""What mean responses of a session are conditioned on: its choice and block, or its own task's.

codes, known = condition_codes(ds, "choice")            # (trial,) numbers, and which mean one
combine([codes, other])                                 # (trial,) numbers of combinations
"""

from collections.abc import Sequence

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from ibl_mtm.sessions.schema import CONDITIONS, MISSING
from ibl_mtm.sessions.text import as_text

__all__ = ["combine", "condition_codes", "conditions_of"]

Codes = NDArray[np.int64]

_DEFAULT = ("choice", "block")


def conditions_of(ds: xr.Dataset) -> tuple[str, ...]:
    """Names of the variables, whether the session has them or not."""
    return tuple(ds.attrs.get(CONDITIONS) or _DEFAULT)


def condition_codes(ds: xr.Dataset, name: str) -> tuple[Codes, NDArray[np.bool_]] | None:
    """Number a variable's values in their order; None if the session has no such variable.

    Returns
    -------
    (trial,) numbers, alike where values are, and whether each is a value to condition on: it is
    not missing, and no no-go.
    """
    if name == "block" and "block" not in ds.variables:
        if "probability_left" not in ds.variables:
            return None
        prior = ds["probability_left"].values.astype(np.float64)
        return np.sign(np.nan_to_num(prior - 0.5)).astype(np.int64), np.isfinite(prior)
    if name not in ds.variables or ds[name].dims != ("trial",):
        return None
    if ds[name].dtype.kind in "OTU":
        values = as_text(ds[name])
        known = values != ""
    else:
        values = ds[name].values
        known = np.isfinite(values.astype(np.float64))
        if name in ("choice", "stimulus_side", "feedback"):
            known = ~np.isin(values, (0, MISSING))
    return np.unique(values, return_inverse=True)[1].astype(np.int64), known


def combine(codes: Sequence[Codes]) -> Codes:
    """Number the combinations of several variables' values, in their order."""
    rows = np.stack(codes, axis=1)
    return np.unique(rows, axis=0, return_inverse=True)[1].ravel().astype(np.int64)
