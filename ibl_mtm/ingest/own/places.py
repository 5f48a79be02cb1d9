"""Which session files are of, from where they lie: SUBJECT/DATE, SUBJECT/DATE/NUMBER, SUBJECT_DATE.

about_of(Path("/data/m1/2024-05-06/001"), lab="lab")       # About(..., "m1", "2024-05-06", ...)
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ibl_mtm.ingest.own.recordings import About
from ibl_mtm.ingest.recording import session_id

__all__ = ["Place", "Places", "about_of", "gather", "make_about"]

_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
_BOTH = re.compile(r"(.+)_(\d{4}-\d{2}-\d{2})(?:_(\d+))?")


@dataclass(frozen=True)
class Place:
    """A session, and the folder or file that it is in."""

    about: About
    path: Path


@dataclass(frozen=True)
class Places:
    """Sessions by eid, and what is none of them, with the reason."""

    found: Mapping[str, Place]
    left_aside: Mapping[str, str] = field(default_factory=dict)


def make_about(subject: str, date: str, lab: str = "lab", number: int = 1) -> About:
    """A session, with the id that follows from its place."""
    return About(session_id(lab, subject, date, str(number)), subject, date, lab, number)


def about_of(path: Path, lab: str = "lab") -> About | None:
    """The session that a folder is of, by its name and those above it; None if they do not tell."""
    parts = path.absolute().parts
    for at in range(len(parts) - 1, 0, -1):
        both = _BOTH.fullmatch(parts[at])
        if both:
            return make_about(both[1], both[2], lab, int(both[3] or 1))
        if _DATE.fullmatch(parts[at]):
            number = parts[at + 1] if at + 1 < len(parts) and parts[at + 1].isdigit() else "1"
            if parts[at - 2 : at - 1] == ("Subjects",) and at >= 4:
                lab = parts[at - 3]
            return make_about(parts[at - 1], parts[at], lab, int(number))
    return None


def gather(abouts: Mapping[Path, About | None], why_not: str) -> Places:
    """Sessions of files and folders; those of which nothing is known, or the second of one."""
    found: dict[str, Place] = {}
    left_aside: dict[str, str] = {}
    for path, about in abouts.items():
        if about is None:
            left_aside[str(path)] = why_not
        elif about.eid in found:
            other = found[about.eid].path
            left_aside[str(path)] = f"subject, date and number are those of {other}"
        else:
            found[about.eid] = Place(about, path)
    return Places(found, left_aside)
