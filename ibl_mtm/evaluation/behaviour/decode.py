"""Decode a behaviour from rates that anybody made: a model's, one's own, or the counts.

score = decode(ibl_mtm.predict(model, ds), ds, "choice", regions="CA1")
score.accuracy, score.intervals["accuracy"], score.chance["accuracy"]
"""

from collections.abc import Collection

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike

from ibl_mtm.cache.queries import select_units
from ibl_mtm.errors import UserError
from ibl_mtm.evaluation.behaviour.behaviours import behaviours_of
from ibl_mtm.evaluation.behaviour.decodable_trials import Undecodable
from ibl_mtm.evaluation.behaviour.decoding_scores import ClassScore, TraceScore
from ibl_mtm.evaluation.behaviour.level_decoder import linear_decoder
from ibl_mtm.evaluation.behaviour.level_scores import LevelScore
from ibl_mtm.evaluation.behaviour.linear_decoders import Features
from ibl_mtm.sessions.text import as_text

__all__ = ["decode"]


def decode(
    rates: xr.DataArray,
    ds: xr.Dataset,
    behaviour: str,
    regions: str | Collection[str] | None = None,
    split: ArrayLike | None = None,
    shuffles: int = 50,
) -> ClassScore | LevelScore | TraceScore:
    """Read a behaviour out of activity, as `ibl-mtm eval` does.

    Parameters
    ----------
    rates : DataArray (trial, time, unit)
        Of some trials and units of the session, such as `ibl_mtm.predict` returns or
        ``ds.spikes``.
    ds
        The session.
    behaviour
        A task of `ibl-mtm eval`, such as ``choice`` or ``wheel_speed``, or what the session
        declares to be decoded.
    regions
        Read out from units of these regions alone (see `ibl_mtm.select_units`).
    split : array (trial,), str
        train, val or test for each trial of `rates`; by default the session's own. The decoder is
        fitted to train and val, and scored on test.
    shuffles
        Fits to shuffled trials, for the level of chance.

    Returns
    -------
    ClassScore, LevelScore or TraceScore
        `accuracy` or `r2`, intervals, chance, and what was decoded for each test trial; of a class
        of three or more `levels` and `confusion` too.

    Raises
    ------
    UserError
        If the behaviour is unknown or cannot be decoded from these trials, or trials or units are
        not the session's.

    Examples
    --------
    >>> score = decode(ds.spikes, ds, "choice", shuffles=0)
    >>> score.n_test == len(score.predicted)
    True
    """
    if set(rates.dims) != {"trial", "time", "unit"}:
        raise UserError(f"rates need trials, bins and units, not {', '.join(map(str, rates.dims))}")
    rates = rates.transpose("trial", "time", "unit")
    known = behaviours_of(ds)
    if behaviour not in known:
        raise UserError(f"unknown behaviour '{behaviour}'; known: {', '.join(known)}")
    if not np.isin(rates.trial, ds.trial).all():
        raise UserError(f"rates have trials that session {ds.attrs['eid']} has not")
    if regions is not None:
        names = as_text(select_units(ds, regions=regions).unit)
        rates = rates.isel(unit=np.flatnonzero(np.isin(as_text(rates.unit), names)))
    if not rates.sizes["unit"]:
        raise UserError("no unit is left to read out from")
    own = ds.sel(trial=rates.trial.values)
    part = as_text(own["split"]) if split is None else np.asarray(split)
    included = own["included"].values if "included" in own else np.ones(len(part), bool)
    fit, test = included & (part != "test"), included & (part == "test")
    how = linear_decoder(known[behaviour])
    try:
        target = known[behaviour].target(own)
        return how(Features(rates.values), target, fit, test, shuffles=shuffles)
    except Undecodable as reason:
        raise UserError(f"{behaviour} of session {ds.attrs['eid']}: {reason}") from None
