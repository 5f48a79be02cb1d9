"""A session's latents: what its units follow, on a grid of 10 ms.

    fast = draw_fast(rng, n_steps)                      # (step, column of FAST)
    drift = draw_drift(rng, n_steps)                    # (step, column of SLOW)
    task = task_variables(trials, wheel_speed, times)   # (step, column of TASK)

Side by side they are the columns that a unit's weights refer to.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

from ibl_mtm.simulate.brain import FAST, SLOW, TASK, Oscillator, make_brain
from ibl_mtm.simulate.trials import Trials
from ibl_mtm.simulate.truth import GRID

__all__ = ["draw_drift", "draw_fast", "task_variables"]

DRIFT_TIME = 80.0  # s
_BURN_IN = 200  # steps; far longer than any fast latent remembers


def draw_fast(rng: np.random.Generator, n_steps: int) -> NDArray[np.float64]:
    """Fast latents, (step, column of `FAST`), each with unit variance."""
    oscillators = make_brain().oscillators
    noise = rng.standard_normal((len(FAST), n_steps + _BURN_IN))
    return np.stack(
        [_oscillate(o, n)[_BURN_IN:] for o, n in zip(oscillators, noise, strict=True)], axis=1
    )


def draw_drift(rng: np.random.Generator, n_steps: int) -> NDArray[np.float64]:
    """Slow latents, (step, column of `SLOW`): Ornstein-Uhlenbeck processes of unit variance."""
    keep = np.exp(-GRID / DRIFT_TIME)
    noise = rng.standard_normal((n_steps, len(SLOW))) * np.sqrt(1 - keep**2)
    noise[0] /= np.sqrt(1 - keep**2)
    return lfilter([1.0], [1.0, -keep], noise, axis=0)


def _oscillate(oscillator: Oscillator, noise: NDArray[np.float64]) -> NDArray[np.float64]:
    """Filter white noise by a discretised damped oscillator, to unit variance."""
    swing = np.sqrt(complex(oscillator.damping**2 - 1))
    rate = GRID / oscillator.timescale
    poles = [np.exp(-rate * (oscillator.damping + sign * swing)) for sign in (-1, 1)]
    a1, a2 = (poles[0] + poles[1]).real, -(poles[0] * poles[1]).real
    # Variance of a second-order autoregressive process (Box & Jenkins, eq. 3.2.28).
    variance = (1 - a2) / ((1 + a2) * ((1 - a2) ** 2 - a1**2))
    return lfilter([1 / np.sqrt(variance)], [1.0, -a1, -a2], noise)


def task_variables(
    trials: Trials, wheel_speed: NDArray[np.float64], times: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Task variables on a regular grid, (step, column of `TASK`).

    Parameters
    ----------
    trials
        The session's trials.
    wheel_speed
        (step,) rad/s.
    times
        (step,) s, the centres of the grid's steps.
    """
    table = trials.table
    lag = np.arange(-0.4, 2.0, GRID)
    after = np.maximum(lag, 0)
    seen = np.where(lag < 0, 0, after / 0.07 * np.exp(1 - after / 0.07) + 0.5 * _swell(after, 0.35))
    moved = np.exp(-0.5 * ((lag - 0.05) / np.where(lag < 0.05, 0.12, 0.18)) ** 2)
    rewarded = np.where(lag < 0.04, 0, _swell(after, 0.2))
    failed = np.where(lag < 0.04, 0, _swell(after, 0.45))

    def events(
        when: NDArray[np.float64], size: NDArray[np.float64], kernel: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        column = np.zeros(len(times))
        happened = np.isfinite(when) & (size != 0)
        first = np.rint((when[happened] + lag[0] - times[0]) / GRID).astype(np.int64)
        steps = first[:, None] + np.arange(len(lag))
        inside = (steps >= 0) & (steps < len(times))
        values = size[happened, None] * kernel
        np.add.at(column, steps[inside], values[inside])
        return column

    values = {name: table[name].to_numpy(np.float64) for name in table}
    contrast_left, contrast_right = (
        _contrast_response(np.nan_to_num(values[side]))
        for side in ("contrastLeft", "contrastRight")
    )
    choice, feedback = values["choice"], values["feedbackType"]
    columns = {
        "stimulus_left": events(values["stimOn_times"], contrast_left, seen),
        "stimulus_right": events(values["stimOn_times"], contrast_right, seen),
        "move_left": events(values["firstMovement_times"], (choice == 1) * 1.0, moved),
        "move_right": events(values["firstMovement_times"], (choice == -1) * 1.0, moved),
        "reward": events(values["feedback_times"], (feedback == 1) * 1.0, rewarded),
        "error": events(values["feedback_times"], (feedback == -1) * 1.0, failed),
        "engaged": _between(times, values["stimOn_times"], values["feedback_times"]),
        "prior": _held(times, values["intervals_0"], (values["probabilityLeft"] - 0.5) / 0.3),
        "wheel_speed": np.minimum(wheel_speed / 2.0, 3.0),
    }
    return np.stack([columns[name] for name in TASK], axis=1)


def _swell(after: NDArray[np.float64], timescale: float) -> NDArray[np.float64]:
    """Rise to 1 at `timescale`, then decay."""
    return after / timescale * np.exp(1 - after / timescale)


def _contrast_response(contrast: NDArray[np.float64]) -> NDArray[np.float64]:
    """Saturating response to contrast (hyperbolic ratio; Albrecht & Hamilton, 1982)."""
    return contrast / (contrast + 0.15) * 1.15


def _between(
    times: NDArray[np.float64], start: NDArray[np.float64], stop: NDArray[np.float64]
) -> NDArray[np.float64]:
    """1 from each start to its stop, else 0; starts and stops alternate."""
    begun, ended = np.searchsorted(start, times, "right"), np.searchsorted(stop, times, "right")
    return (begun - ended).astype(np.float64)


def _held(
    times: NDArray[np.float64], start: NDArray[np.float64], value: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Each trial's value from its start to the next one's."""
    return value[np.clip(np.searchsorted(start, times, "right") - 1, 0, None)]
