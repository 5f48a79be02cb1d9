"""What became of an ingest: of each session, and of all of them as a report beside the cache."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from ibl_mtm.disk.replace import replace_file
from ibl_mtm.errors import SessionError

__all__ = ["IngestReport", "OnBytes", "Outcome", "UnreachableError", "one_line", "write_report"]

OnBytes = Callable[[int], object]
"""Called with the number of bytes that came; negative where they were in vain."""


@dataclass(frozen=True)
class Outcome:
    """What became of one session.

    Parameters
    ----------
    status
        `complete`: it was in the cache already, made from the same definition; `planned`: a dry
        run would have ingested it.
    reason
        Why it failed; None otherwise.
    seconds
        What it took.
    n_units, n_trials
        What it has; 0 where it was not ingested now.
    n_bytes
        What was downloaded for it, or would be.
    notes
        What was missing in it.
    unreachable
        The file server that did not answer for it.
    blocked
        Why nothing more can be written, for this session or another.
    """

    status: Literal["ingested", "complete", "failed", "planned"]
    reason: str | None = None
    seconds: float = 0.0
    n_units: int = 0
    n_trials: int = 0
    n_bytes: int = 0
    notes: tuple[str, ...] = ()
    unreachable: str | None = None
    blocked: str | None = None


class UnreachableError(SessionError):
    """A session whose files cannot be had, since their server does not answer."""

    def __init__(self, eid: str, reason: str, host: str) -> None:
        super().__init__(eid, reason)
        self.host = host


@dataclass(frozen=True)
class IngestReport:
    """What became of every session that was asked for, by eid.

    Parameters
    ----------
    cache
        Where they are.
    sessions
        Outcome of each.
    left_aside
        Folders of sessions that could not be looked at, and why.
    stopped
        Why the ingest ended before it was done; None where it was not.
    """

    cache: Path
    sessions: dict[str, Outcome] = field(default_factory=dict)
    left_aside: Mapping[str, str] = field(default_factory=dict)
    stopped: str | None = None

    @property
    def failed(self) -> dict[str, str]:
        """Reason of every failed session."""
        return {
            eid: outcome.reason or ""
            for eid, outcome in self.sessions.items()
            if outcome.status == "failed"
        }

    def to_json(self) -> dict[str, Any]:
        """The report as a plain JSON mapping."""
        sessions = {eid: asdict(outcome) for eid, outcome in self.sessions.items()}
        return {
            "cache": str(self.cache),
            "sessions": sessions,
            "left_aside": dict(self.left_aside),
            "stopped": self.stopped,
        }


def write_report(report: IngestReport, dataset: str) -> Path:
    """Write what became of an ingest beside the cache, in place of what was of the last one.

    Under the cache's name, ``cache.ingest-report.json``, and as ``ingest-report.json``, which is
    that of whichever cache in the folder was ingested into last.
    """
    written = datetime.now(UTC).isoformat(timespec="seconds")
    document = {"dataset": dataset, "written": written, **report.to_json()}
    path = report.cache.with_name("ingest-report.json")
    text = json.dumps(document, indent=1) + "\n"
    for target in (path.with_name(f"{report.cache.stem}.{path.name}"), path):
        replace_file(target, lambda aside: aside.write_text(text))
    return path


def one_line(error: Exception) -> str:
    """What an error says, on one line; its name where it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__
