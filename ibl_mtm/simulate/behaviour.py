"""Wheel, licks and whisker motion energy of a session.

    wheel = draw_wheel(rng, trials, fidget, duration)
    licks = draw_licks(rng, trials, duration)
    camera = draw_camera(rng, arousal, wheel, licks, duration)

Fidgeting and whisking follow latents that units follow too, so behaviour can be decoded.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

from ibl_mtm.simulate.trials import Trials
from ibl_mtm.simulate.truth import GRID

__all__ = ["Camera", "Wheel", "draw_camera", "draw_licks", "draw_wheel"]

WHEEL_STEP = 0.001  # s
TICK = 2 * np.pi / 4096  # rad; the encoder's 1024 lines, both edges of both channels
TURN = 0.5  # rad in a choice's whole turn
RESPONSE = 0.53  # of the turn's time: then 0.28 rad have brought the stimulus where it must be
FRAME_RATE = 60.0  # Hz, the left camera's


@dataclass(frozen=True)
class Wheel:
    """The wheel as the encoder reports it: a sample for every tick, none while it is still.

    Attributes
    ----------
    timestamps, position
        (sample,) s and rad; anti-clockwise is positive.
    speed
        (step,) rad/s, mean over each step of the rates' grid.
    """

    timestamps: NDArray[np.float64]
    position: NDArray[np.float64]
    speed: NDArray[np.float64]


@dataclass(frozen=True)
class Camera:
    """Frame times, s, and the motion energy of the whisker pad, arbitrary units."""

    times: NDArray[np.float64]
    motion_energy: NDArray[np.float64]


def draw_wheel(
    rng: np.random.Generator, trials: Trials, fidget: NDArray[np.float64], duration: float
) -> Wheel:
    """Turn the wheel at each choice, and fidget between trials.

    Parameters
    ----------
    rng
        Source of randomness.
    trials
        The session's trials; a choice of +1 is a clockwise turn, so a negative one.
    fidget
        (step,) a latent of unit variance; the wheel moves while it is high.
    duration
        Length of the recording, s.
    """
    times = np.arange(round(duration / WHEEL_STEP), dtype=np.float64) * WHEEL_STEP
    grid = (np.arange(len(fidget)) + 0.5) * GRID
    direction = np.where(rng.random(int(duration) + 1) < 0.5, -1.0, 1.0)
    velocity = 2.0 * np.maximum(np.interp(times, grid, fidget) - 1.2, 0)
    velocity *= direction[times.astype(np.int64)]

    table = {name: trials.table[name].to_numpy(np.float64) for name in trials.table}
    # A trial starts only after the animal has held the wheel still, and then it waits.
    until = np.fmin(table["firstMovement_times"], table["feedback_times"])
    for start, stop in zip(table["intervals_0"], until, strict=True):
        velocity[slice(*np.searchsorted(times, (start, stop)))] = 0
    turns = zip(table["firstMovement_times"], table["response_times"], table["choice"], strict=True)
    for start, response, choice in turns:
        if choice == 0:
            continue
        length = (response - start) / RESPONSE
        turn = slice(*np.searchsorted(times, (start, start + length)))
        phase = (times[turn] - start) / length
        velocity[turn] = -choice * TURN / length * (1 - np.cos(2 * np.pi * phase))

    tick = np.rint(np.cumsum(velocity) * (WHEEL_STEP / TICK)).astype(np.int64)
    moved = np.flatnonzero(np.diff(tick, prepend=tick[0] - 1))
    per_step = round(GRID / WHEEL_STEP)
    speed = np.abs(velocity).reshape(-1, per_step).mean(1)
    return Wheel(times[moved], tick[moved].astype(np.float64) * TICK, speed)


def draw_licks(rng: np.random.Generator, trials: Trials, duration: float) -> NDArray[np.float64]:
    """Times of licks, s: a burst at about 7 Hz after each reward, and a few at any time."""
    rewarded = trials.table["feedbackType"].to_numpy() == 1
    reward = trials.table["feedback_times"].to_numpy()[rewarded]
    number = rng.integers(3, 10, len(reward))
    order = np.arange(10)
    intervals = rng.normal(0.14, 0.012, (len(reward), 10)).clip(0.08)
    burst = reward[:, None] + 0.1 + np.cumsum(intervals, axis=1)
    spare = rng.uniform(0, duration, rng.poisson(0.02 * duration))
    return np.sort(np.concatenate([burst[order < number[:, None]], spare]))


def draw_camera(
    rng: np.random.Generator,
    arousal: NDArray[np.float64],
    wheel: Wheel,
    licks: NDArray[np.float64],
    duration: float,
) -> Camera:
    """Film the whisker pad: it moves with a latent of the brain, with the wheel and with licks.

    Parameters
    ----------
    rng
        Source of randomness.
    arousal
        (step,) the latent that whisking follows, of unit variance.
    wheel, licks
        The animal's other movements.
    duration
        Length of the recording, s.
    """
    n_frames = int(duration * FRAME_RATE) - 1
    times = (np.arange(n_frames) + rng.uniform(0.2, 0.3, n_frames)) / FRAME_RATE
    grid = (np.arange(len(arousal)) + 0.5) * GRID
    licking = np.bincount(
        np.minimum(licks / GRID, len(grid) - 1).astype(np.int64), minlength=len(grid)
    )
    fade = np.exp(-GRID / 0.06)
    drive = 0.45 * arousal + 0.25 * wheel.speed + 2.0 * licking
    smooth = lfilter([1 - fade], [1.0, -fade], drive)
    jitter = 0.1 * rng.standard_normal(n_frames)
    return Camera(times, 4.0 * np.exp(np.interp(times, grid, smooth) + jitter))
