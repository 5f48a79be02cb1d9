"""Predictions of a model as xarray: of a trial, a session, or a whole cache into Zarr.

rates = predict(model, ds, task="co_smoothing")        # (trial, time, unit), spikes per bin
rates = predict(model, ds)                             # nothing hidden: denoised activity
rates = predict(model, ds, source=["CA1"])             # each other region from CA1 alone
found = predict(model, cache, into="rates.zarr")       # a mapping: eid -> lazy rates
found = open_predictions("rates.zarr")                 # the same, later
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import overload

import numpy as np
import xarray as xr

from ibl_mtm.cache.cache import Cache, as_cache
from ibl_mtm.errors import UserError
from ibl_mtm.evaluation.activity.predict import (
    Population,
    Precision,
    population_of,
    predict_from,
    predict_held_out,
    predict_unmasked,
    select_known,
    uses_bf16,
)
from ibl_mtm.evaluation.activity.predict_given import predict_given
from ibl_mtm.evaluation.activity.stored_predictions import Predictions, predict_cache
from ibl_mtm.evaluation.activity.tasks import HELD_OUT, ActivityTask
from ibl_mtm.model.masking import SCHEMES, Scheme
from ibl_mtm.model.mtm import MtM

__all__ = ["predict"]


@dataclass(frozen=True)
class _Asked:
    """What is to be predicted, of whatever session; see `predict`."""

    task: ActivityTask | None
    prompt: Scheme
    precision: Precision
    min_distance_um: float
    source: tuple[str, ...] | None
    given: tuple[str, ...] | None
    targets: tuple[str, ...] | None

    def check(self) -> None:
        """UserError for what cannot be asked of any session."""
        if self.task is not None and self.task not in HELD_OUT:
            raise UserError(f"unknown task '{self.task}'; known: {', '.join(HELD_OUT)}")
        if self.prompt not in SCHEMES:
            raise UserError(f"unknown prompt '{self.prompt}'; known: {', '.join(SCHEMES)}")
        if self.gives and self.task is not None:
            raise UserError(
                f"task '{self.task}' has its own of what is given; leave one of them out"
            )
        if self.source is not None and (self.gives or self.task is not None):
            raise UserError(
                "'source' says what is given, and so do a task, 'given' and 'targets'; leave one "
                "of them out"
            )

    @property
    def gives(self) -> bool:
        """Whether spikes and behaviour are predicted from each other."""
        return self.given is not None or self.targets is not None

    def of(self, model: MtM, ds: xr.Dataset) -> xr.DataArray | xr.Dataset:
        """The prediction of a session."""
        ds = select_known(model, ds)
        if self.gives:
            return predict_given(model, ds, self.given or (), self.targets or ())
        population = population_of(model, ds, self.precision, self.min_distance_um)
        attrs = {"units": "spikes/bin", "task": self.task or "none"}
        if self.source is not None:
            self._check_source(model, population)
            items = predict_from(population, self.source)
            attrs |= {"task": "inter_region", "source": ", ".join(self.source)}
        elif self.task is not None:
            items = predict_held_out(population, self.task)
        else:
            items = None
        if items is None:
            rates = np.exp(predict_unmasked(population, self.prompt))
        else:
            rates = np.full(ds.spikes.shape, np.nan, np.float32)
            for held, predicted in items:
                rates[:, held.bins, held.outputs] = predicted[:, held.bins]
        return xr.DataArray(
            rates,
            dims=("trial", "time", "unit"),
            coords=ds.spikes.coords,
            name="rate",
            attrs=attrs,
        )

    def _check_source(self, model: MtM, population: Population) -> None:
        known = sorted({*population.region.tolist()} - {""})
        for name in self.source or ():
            if name not in known:
                raise UserError(
                    f"no region '{name}' to predict from: of {model.scope.region_map}, with "
                    f"{model.scope.min_units_per_region} units or more, the session has "
                    f"{', '.join(known) or 'none'}"
                )
        if not self.source or len(set(self.source)) == len(known):
            raise UserError("'source' names some regions, and another one is to be predicted")


@overload
def predict(
    model: MtM,
    ds: xr.Dataset,
    task: ActivityTask | None = None,
    prompt: Scheme = "neuron",
    precision: Precision = "auto",
    min_distance_um: float = 0.0,
    *,
    source: str | Sequence[str] | None = None,
) -> xr.DataArray: ...


@overload
def predict(
    model: MtM, ds: xr.Dataset, *, given: Sequence[str], targets: Sequence[str]
) -> xr.Dataset: ...


@overload
def predict(
    model: MtM,
    ds: Cache | str | Path,
    task: ActivityTask | None = None,
    prompt: Scheme = "neuron",
    precision: Precision = "auto",
    min_distance_um: float = 0.0,
    *,
    source: str | Sequence[str] | None = None,
    given: Sequence[str] | None = None,
    targets: Sequence[str] | None = None,
    into: str | Path,
    say: Callable[[str], None] | None = None,
) -> Predictions: ...


def predict(
    model: MtM,
    ds: xr.Dataset | Cache | str | Path,
    task: ActivityTask | None = None,
    prompt: Scheme = "neuron",
    precision: Precision = "auto",
    min_distance_um: float = 0.0,
    *,
    source: str | Sequence[str] | None = None,
    given: Sequence[str] | None = None,
    targets: Sequence[str] | None = None,
    into: str | Path | None = None,
    say: Callable[[str], None] | None = None,
) -> xr.DataArray | xr.Dataset | Predictions:
    """Predict activity; of a model with modalities, behaviour too.

    Parameters
    ----------
    model
        From `ibl_mtm.load_model`.
    ds
        A session of a cache, a selection of its trials, or one trial (``ds.isel(trial=17)``). Or a
        cache, open or its path: all of its sessions that the model knows, with `into`.
    task
        ``co_smoothing``, ``forward_prediction``, ``intra_region``, ``inter_region`` or, of a model
        with modalities, ``encoding``: each entry is predicted as the task holds it out, NaN where
        it does not. None: nothing is hidden.
    prompt
        The prompt when nothing is hidden.
    precision
        Of the predictions of held-out activity (see `uses_bf16`).
    min_distance_um
        Do not show a unit that is predicted its neighbours: those of its probe which are nearer
        than this, and of its channel (for ``co_smoothing`` and ``intra_region``).
    source
        Instead of a task: regions whose units alone are shown. The units of each other region are
        predicted from them, under the prompt of ``inter_region``; those of `source` are NaN, and
        so are units of no region with enough of them.
    given, targets
        Instead of a task, of a model with modalities: what is shown, and what is predicted from
        it; ``spikes``, and the model's modalities by their names.
    into
        Of a cache: the folder to write, a Zarr group for each session. One session at a time is
        in memory. Stopped half way, the same call goes on; predictions of anything else, and
        folders of anybody else, are refused.
    say
        Of a cache: called with a line of text as each session begins.

    Returns
    -------
    DataArray (trial, time, unit), float32
        Expected spikes per bin; of one trial (time, unit).
    Dataset
        With `given` and `targets`: each target by its name. Spikes are expected spikes per bin,
        (trial, time, unit), traces (trial, time) as measured, classes (trial,) the probability of
        the one that their ``units`` name.
    Predictions
        Of a cache: a mapping from session to these, read lazily (see `open_predictions`).

    Raises
    ------
    UserError
        If the task, prompt or region is unknown, the session is not one of the model's, or `into`
        is missing or holds something else.

    Examples
    --------
    >>> rates = predict(model, ds, task="co_smoothing")
    >>> rates.dims, rates.attrs["units"]
    (('trial', 'time', 'unit'), 'spikes/bin')
    >>> bool(rates.notnull().all())              # every entry was held out once, and predicted
    True
    >>> predict(model, ds.isel(trial=3), task="co_smoothing").dims
    ('time', 'unit')
    """
    listed = (source,) if isinstance(source, str) else source
    asked = _Asked(
        task,
        prompt,
        "bf16" if uses_bf16(model, precision) else "32",
        min_distance_um,
        *(None if names is None else tuple(names) for names in (listed, given, targets)),
    )
    asked.check()
    if isinstance(ds, xr.Dataset):
        if into is not None:
            raise UserError(
                "'into' is for a cache: give one, such as cache.where(\"subject == 'm1'\"), or "
                "write what this returns with its to_zarr or to_netcdf"
            )
        if "trial" in ds.spikes.dims or "trial" not in ds.coords:
            return asked.of(model, ds)
        return asked.of(model, _with_trials(ds)).isel(trial=0)
    if into is None:
        raise UserError("predictions of a whole cache need a place: into='predictions.zarr'")
    return predict_cache(model, as_cache(ds), asdict(asked), asked.of, Path(into), say)


def _with_trials(ds: xr.Dataset) -> xr.Dataset:
    """A session of which one trial was selected, with that as its only one."""
    of_trial = [name for name, c in ds.coords.items() if not c.dims and name != "trial"]
    return ds.reset_coords(of_trial).expand_dims("trial").set_coords(of_trial)
