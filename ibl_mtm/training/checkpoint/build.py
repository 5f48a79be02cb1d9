"""A new model for the sessions of a run, each unit's rows started from its training trials.

model = build_model(settings, sessions, trial_format(ds))
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import torch

from ibl_mtm.errors import UserError
from ibl_mtm.model.mtm import MtM
from ibl_mtm.model.scope import Scope
from ibl_mtm.sessions.trial_format import TrialFormat
from ibl_mtm.sessions.view import Session
from ibl_mtm.training.settings import RunSettings

__all__ = ["build_model"]


def build_model(settings: RunSettings, sessions: Sequence[Session], format_: TrialFormat) -> MtM:
    """A new model that knows these sessions.

    Raises
    ------
    UserError
        If two sessions hold a unit of the same uuid: one row cannot serve both.
    """
    scope = Scope(
        units=tuple(str(unit) for session in sessions for unit in session.units),
        sessions=tuple(session.eid for session in sessions),
        regions=tuple(sorted({str(r) for s in sessions for r in s.region} - {""})),
        trial_format=format_,
        schemes=tuple(scheme for scheme, weight in settings.asked.schemes.items() if weight > 0),
        region_map=settings.data.regions,
        min_units_per_region=settings.data.min_units_per_region,
        void_and_root=settings.data.void_and_root,
    )
    _refuse_twins(scope, sessions)
    model = MtM(settings.model, scope)
    first = 0
    for number, session in enumerate(sessions):
        rows = torch.arange(first, first + len(session.units))
        mean, spread = session.training.mean_and_spread(settings.model.transform)
        # A unit that never fires has no spread: leave its input as it is.
        scale = np.where(spread > 0, spread, 1.0)
        start = [torch.from_numpy(v).float() for v in (mean, scale, session.training.log_mean)]
        model.start_units(rows, start[0], start[1], start[2], session=number)
        if session.behaviour is not None:
            model.start_behaviour(number, session.behaviour.statistics)
        first += len(rows)
    return model


def _refuse_twins(scope: Scope, sessions: Sequence[Session]) -> None:
    if len(set(scope.units)) == len(scope.units):
        return
    unit, n = Counter(scope.units).most_common(1)[0]
    eids = [session.eid for session in sessions if unit in session.units]
    raise UserError(
        f"unit {unit} stands {n} times in the data (sessions {', '.join(eids)}); "
        "train on one of these sessions with `where`"
    )
