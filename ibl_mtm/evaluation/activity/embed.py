"""The transformer's view of a session, as xarray: what it makes of each time bin of each trial.

states = embed(model, ds)               # (trial, time, feature)
"""

import numpy as np
import xarray as xr

from ibl_mtm.errors import UserError
from ibl_mtm.evaluation.activity.predict import (
    hidden_states,
    population_of,
    select_known,
    warn_of_leak,
)
from ibl_mtm.model.masking import SCHEMES, Scheme
from ibl_mtm.model.mtm import MtM

__all__ = ["embed"]


def embed(model: MtM, ds: xr.Dataset, prompt: Scheme = "neuron") -> xr.DataArray:
    """Embed a session's trials, nothing hidden.

    Parameters
    ----------
    model
        From `ibl_mtm.load_model`.
    ds
        A session of a cache, or a selection of its trials.
    prompt
        The prompt; under ``causal`` each bin is embedded from itself and the past alone.

    Returns
    -------
    DataArray (trial, time, feature), float32
        The transformer's output, which `ibl_mtm.predict` reads each unit's log rate from.

    Raises
    ------
    UserError
        If the prompt is unknown, or the session is not one of the model's.

    Examples
    --------
    >>> embed(model, ds).dims
    ('trial', 'time', 'feature')
    """
    if prompt not in SCHEMES:
        raise UserError(f"unknown prompt '{prompt}'; known: {', '.join(SCHEMES)}")
    ds = select_known(model, ds)
    warn_of_leak(model, prompt)
    population = population_of(model, ds)
    return xr.DataArray(
        hidden_states(population, prompt),
        dims=("trial", "time", "feature"),
        coords={
            **{name: c for name, c in ds.spikes.coords.items() if "unit" not in c.dims},
            "feature": np.arange(model.settings.width),
        },
        name="embedding",
        attrs={"prompt": prompt, "eid": str(ds.attrs["eid"])},
    )
