"""Behaviour on the grid of the spikes, as the cache keeps it.

bin_behaviour(recording.behaviour, edges, 0.02)["wheel_velocity"]       # dims, (trial, time)
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ibl_mtm.ingest.align import count_spikes, own_samples, sample
from ibl_mtm.ingest.recording import Behaviour, Signal

__all__ = ["bin_behaviour", "bin_signals"]

# Cameras run at 30 to 150 Hz. Of a slower one than the bins, frames in sequence are no gap.
_FRAMES_IN_SEQUENCE = 1.5

Edges = NDArray[np.float64]


def bin_behaviour(behaviour: Behaviour, edges: Edges, bin_size: float) -> dict[str, Any]:
    """Variables of the cache: NaN where missing; no licks where none were recorded, and of a task
    that is not the IBL's nothing else that was not.

    Parameters
    ----------
    behaviour
        Whatever was recorded.
    edges
        Bin edges (s), shape (n_trials, n_bins + 1).
    bin_size
        Length of a bin (s).

    Returns
    -------
    Name of the variable -> its dimensions, and values of shape (n_trials, n_bins).
    """
    dims = ("trial", "time")
    missing = np.full((len(edges), edges.shape[1] - 1), np.nan, dtype=np.float32)
    names = ("whisker_motion_energy", "wheel_velocity") if behaviour.of_ibl else ()
    variables: dict[str, Any] = dict.fromkeys(names, (dims, missing))
    if (signal := behaviour.whisker_motion_energy) is not None:
        whisker = _read(signal, edges, bin_size, outside=np.nan)
        variables["whisker_motion_energy"] = (dims, whisker)
    if (signal := behaviour.wheel_velocity) is not None:
        # The encoder reports movement only: where it reports nothing, it was still.
        outside = 0.0 if signal.rate is None else np.nan
        wheel = _read(signal, edges, bin_size, outside=outside, gaps=False)
        variables["wheel_velocity"] = (dims, wheel)
    if behaviour.licks is not None:
        variables["lick_count"] = (dims, _count_licks(behaviour.licks, edges, bin_size))
    return variables


def bin_signals(signals: Mapping[str, Signal], edges: Edges, bin_size: float) -> dict[str, Any]:
    """Traces of one's own as variables of the cache; NaN beyond their samples and in their gaps.

    Parameters
    ----------
    signals
        By name.
    edges, bin_size
        As for `bin_behaviour`; so is what is returned.
    """
    return {
        name: (("trial", "time"), _read(signal, edges, bin_size, outside=np.nan))
        for name, signal in signals.items()
    }


def _read(
    signal: Signal, edges: Edges, bin_size: float, *, outside: float, gaps: bool = True
) -> NDArray[np.float32]:
    if signal.rate is not None and _as_long_as_bins(signal.rate, bin_size):
        return own_samples(signal.times, signal.values, signal.rate, edges)
    longest = np.inf
    if gaps:
        frame = np.median(np.diff(signal.times)) if len(signal.times) > 1 else np.inf
        longest = max(bin_size, _FRAMES_IN_SEQUENCE * frame)
    return sample(signal.times, signal.values, edges, longest_gap=longest, outside=outside)


def _count_licks(
    licks: "NDArray[np.float64] | Signal", edges: Edges, bin_size: float
) -> NDArray[np.uint8] | NDArray[np.uint16]:
    if isinstance(licks, Signal):
        assert licks.rate is not None
        counts = np.nan_to_num(licks.values).astype(np.int64)
        if _as_long_as_bins(licks.rate, bin_size):
            own = own_samples(licks.times, counts.astype(np.float64), licks.rate, edges)
            return np.nan_to_num(own).astype(np.uint8)
        # Somewhere in the sample, and its middle is in the sample whatever rounding does.
        licks = np.repeat(licks.times + 0.5 / licks.rate, counts)
    return count_spikes(licks, np.zeros(len(licks), dtype=np.int64), 1, edges)[..., 0]


def _as_long_as_bins(rate: float, bin_size: float) -> bool:
    return bool(np.isclose(rate * bin_size, 1.0, rtol=0, atol=1e-9))
