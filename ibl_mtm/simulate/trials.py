"""Trials of the IBL's choice task: blocks, contrasts, choices and times, in the IBL's encoding.

    trials = draw_trials(rng, n_trials=240, pacing=SMALL_PACING)
    trials.table["choice"]          # as in _ibl_trials.table.pqt

The task and its constants are those of ephysChoiceWorld: 90 unbiased trials, then blocks in which
the stimulus is on the left in 20 or 80 % of trials.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

__all__ = ["FULL_PACING", "SMALL_PACING", "Pacing", "Trials", "draw_trials"]

CONTRASTS = np.array([1.0, 0.25, 0.125, 0.0625, 0.0])
CONTRAST_ODDS = np.array([2, 2, 2, 2, 1]) / 9
UNBIASED = 90
BLOCK_LENGTH = (20, 100, 60.0)  # trials: shortest, longest, scale of the exponential
REWARD = 1.5  # uL
LEAD_IN = 15.0  # s of recording before the first trial


@dataclass(frozen=True)
class Pacing:
    """How long the parts of a trial last.

    Parameters
    ----------
    pause
        Shortest and mean time from the end of a trial to the start of the next, s.
    response_window
        Time after which a trial without a response ends, s.
    """

    pause: tuple[float, float]
    response_window: float


SMALL_PACING = Pacing(pause=(0.8, 1.6), response_window=12.0)
FULL_PACING = Pacing(pause=(1.0, 2.6), response_window=60.0)


@dataclass(frozen=True)
class Trials:
    """A session's trials.

    Attributes
    ----------
    table
        The 13 columns of ``_ibl_trials.table.pqt``.
    extra
        The trial variables that the IBL keeps beside the table, by attribute.
    """

    table: pd.DataFrame
    extra: dict[str, NDArray[np.float64]]

    @property
    def end(self) -> float:
        """End of the last trial, s."""
        return float(self.table["intervals_1"].iloc[-1])


def draw_trials(rng: np.random.Generator, n_trials: int, pacing: Pacing) -> Trials:
    """Draw a session's trials; about 2 % without a response, 3 % hasty and 3 % slow."""
    probability_left = _draw_blocks(rng, n_trials)
    contrast = rng.choice(CONTRASTS, n_trials, p=CONTRAST_ODDS)
    left = rng.random(n_trials) < probability_left
    choice = _draw_choices(rng, contrast, left, probability_left)
    reaction = np.clip(rng.lognormal(np.log(0.24 - 0.06 * contrast), 0.45), 0.085, 1.9)

    unusual = rng.permutation(n_trials)
    n_no_go, n_hasty, n_slow = (max(1, round(f * n_trials)) for f in (0.02, 0.03, 0.03))
    no_go, hasty, slow = np.split(unusual, np.cumsum([n_no_go, n_hasty, n_slow]))[:3]
    choice[no_go] = 0
    reaction[hasty] = rng.uniform(0.02, 0.075, len(hasty))
    reaction[slow] = rng.uniform(2.1, 4.0, len(slow))
    reaction[no_go] = np.nan

    correct = choice == np.where(left, 1, -1)
    movement = np.clip(rng.lognormal(np.log(0.17), 0.4, n_trials), 0.06, 1.2)
    quiescence = rng.uniform(0.4, 0.7, n_trials)
    to_response = np.where(choice == 0, pacing.response_window, reaction + movement)
    to_end = np.where(correct, 1.0, 2.0) + 0.1
    shortest, mean = pacing.pause
    pause = shortest + rng.exponential(mean - shortest, n_trials)
    delay = rng.uniform(0.01, 0.03, n_trials)  # from the end of quiescence to the screen
    length = quiescence + delay + to_response + to_end
    start = LEAD_IN + np.concatenate([[0.0], np.cumsum(length + pause)[:-1]])

    trigger = start + quiescence
    stim_on = trigger + delay
    response = stim_on + to_response
    table = pd.DataFrame(
        {
            "intervals_0": start,
            "intervals_1": start + length,
            "goCue_times": stim_on + rng.uniform(0.0005, 0.002, n_trials),
            "response_times": response,
            "choice": choice,
            "stimOn_times": stim_on,
            "contrastLeft": np.where(left, contrast, np.nan),
            "contrastRight": np.where(left, np.nan, contrast),
            "feedback_times": response + rng.uniform(0.0001, 0.001, n_trials),
            "feedbackType": np.where(correct, 1, -1),
            "rewardVolume": np.where(correct, REWARD, 0.0),
            "probabilityLeft": probability_left,
            "firstMovement_times": stim_on + reaction,
        }
    )
    stim_off = response + np.where(correct, 1.0, 2.0)
    extra = {
        "goCueTrigger_times": trigger + delay,
        "stimOnTrigger_times": trigger,
        "stimOffTrigger_times": stim_off - 0.01,
        "stimOff_times": stim_off,
        "quiescencePeriod": quiescence,
    }
    return Trials(table, extra)


def _draw_blocks(rng: np.random.Generator, n_trials: int) -> NDArray[np.float64]:
    """Probability that the stimulus is on the left, in each trial."""
    shortest, longest, scale = BLOCK_LENGTH
    prior = rng.choice([0.2, 0.8])
    blocks = [np.full(UNBIASED, 0.5)]
    while sum(map(len, blocks)) < n_trials:
        length = longest + 1.0
        while not shortest <= length <= longest:
            length = rng.exponential(scale)
        blocks.append(np.full(int(length), prior))
        prior = 1 - prior
    return np.round(np.concatenate(blocks)[:n_trials], 1)


def _draw_choices(
    rng: np.random.Generator,
    contrast: NDArray[np.float64],
    left: NDArray[np.bool_],
    probability_left: NDArray[np.float64],
) -> NDArray[np.int64]:
    """+1 (turned as a left stimulus asks) or -1, from a psychometric curve with a prior."""
    lapse = 0.04
    evidence = 5.0 * np.where(left, 1, -1) * contrast**0.7
    bias = 3.0 * (probability_left - 0.5)
    turned_for_left = lapse + (1 - 2 * lapse) / (1 + np.exp(-(evidence + bias)))
    return np.where(rng.random(len(contrast)) < turned_for_left, 1, -1)
