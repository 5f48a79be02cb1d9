"""Simulated behaviour as one tells it who knows the latents that units follow, and no spike.

answers = observe(latents, {"choice": target, "wheel_speed": trace}, split)
answers["choice"]               # (trial,) log odds of +1
answers["wheel_speed"]          # (trial, time)

Classes follow from the latents by rule. Traces are regressed on them, within half a second or so:
on the latents, what they multiply rates by, and the wheel's speed towards the side of the choice.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import Ridge

from ibl_mtm.evaluation.metrics import r2
from ibl_mtm.simulate.brain import COLUMNS, FAST

__all__ = ["observe"]

Array = NDArray[np.float64]

#: Bins from a bin to those that a trace is regressed on.
_LAGS = range(-12, 13, 2)
_PENALTY = 10.0
_SURE = 5.0  # log odds of what is known


def observe(
    latents: Array, targets: Mapping[str, np.ndarray], split: np.ndarray
) -> dict[str, np.ndarray]:
    """Tell every behaviour that the simulator knows from a session's latents.

    Parameters
    ----------
    latents : ndarray (trial, time, column)
        `Truth.latents_in`: columns are those of `ibl_mtm.simulate.brain.COLUMNS`.
    targets
        By task, those to be told: classes (trial,), traces (trial, time) with NaN where missing.
    split : ndarray (trial,), str
        Traces are regressed on the trials that are not for test.
    """
    column = dict(zip(COLUMNS, np.moveaxis(latents, 2, 0), strict=True))
    choice = _sign(column["move_left"] - column["move_right"])
    feedback = _sign(column["reward"] - column["error"])
    classes = {
        "choice": choice,
        "feedback": feedback,
        "contrast_side": -choice * feedback,  # a right choice was wrong on the left
        "block": np.sign(column["prior"].mean(1)),
    }
    found: dict[str, np.ndarray] = {}
    features: Array | None = None
    for task, target in targets.items():
        if task in classes:
            found[task] = _SURE * classes[task]
        elif target.ndim == 2:
            features = _features(latents, column) if features is None else features
            found[task] = _regress(features, target.astype(np.float64), split)
    return found


def _sign(difference: Array) -> Array:
    """Which of two events a trial has, (trial,)."""
    sign: Array = np.sign(difference.sum(1))
    return sign


def _features(latents: Array, column: Mapping[str, Array]) -> Array:
    """(trial, time, feature) of each bin and its neighbours."""
    moved = column["wheel_speed"] * _sign(column["move_right"] - column["move_left"])[:, None]
    turn = moved * np.maximum(column["move_left"], column["move_right"])
    own = [latents, np.exp(latents[:, :, : len(FAST)] / 2), turn[..., None], moved[..., None]]
    x = np.concatenate(own, 2)
    at = np.clip(np.arange(x.shape[1])[:, None] + np.array(_LAGS), 0, x.shape[1] - 1)
    return x[:, at].reshape(*x.shape[:2], -1)


def _regress(features: Array, trace: Array, split: np.ndarray) -> Array:
    """A trace, or its logarithm where that tells more on validation trials, (trial, time)."""
    whole = ~np.isnan(trace).any(1)
    known = {name: whole & (split == name) for name in ("train", "val")}
    known["fit"] = whole & (split != "test")
    n_features = features.shape[2]

    def fitted(on: str, log: bool) -> Array:
        y = np.log(trace[known[on]]) if log else trace[known[on]]
        x = features[known[on]].reshape(-1, n_features)
        spread = x.std(0)
        scale = np.where(spread > 1e-9, spread, 1)
        ridge = Ridge(alpha=_PENALTY).fit(x / scale, y.ravel())
        told = ridge.predict(features.reshape(-1, n_features) / scale).reshape(trace.shape)
        if log:  # the mean of what is left counts, not its median
            left = y - told[known[on]]
            told = np.exp(told + left.var() / 2)
        return told

    choices = [False, True] if (trace[known["fit"]] > 0).all() else [False]
    if len(choices) > 1 and known["val"].any() and known["train"].any():
        val = known["val"]
        choices.sort(key=lambda log: -float(r2(trace[val], fitted("train", log)[val])))
    return fitted("fit", choices[0])
