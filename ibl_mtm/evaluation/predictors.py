"""What can be scored on a session: a trained model, or a baseline; both look the same.

predictor = ModelPredictor(model, ds, test)
for held, rates in predictor.held_out("co_smoothing"):
    ...                                          # rates (test trial, time, held.outputs)
predictor.features()["neuron"]                   # log rates of all trials, to decode from
"""

from collections.abc import Iterator, Mapping
from typing import Literal, Protocol

import numpy as np
import xarray as xr

from ibl_mtm.evaluation.activity.predict import (
    Precision,
    hidden_states,
    population_of,
    predict_held_out,
    predict_region_pairs,
    predict_unmasked,
)
from ibl_mtm.evaluation.activity.tasks import ActivityTask, HeldOut
from ibl_mtm.evaluation.behaviour.decode_by_model import decode_by_model
from ibl_mtm.evaluation.behaviour.linear_decoders import Features
from ibl_mtm.model.masking import BEHAVIOUR_SCHEMES, Scheme
from ibl_mtm.model.mtm import MtM
from ibl_mtm.sessions.modalities import variables_in

__all__ = ["ModelPredictor", "Predictor", "Scored"]

#: Schemes under which no spike is asked for.
_ASKS_NO_SPIKES = {"decoding", "behaviour"}

Scored = ActivityTask | Literal["region_pairs"]


class Predictor(Protocol):
    """Predicts one session.

    Attributes
    ----------
    region : ndarray (unit,), str
        Regions as the tasks use them, ``""`` where one takes no part.
    prompt
        The prompt of the headline behaviour score; None for a predictor without features.
    """

    @property
    def region(self) -> np.ndarray: ...

    @property
    def prompt(self) -> str | None: ...

    def cannot(self, what: Scored) -> str | None:
        """Why it predicts no such task, or no pairs of regions, if it does not."""

    def held_out(self, task: ActivityTask) -> Iterator[tuple[HeldOut, np.ndarray]]:
        """Everything that a task holds out of the test trials, with expected counts per bin."""

    def region_pairs(self) -> Iterator[tuple[HeldOut, np.ndarray]]:
        """Each region predicted from each other one alone."""

    def without_modality(self) -> Iterator[tuple[str, np.ndarray]]:
        """Encoding from all behaviour but one variable: whose (`variables_in`), expected counts."""

    def features(self) -> Mapping[str, Features]:
        """What behaviour can be decoded from, by prompt: features of every trial."""

    def answers(self) -> Mapping[str, np.ndarray]:
        """Behaviour as it decodes it itself, by task: log odds, or traces, of every trial."""


class ModelPredictor:
    """A trained model on a session (of units that it knows).

    Parameters
    ----------
    model
        In evaluation mode.
    ds
        The session, in memory.
    test : ndarray
        Positions of the test trials.
    precision
        Of the predictions of held-out activity.
    min_distance_um
        Neighbours nearer than this are not shown (see `ibl_mtm.predict`).
    """

    def __init__(
        self,
        model: MtM,
        ds: xr.Dataset,
        test: np.ndarray,
        precision: Precision = "auto",
        min_distance_um: float = 0.0,
    ) -> None:
        self.model, self.ds = model, ds
        trials = ds.isel(trial=test)
        self.population = population_of(model, trials, precision, min_distance_um)
        self.region = self.population.region
        schemes = model.scope.schemes
        self.prompt: Scheme = "neuron" if "neuron" in schemes else schemes[0]

    def cannot(self, what: Scored) -> str | None:
        """A model predicts every task; encoding only if it was trained to, from what is there."""
        if what != "encoding":
            return None
        if "encoding" not in self.model.scope.schemes:
            return "the model was not trained to predict spikes from behaviour"
        if not self.population.has_behaviour:
            return "the session has no behaviour that the model knows"
        return None

    def held_out(self, task: ActivityTask) -> Iterator[tuple[HeldOut, np.ndarray]]:
        """See `Predictor`."""
        return predict_held_out(self.population, task)

    def region_pairs(self) -> Iterator[tuple[HeldOut, np.ndarray]]:
        """See `Predictor`."""
        return predict_region_pairs(self.population)

    def without_modality(self) -> Iterator[tuple[str, np.ndarray]]:
        """See `Predictor`."""
        has = (self.model.scales_of(self.population.session).null > 0).tolist()
        names = self.model.names_of_modalities
        there = [name for name, known in zip(names, has, strict=True) if known]
        for what, left_out in variables_in(there).items():
            given = [name for name in there if name not in left_out]
            ((_, rates),) = predict_held_out(self.population.given(given), "encoding")
            yield what, rates

    def features(self) -> dict[str, Features]:
        """Log rates under every prompt; one and the same where prompts were not trained.

        Of a model that was trained for behaviour alone, whose rates no step has trained, what its
        transformer makes of the spikes.
        """
        population = population_of(self.model, self.ds)
        if not set(self.model.scope.schemes) - _ASKS_NO_SPIKES:
            return {self.prompt: Features(hidden_states(population, self.prompt))}
        known = [s for s in self.model.scope.schemes if s not in BEHAVIOUR_SCHEMES]
        prompts = known if known and self.model.settings.prompt else (self.prompt,)
        return {p: Features(predict_unmasked(population, p)) for p in prompts}

    def answers(self) -> dict[str, np.ndarray]:
        """See `Predictor`; none of a model without modalities."""
        return decode_by_model(self.model, self.ds)
