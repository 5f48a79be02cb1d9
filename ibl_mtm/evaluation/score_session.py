"""Score one predictor, a model or a baseline, on the test trials of one session.

predictor = ModelPredictor(model, ds, np.flatnonzero(split == "test"))
scores = score_session(predictor, ds, split, TASKS)
scores.per_unit, scores.behaviour, scores.skipped, scores.examples
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
import xarray as xr

from ibl_mtm.evaluation.activity.modality_gains import modality_gains
from ibl_mtm.evaluation.activity.published_r2 import (
    PUBLISHED_R2,
    published_conditions,
    published_r2,
)
from ibl_mtm.evaluation.activity.response import (
    FEWEST_TRIALS,
    SMOOTHING,
    response_r2,
    trial_conditions,
)
from ibl_mtm.evaluation.activity.tasks import ACTIVITY_TASKS, UNIT_TASKS, ActivityTask
from ibl_mtm.evaluation.behaviour.behaviours import BEHAVIOUR_TASKS, DEFAULT_BEHAVIOURS
from ibl_mtm.evaluation.behaviour.decode_session import DecodedSession, decode_behaviour
from ibl_mtm.evaluation.behaviour.decoding_scores import TraceScore
from ibl_mtm.evaluation.behaviour.imposters import Imposters
from ibl_mtm.evaluation.metrics import bits_per_spike, poisson_d2
from ibl_mtm.evaluation.predictors import Predictor
from ibl_mtm.sessions.conditions import condition_codes, conditions_of
from ibl_mtm.sessions.text import as_text
from ibl_mtm.simulate.brain import BEHAVING, COLUMNS
from ibl_mtm.simulate.truth import Truth

__all__ = ["ALL_TASKS", "TASKS", "R2Rules", "SessionScores", "nothing_scored", "score_session"]

R2Rules = Literal["own", "published"]

ALL_TASKS = (*UNIT_TASKS, *BEHAVIOUR_TASKS)
TASKS = (*ACTIVITY_TASKS, *DEFAULT_BEHAVIOURS)
"""The tasks that are scored unless others are asked for; beside them, what sessions declare."""

#: Kinds of trials whose averages are kept: those that most trials are of.
_MOST_KINDS = 4

#: Test trials whose predictions are kept to look at, evenly spaced over the session.
N_EXAMPLES = 4


@dataclass
class SessionScores:
    """Scores of one session.

    Attributes
    ----------
    per_unit
        One row per unit and activity task.
    region_pairs
        One row per pair of regions: bits/spike of the units of `target`, from `source` alone.
    behaviour
        What was decoded, and how well.
    skipped
        Reason for each task that cannot be had.
    examples
        Averaged and single-trial co-smoothing predictions, for figures; empty without that task.
    trial, time
        Numbers of the session's trials, and centres of their bins (s after the event).
    n_test
        Number of test trials.
    """

    per_unit: pd.DataFrame
    region_pairs: pd.DataFrame
    behaviour: DecodedSession
    skipped: dict[str, str]
    examples: xr.Dataset
    trial: np.ndarray
    time: np.ndarray
    n_test: int


def nothing_scored(tasks: Sequence[str], reason: str) -> SessionScores:
    """The scores of a session that has none, and why."""
    empty = pd.DataFrame()
    skipped = dict.fromkeys(tasks, reason)
    none = np.empty(0)
    return SessionScores(empty, empty, DecodedSession(), skipped, xr.Dataset(), none, none, 0)


def score_session(
    predictor: Predictor,
    ds: xr.Dataset,
    split: np.ndarray,
    tasks: Sequence[str] = TASKS,
    truth: Truth | None = None,
    say: Callable[[str], None] = lambda line: None,
    imposters: Imposters | None = None,
    r2: R2Rules = "own",
) -> SessionScores:
    """Score a predictor on a session.

    Parameters
    ----------
    predictor
        Of this session.
    ds
        The session, in memory, with the units that are scored.
    split : ndarray (trial,), str
        train, val or test; there are test trials.
    tasks
        Some of `ALL_TASKS`, and of what the session declares.
    truth
        True rates of a simulated session, for the oracle: the score of those rates on the very
        same entries; of encoding, that of rates of which the latents are known that behaviour
        follows; of behaviour, what all latents tell of it.
    say
        Called with a line of text as each task is done.
    imposters
        Other sessions, whose traces of behaviour are the null of this one's.
    r2
        Whether R² by the published code's rules stand beside our own (see `published_r2`).
    """
    test = ds.isel(trial=np.flatnonzero(split == "test"))
    expected = None if truth is None else _expected(truth, test)
    tables, pairs = [pd.DataFrame()], pd.DataFrame()
    skipped: dict[str, str] = {}
    examples = xr.Dataset()
    condition, no_response = _conditions(test)
    for task in UNIT_TASKS:
        if task not in tasks:
            continue
        reason = _cannot(task, predictor.region) or predictor.cannot(task)
        if reason:
            skipped[task] = reason
            continue
        best = expected
        if task == "encoding" and truth is not None:
            # Of the latents, behaviour can tell those alone that it follows.
            others = [at for at, name in enumerate(COLUMNS) if name not in BEHAVING]
            best = _expected(truth.without(others), test)
        table, rates = _score_activity(predictor, task, test, condition, best, r2)
        if task == "encoding":
            bits = table["bits_per_spike"].to_numpy()
            table = table.assign(**modality_gains(predictor, test.spikes.values, bits))
        tables.append(table)
        say(f"{task}: {table['bits_per_spike'].mean():.3f} bits/spike of {len(table)} units")
        if no_response:
            skipped["psth_r2"] = no_response
        if task == "co_smoothing":
            examples = _examples(test, rates)
        if task == "inter_region":
            if no_pairs := predictor.cannot("region_pairs"):
                skipped["region_pairs"] = no_pairs
            else:
                pairs = _score_pairs(predictor, test)
    latents = None if truth is None else truth.latents_in(*_windows(ds))
    found = decode_behaviour(predictor, ds, split, tasks, imposters, latents)
    for name, behaviour in found.scores.items():
        key = "r2" if "r2" in behaviour else "accuracy"
        say(f"{name}: {key} {behaviour[key]:.3f}")
    return SessionScores(
        per_unit=pd.concat(tables, ignore_index=True),
        region_pairs=pairs,
        behaviour=found,
        skipped=skipped | found.skipped,
        examples=_add_traces(examples, ds.trial.values, found) if examples else examples,
        trial=ds.trial.values,
        time=ds.time.values + float(ds.attrs["bin_size"]) / 2,
        n_test=test.sizes["trial"],
    )


def _windows(ds: xr.Dataset) -> tuple[np.ndarray, int, float]:
    """Where trials begin (s), their bins, and the width of those (s)."""
    return ds.window_start.values, ds.sizes["time"], float(ds.attrs["bin_size"])


def _expected(truth: Truth, ds: xr.Dataset) -> np.ndarray:
    """What true rates, or an observer's, have in each bin, (trial, time, unit)."""
    return truth.expected_counts(as_text(ds.unit).tolist(), *_windows(ds))


def _cannot(task: ActivityTask, region: np.ndarray) -> str | None:
    """Why a session cannot have a task."""
    names = set(region) - {""}
    if task == "intra_region" and not names:
        return "no region has enough units"
    if task == "inter_region" and (not names or len(set(region)) < 2):
        return "needs a region with enough units, and units outside of it"
    return None


def _conditions(test: xr.Dataset) -> tuple[np.ndarray, str | None]:
    """The condition of each test trial, and why there is no mean response if there is none."""
    names = conditions_of(test)
    found = [condition_codes(test, name) for name in names]
    labels = [codes for codes in found if codes is not None]
    if len(labels) < len(names):
        reason = f"the session has no trials with {' and '.join(names)}"
        return np.full(test.sizes["trial"], -1), reason
    condition = trial_conditions(*labels)
    few = f"no {' and '.join(names)} has {FEWEST_TRIALS} test trials"
    return condition, None if (condition >= 0).any() else few


def _published(
    r2: R2Rules, test: xr.Dataset, rates: np.ndarray, counts: np.ndarray
) -> dict[str, np.ndarray]:
    """Columns of R² by the published code's rules, if they are asked for."""
    if r2 == "own":
        return {}
    known = {"choice", "feedback", "probability_left"} <= set(test.variables)
    condition = (
        published_conditions(test.choice.values, test.feedback.values, test.probability_left.values)
        if known
        else np.full(test.sizes["trial"], -1)
    )
    return dict(zip(PUBLISHED_R2, published_r2(rates, counts, condition), strict=True))


def _score_activity(
    predictor: Predictor,
    task: ActivityTask,
    ds: xr.Dataset,
    condition: np.ndarray,
    expected: np.ndarray | None,
    r2: R2Rules,
) -> tuple[pd.DataFrame, np.ndarray]:
    counts, units = ds.spikes.values, as_text(ds.unit)
    bits, d2, oracle, spikes = (np.full(len(units), np.nan) for _ in range(4))
    rates = np.full(counts.shape, np.nan, np.float32)
    psth, residual = np.full((2, len(units)), np.nan)
    bins = slice(0, 0)
    for held, predicted in predictor.held_out(task):
        entries, bins = np.s_[:, held.bins, held.outputs], held.bins
        rates[entries] = predicted[:, held.bins]
        bits[held.outputs] = bits_per_spike(rates[entries], counts[entries])
        d2[held.outputs] = poisson_d2(rates[entries], counts[entries])
        spikes[held.outputs] = counts[entries].sum((0, 1))
        if expected is not None:
            oracle[held.outputs] = bits_per_spike(expected[entries], counts[entries])
    asked = np.flatnonzero(~np.isnan(spikes))
    entries = np.s_[:, bins, asked]  # a task asks for the same bins of every unit
    psth[asked], residual[asked] = response_r2(
        rates[entries], counts[entries], condition, SMOOTHING / float(ds.attrs["bin_size"])
    )
    table = pd.DataFrame(
        {
            "eid": str(ds.attrs["eid"]),
            "unit": units,
            "region": as_text(ds.beryl),
            "cosmos": as_text(ds.cosmos),
            "task": task,
            "bits_per_spike": bits,
            "poisson_d2": d2,
            "psth_r2": psth,
            "residual_r2": residual,
            "n_spikes": spikes,
            "firing_rate": ds.firing_rate.values,
            "label": ds.label.values,
            "oracle": oracle,
        }
    )
    # Units that the task never holds out (of no eligible region) have no row.
    table = table.iloc[asked].astype({"n_spikes": "int64"})
    return table.assign(**_published(r2, ds, rates[entries], counts[entries])), rates


def _examples(ds: xr.Dataset, rates: np.ndarray) -> xr.Dataset:
    """Predictions to look at: averages over kinds of test trials, and a few single trials."""
    bin_size = float(ds.attrs["bin_size"])
    conditions = _kinds_of_trials(ds) or {"all windows": np.ones(ds.sizes["trial"], bool)}
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


def _kinds_of_trials(ds: xr.Dataset) -> dict[str, np.ndarray]:
    """Which trials to average, by name: by choice, or by the first that one's own task names."""
    name = conditions_of(ds)[0]
    found = condition_codes(ds, name)
    if found is None:
        return {}
    if name == "choice" and ds["choice"].dtype == np.int8:
        sides = {"choice left": ds.choice.values == 1, "choice right": ds.choice.values == -1}
        return {side: trials for side, trials in sides.items() if trials.any()}
    codes, known = found
    numbers, counts = np.unique(codes[known], return_counts=True)
    shown = sorted(numbers[np.argsort(-counts, kind="stable")[:_MOST_KINDS]])
    values = as_text(ds[name]) if name in ds else codes.astype(str)
    return {
        f"{name} {values[np.flatnonzero(codes == number)[0]]}": known & (codes == number)
        for number in shown
    }


def _score_pairs(predictor: Predictor, ds: xr.Dataset) -> pd.DataFrame:
    """Mean bits/spike over the units of each region, predicted from each other region alone."""
    rows, counts = [], ds.spikes.values
    for held, rates in predictor.region_pairs():
        bits = bits_per_spike(rates, counts[:, held.bins, held.outputs])
        if np.isfinite(bits).any():
            score, n_units = float(np.nanmean(bits)), int(np.isfinite(bits).sum())
            rows.append((str(ds.attrs["eid"]), held.source, held.region, score, n_units))
    return pd.DataFrame(rows, columns=["eid", "source", "target", "bits_per_spike", "n_units"])


def _add_traces(examples: xr.Dataset, trial: np.ndarray, found: DecodedSession) -> xr.Dataset:
    """Add observed and decoded traces of the example trials; NaN where one was not decoded."""
    rows = np.flatnonzero(np.isin(trial, examples.example.values))
    added = {}
    for task, score in found.decoded.items():
        if isinstance(score, TraceScore):
            trace = found.targets[task].astype(np.float32)
            predicted = np.full(trace.shape, np.nan, np.float32)
            predicted[score.trials] = score.predicted
            added[f"{task}_observed"] = (("example", "time"), trace[rows])
            added[f"{task}_predicted"] = (("example", "time"), predicted[rows])
    return examples.assign(added)
