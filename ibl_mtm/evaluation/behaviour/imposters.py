"""Traces that other sessions had: the null of a trace that is decoded from slow signals.

    imposters = Imposters(cache, eid)
    imposters.traces(BEHAVIOURS["whisker_motion_energy"], n_trials=300)    # [(300, time), …]

Traces drift over a session, as recordings do, and have a course over a trial that any session
shares. Shuffled trials lose the one and keep the other. A trace that another session had, trial by
trial, keeps both and knows nothing of these spikes (Harris, Nonsense correlations in neuroscience,
2020, "session permutation"; International Brain Laboratory, A brain-wide map, 2023, "imposters").
"""

import logging
from dataclasses import dataclass

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


@dataclass(frozen=True)
class Imposters:
    """Other sessions of a cache, in an order of their own for each session.

    Attributes
    ----------
    cache
        Where they are.
    eid
        The session that they stand in for.
    """

    cache: Cache
    eid: str

    def traces(self, behaviour: Behaviour, n_trials: int) -> list[NDArray[np.float64]]:
        """Their traces at the same places in the session.

        Parameters
        ----------
        behaviour
            What is decoded.
        n_trials
            Trials of the session.

        Returns
        -------
        At most `MOST` of shape (n_trials, time), NaN where one has no value or no trial left; none
        if fewer than `FEWEST` sessions have the trace and enough trials.
        """
        others = [eid for eid in self.cache if eid != self.eid]
        if len(others) < FEWEST:
            return []
        order = np.random.default_rng(list(self.eid.encode())).permutation(len(others))
        found: list[NDArray[np.float64]] = []
        own = self.cache[self.eid]
        for at in order:
            trace = self._trace(others[at], behaviour, n_trials, own)
            if trace is not None:
                found.append(trace)
            if len(found) == MOST:
                break
        return found if len(found) >= FEWEST else []

    def _trace(
        self, eid: str, behaviour: Behaviour, n_trials: int, own: xr.Dataset
    ) -> NDArray[np.float64] | None:
        try:
            with reading(eid):
                ds = self.cache[eid]
                if ds.sizes["trial"] < _ENOUGH * n_trials or not _alike(ds, own):
                    return None
                trace = np.asarray(behaviour.target(ds), np.float64)[:n_trials]
        except Undecodable:
            return None
        except SessionError as error:
            logger.info("session %s is no imposter: %s", eid, error.reason)
            return None
        return np.pad(trace, ((0, n_trials - len(trace)), (0, 0)), constant_values=np.nan)


def _alike(ds: xr.Dataset, own: xr.Dataset) -> bool:
    """Whether trials are of one format; real behaviour is no stand-in for simulated, either."""
    simulated = ds.attrs.get("simulated") == own.attrs.get("simulated")
    return simulated and trial_format(ds) == trial_format(own)
