"""Behaviour as a model with modalities decodes it from spikes itself, all behaviour hidden.

answers = decode_by_model(model, ds)
answers["choice"]           # (trial,) log odds of +1
answers["wheel_speed"]      # (trial, time), as measured
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from ibl_mtm.model.group import Group
from ibl_mtm.model.masking import Scheme
from ibl_mtm.model.modalities import Answer, Behaviour
from ibl_mtm.model.mtm import MtM
from ibl_mtm.sessions.behaviours import BEHAVIOURS
from ibl_mtm.sessions.modalities import read_modalities
from ibl_mtm.sessions.text import as_text

__all__ = [
    "DECODING",
    "ask_trials",
    "decode_by_model",
    "decoding_scheme",
    "hidden_modalities",
    "measured",
    "shown_behaviour",
]

_BATCH = 32

DECODING: tuple[Scheme, ...] = ("decoding", "mixed", "behaviour")
"""Schemes under whose prompts behaviour can be asked of spikes, the one for it first."""


def decoding_scheme(model: MtM) -> Scheme | None:
    """The prompt under which a model decodes; None for one that was not trained to."""
    if not model.settings.modalities:
        return None
    return next((scheme for scheme in DECODING if scheme in model.scope.schemes), None)


def shown_behaviour(
    model: MtM, ds: xr.Dataset, given: Sequence[str] | None = None
) -> Behaviour | None:
    """A session's behaviour as a model reads it; None for a model without modalities.

    Parameters
    ----------
    given
        Modalities that are shown, by default all; the others are hidden.
    """
    names = model.names_of_modalities
    if not names:
        return None
    values, device = read_modalities(ds, names), model.read_in.device
    return Behaviour(
        torch.from_numpy(values.traces).to(device),
        torch.from_numpy(values.classes).to(device),
        *hidden_modalities(model, names if given is None else given),
    )


def hidden_modalities(model: MtM, given: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Which traces (1, 1, K) and classes (1, V) are hidden where these modalities are shown."""
    names = model.names_of_modalities
    hidden = torch.tensor([name not in given for name in names], device=model.read_in.device)
    n_traces = len(model.modalities.traces)
    return hidden[:n_traces].view(1, 1, -1), hidden[n_traces:].view(1, -1)


def ask_trials(
    model: MtM,
    ds: xr.Dataset,
    scheme: Scheme,
    behaviour: Behaviour | None = None,
    hide_spikes: bool = False,
) -> Iterator[tuple[Tensor, Group]]:
    """What the transformer makes of a session's trials, some at a time, and what was asked.

    Parameters
    ----------
    model, ds
        As for `decode_by_model`.
    scheme
        Its prompt.
    behaviour
        What is shown of it; None: nothing.
    hide_spikes
        Whether all spikes are hidden; otherwise none is.

    Yields
    ------
    (B, T, D) and the group of these B trials.
    """
    device = model.read_in.device
    session = model.scope.sessions.index(str(ds.attrs["eid"]))
    rows = model.scope.rows_of(as_text(ds.unit)).to(device)
    counts = torch.from_numpy(np.ascontiguousarray(ds.spikes.values)).to(device)
    for trials in torch.arange(len(counts), device=device).split(_BATCH):
        hidden = torch.full((len(trials), 1, 1), hide_spikes, device=device)
        shown = None if behaviour is None else behaviour[trials]
        group = Group(counts[trials], hidden, rows, session, scheme, behaviour=shown)
        yield model.encode([group]), group


@torch.inference_mode()
def decode_by_model(model: MtM, ds: xr.Dataset) -> dict[str, np.ndarray]:
    """Decode every modality that the model knows of a session.

    Parameters
    ----------
    model
        In evaluation mode.
    ds
        The session, of units that the model knows, in memory.

    Returns
    -------
    dict
        By modality: the log odds of the class +1, (trial,), or the expected trace as measured,
        (trial, time); empty for a model that was not trained to decode.
    """
    scheme = decoding_scheme(model)
    if scheme is None:
        return {}
    asked = ask_trials(model, ds, scheme)
    answers = [model.decode_behaviour(h, group) for h, group in asked]
    return measured(model, answers, float(ds.attrs["bin_size"]))


def measured(model: MtM, answers: Sequence[Answer], bin_size: float) -> dict[str, np.ndarray]:
    """What a model said of one trial after the other, by modality that the session has."""
    traces = torch.cat([answer.expected() for answer in answers]).cpu().numpy()
    logits = torch.cat([answer.logit for answer in answers]).cpu().numpy()
    has = (answers[0].scales.null > 0).tolist()
    found = {}
    for at, name in enumerate(model.names_of_modalities):
        if not has[at]:
            continue
        if at >= traces.shape[2]:
            found[name] = logits[:, at - traces.shape[2]]
        else:
            found[name] = traces[:, :, at] / (bin_size if BEHAVIOURS[name].counts else 1.0)
    return found
