"""Animals that a benchmark evaluates are in no training together with others.

refuse_evaluated(cache)
"""

import json

from ibl_mtm.brainsets.evaluated import evaluated_among
from ibl_mtm.cache.cache import Cache
from ibl_mtm.errors import UserError

__all__ = ["refuse_evaluated"]


def refuse_evaluated(cache: Cache) -> None:
    """Refuse to train on animals that BrainWideBench evaluates and on others at once.

    On evaluated animals alone is what is asked for there: adaptation to them, or a model of one
    session from scratch.

    Raises
    ------
    UserError
        Names the sessions, the reason and the mend.
    """
    rows = cache.sessions
    subjects = dict(zip(map(str, rows.index), rows["subject"].astype(str), strict=True))
    # What is for evaluation by its file has this role; no other session need be opened.
    held_out = map(str, rows.index[rows["role"] == "finetune"])
    brainsets = {eid: json.loads(cache[eid].attrs.get("brainset") or "{}") for eid in held_out}
    regimes = {eid: str(about.get("regime", "")) for eid, about in brainsets.items()}
    found = evaluated_among(subjects, regimes)
    if not found or len(found) == len(subjects):
        return
    eid, why = next(iter(found.items()))
    names = sorted({subjects[each] for each in found} - {""})
    others = " and ".join(f"subject != '{name}'" for name in names)
    raise UserError(
        f"{len(found)} of {len(subjects)} sessions are of animals that BrainWideBench evaluates: "
        f"{eid} ({why}); a model that saw them in pre-training has no score there. Leave them out "
        f'(--where "{others}"), or set data.evaluated_animals=use if it is for something else'
    )
