"""The benchmark's metrics, from predictions as files hold them.

    score_trials(task, predictions, values, mask)   # {"r2": 0.41, "mae": ..., "pearson": ...}

    sums = PoissonSums(n_units)
    sums.add(log_rates, counts)                     # as often as there are windows
    sums.scores()                                   # {"poisson_d2": 0.07, "bps": 0.2}

Definitions are those of `ibl-bwb-eval` 0.1.0 (its own ones, and torchmetrics' 1.9 otherwise); sums
here are in double precision. Pure functions of arrays.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax, xlogy
from sklearn.metrics import average_precision_score, precision_recall_fscore_support

from ibl_mtm.benchmark.tasks import COSMOS_LABELS, Task

__all__ = ["PoissonSums", "score_trials", "score_units"]

_LEAST = 1e-9  # of rates and deviances
_NEAR_ZERO = 1e-4  # squared errors below count as none (torchmetrics' R2Score)

Array = NDArray[np.float64]


class PoissonSums:
    """Sums over samples, for each unit, that the scores of log rates follow from.

    Parameters
    ----------
    n_units
        Number of units.
    """

    def __init__(self, n_units: int) -> None:
        self.n = 0
        self.counts, self.rates, self.products, self.entropy = np.zeros((4, n_units))

    def add(self, log_rates: np.ndarray, counts: np.ndarray) -> None:
        """Add samples of shape (..., unit)."""
        p = log_rates.reshape(-1, log_rates.shape[-1]).astype(np.float32)
        y = counts.reshape(p.shape)
        if y.dtype.kind == "u":
            self._add_integers(p, y)
        else:
            self.products += np.einsum("ij,ij->j", p, y, dtype=np.float64)
            self.counts += y.sum(0, dtype=np.float64)
            self.entropy += xlogy(y, y).sum(0, dtype=np.float64)
        self.n += len(y)
        with np.errstate(over="ignore"):
            self.rates += np.exp(p, out=p).sum(0, dtype=np.float64)

    def _add_integers(self, p: np.ndarray, y: np.ndarray) -> None:
        """Few bins hold a spike: only those are looked at."""
        sample, unit = np.nonzero(y)
        count, n_units = y[sample, unit].astype(np.float64), y.shape[1]
        self.products += np.bincount(unit, count * p[sample, unit], n_units)
        self.counts += np.bincount(unit, count, n_units)
        self.entropy += np.bincount(unit, xlogy(count, count), n_units)

    def d2(self) -> Array:
        """Share of the deviance that is explained, (unit,); NaN where there is none."""
        null = np.log(np.maximum(self.counts / max(self.n, 1), _LEAST))
        deviance = self.entropy - self.counts * null
        left = (self.rates - self.products) - (self.counts - self.entropy)
        scored = (self.counts > 0) & (np.abs(deviance) >= _LEAST)
        d2: Array = np.full(len(left), np.nan)
        d2[scored] = 1 - left[scored] / deviance[scored]
        return d2

    def bits_per_spike(self) -> float:
        """Of all units together; NaN without a spike."""
        rate = self.counts / max(self.n, 1)
        scored = rate >= _LEAST
        if not scored.any():
            return float("nan")
        null = (self.counts[scored] * (1 - np.log(rate[scored]))).sum()
        loss = (self.rates - self.products)[scored].sum()
        return float((null - loss) / (self.counts[scored].sum() * np.log(2)))

    def scores(self) -> dict[str, float]:
        """Mean of `d2` over the units that have one, and bits/spike."""
        d2 = self.d2()
        known = d2[~np.isnan(d2)]
        mean = float(known.mean()) if len(known) else float("nan")
        return {"poisson_d2": mean, "bps": self.bits_per_spike()}


def score_trials(
    task: Task, predictions: np.ndarray, values: np.ndarray, mask: np.ndarray | None = None
) -> dict[str, float]:
    """Scores of a TS1 task over all trials together.

    Parameters
    ----------
    task
        Which one.
    predictions : ndarray (N, 1, class) or (N, 50, 1)
        Scores of classes; values in the task's units; logs of expected licks per bin.
    values : ndarray (N, 1, 1) or (N, 50, 1)
        Targets (see `ibl_mtm.benchmark.truth.TrialTruth`).
    mask : ndarray (N, 50), bool, optional
        Which samples count.

    Raises
    ------
    ValueError
        If no sample counts.
    """
    if task.is_class:
        return _score_classes(predictions[:, 0], values[:, 0, 0].astype(np.int64))
    p, y = predictions.reshape(-1).astype(np.float64), values.reshape(-1).astype(np.float64)
    if mask is not None:
        p, y = p[mask.reshape(-1)], y[mask.reshape(-1)]
    if not len(y):
        raise ValueError("no sample to score")
    error = {"mae": float(np.abs(p - y).mean())}
    if task.metric == "poisson_d2":
        sums = PoissonSums(1)
        sums.add(p[:, None], y[:, None])
        return {"poisson_d2": float(sums.d2()[0]), **error}
    return {"r2": _r2(p, y), **error, "pearson": _correlation(p, y)}


def score_units(odds: np.ndarray, target: np.ndarray) -> dict[str, float]:
    """Scores of TS3: of each region, and their mean over all ten.

    Parameters
    ----------
    odds : ndarray (unit, 10)
        Probabilities of `COSMOS_LABELS`.
    target : ndarray (unit,), int
        Their regions.
    """
    labels = np.arange(len(COSMOS_LABELS))
    found = precision_recall_fscore_support(
        target, odds.argmax(axis=1), labels=labels, zero_division=0
    )
    scores: dict[str, float] = {}
    for name, values in zip(("precision", "recall", "f1-score"), found[:3], strict=True):
        scores |= {
            f"{label}/{name}": float(v) for label, v in zip(COSMOS_LABELS, values, strict=True)
        }
        scores[f"macro/{name}"] = float(np.mean(values))
    return scores


def _score_classes(logits: np.ndarray, target: NDArray[np.int64]) -> dict[str, float]:
    n_classes = logits.shape[1]
    chosen = logits.argmax(axis=1)
    labels = np.arange(n_classes)
    _, recall, f1, n_true = precision_recall_fscore_support(
        target, chosen, labels=labels, zero_division=0
    )
    # A class that is neither asked for nor answered does not count.
    taking_part = (n_true > 0) | np.isin(labels, chosen)
    odds = logits if _are_odds(logits) else softmax(logits.astype(np.float32), axis=1)
    precision = [
        average_precision_score(target == label, odds[:, label]) if n_true[label] else 0.0
        for label in labels
    ]
    return {
        "bacc": float(recall[taking_part].mean()),
        "f1": float(f1[taking_part].mean()),
        "ap": float(np.mean(precision)),
    }


def _are_odds(logits: np.ndarray) -> bool:
    return bool(((logits >= 0) & (logits <= 1)).all())


def _r2(p: Array, y: Array) -> float:
    error, spread = float(((p - y) ** 2).sum()), float(((y - y.mean()) ** 2).sum())
    if error <= _NEAR_ZERO:
        return 1.0
    return 1 - error / spread if spread > _NEAR_ZERO else 0.0


def _correlation(p: Array, y: Array) -> float:
    a, b = p - p.mean(), y - y.mean()
    scale = np.sqrt((a**2).sum() * (b**2).sum())
    return float(np.clip((a * b).sum() / scale, -1, 1)) if scale > 0 else float("nan")
