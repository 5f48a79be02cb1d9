"""Any of spikes and behaviour from any others, by a model with modalities.

found = predict_given(model, ds, given=["wheel_speed", "choice"], targets=["spikes"])
found.spikes                                        # (trial, time, unit), spikes per bin
"""

from collections.abc import Sequence

import numpy as np
import torch
import xarray as xr

from ibl_mtm.errors import UserError
from ibl_mtm.evaluation.behaviour.decode_by_model import (
    DECODING,
    ask_trials,
    measured,
    shown_behaviour,
)
from ibl_mtm.model.masking import Scheme
from ibl_mtm.model.mtm import MtM
from ibl_mtm.sessions.behaviours import BEHAVIOURS

__all__ = ["SPIKES", "predict_given"]

SPIKES = "spikes"


@torch.inference_mode()
def predict_given(
    model: MtM, ds: xr.Dataset, given: Sequence[str], targets: Sequence[str]
) -> xr.Dataset:
    """Predict some of spikes and behaviour from some others (see `ibl_mtm.predict`).

    The session must be of units that the model knows.

    Raises
    ------
    UserError
        If a name is unknown, both given and asked for, or missing in the session's training
        trials; or if the model was not trained on anything of this kind.
    """
    scheme = _scheme_for(model, given, targets)
    eid = str(ds.attrs["eid"])
    _check_there(model, model.scope.sessions.index(eid), (*given, *targets))
    rates, answers = [], []
    shown = shown_behaviour(model, ds, given)
    for h, group in ask_trials(model, ds, scheme, shown, hide_spikes=SPIKES not in given):
        answers.append(model.decode_behaviour(h, group))
        if SPIKES in targets:
            rates.append(model.predict(h, group).exp().cpu().numpy())
    found = measured(model, answers, float(ds.attrs["bin_size"]))
    variables: dict[str, tuple[tuple[str, ...], np.ndarray, dict[str, str]]] = {}
    dims: tuple[str, ...]
    for name in targets:
        if name == SPIKES:
            dims, values, units = ("trial", "time", "unit"), np.concatenate(rates), "spikes/bin"
        elif (classes := BEHAVIOURS[name].classes) is None:
            dims, values, units = ("trial", "time"), found[name], BEHAVIOURS[name].measured
        else:
            dims, values = ("trial",), 1 / (1 + np.exp(-found[name]))
            units = f"probability of {classes[1]}"
        variables[name] = (dims, values.astype(np.float32), {"units": units})
    attrs = {"eid": eid, "given": ", ".join(given) or "nothing"}
    # Without what else is known of trials: a behaviour is among it by the same name.
    coords = {n: ds[n].reset_coords(drop=True) for n in ("trial", "time", "unit")}
    kept = {dim for dims, *_ in variables.values() for dim in dims}
    return xr.Dataset(variables, {n: c for n, c in coords.items() if n in kept}, attrs)


def _scheme_for(model: MtM, given: Sequence[str], targets: Sequence[str]) -> Scheme:
    """The prompt of the scheme that asks for what is nearest to this."""
    if not model.settings.modalities:
        raise UserError("the model knows spikes alone; train one with model.modalities")
    known = (SPIKES, *model.names_of_modalities)
    for name in (*given, *targets):
        if name not in known:
            raise UserError(f"the model knows no '{name}'; it knows {', '.join(known)}")
    if both := [name for name in targets if name in given]:
        raise UserError(f"{both[0]} is given and asked for: leave it out of one of them")
    if not targets:
        raise UserError(f"nothing is asked for; give targets, of {', '.join(known)}")
    schemes: tuple[Scheme, ...]
    if SPIKES not in given:
        only_spikes = set(targets) == {SPIKES}
        schemes = ("encoding", "mixed") if only_spikes else ("mixed",)
    elif len(set(given)) == 1:
        schemes = DECODING
    else:
        schemes = ("behaviour", "mixed", "decoding")
    for scheme in schemes:
        if scheme in model.scope.schemes:
            return scheme
    raise UserError(
        f"the model was trained on {', '.join(model.scope.schemes)}, none of which asks for this; "
        f"train one with {schemes[0]} among masks.schemes"
    )


def _check_there(model: MtM, session: int, names: Sequence[str]) -> None:
    has = (model.scales_of(session).null > 0).tolist()
    for name, there in zip(model.names_of_modalities, has, strict=True):
        if name in names and not there:
            raise UserError(
                f"session {model.scope.sessions[session]} had no {name} in its training trials "
                "(or one that never changes), so the model has no scale for it; leave it out"
            )
