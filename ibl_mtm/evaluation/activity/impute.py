"""Activity of units that were not recorded: what a model expects of another session's units here.

rates = impute(model, cache[eid], like=cache[other], regions=["CA1"])   # (trial, time, unit)

The body of a model, which all sessions share, reads this session's trials; the rows of the other
session's units read them out. Nothing makes sure that the two fit but that both were trained
through one body: `ibl_mtm.score_imputation` tells how well they do, where a region was recorded.
"""

from collections.abc import Collection, Sequence

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

__all__ = ["impute", "impute_each"]


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
    _check_regions(model, ds, like, names)  # all of them before the first is computed
    rates = np.full((*ds.spikes.shape[:2], like.sizes["unit"]), np.nan, np.float32)
    for name in dict.fromkeys(names):
        (rates[:, :, wanted == name],) = impute_each(model, ds, [like], name)
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


def impute_each(
    model: MtM, ds: xr.Dataset, like: Sequence[xr.Dataset], region: str
) -> list[np.ndarray]:
    """Expected activity of the units that each of several sessions has of one region.

    The model reads the trials once for all other sessions; everything else as `impute`.

    Parameters
    ----------
    model, ds
        As for `impute`.
    like
        Whose units, one session after the other.
    region
        By its name.

    Returns
    -------
    list of ndarray (trial, time, unit), float32
        Of each session's units of the region, expected spikes per bin.

    Raises
    ------
    UserError
        As `impute`.
    """
    ds, like = select_known(model, ds), [select_known(model, of) for of in like]
    for of in like:
        _check_regions(model, ds, of, [region])
    inside = [as_text(of[model.scope.region_map]) == region for of in like]
    own = as_text(ds[model.scope.region_map]) == region
    population = population_of(model, ds)
    others = [str(of.attrs["eid"]) != str(ds.attrs["eid"]) for of in like]
    rows = [
        model.scope.rows_of(as_text(of.unit)[units])
        for of, units, other in zip(like, inside, others, strict=True)
        if other
    ]
    found = iter(_read_out(population, own, rows, region) if rows else [])
    return [
        next(found) if other else _own_units(population, own, np.flatnonzero(units), region)
        for units, other in zip(inside, others, strict=True)
    ]


def _check_regions(model: MtM, ds: xr.Dataset, like: xr.Dataset, names: Sequence[str]) -> None:
    """Whether a session has units of these regions, and the one to predict from has others."""
    known = sorted(set(as_text(like[model.scope.region_map]).tolist()) - NO_REGION)
    own = as_text(ds[model.scope.region_map])
    for name in names:
        if name not in known:
            raise UserError(
                f"session {like.attrs['eid']} has no units of '{name}' that the model knows; it "
                f"has {', '.join(known) or 'none of any region'}"
            )
        if (own == name).all():
            raise UserError(
                f"session {ds.attrs['eid']} has units of {name} alone: nothing is left to "
                "predict them from"
            )


def _own_units(
    population: Population, hidden: np.ndarray, units: np.ndarray, region: str
) -> np.ndarray:
    """Rates of the session's own units, one region hidden, as predicted between regions."""
    held = HeldOut(hidden[None], units, slice(None), region)
    ((_, rates),) = predict_items(population, "inter_region", iter([held]))
    return rates


@torch.inference_mode()
def _read_out(
    population: Population, hidden: np.ndarray, rows: Sequence[torch.Tensor], region: str
) -> list[np.ndarray]:
    """Rates of other rows than the session's, some of its units hidden, (trial, time, row) each."""
    model, device = population.model, population.counts.device
    scheme: Scheme = "inter_region"
    number = model.scope.regions.index(region) if region in model.scope.regions else -1
    mask = torch.from_numpy(hidden).to(device)[None, None]
    together = torch.cat(list(rows)).to(device)
    parts = []
    for trials in torch.arange(len(population.counts), device=device).split(BATCH):
        named = torch.full((len(trials),), number, device=device)
        group = population.group(mask.expand(len(trials), 1, -1), trials, scheme, named)
        with torch.autocast(device.type, torch.bfloat16, enabled=population.bf16):
            encoded = model.encode([group])
        parts.append(model.read_out_of(encoded.float(), together).exp())
    sizes = [len(of) for of in rows]
    return [rates.cpu().numpy() for rates in torch.cat(parts).split(sizes, dim=2)]
