"""Traces that other sessions had: the null of a trace that is decoded from slow signals.

    imposters = Imposters(cache)                    # one for all sessions that are scored
    imposters.traces(BEHAVIOURS["whisker_motion_energy"], ds)      # [(trial, time), …]

Traces drift over a session, as recordings do, and have a course over a trial that any session
shares. Shuffled trials lose the one and keep the other. A trace that another session had, trial by
trial, keeps both and knows nothing of these spikes (Harris, Nonsense correlations in neuroscience,
2020, "session permutation"; International Brain Laboratory, A brain-wide map, 2023, "imposters").
"""

import logging
from functools import lru_cache

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from ibl_mtm.cache.cache import Cache
from ibl_mtm.cache.guard import reading
from ibl_mtm.errors import SessionError
from ibl_mtm.evaluation.behaviour.behaviours import Behaviour
from ibl_mtm.evaluation.behaviour.decodable_trials import Undecodable
from ibl_mtm.sessions.trial_format import trial_format

__all__ = ["FEWEST", "MOST", "Imposters"]

logger = logging.getLogger(__name__)

FEWEST = 19
"""Sessions without which no p value could reach 0.05: then trials are shuffled."""
MOST = 49
#: Of a session's trials: sessions with fewer are no stand-in for it.
_ENOUGH = 0.7
#: Traces that are kept, of some 0.2 MB each: those of the first sessions serve all others.
_KEPT = 256

#: What trials must have in common: their format, and whether they were simulated.
_Kind = tuple[object, object]


class Imposters:
    """Sessions of a cache, to stand in for each other; each is read once for many.

    Parameters
    ----------
    cache
        Where they are.
    """

    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        eids = list(cache)
        self._order = [eids[at] for at in np.random.default_rng(0).permutation(len(eids))]
        self._read = lru_cache(maxsize=_KEPT)(self._read_trace)

    def traces(self, behaviour: Behaviour, ds: xr.Dataset) -> list[NDArray[np.floating]]:
        """Other sessions' traces at the same places in a session.

        Parameters
        ----------
        behaviour
            What is decoded.
        ds
            The session.

        Returns
        -------
        At most `MOST` of shape (trial, time), NaN where one has no value or no trial left; none if
        fewer than `FEWEST` sessions have the trace and enough trials of the same format.
        """
        own, n_trials = str(ds.attrs["eid"]), ds.sizes["trial"]
        others = [eid for eid in self._order if eid != own]
        found: list[NDArray[np.floating]] = []
        for eid in others if len(others) >= FEWEST else ():
            kind, trace = self._read(eid, behaviour)
            # Real behaviour is no stand-in for simulated, nor the other way round.
            if trace is None or kind != _kind_of(ds) or len(trace) < _ENOUGH * n_trials:
                continue
            same = trace[:n_trials]
            missing = ((0, n_trials - len(same)), (0, 0))
            found.append(np.pad(same, missing, constant_values=np.nan))
            if len(found) == MOST:
                break
        return found if len(found) >= FEWEST else []

    def _read_trace(
        self, eid: str, behaviour: Behaviour
    ) -> tuple[_Kind | None, NDArray[np.floating] | None]:
        """A session's kind and trace; None if it has none, or cannot be read."""
        try:
            with reading(eid):
                ds = self._cache[eid]
                trace = behaviour.target(ds)
                return _kind_of(ds), trace.astype(np.result_type(trace, np.float32))
        except Undecodable:
            pass
        except SessionError as error:
            logger.info("session %s is no imposter: %s", eid, error.reason)
        return None, None


def _kind_of(ds: xr.Dataset) -> _Kind:
    return trial_format(ds), ds.attrs.get("simulated")
