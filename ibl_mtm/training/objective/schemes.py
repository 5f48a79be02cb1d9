"""Which masking schemes a session allows, told before training meets one that allows none.

check_schemes(sessions, settings.masks, minimum=5)
possible_schemes(["neuron", "inter_region"], regions)
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ibl_mtm.errors import UserError
from ibl_mtm.model.masking import DRAWS, Scheme
from ibl_mtm.sessions.modalities import classes_in, traces_in
from ibl_mtm.sessions.view import Session
from ibl_mtm.training.settings import MaskSettings

__all__ = ["check_schemes", "has_behaviour", "missing_modalities", "possible_schemes"]


def has_behaviour(session: Session) -> bool:
    """Whether a session has some of the run's modalities."""
    return session.behaviour is not None and session.behaviour.is_there


def possible_schemes(
    schemes: Sequence[Scheme], regions: Tensor, behaviour: bool = False
) -> list[Scheme]:
    """Schemes that a session allows: those of regions need one, and units outside of it; those
    of behaviour a session that has some.
    """
    inside = regions[regions >= 0]
    n_regions = 0 if not len(inside) else 2 if (regions != inside[0]).any() else 1
    allowed = [scheme for scheme in schemes if DRAWS[scheme].n_regions <= n_regions]
    return [scheme for scheme in allowed if behaviour or not DRAWS[scheme].behaviour]


def missing_modalities(sessions: Sequence[Session], modalities: Sequence[str]) -> list[str]:
    """A line for each modality that not every session has."""
    names = (*traces_in(modalities), *classes_in(modalities))
    there = [s.behaviour.statistics.null > 0 for s in sessions if s.behaviour is not None]
    n_with = np.sum(there, 0) if there else np.zeros(len(names), int)
    return [
        f"{name}: in {n} of {len(sessions)} sessions; masked in the others"
        for name, n in zip(names, n_with.tolist(), strict=True)
        if n < len(sessions)
    ]


def check_schemes(sessions: Sequence[Session], masks: MaskSettings, minimum: int) -> None:
    """Make sure that every session allows some masking scheme, before training meets one.

    Parameters
    ----------
    sessions
        Of a run.
    masks
        The run's.
    minimum
        Units that a region needs (``data.min_units_per_region``).

    Raises
    ------
    UserError
        Names the first session that allows none.
    """
    schemes = [scheme for scheme, weight in masks.schemes.items() if weight > 0]
    for session in sessions:
        names = np.unique(session.region[session.region != ""]).tolist()
        regions = torch.tensor([names.index(r) if r else -1 for r in session.region])
        if possible_schemes(schemes, regions, has_behaviour(session)):
            continue
        none = f"session {session.eid} allows none of masks.schemes ({', '.join(schemes)})"
        if possible_schemes(schemes, regions, behaviour=True):
            raise UserError(
                f"{none}: it has none of model.modalities; add a scheme of activity, or leave "
                "the session out with --where"
            )
        have = "no region with" if not names else f"only {', '.join(names)} with"
        raise UserError(
            f"{none}: it has {have} data.min_units_per_region={minimum} units; lower that, or "
            "leave the session out with --where"
        )
