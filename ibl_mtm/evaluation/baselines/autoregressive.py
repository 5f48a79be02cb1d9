"""An autoregressive linear-Poisson model of a population, for forward prediction.

    (penalty,) = choose(data, "forward_prediction")
    rates = predict(data, "forward_prediction", penalty)     # (trial, bin, unit), test trials

A bin's log rate is linear in filters of every unit's past and in the time in the trial. It is
fitted one step ahead, where the past is known. Beyond what is seen, expected counts are fed back
(closed loop): errors add up there, so that the penalty is chosen by the score of that.
"""

import numpy as np
from numpy.typing import NDArray

from ibl_mtm.evaluation.activity.tasks import ActivityTask
from ibl_mtm.evaluation.baselines.regression import is_past_best
from ibl_mtm.evaluation.baselines.session_data import Array, BaselineData
from ibl_mtm.evaluation.metrics import bits_per_spike
from ibl_mtm.model.poisson_regression import PoissonFit, PoissonRegression

__all__ = ["DECAYS", "FOLDS", "PENALTIES", "choose", "predict"]

DECAYS = (0.0, 0.8, 0.96)
"""Of the exponential filters through which the past is seen; the first: the last bin alone."""
FOLDS = 3
"""Of the cross-validation of the train and val trials."""
PENALTIES = (1000.0, 100.0, 30.0, 10.0, 3.0, 1.0, 0.3, 0.1)
"""Of squared weights; the largest first, which leaves the past out."""
TIME_BUMPS = 10
"""Gaussians over the time in a trial, which tell the mean response."""
BUMP_SCALE = 10.0
"""Of those Gaussians: the mean response is penalised the less, by the square of this."""


def choose(data: BaselineData, task: ActivityTask) -> tuple[float]:
    """The penalty whose closed loop scores best in a cross-validation of train and val trials."""
    counts, bins = data.counts["fit"], data.bins(task)
    fold = np.arange(len(counts)) % FOLDS
    # Early trials and late ones are in every fold: a session drifts.
    parts = [(counts[fold != left], counts[fold == left]) for left in range(FOLDS)]
    models = [
        (_Model(known), asked) for known, asked in parts if len(known) and asked[:, bins].any()
    ]
    fitted: list[PoissonFit | None] = [None] * len(models)
    gains: list[float] = []
    for penalty in PENALTIES:
        gain = 0.0
        for at, (model, asked) in enumerate(models):
            fit = fitted[at] = model.fit(penalty, fitted[at], tolerance=1e-3)  # enough to choose by
            gain += float(
                np.nanmean(bits_per_spike(model.roll_out(fit, asked, bins), asked[:, bins]))
            )
        gains.append(gain)
        if is_past_best(gains):
            break
    return (PENALTIES[int(np.argmax(gains))],)


def predict(data: BaselineData, task: ActivityTask, penalty: float) -> Array:
    """Expected counts of the bins that the task asks for, in the test trials."""
    model = _Model(data.counts["fit"])
    return model.roll_out(model.fit(penalty), data.counts["test"], data.bins(task))


class _Model:
    """What is fitted to trials: features of their past, which the same trials standardise."""

    def __init__(self, counts: Array) -> None:
        n_time = counts.shape[1]
        centres = np.linspace(0, n_time, TIME_BUMPS)
        distance = (np.arange(n_time)[:, None] - centres) / (n_time / TIME_BUMPS)
        self.bumps = (BUMP_SCALE * np.exp(-(distance**2) / 2)).astype(np.float32)
        seen = _past(counts)
        spread = seen.std((0, 1))
        self.mean, self.spread = seen.mean((0, 1)), np.where(spread > 0, spread, 1)
        # No unit fires faster than its smoothed counts ever did, or feeding rates back could
        # explode.
        self.highest = np.split(seen, len(DECAYS), axis=-1)[1].max((0, 1)) + 0.01
        y = np.ascontiguousarray(counts.reshape(-1, counts.shape[-1]))
        self.regression = PoissonRegression(self.features(seen, slice(None)), y)

    def features(self, state: Array, time: slice) -> Array:
        """(trial, bin, filter x unit) to (sample, feature)."""
        when = np.broadcast_to(self.bumps[time], (*state.shape[:2], TIME_BUMPS))
        x = np.concatenate([(state - self.mean) / self.spread, when], axis=-1)
        return np.ascontiguousarray(x.reshape(-1, x.shape[-1]))

    def fit(
        self, penalty: float, start: PoissonFit | None = None, tolerance: float = 1e-4
    ) -> PoissonFit:
        """One step ahead, from the counts themselves."""
        return self.regression.fit(penalty, start, tolerance)

    def roll_out(self, fitted: PoissonFit, counts: Array, bins: slice) -> Array:
        """From the counts before `bins`, bin by bin, each from the expected counts before it."""
        state = _past(counts[:, : bins.start + 1])[:, -1]
        rates: Array = np.empty_like(counts[:, bins])
        for at in range(rates.shape[1]):
            now = slice(bins.start + at, bins.start + at + 1)
            rates[:, at] = np.minimum(
                fitted.rates(self.features(state[:, None], now)), self.highest
            )
            state = _step(state, rates[:, at])
        return rates


def _past(counts: Array) -> Array:
    """What the filters hold before each bin, (trial, time, filter x unit)."""
    n_trials, n_time, n_units = counts.shape
    states = np.zeros((n_trials, n_time, len(DECAYS) * n_units), np.float32)
    for t in range(1, n_time):
        states[:, t] = _step(states[:, t - 1], counts[:, t - 1])
    return states


def _step(state: NDArray[np.float32], counts: NDArray[np.float32]) -> NDArray[np.float32]:
    """The filters, one bin on."""
    decays = np.repeat(np.array(DECAYS, np.float32), counts.shape[1])
    tiled = np.tile(counts, (1, len(DECAYS)))
    moved: NDArray[np.float32] = decays * state + (1 - decays) * tiled
    return moved
