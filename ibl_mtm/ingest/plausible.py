"""Whether times can be what they are taken for: seconds, on one clock for spikes and trials.

    check_extent(recording, events)             # against the trials; notes, or a SessionError
    check_rates(recording, edges)               # in the windows against the whole recording

Spike times in samples or milliseconds, or trials on another clock, give arrays that look right
and hold next to nothing.
"""

import numpy as np
from numpy.typing import NDArray

from ibl_mtm.errors import SessionError
from ibl_mtm.ingest.recording import Recording

__all__ = ["check_extent", "check_rates"]

_A_DAY = 86_400.0  # s; longer than any recording, but not than one in samples or ms
_OUTLASTS = 100  # fold
_ENOUGH_TRIALS = 10  # a recording may well outlast fewer
_ENOUGH_SPIKES = 200  # expected ones, before rates are compared
_FAR, _TOO_FAR = 4, 20  # fold


def check_extent(recording: Recording, events: NDArray[np.float64] | None) -> list[str]:
    """Compare how long the recording of each probe lasts with how long the trials do.

    Parameters
    ----------
    recording
        Its insertions' times are looked at.
    events
        Of the trials (s); None where there are none.

    Returns
    -------
    Notes on what is doubtful.

    Raises
    ------
    SessionError
        If times cannot be seconds, or not on the trials' clock; says what they may be.
    """
    notes: list[str] = []
    finite = np.array([]) if events is None else events[np.isfinite(events)]
    for insertion in recording.insertions:
        what = insertion.called
        lasts = insertion.times[-1] - insertion.times[0]
        if len(finite) < 2:
            if lasts > _A_DAY:
                raise SessionError(
                    recording.eid,
                    f"{what}: {lasts / 3600:,.0f} hours; samples or ms, where s are expected?",
                )
            continue
        trials = float(finite.max() - finite.min())
        if lasts <= _OUTLASTS * trials:
            if trials > _OUTLASTS * lasts:
                notes.append(
                    f"{what}: {lasts:,.0f} s, but trials over {trials:,.0f} s; other units of "
                    "time, or another clock?"
                )
            continue
        doubt = (
            f"{what}: the recording of {lasts:,.0f} s outlasts its trials ({trials:,.0f} s) more "
            f"than {_OUTLASTS}-fold; samples or ms, where s are expected, or another clock?"
        )
        if len(finite) >= _ENOUGH_TRIALS:
            raise SessionError(recording.eid, doubt)
        notes.append(doubt)
    return notes


def check_rates(recording: Recording, edges: NDArray[np.float64]) -> list[str]:
    """Compare the rate of each probe's spikes in the windows with that of its whole recording.

    Parameters
    ----------
    recording
        Its insertions' times are looked at.
    edges
        Bin edges of every window (s), shape (n_trials, n_bins + 1).

    Returns
    -------
    Notes on what is doubtful.

    Raises
    ------
    SessionError
        If the windows cannot be of this recording.
    """
    notes: list[str] = []
    seconds = float((edges[:, -1] - edges[:, 0]).sum())
    for insertion in recording.insertions:
        times = insertion.times
        before = np.searchsorted(times, edges[:, [0, -1]])
        found = int((before[:, 1] - before[:, 0]).sum())
        overall = len(times) / max(times[-1] - times[0], np.finfo(float).tiny)
        expected = overall * seconds
        if max(expected, found) < _ENOUGH_SPIKES:
            continue
        doubt = (
            f"{insertion.called}: {found / seconds:,.1f} spikes/s in the windows, but "
            f"{overall:,.1f} over the recording; are spikes and trials in s, on one clock?"
        )
        fold = max(found, expected) / max(min(found, expected), 1.0)
        # Far more in the windows than between them is what spikes cut out around trials look like.
        if fold > _TOO_FAR and found < expected:
            raise SessionError(recording.eid, doubt)
        if fold > _FAR:
            notes.append(doubt)
    return notes
