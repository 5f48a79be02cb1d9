"""Score one model on the test trials of one session.

scores = score_session(model, ds, DataSettings(), TASKS, truth=None)
scores.per_unit, scores.behaviour, scores.skipped, scores.examples
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from ibl_mtm.evaluation.decoding import (
    ChoiceScore,
    TraceScore,
    Undecodable,
    decode_choice,
    decode_trace,
)
from ibl_mtm.evaluation.metrics import bits_per_spike
from ibl_mtm.evaluation.predict import (
    Population,
    population_of,
    predict_held_out,
    predict_unmasked,
    select_known,
)
from ibl_mtm.evaluation.tasks import ACTIVITY_TASKS, ActivityTask
from ibl_mtm.model.masking import Scheme
from ibl_mtm.model.mtm import MtM
from ibl_mtm.simulate.truth import Truth
from ibl_mtm.text import as_text
from ibl_mtm.training.data import split_of
from ibl_mtm.training.settings import DataSettings

__all__ = ["BEHAVIOUR_TASKS", "TASKS", "SessionScores", "score_session"]

logger = logging.getLogger(__name__)

BEHAVIOUR_TASKS = ("choice", "whisker_motion_energy")
TASKS = (*ACTIVITY_TASKS, *BEHAVIOUR_TASKS)
#: Test trials whose predictions are kept to look at, evenly spaced over the session.
N_EXAMPLES = 4


@dataclass
class SessionScores:
    """Scores of one session.

    Attributes
    ----------
    per_unit
        One row per unit and activity task.
    behaviour
        Scores of the behaviour tasks under the headline prompt, every prompt and raw spikes.
    skipped
        Reason for each task that cannot be had.
    examples
        Averaged and single-trial co-smoothing predictions, for figures; empty without that task.
    n_test
        Number of test trials.
    """

    per_unit: pd.DataFrame
    behaviour: dict[str, dict[str, Any]] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    examples: xr.Dataset = field(default_factory=xr.Dataset)
    n_test: int = 0


def score_session(
    model: MtM,
    ds: xr.Dataset,
    settings: DataSettings,
    tasks: Sequence[str] = TASKS,
    truth: Truth | None = None,
) -> SessionScores:
    """Score a model on a session that it knows.

    Parameters
    ----------
    model
        In evaluation mode.
    ds
        The session.
    settings
        The run's, for its split of trials.
    tasks
        Some of `TASKS`.
    truth
        True rates of a simulated session, for the oracle: the score of those rates on the very
        same entries.

    Raises
    ------
    UserError
        If the model does not know the session, or its trials are of another format.
    """
    ds = select_known(model, ds).load()
    split = split_of(ds, settings)
    test = np.flatnonzero(split == "test")
    scores = SessionScores(pd.DataFrame(), n_test=len(test))
    if not len(test):
        scores.skipped = dict.fromkeys(tasks, "no test trials")
        return scores
    held_out_trials = ds.isel(trial=test)
    population = population_of(model, held_out_trials)
    tables = []
    for task in ACTIVITY_TASKS:
        if task not in tasks:
            continue
        reason = _cannot(task, population.region)
        if reason:
            scores.skipped[task] = reason
            continue
        table, rates = _score_activity(population, task, held_out_trials, truth)
        tables.append(table)
        if task == "co_smoothing":
            scores.examples = _examples(held_out_trials, rates)
    if tables:
        scores.per_unit = pd.concat(tables, ignore_index=True)
    if set(tasks) & set(BEHAVIOUR_TASKS):
        _score_behaviour(model, ds, split, tasks, scores)
    return scores


def _cannot(task: ActivityTask, region: np.ndarray) -> str | None:
    """Why a session cannot have a task."""
    names = set(region) - {""}
    if task == "intra_region" and not names:
        return "no region has enough units"
    if task == "inter_region" and (not names or len(set(region)) < 2):
        return "needs a region with enough units, and units outside of it"
    return None


def _score_activity(
    population: Population, task: ActivityTask, ds: xr.Dataset, truth: Truth | None
) -> tuple[pd.DataFrame, np.ndarray]:
    counts, time = ds.spikes.values, ds.time.values
    units = as_text(ds.unit)
    expected = None
    if truth is not None:
        expected = truth.expected_counts(
            units.tolist(), ds.window_start.values, len(time), float(ds.attrs["bin_size"])
        )
    bits, oracle, spikes = (np.full(len(units), np.nan) for _ in range(3))
    rates = np.full(counts.shape, np.nan, np.float32)
    for held, predicted in predict_held_out(population, task):
        entries = np.s_[:, held.bins, held.outputs]
        rates[entries] = predicted[:, held.bins]
        bits[held.outputs] = bits_per_spike(rates[entries], counts[entries])
        spikes[held.outputs] = counts[entries].sum((0, 1))
        if expected is not None:
            oracle[held.outputs] = bits_per_spike(expected[entries], counts[entries])
    table = pd.DataFrame(
        {
            "eid": str(ds.attrs["eid"]),
            "unit": units,
            "region": as_text(ds.beryl),
            "cosmos": as_text(ds.cosmos),
            "task": task,
            "bits_per_spike": bits,
            "n_spikes": spikes,
            "firing_rate": ds.firing_rate.values,
            "label": ds.label.values,
            "oracle": oracle,
        }
    )
    # Units that the task never holds out (of no eligible region) have no row.
    return table[~np.isnan(spikes)].astype({"n_spikes": "int64"}), rates


def _examples(ds: xr.Dataset, rates: np.ndarray) -> xr.Dataset:
    """Predictions to look at: averages over test trials by choice, and a few single trials."""
    bin_size = float(ds.attrs["bin_size"])
    conditions = {"all windows": np.ones(ds.sizes["trial"], bool)}
    if "choice" in ds:
        sides = {"choice left": ds.choice.values == 1, "choice right": ds.choice.values == -1}
        conditions = {name: trials for name, trials in sides.items() if trials.any()} or conditions
    observed, predicted = (
        np.stack([values[trials].mean(0, dtype=np.float64) for trials in conditions.values()])
        for values in (ds.spikes.values, rates)
    )
    chosen = np.unique(np.linspace(0, len(rates) - 1, N_EXAMPLES).astype(int))
    return xr.Dataset(
        {
            "psth_observed": (
                ("condition", "time", "unit"),
                (observed / bin_size).astype(np.float32),
                {"units": "spikes/s"},
            ),
            "psth_predicted": (
                ("condition", "time", "unit"),
                (predicted / bin_size).astype(np.float32),
                {"units": "spikes/s"},
            ),
            "n_trials": ("condition", [int(t.sum()) for t in conditions.values()]),
            "example_spikes": (("example", "time", "unit"), ds.spikes.values[chosen]),
            "example_rates": (("example", "time", "unit"), rates[chosen]),
        },
        coords={
            "condition": list(conditions),
            "time": ds.time.values,
            "unit": as_text(ds.unit),
            "region": ("unit", as_text(ds.beryl)),
            "example": ds.trial.values[chosen],
        },
        attrs={"eid": str(ds.attrs["eid"]), "alignment": str(ds.attrs["alignment"])},
    )


def _score_behaviour(
    model: MtM, ds: xr.Dataset, split: np.ndarray, tasks: Sequence[str], scores: SessionScores
) -> None:
    """Decode behaviour from the log rates of whole trials, under every prompt."""
    wanted = {}
    for task in BEHAVIOUR_TASKS:
        if task in tasks:
            if task in ds:
                wanted[task] = ds[task].values
            else:
                scores.skipped[task] = f"the session has no {task}"
    included = ds.included.values if "included" in ds else np.ones(len(split), bool)
    fit, test = included & (split != "test"), included & (split == "test")
    population = population_of(model, ds)
    headline = _headline_prompt(model)
    prompts = model.scope.schemes if model.settings.prompt else (headline,)
    features: dict[str, np.ndarray] = {p: predict_unmasked(population, p) for p in prompts}
    for task, target in wanted.items():
        try:
            by_prompt = {p: _decode(task, x, target, fit, test) for p, x in features.items()}
            raw = _decode(task, ds.spikes.values, target, fit, test)
        except Undecodable as reason:
            scores.skipped[task] = str(reason)
            continue
        best = by_prompt[headline]
        scores.behaviour[task] = {
            **_as_json(best),
            "prompt": headline,
            "by_prompt": {prompt: _as_json(score) for prompt, score in by_prompt.items()},
            "raw_spikes": _as_json(raw),
        }
        if isinstance(best, TraceScore) and scores.examples:
            scores.examples = _add_whisker(scores.examples, ds.trial.values, target, best)


def _headline_prompt(model: MtM) -> Scheme:
    """The prompt of the headline behaviour score: ``neuron`` if the model was trained on it."""
    return "neuron" if "neuron" in model.scope.schemes else model.scope.schemes[0]


def _decode(
    task: str, features: np.ndarray, target: np.ndarray, fit: np.ndarray, test: np.ndarray
) -> ChoiceScore | TraceScore:
    decode = decode_choice if task == "choice" else decode_trace
    return decode(features, target, fit, test)


def _as_json(score: ChoiceScore | TraceScore) -> dict[str, float]:
    if isinstance(score, TraceScore):
        return {"r2": score.r2}
    return {
        "accuracy": score.accuracy,
        "balanced_accuracy": score.balanced_accuracy,
        "majority": score.majority,
    }


def _add_whisker(
    examples: xr.Dataset, trial: np.ndarray, trace: np.ndarray, score: TraceScore
) -> xr.Dataset:
    """Add observed and decoded traces of the example trials; NaN where one was not decoded."""
    predicted = np.full(trace.shape, np.nan, np.float32)
    predicted[score.trials] = score.predicted
    rows = np.flatnonzero(np.isin(trial, examples.example.values))
    return examples.assign(
        whisker_observed=(("example", "time"), trace[rows]),
        whisker_predicted=(("example", "time"), predicted[rows]),
    )
