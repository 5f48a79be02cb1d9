"""What is asked of an evaluation: which tasks, which sessions, and where the scores are to go."""

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ibl_mtm.cache.cache import Cache
from ibl_mtm.disk.targets import check_folder
from ibl_mtm.errors import SessionError, UserError
from ibl_mtm.evaluation.merge import check_joins
from ibl_mtm.evaluation.score_session import ALL_TASKS, TASKS, R2Rules
from ibl_mtm.sessions.deal import Deal, read_deals
from ibl_mtm.sessions.schema import to_decode
from ibl_mtm.training.settings import DataSettings

__all__ = ["Request", "chosen_sessions", "deals_of", "known_tasks", "own_tasks", "sessions_of"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Request:
    """What to score, and what to do with the scores.

    Parameters
    ----------
    what
        ``{"run": path}`` or ``{"baseline": name}``, and what else the document is to tell.
    model
        Digest of a model's weights, or of a baseline's settings.
    tasks, oracle, say, into, overwrite, r2
        As for `ibl_mtm.evaluate`.
    """

    what: dict[str, Any]
    model: str
    tasks: Sequence[str]
    oracle: str | Path | None
    say: Callable[[str], None] | None
    into: str | Path | None
    overwrite: bool
    r2: R2Rules = "own"

    def check(self, origin: Mapping[str, Any]) -> None:
        """Refuse scores that could not be written, before they are computed."""
        if self.into is not None:
            try:
                check_folder(Path(self.into))
            except UserError as error:
                raise UserError(f"{error} (--out DIR puts the scores elsewhere)") from None
            if not self.overwrite:
                check_joins(Path(self.into), {**self.what, "provenance": origin})


def known_tasks(tasks: Sequence[str], own: Sequence[str] = ()) -> Sequence[str]:
    """Tasks by their names, or as tables call them; UserError for one that is none.

    Parameters
    ----------
    tasks
        As they were asked for; where they are the default `TASKS`, or all, those that the
        sessions declare themselves are among them.
    own
        These (`own_tasks`).
    """
    known = tuple(dict.fromkeys((*ALL_TASKS, *own)))
    if "all" in tasks:
        return known
    if tuple(tasks) == TASKS:
        return tuple(dict.fromkeys((*TASKS, *own)))
    names = []
    for given in tasks:
        plain = given.strip().replace("-", "_").replace(" ", "_")
        name = plain if plain in own else plain.lower()
        if name not in known:
            raise UserError(f"unknown task '{given}'; known: {', '.join(known)}, or all")
        names.append(name)
    return list(dict.fromkeys(names))


def own_tasks(cache: Cache, eids: Sequence[str]) -> tuple[str, ...]:
    """What sessions declare that is to be decoded of them (`decode:` in the catalog)."""
    found: dict[str, None] = {}
    for eid in eids:
        with suppress(SessionError):  # which is told of when it is scored
            found |= dict.fromkeys(to_decode(cache[eid].attrs))
    return tuple(found)


def chosen_sessions(sessions: Sequence[str], cache: Cache) -> list[str]:
    """Sessions by id, its beginning or subject, each once."""
    return list(dict.fromkeys(eid for name in sessions for eid in cache.find(name)))


def sessions_of(known: Sequence[str], cache: Cache) -> list[str]:
    """Those sessions of a model that a cache has; UserError if there is none."""
    found = [eid for eid in known if eid in cache]
    if not found:
        raise UserError(
            f"{cache.path} holds none of the {len(known)} sessions that the model was trained on"
        )
    if len(found) < len(known):
        missing = [eid for eid in known if eid not in cache]
        logger.warning(
            "%d of the model's %d sessions are not in %s, and not scored: %s",
            len(missing),
            len(known),
            cache.path,
            ", ".join(missing[:3]) + (", …" if len(missing) > 3 else ""),
        )
    return found


def deals_of(run: Path, settings: DataSettings) -> dict[str, Deal]:
    """How the trials of a run's sessions were dealt out, if it is young enough to say."""
    deals = read_deals(run)
    if not deals and settings.included_only and settings.split is not None:
        raise UserError(
            f"{run} was trained by a version that split included trials on their own "
            "(data.included_only with data.split), so which are held out is not known; train anew"
        )
    if not deals:
        logger.warning(
            "%s does not tell which trials it was trained on (an earlier version made it): test "
            "trials are those that its settings and this cache give now",
            run,
        )
    return deals
