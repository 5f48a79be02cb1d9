"""How well activity is imputed by other sessions' units, where the region was recorded after all.

table = score_imputation(model, cache[eid], like=[cache[other] for other in others])
table.loc["CA1", ["imputed", "psth"]]           # bits/spike of the region's spikes together

Units of two sessions are not each other's, so what is compared is what a region does as a whole.
"""

from collections.abc import Collection, Sequence

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import ArrayLike

from ibl_mtm.errors import UserError
from ibl_mtm.evaluation.activity.impute import impute_each
from ibl_mtm.evaluation.baselines.registry import BaselinePredictor
from ibl_mtm.evaluation.metrics import bits_per_spike
from ibl_mtm.model.mtm import MtM
from ibl_mtm.sessions.text import as_text
from ibl_mtm.sessions.view import NO_REGION

__all__ = ["score_imputation"]


def score_imputation(
    model: MtM,
    ds: xr.Dataset,
    *,
    like: xr.Dataset | Sequence[xr.Dataset],
    regions: Collection[str] | None = None,
    split: ArrayLike | None = None,
) -> pd.DataFrame:
    """Impute regions that a session has units of, none of them shown, and compare.

    What is scored is the number of spikes of all of a region's units together, in each bin of the
    test trials. The other session's units are summed likewise, and of several sessions the mean is
    taken of the logarithms of that, which takes away what each says by itself; one number, their
    scale, is fitted to the other trials of this session.

    Units that the model does not know count too as what was recorded. That is the strict test: of
    units that it knows it has seen the training trials, though none is shown here.

    Parameters
    ----------
    model, ds, like
        As for `ibl_mtm.impute`; `like` may be several sessions, of which those take part that
        have units of a region.
    regions
        By default all that this session and one of the others have at least
        `model.scope.min_units_per_region` units of.
    split : array (trial,), str
        train, val or test for each trial of `ds`; by default the session's own.

    Returns
    -------
    DataFrame
        By region: ``imputed``, bits/spike of the other sessions' units; ``own_units``, those of
        inter-region prediction by its own (NaN if the model knows none); ``psth``, those of the
        smoothed mean of the other trials of the same condition (choice and block, or what the
        session declares); ``n_units``, ``n_units_like``, ``n_spikes``.

    Raises
    ------
    UserError
        If no region is shared, or trials to fit or test are missing; else as `ibl_mtm.impute`.

    Examples
    --------
    >>> table = score_imputation(model, ds, like=ds, regions=["CA1"])
    >>> bool(table.loc["CA1", "imputed"] == table.loc["CA1", "own_units"])
    True
    """
    part = as_text(ds["split"]) if split is None else np.asarray(split)
    test = part == "test"
    if not test.any() or test.all():
        raise UserError(f"session {ds.attrs['eid']} needs test trials, and others to compare with")
    others = [like] if isinstance(like, xr.Dataset) else list(like)
    own = _known_regions(model, ds, every=True)
    have = [_known_regions(model, other, every=False) for other in others]
    if regions is None:
        least = model.scope.min_units_per_region
        most = {name: max([of.get(name, 0) for of in have], default=0) for name in own}
        regions = [name for name in sorted(own) if min(own[name], most[name]) >= least]
    for name in regions:
        if name not in own:
            raise UserError(f"session {ds.attrs['eid']} has no units of '{name}' to compare with")
    if not regions:
        raise UserError(
            f"session {ds.attrs['eid']} and {_named(others)} share no region of "
            f"{model.scope.min_units_per_region} units (data.min_units_per_region)"
        )
    ds, rows = ds.compute(), {}  # read once, not for every region
    for name in regions:
        inside = as_text(ds[model.scope.region_map]) == name
        observed = ds.spikes.values[:, :, inside].sum(2, dtype=np.int64)
        known = np.isin(as_text(ds.unit)[inside], model.scope.units).any()
        # Of no session that has it, the first tells what is wrong.
        by = [other for other, of in zip(others, have, strict=True) if name in of] or others[:1]
        rows[name] = {
            "imputed": _imputed(model, ds, by, name, observed, test),
            "own_units": _imputed(model, ds, [ds], name, observed, test) if known else np.nan,
            "psth": _psth(ds, observed, part),
            "n_units": own[name],
            "n_units_like": sum(of.get(name, 0) for of in have),
            "n_spikes": int(observed[test].sum()),
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("region")


def _imputed(
    model: MtM,
    ds: xr.Dataset,
    by: Sequence[xr.Dataset],
    region: str,
    observed: np.ndarray,
    test: np.ndarray,
) -> float:
    """Bits/spike of a region as a whole, from the units that these sessions have of it."""
    rates = impute_each(model, ds, by, region)
    total = np.exp(np.mean([np.log(of.sum(2, dtype=np.float64)) for of in rates], 0))
    scaled = total * (observed[~test].sum() / total[~test].sum())
    return float(bits_per_spike(scaled[test, :, None], observed[test, :, None])[0])


def _named(sessions: Sequence[xr.Dataset]) -> str:
    return ", ".join(str(ds.attrs["eid"]) for ds in sessions) or "no other one"


def _known_regions(model: MtM, ds: xr.Dataset, every: bool) -> dict[str, int]:
    """Units of each region, by its name; all of them, or those that the model knows."""
    names = as_text(ds[model.scope.region_map])
    counted = every | np.isin(as_text(ds.unit), model.scope.units)
    found = dict(zip(*np.unique(names[counted], return_counts=True), strict=True))
    return {str(name): int(n) for name, n in found.items() if name not in NO_REGION}


def _psth(ds: xr.Dataset, observed: np.ndarray, split: np.ndarray) -> float:
    """Bits/spike of the smoothed mean of trials of one condition, as the baseline has it."""
    together = ds.isel(unit=[0])
    together = together.assign(spikes=(together.spikes.dims, observed[:, :, None]))
    predictor = BaselinePredictor("psth", together, split, np.array([""]))
    data = predictor.data
    chosen = predictor.baseline.choose(data, "co_smoothing")
    rates = predictor.baseline.predict(data, "co_smoothing", *chosen)
    return float(bits_per_spike(rates, data.counts["test"])[0])
