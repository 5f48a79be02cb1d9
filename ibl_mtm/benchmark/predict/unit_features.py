"""What a unit is known by, whatever session it is of: when it fires, and a model's rows for it.

firing = firing_features(recording)             # (unit, feature), of all units of the file
rows = model_rows(model, unit_ids)              # (unit, feature)
"""

from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray

from ibl_mtm.brainsets.recording import Recording
from ibl_mtm.model.mtm import MtM

__all__ = ["HISTOGRAM", "firing_features", "interval_histogram", "model_rows"]

_INTERVALS = np.logspace(-3, 1, 25)  # s
_LAGS = np.linspace(0, 0.1, 26)  # s

HISTOGRAM = slice(1, len(_INTERVALS))
"""Where the histogram of intervals stands among `firing_features`."""

Array = NDArray[np.float64]


def firing_features(recording: Recording) -> Array:
    """Rate, histogram of intervals and autocorrelogram of each unit, (unit, 50).

    All are logs: of the rate (Hz), of the share of intervals in each of 24 bins from 1 ms to 10 s,
    and of the rate 0 to 100 ms after a spike, relative to the unit's own.
    """
    spikes = recording.spikes()
    order = np.argsort(spikes.units, kind="stable")
    times = spikes.times[order]
    edges = np.searchsorted(spikes.units[order], np.arange(len(recording.unit_ids) + 1))
    seconds = max(float(spikes.times[-1] - spikes.times[0]), 1.0) if len(spikes.times) else 1.0
    rows = []
    for first, last in pairwise(edges):
        own = times[first:last]
        rate = (len(own) + 0.5) / seconds
        after = _autocorrelogram(own) / ((len(own) + 0.5) * np.diff(_LAGS) * rate)
        shares = interval_histogram(own)
        rows.append(np.r_[np.log(rate), shares, np.log(after + 0.05)])
    return np.stack(rows) if rows else np.empty((0, 1 + len(_INTERVALS) + len(_LAGS) - 2))


def interval_histogram(times: Array) -> Array:
    """Log of the share of intervals in each bin, (24,)."""
    counts = np.histogram(np.diff(times), _INTERVALS)[0]
    shares: Array = np.log(counts / max(counts.sum(), 1) + 0.003)
    return shares


def _autocorrelogram(times: Array) -> Array:
    counts = np.zeros(len(_LAGS) - 1)
    for ahead in range(1, len(times)):
        lag = times[ahead:] - times[:-ahead]
        near = lag[lag < _LAGS[-1]]
        if not len(near):
            break
        counts += np.histogram(near, _LAGS)[0]
    return counts


@torch.no_grad()
def model_rows(model: MtM, units: NDArray[np.str_]) -> Array:
    """Rows of the stitchers of units that a model knows, (unit, read-in and read-out)."""
    at = model.scope.rows_of(units)
    parts = [model.read_in[at], model.read_out[at], model.read_out_bias[at, None]]
    rows: Array = torch.cat(parts, 1).double().numpy()
    return rows
