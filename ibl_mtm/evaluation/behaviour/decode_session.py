"""Decode a session's behaviour from a predictor's features, and from the raw spikes.

found = decode_behaviour(predictor, ds, split, ["choice", "wheel_speed"])
found.scores["choice"]["accuracy"], found.decoded["wheel_speed"].predicted, found.skipped
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xarray as xr

from ibl_mtm.evaluation.behaviour.behaviours import BEHAVIOURS, Behaviour, behaviours_of
from ibl_mtm.evaluation.behaviour.decodable_trials import (
    Undecodable,
    class_trials,
    trace_trials,
)
from ibl_mtm.evaluation.behaviour.decoding_scores import (
    ClassScore,
    TraceScore,
    calibration_error,
    score_class,
    score_trace,
)
from ibl_mtm.evaluation.behaviour.gradient_decoders import GRADIENT_DECODERS, decode_by_gradients
from ibl_mtm.evaluation.behaviour.imposters import Imposters
from ibl_mtm.evaluation.behaviour.latent_observer import observe
from ibl_mtm.evaluation.behaviour.level_decoder import linear_decoder
from ibl_mtm.evaluation.behaviour.level_scores import LevelScore
from ibl_mtm.evaluation.behaviour.linear_decoders import Features
from ibl_mtm.evaluation.behaviour.pseudo_sessions import UNBIASED, pseudo_blocks
from ibl_mtm.evaluation.predictors import Predictor

__all__ = ["DecodedSession", "decode_behaviour"]

SHUFFLES = 50
"""Fits to shuffled trials whose mean score is the level of chance."""

PSEUDO_SESSIONS = 99
"""The same for the block, whose trials are no strangers to each other."""


@dataclass
class DecodedSession:
    """What was decoded of a session.

    Attributes
    ----------
    scores
        By task: the headline score, the other prompts under ``by_prompt``, and the decoders that
        see raw spikes; under ``by_model`` what a model with modalities decodes itself, and under
        ``oracle`` what simulated latents tell.
    decoded
        By task: the headline decoder's answers for test trials.
    targets
        By task: what was to be decoded, of all trials.
    skipped
        By task: why it cannot be decoded.
    """

    scores: dict[str, dict[str, Any]] = field(default_factory=dict)
    decoded: dict[str, ClassScore | LevelScore | TraceScore] = field(default_factory=dict)
    targets: dict[str, np.ndarray] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)


def decode_behaviour(
    predictor: Predictor,
    ds: xr.Dataset,
    split: np.ndarray,
    tasks: Sequence[str],
    imposters: Imposters | None = None,
    latents: np.ndarray | None = None,
) -> DecodedSession:
    """Decode behaviour from whole trials; only trials that are `included` take part.

    Parameters
    ----------
    predictor
        A model, whose log rates are decoded under every prompt, or a baseline, whose decoders
        see raw spikes.
    ds
        The session.
    split : ndarray (trial,), str
        Hyper-parameters are chosen on train and val; the scores are of test.
    tasks
        Some of `behaviours_of` the session; others are passed over.
    imposters
        Other sessions, whose traces are the null of this one's.
    latents : ndarray (trial, time, column), optional
        Of a simulated session, to tell what they tell (see `observe`).
    """
    found = DecodedSession()
    included = ds.included.values if "included" in ds else np.ones(len(split), bool)
    fit, test = included & (split != "test"), included & (split == "test")
    behaviours = behaviours_of(ds)
    for task, behaviour in behaviours.items():
        if task in tasks:
            try:
                found.targets[task] = behaviour.target(ds)
            except Undecodable as reason:
                found.skipped[task] = str(reason)
    if not found.targets:
        return found
    prompts, raw = predictor.features(), Features(ds.spikes.values)
    answers = predictor.answers()
    known = {} if latents is None else observe(latents, found.targets, split)
    for task, target in found.targets.items():
        behaviour, decode = behaviours[task], linear_decoder(behaviours[task])
        is_class = behaviour.classes is not None
        chance: dict[str, Any] = {"shuffles": SHUFFLES}
        if behaviour is BEHAVIOURS["block"]:
            trial = ds.trial.values
            first = int(trial[target != 0].min(initial=UNBIASED))
            chance = {"surrogates": pseudo_blocks(trial, PSEUDO_SESSIONS, 0, first)}
        elif not is_class and imposters is not None:
            traces = imposters.traces(behaviour, ds)
            chance = {"surrogates": traces} if traces else chance
        try:
            from_raw = decode(raw, target, fit, test, **({} if prompts else chance))
            by_prompt = {
                prompt: decode(
                    features, target, fit, test, **(chance if prompt == predictor.prompt else {})
                )
                for prompt, features in prompts.items()
            }
            # A baseline's evaluation holds all that raw spikes can tell.
            more = {
                name: decode_by_gradients(
                    name,
                    ds.spikes.values,
                    target,
                    split,
                    included,
                    is_class=is_class,
                    levels=behaviour.levels,
                ).to_json()
                for name in (() if prompts else GRADIENT_DECODERS)
            }
        except Undecodable as reason:
            found.skipped[task] = str(reason)
            continue
        headline = by_prompt[predictor.prompt] if predictor.prompt else from_raw
        found.decoded[task] = headline
        found.scores[task] = {
            **headline.to_json(),
            "prompt": predictor.prompt,
            "by_prompt": {prompt: score.to_json() for prompt, score in by_prompt.items()},
            "raw_spikes": from_raw.to_json(),
            **_answered("by_model", answers, task, behaviour, target, fit, test),
            **_answered("oracle", known, task, behaviour, target, fit, test),
            **more,
        }
    return found


def _answered(
    by: str,
    answers: Mapping[str, np.ndarray],
    task: str,
    behaviour: Behaviour,
    target: np.ndarray,
    fit: np.ndarray,
    test: np.ndarray,
) -> dict[str, Any]:
    """Scores of a model's own answer, or an oracle's, on the trials of the other decoders."""
    if task not in answers or behaviour is not BEHAVIOURS.get(task):
        return {}
    if behaviour.classes is None:
        trace, fit_at, test_at = trace_trials(target, fit, test)
        own = answers[task][test_at].astype(np.float64)
        return {by: score_trace(trace, fit_at, test_at, own, {}).to_json()}
    label, fit_at, test_at = class_trials(target, fit, test)
    logit = answers[task][test_at].astype(np.float64)
    score = score_class(label, fit_at, test_at, logit, {}).to_json()
    if by == "oracle":  # which is as sure as it is told to be
        return {by: score}
    return {by: score | {"calibration_error": calibration_error(label[test_at], logit)}}
