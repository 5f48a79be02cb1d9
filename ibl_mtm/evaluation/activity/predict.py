"""Predictions of a model on a session: whatever is held out, one thing after the other.

for held, rates in predict_held_out(population_of(model, ds), "co_smoothing"):
    ...                                                # rates (trial, time, held.outputs)
"""

import logging
import math
from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import replace
from itertools import groupby
from typing import Literal

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from ibl_mtm.errors import UserError
from ibl_mtm.evaluation.activity.by_dynamics import by_dynamics
from ibl_mtm.evaluation.activity.tasks import (
    TASK_SCHEME,
    ActivityTask,
    HeldOut,
    from_regions,
    held_out,
    neighbours,
    region_pairs,
)
from ibl_mtm.evaluation.behaviour.decode_by_model import hidden_modalities, shown_behaviour
from ibl_mtm.model.group import Group
from ibl_mtm.model.masking import Scheme
from ibl_mtm.model.modalities import Behaviour
from ibl_mtm.model.mtm import MtM
from ibl_mtm.model.with_dynamics import average, hides_the_end
from ibl_mtm.sessions.text import as_text
from ibl_mtm.sessions.trial_format import trial_format
from ibl_mtm.sessions.view import eligible_regions

__all__ = [
    "BATCH",
    "Population",
    "Precision",
    "hidden_states",
    "population_of",
    "predict_from",
    "predict_held_out",
    "predict_items",
    "predict_region_pairs",
    "predict_unmasked",
    "select_known",
    "uses_bf16",
    "warn_of_leak",
]

logger = logging.getLogger(__name__)

#: Trials in a forward pass: few enough for their activations to stay near the processor, or many
#: enough to keep a GPU busy.
BATCH = 32
GPU_BATCH = 512

#: Bytes of predictions that are held at a time.
_ROOM = 1 << 28

Precision = Literal["auto", "32", "bf16"]

_WIDE = 256  # a narrower model gains nothing from bfloat16 on a CPU


def _batch(device: torch.device) -> int:
    return BATCH if device.type == "cpu" else GPU_BATCH


def uses_bf16(model: MtM, precision: Precision) -> bool:
    """Whether held-out activity is predicted in bfloat16 (read-out and scores never are).

    ``auto`` says yes where that is faster: for a wide model on a CPU that multiplies bfloat16
    natively. It moves the bits/spike of a unit by less than 0.001 (0.0005 in a trained model).
    """
    if precision != "auto":
        return precision == "bf16"
    on_cpu = model.read_in.device.type == "cpu"
    return on_cpu and model.settings.width >= _WIDE and torch.cpu._is_avx512_bf16_supported()


class Population:
    """A session's counts as a model numbers its units.

    Parameters
    ----------
    model
        It must know the session.
    counts : ndarray (trial, time, unit)
    eid
        The session.
    units, region : ndarray (unit,), str
        Uuids, and regions with ``""`` where one takes no part in region tasks.
    precision
        Of the predictions of held-out activity (see `uses_bf16`).
    near : ndarray of bool (unit, unit), optional
        Units that are not shown where another one is predicted.
    behaviour
        Of these trials, for a model with modalities; shown where spikes are predicted from it.
    times : ndarray (trial,), optional
        When the trials were, s on the session's clock, for a model whose units drift.
    """

    def __init__(
        self,
        model: MtM,
        counts: np.ndarray,
        eid: str,
        units: np.ndarray,
        region: np.ndarray,
        precision: Precision = "auto",
        near: np.ndarray | None = None,
        behaviour: Behaviour | None = None,
        times: np.ndarray | None = None,
    ) -> None:
        device = model.read_in.device
        self.model, self.region, self.near = model, region, near
        self.bf16 = uses_bf16(model, precision)
        self.counts = torch.from_numpy(np.ascontiguousarray(counts)).to(device)
        self.rows = model.scope.rows_of(units).to(device)
        self.session = model.scope.sessions.index(eid)
        self.behaviour = behaviour
        self.times = None if times is None else torch.from_numpy(times).to(device)

    @property
    def has_behaviour(self) -> bool:
        """Whether the model knows some behaviour of the session."""
        if self.behaviour is None:
            return False
        return bool((self.model.scales_of(self.session).null > 0).any())

    def given(self, names: Sequence[str]) -> "Population":
        """The same with these modalities alone to be shown where spikes are predicted from them."""
        assert self.behaviour is not None
        other = copy(self)
        hidden = hidden_modalities(self.model, names)
        other.behaviour = replace(self.behaviour, hidden_traces=hidden[0], hidden_classes=hidden[1])
        return other

    def group(
        self,
        hidden: Tensor,
        trials: Tensor,
        scheme: Scheme,
        region: Tensor | None = None,
        outputs: Tensor | None = None,
        recurring: bool = False,
    ) -> Group:
        """Trials of this session under a scheme; attention is causal only if that was trained."""
        causal, counts = self.model.is_causal(scheme), self.counts[trials]
        shown = None
        if scheme == "encoding" and self.behaviour is not None:
            shown = self.behaviour[trials]
        return Group(
            counts,
            hidden,
            self.rows,
            self.session,
            scheme,
            causal,
            region,
            outputs,
            recurring,
            shown,
            None if self.times is None else self.times[trials],
        )


def predict_held_out(
    population: Population, task: ActivityTask
) -> Iterator[tuple[HeldOut, np.ndarray]]:
    """Predict everything that a task holds out.

    Yields
    ------
    held : HeldOut
    rates : ndarray (trial, time, M)
        Expected counts per bin of ``held.outputs`` (scored in ``held.bins`` only).
    """
    items = held_out(task, population.region, population.counts.shape[1], population.near)
    return predict_items(population, TASK_SCHEME[task], items)


def predict_region_pairs(population: Population) -> Iterator[tuple[HeldOut, np.ndarray]]:
    """Predict each region from each other region alone; as `predict_held_out`."""
    items = region_pairs(population.region, population.counts.shape[1])
    return predict_items(population, "inter_region", items)


def predict_from(
    population: Population, source: Sequence[str]
) -> Iterator[tuple[HeldOut, np.ndarray]]:
    """Predict each other region from the units of some regions alone; as `predict_held_out`."""
    items = from_regions(population.region, population.counts.shape[1], source)
    return predict_items(population, "inter_region", items)


@torch.inference_mode()
def predict_items(
    population: Population, scheme: Scheme, items: Iterator[HeldOut]
) -> Iterator[tuple[HeldOut, np.ndarray]]:
    """Predict anything that is held out, under a scheme's prompt; as `predict_held_out`."""
    # Items of equal shape share forward passes: (item, trial) pairs are cut into batches.
    for _, same in groupby(items, key=lambda held: (held.hidden.shape, len(held.outputs))):
        yield from _predict_alike(population, scheme, list(same), len(population.counts))


def _predict_alike(
    population: Population, scheme: Scheme, items: list[HeldOut], n_trials: int
) -> Iterator[tuple[HeldOut, np.ndarray]]:
    device, model = population.counts.device, population.model
    region_row = {name: row for row, name in enumerate(model.scope.regions)}
    shape = (n_trials, population.counts.shape[1], len(items[0].outputs))
    at_once = max(1, min(BATCH, _ROOM // (4 * math.prod(shape))))
    items = sorted(items, key=lambda held: held.region)  # neighbours share a start: `by_dynamics`
    for start in range(0, len(items), at_once):
        some = items[start : start + at_once]
        hidden = torch.from_numpy(np.stack([held.hidden for held in some])).to(device)
        outputs = torch.from_numpy(np.stack([held.outputs for held in some])).to(device)
        region = torch.tensor([region_row.get(held.region, -1) for held in some], device=device)
        rates = np.empty((len(some), *shape), np.float32)
        other = _by_dynamics(population, scheme, some)
        # Trial by trial, because the items of a trial differ in few bins.
        recurring = len(some) > 1 and device.type == "cpu"
        with torch.autocast(device.type, torch.bfloat16, enabled=population.bf16):
            for pairs in torch.arange(len(some) * n_trials, device=device).split(_batch(device)):
                trial, item = pairs // len(some), pairs % len(some)
                group = population.group(
                    hidden[item], trial, scheme, region[item], outputs[item], recurring
                )
                encoded = model.encode([group])
                with torch.autocast(device.type, enabled=False):
                    log_rate = model.predict(encoded.float(), group)
                    if other is not None:
                        log_rates, gains = other
                        gain = None if gains is None else gains[item, trial]
                        share = model.share_of(scheme)
                        log_rate = average(log_rate, log_rates[item, trial], gain, share)
                    predicted = log_rate.exp()
                rates[item.cpu(), trial.cpu()] = predicted.cpu()
        yield from zip(some, rates, strict=True)


def _by_dynamics(
    population: Population, scheme: Scheme, items: Sequence[HeldOut]
) -> tuple[Tensor, Tensor | None] | None:
    """Log rates (item, trial, time, M) of the dynamical system, where it takes part, and gains."""
    model, causal = population.model, population.model.is_causal(scheme)
    if not model.share_of(scheme):
        return None
    if causal and not all(hides_the_end(torch.from_numpy(held.hidden)[None]) for held in items):
        return None
    system = model.dynamics_of(population.rows, population.session)
    found = by_dynamics(system, population.counts, items, population.times)
    gains = [gain for _, gain in found if gain is not None]
    return torch.stack([log_rates for log_rates, _ in found]), torch.stack(gains) if gains else None


@torch.inference_mode()
def predict_unmasked(population: Population, scheme: Scheme) -> np.ndarray:
    """Log rates of whole trials, nothing hidden, under a scheme's prompt, (trial, time, unit)."""
    warn_of_leak(population.model, scheme)
    parts = []
    for group in _whole_trials(population, scheme):
        (log_rate,) = population.model([group])
        parts.append(population.model.blend(log_rate, group))
    return torch.cat(parts).cpu().numpy()


@torch.inference_mode()
def hidden_states(population: Population, scheme: Scheme) -> np.ndarray:
    """The transformer's output for whole trials, nothing hidden, (trial, time, D)."""
    warn_of_leak(population.model, scheme)
    parts = [population.model.encode([group]) for group in _whole_trials(population, scheme)]
    return torch.cat(parts).float().cpu().numpy()


def _whole_trials(population: Population, scheme: Scheme) -> Iterator[Group]:
    """All trials in batches, nothing hidden."""
    device = population.counts.device
    nothing = torch.zeros(1, 1, 1, dtype=torch.bool, device=device)
    for trials in torch.arange(len(population.counts), device=device).split(_batch(device)):
        yield population.group(nothing.expand(len(trials), 1, 1), trials, scheme)


def warn_of_leak(model: MtM, scheme: Scheme) -> None:
    """Say that causal attention is none in a model that copies the published code's leak."""
    if model.settings.leading_tokens_see_all and model.is_causal(scheme):
        logger.warning(
            "this model's leading tokens see all bins (model.leading_tokens_see_all): under the "
            "causal prompt each bin sees later ones through them"
        )


def select_known(model: MtM, ds: xr.Dataset) -> xr.Dataset:
    """The units of a session that a model knows.

    Raises
    ------
    UserError
        If the model was not trained on the session, or on trials of another format.
    """
    eid, scope = str(ds.attrs["eid"]), model.scope
    if set(ds.spikes.dims) != {"trial", "time", "unit"}:
        raise UserError(
            f"a model needs trials, bins and units, not {', '.join(ds.spikes.dims)} alone; select "
            "a single trial by a list, as in ds.isel(trial=[17])"
        )
    if trial_format(ds) != scope.trial_format:
        raise UserError(
            f"session {eid} has trials of another format than the model was trained on: "
            f"{trial_format(ds)}, not {scope.trial_format}; ingest it with the model's"
        )
    known = np.isin(as_text(ds.unit), scope.units)
    if eid not in scope.sessions or not known.any():
        raise UserError(f"the model was not trained on session {eid}: it has no rows for its units")
    return ds.isel(unit=np.flatnonzero(known))


def population_of(
    model: MtM, ds: xr.Dataset, precision: Precision = "auto", min_distance_um: float = 0.0
) -> Population:
    """Read a session (of known units) for prediction."""
    scope = model.scope
    region = eligible_regions(
        as_text(ds[scope.region_map]), scope.min_units_per_region, scope.void_and_root
    )
    units = as_text(ds.unit)
    near = None
    if min_distance_um > 0:
        places = as_text(ds.probe), ds.depth.values, ds.channel.values
        near = neighbours(*places, min_distance_um)
    counts, eid = ds.spikes.values, str(ds.attrs["eid"])
    behaviour = shown_behaviour(model, ds)
    times = np.ascontiguousarray(ds.window_start.values)  # of trials in any order
    return Population(model, counts, eid, units, region, precision, near, behaviour, times)
