"""Activity of units that were not recorded: what a model expects of another session's units here.

rates = impute(model, cache[eid], like=cache[other], regions=["CA1"])   # (trial, time, unit)

The body of a model, which all sessions share, reads this session's trials; the rows of the other
session's units read them out. Nothing makes sure that the two fit but that both were trained
through one body: `ibl_mtm.score_imputation` tells how well they do, where a region was recorded.
"""

from collections.abc import Collection

import numpy as np
import torch
import xarray as xr

from ibl_mtm.errors import UserError
from ibl_mtm.evaluation.activity.predict import (
    BATCH,
    Population,
    population_of,
    predict_items,
    select_known,
)
from ibl_mtm.evaluation.activity.tasks import HeldOut
from ibl_mtm.model.masking import Scheme
from ibl_mtm.model.mtm import MtM
from ibl_mtm.sessions.text import as_text
from ibl_mtm.sessions.view import NO_REGION

__all__ = ["impute"]


def impute(
    model: MtM,
    ds: xr.Dataset,
    *,
    like: xr.Dataset,
    regions: Collection[str] | str,
) -> xr.DataArray:
    """Expected activity, in a session, of another session's units: of regions not recorded here.

    Each region is asked for by itself, as in inter-region prediction: where this session has
    units of it too, they are not shown. So with ``like=ds`` this is inter-region prediction. Else
    the transformer answers alone, since linear dynamics are a session's own: no other session's
    units load on their components.

    Parameters
    ----------
    model
        Trained on both sessions.
    ds
        Whose trials: a session of a cache, or a selection of its trials.
    like
        Whose units. Of it, units and their regions alone are read.
    regions
        Of those units, by the names of the model's region map (``beryl`` unless another was
        chosen).

    Returns
    -------
    DataArray (trial, time, unit), float32
        Expected spikes per bin, of the units of `like` that the model knows; their ``region`` and
        ``beryl`` beside them. Offsets and scales of these units are those of their own session.

    Raises
    ------
    UserError
        If a region has none of these units, or all that this session has is of it; or the model
        does not know one of the sessions.

    Examples
    --------
    >>> rates = impute(model, ds, like=ds, regions=["CA1"])    # as predicted between regions
    >>> set(rates.beryl.values.tolist()), rates.attrs["units"]
    ({'CA1'}, 'spikes/bin')
    """
    names = [regions] if isinstance(regions, str) else list(regions)
    if not names:
        raise UserError("no region is asked for; name some, as in regions=['CA1']")
    ds, like = select_known(model, ds), select_known(model, like)
    wanted = as_text(like[model.scope.region_map])
    known = sorted(set(wanted.tolist()) - NO_REGION)
    for name in names:
        if name not in known:
            raise UserError(
                f"session {like.attrs['eid']} has no units of '{name}' that the model knows; it "
                f"has {', '.join(known) or 'none of any region'}"
            )
    own = as_text(ds[model.scope.region_map])
    for name in names:
        if (own == name).all():
            raise UserError(
                f"session {ds.attrs['eid']} has units of {name} alone: nothing is left to "
                "predict them from"
            )
    population = population_of(model, ds)
    same = str(ds.attrs["eid"]) == str(like.attrs["eid"])
    rates = np.full((*ds.spikes.shape[:2], like.sizes["unit"]), np.nan, np.float32)
    for name in dict.fromkeys(names):
        units = np.flatnonzero(wanted == name)
        if same:
            held = HeldOut((own == name)[None], units, slice(None), name)
            ((_, found),) = predict_items(population, "inter_region", iter([held]))
        else:
            rows = model.scope.rows_of(as_text(like.unit)[units])
            found = _read_out(population, own == name, rows, name)
        rates[:, :, units] = found
    asked = np.flatnonzero(np.isin(wanted, names))
    coordinates = {
        name: like[name].reset_coords(drop=True)
        for name in dict.fromkeys(("unit", "region", "beryl", model.scope.region_map))
    }
    # Trials and bins are this session's, units the other's.
    return xr.DataArray(
        rates,
        dims=("trial", "time", "unit"),
        coords={name: ds[name].reset_coords(drop=True) for name in ("trial", "time")} | coordinates,
        name="rate",
        attrs={
            "units": "spikes/bin",
            "eid": str(ds.attrs["eid"]),
            "like": str(like.attrs["eid"]),
        },
    ).isel(unit=asked)


@torch.inference_mode()
def _read_out(
    population: Population, hidden: np.ndarray, rows: torch.Tensor, region: str
) -> np.ndarray:
    """Rates of other rows than the session's, one region of it hidden, (trial, time, row)."""
    model, device = population.model, population.counts.device
    scheme: Scheme = "inter_region"
    number = model.scope.regions.index(region) if region in model.scope.regions else -1
    mask = torch.from_numpy(hidden).to(device)[None, None]
    parts = []
    for trials in torch.arange(len(population.counts), device=device).split(BATCH):
        named = torch.full((len(trials),), number, device=device)
        group = population.group(mask.expand(len(trials), 1, -1), trials, scheme, named)
        with torch.autocast(device.type, torch.bfloat16, enabled=population.bf16):
            encoded = model.encode([group])
        parts.append(model.read_out_of(encoded.float(), rows.to(device)).exp())
    return torch.cat(parts).cpu().numpy()
