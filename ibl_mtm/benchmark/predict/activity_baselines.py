"""Baselines of activity for TS2, each of one idea: fitted to windows, chosen on val by D².

    known = KnownWindows.of(recording, task)        # of the train and val domains alone
    fitted = trailing_mean(known)
    fitted.log_rates(counts, starts)                # (w, 50 or 5, n)

Trailing mean: a unit's own last bins, drawn to its mean. Population coupling: how a unit follows
the summed rate of the visible ones (Okun et al., Nature 521, 511-515, 2015). Reduced rank: Poisson
regression on all visible units, with weights of low rank. Poisson LDS: a linear dynamical system
(see `ibl_mtm.model.dynamics.system`), with or without units that drift.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from ibl_mtm.benchmark.metrics import PoissonSums
from ibl_mtm.benchmark.predict.adaptation import windows_to_adapt
from ibl_mtm.benchmark.predict.neural import infer_in_turn
from ibl_mtm.benchmark.tasks import BIN, N_BINS, N_FORECAST, Task
from ibl_mtm.benchmark.truth import NeuralTruth
from ibl_mtm.brainsets.recording import Recording
from ibl_mtm.evaluation.baselines.poisson import LowRank, fit_few
from ibl_mtm.ingest.align import count_from_start
from ibl_mtm.model.dynamics.fit import fit_dynamics
from ibl_mtm.model.dynamics.system import LinearDynamics
from ibl_mtm.model.poisson_regression import PoissonFit, PoissonRegression, log_mean_count

__all__ = [
    "LOWEST",
    "ActivityModel",
    "KnownWindows",
    "poisson_lds",
    "population_coupling",
    "reduced_rank",
    "trailing_mean",
]

LOWEST = -14.0
"""Log of the lowest rate that is predicted."""

_TRAILING = (5, 10, 20, 45)  # bins
_PRIORS = (2.0, 10.0, 50.0, 250.0, 1250.0)  # bins of the unit's mean that they are mixed with
_WIDTHS = (1.5, 3.0, 5.0, 8.0)  # bins of the Gaussian that counts are smoothed with
_COUPLING_PENALTY = 3e-3
_PENALTIES = (10.0, 3.0, 1.0, 0.3)
_RANKS = (2, 4, 8, 16)
_COMPONENTS = 20
_MOST = 40_000  # bins to fit weights to

Array = NDArray[np.float64]
Chosen = TypeVar("Chosen", bound="ActivityModel")


class ActivityModel(Protocol):
    """What predicts windows."""

    def log_rates(self, counts: np.ndarray, starts: Array | None = None) -> Array:
        """Log expected counts per bin, (w, 50 or 5, n).

        Parameters
        ----------
        counts : ndarray (w, 50, unit)
            Of the windows; what is asked for is not looked at.
        starts : ndarray (w,)
            When they begin (s, session clock), for what drifts.
        """
        ...


@dataclass(frozen=True)
class KnownWindows:
    """What a baseline may be fitted to: windows of the train and val domains.

    Attributes
    ----------
    counts, starts
        By split: (window, 50, unit), and (window,) in s on the session's clock.
    visible, columns
        Rows of the units that are seen, and of those that are predicted.
    """

    task: Task
    counts: dict[str, np.ndarray]
    starts: dict[str, Array]
    visible: NDArray[np.int64]
    columns: NDArray[np.int64]

    @classmethod
    def of(cls, recording: Recording, task: Task) -> "KnownWindows":
        """Read a recording; the units that test holds out are the ones that are asked for."""
        spikes, n_units = recording.spikes(), len(recording.unit_ids)
        starts = {s: windows_to_adapt(recording, "ts2", s) for s in ("train", "val")}
        counts = {
            split: count_from_start(spikes.times, spikes.units, n_units, at, BIN, N_BINS)
            for split, at in starts.items()
        }
        columns = NeuralTruth.of(recording, task, "test", spikes=False).columns
        visible = np.arange(n_units)
        if task.n_steps != N_FORECAST:
            visible = np.setdiff1d(visible, columns)
        return cls(task, counts, starts, visible, columns)

    def asked(self, split: str) -> np.ndarray:
        """What is predicted of a split's windows: (window, 50 or 5, n)."""
        return self.counts[split][:, -self.task.n_steps :][..., self.columns]

    def best(self, candidates: Iterable[Chosen]) -> Chosen:
        """The candidate that val likes most; of several without a score, the first."""
        best: tuple[float, Chosen] | None = None
        for model in candidates:
            sums = PoissonSums(len(self.columns))
            sums.add(model.log_rates(self.counts["val"], self.starts["val"]), self.asked("val"))
            score = sums.scores()["poisson_d2"]
            if best is None or score > best[0]:
                best = score, model
        assert best is not None
        return best[1]


@dataclass(frozen=True)
class TrailingMean:
    """A unit's rate goes on as in its last bins, drawn to its mean."""

    mean: Array
    n_bins: int
    prior: float

    def log_rates(self, counts: np.ndarray, starts: Array | None = None) -> Array:
        """See `ActivityModel`."""
        last = counts[:, -N_FORECAST - self.n_bins : -N_FORECAST].sum(1, dtype=np.float64)
        rates = (last + self.prior * self.mean) / (self.n_bins + self.prior)
        return np.repeat(np.log(rates)[:, None], N_FORECAST, axis=1)


def trailing_mean(known: KnownWindows) -> TrailingMean:
    """How many bins, and how strongly they are drawn to the mean, is chosen on val."""
    mean = np.exp(log_mean_count(known.counts["train"]).astype(np.float64))
    return known.best(TrailingMean(mean, n, prior) for n in _TRAILING for prior in _PRIORS)


@dataclass(frozen=True)
class PopulationCoupling:
    """A unit's log rate follows the summed rate of the visible units."""

    visible: NDArray[np.int64]
    width: float
    centre: float
    scale: float
    weight: NDArray[np.float32]
    offset: NDArray[np.float32]

    def log_rates(self, counts: np.ndarray, starts: Array | None = None) -> Array:
        """See `ActivityModel`."""
        x = (_summed(counts, self.visible, self.width) - self.centre) / self.scale
        log_rates: Array = (x[..., None] * self.weight + self.offset).clip(LOWEST, 3.0)
        return log_rates


def population_coupling(known: KnownWindows) -> PopulationCoupling:
    """How wide the sum is smoothed is chosen on val."""

    def fit(width: float) -> PopulationCoupling:
        summed = _summed(known.counts["train"], known.visible, width)
        centre, scale = float(summed.mean()), float(summed.std()) or 1.0
        x = ((summed - centre) / scale).reshape(1, -1, 1).astype(np.float32)
        y = known.asked("train").reshape(-1, len(known.columns)).astype(np.float32)
        weight, offset = fit_few(x, y, _COUPLING_PENALTY)
        return PopulationCoupling(known.visible, width, centre, scale, weight[:, 0], offset)

    return known.best(fit(width) for width in _WIDTHS)


def _summed(counts: np.ndarray, visible: NDArray[np.int64], width: float) -> Array:
    """Smoothed sum over the visible units, (window, 50)."""
    whole = counts[..., visible].sum(-1, dtype=np.float64)
    summed: Array = gaussian_filter1d(whole, width, axis=1, mode="nearest")
    return summed


@dataclass(frozen=True)
class Smoothed:
    """Counts of the visible units, smoothed, and standardised by the train windows."""

    visible: NDArray[np.int64]
    width: float
    centre: NDArray[np.float32]
    scale: NDArray[np.float32]

    @classmethod
    def of(cls, known: KnownWindows, width: float) -> "Smoothed":
        """Standardised by the windows that are known."""
        n = len(known.visible)
        raw = cls(known.visible, width, np.zeros(n, np.float32), np.ones(n, np.float32))
        x = raw(known.counts["train"])
        scale = x.std((0, 1))
        return cls(known.visible, width, x.mean((0, 1)), np.where(scale > 0, scale, 1))

    def __call__(self, counts: np.ndarray) -> NDArray[np.float32]:
        """(window, 50, visible unit)."""
        seen = counts[..., self.visible].astype(np.float32)
        x: NDArray[np.float32] = gaussian_filter1d(seen, self.width, axis=1, mode="nearest")
        return (x - self.centre) / self.scale


@dataclass(frozen=True)
class WeightedUnits:
    """Log rates are weighted sums of the visible units' smoothed counts."""

    features: Smoothed
    fit: PoissonFit
    penalty: float

    def log_rates(self, counts: np.ndarray, starts: Array | None = None) -> Array:
        """See `ActivityModel`."""
        x = self.features(counts)
        rates = self.fit.rates(x.reshape(-1, x.shape[-1])).astype(np.float64)
        log_rates: Array = np.log(rates.clip(np.exp(LOWEST)))
        return log_rates.reshape(*x.shape[:2], -1)


def reduced_rank(known: KnownWindows) -> WeightedUnits:
    """Width and penalty of the full weights are chosen on val, then their rank."""

    def flat(values: np.ndarray) -> NDArray[np.float32]:
        rows = values.reshape(-1, values.shape[-1])
        return np.ascontiguousarray(rows[:: max(1, len(rows) // _MOST)], np.float32)

    y = flat(known.asked("train"))

    def full(width: float, penalties: Sequence[float]) -> Iterator[WeightedUnits]:
        features = Smoothed.of(known, width)
        regression, fit = PoissonRegression(flat(features(known.counts["train"])), y), None
        for penalty in penalties:
            fit = regression.fit(penalty, fit)
            yield WeightedUnits(features, fit, penalty)

    middle = known.best(model for width in _WIDTHS for model in full(width, [1.0]))
    chosen = known.best(full(middle.features.width, _PENALTIES))
    x = flat(chosen.features(known.counts["train"]))
    low, most = LowRank(x, y, np.ones((x.shape[1], y.shape[1]), bool)), min(x.shape[1], y.shape[1])
    ranks = [rank for rank in _RANKS if rank < most] or [most]
    # A low rank already restrains the weights: a smaller penalty may do better.
    grid = [(rank, chosen.penalty * share) for rank in ranks for share in (1.0, 0.3)]
    return known.best(
        replace(chosen, fit=low.fit(penalty, rank, chosen.fit)) for rank, penalty in grid
    )


@dataclass(frozen=True)
class DynamicsOfActivity:
    """Components that move linearly, inferred from what is visible of a window."""

    task: Task
    columns: NDArray[np.int64]
    system: LinearDynamics

    @torch.inference_mode()
    def log_rates(self, counts: np.ndarray, starts: Array | None = None) -> Array:
        """See `ActivityModel`."""
        visible = torch.ones(1, N_BINS, counts.shape[-1], dtype=torch.bool)
        if self.task.n_steps == N_FORECAST:
            visible[:, -N_FORECAST:] = False
        else:
            visible[..., torch.from_numpy(self.columns)] = False
        shown = torch.from_numpy(counts.astype(np.int16))
        if starts is None:
            gains = self.system.gains(None, len(counts))
            posterior = self.system.infer(shown, visible, gains=gains)
        else:
            posterior = infer_in_turn(self.system, shown, visible, torch.from_numpy(starts))
        units = torch.from_numpy(self.columns)
        found = self.system.log_rates(posterior.last(self.task.n_steps), units)
        log_rates: Array = found.double().numpy().clip(LOWEST, 8.0)
        return log_rates


def poisson_lds(known: KnownWindows, *, drift: bool = False) -> DynamicsOfActivity:
    """Nothing is left to choose on val, so that it is fitted to, too.

    Raises
    ------
    ArithmeticError
        If no system fits.
    """
    starts = np.concatenate([known.starts["train"], known.starts["val"]])
    counts = np.concatenate([known.counts["train"], known.counts["val"]])
    times = torch.from_numpy(starts) if drift else None
    system = fit_dynamics(torch.from_numpy(counts.astype(np.float32)), _COMPONENTS, times=times)
    return DynamicsOfActivity(known.task, known.columns, system)
