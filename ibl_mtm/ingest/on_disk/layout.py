"""Sessions in a folder by their place, and why ONE could not read others.

found = scan(Path("/data/ONE"))
found.sessions                      # LAB/Subjects/SUBJECT/DATE/NUMBER, as parts of each
found.left_aside                    # folder -> what is wrong with its place
"""

import os
import re
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["Scan", "SessionFolder", "dangling", "scan", "spikes_of_another_name"]

_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
_DEEPEST = 9  # folders below the root; a link may lead in circles
_NEEDED = re.compile(
    r".*(trials|wheel|licks|Camera|clusters|channels|electrodeSites|spikes\.(times|clusters))\b.*"
)


@dataclass(frozen=True)
class SessionFolder:
    """Where a session lies, and what its folders are called."""

    folder: Path
    lab: str
    subject: str
    date: str
    number: str


@dataclass(frozen=True)
class Scan:
    """What there is in a folder."""

    sessions: list[SessionFolder] = field(default_factory=list)
    left_aside: dict[str, str] = field(default_factory=dict)


def scan(root: Path) -> Scan:
    """Look for session folders, DATE/NUMBER, however deep they are."""
    found = Scan()

    def refuse(error: OSError) -> None:
        path = Path(error.filename or root)
        found.left_aside[_below(path, root)] = f"cannot be read ({error.strerror})"

    for folder, below, _ in os.walk(root, onerror=refuse, followlinks=True):
        below.sort()
        path = Path(folder)
        parts = path.relative_to(root).parts
        if len(parts) >= 2 and _DATE.fullmatch(parts[-2]) and parts[-1].isdecimal():
            below.clear()
            reason = _misplaced(root, parts)
            if reason is not None:
                found.left_aside[_below(path, root)] = reason
                continue
            # As ONE reads it; where it has other characters, the session is not found, and fails.
            lab = re.findall(r"\w*", parts[0])[-2] if len(parts) == 5 else ""
            found.sessions.append(SessionFolder(path, lab, *parts[-3:]))
        elif len(parts) >= _DEEPEST:
            below.clear()
    return found


def _misplaced(root: Path, parts: tuple[str, ...]) -> str | None:
    """Why ONE would not find a session in this place; None where it would."""
    *above, date, number = parts
    if not above:
        return f"no folder of a subject above {date}: the path of the source is too low"
    *above, subject = above
    if above == ["Subjects"]:
        return f"the path of the source is one level too low: {root.parent} would be right"
    if above and above[-1] != "Subjects":
        return f"no folder 'Subjects' above {subject}: ONE expects LAB/Subjects/SUBJECT/DATE/NUMBER"
    if len(above) > 2:
        better = root.joinpath(*above[:-2])
        return f"the path of the source is too high: {better} would be right"
    if not re.fullmatch(r"[\w.-]+", subject):
        first = re.sub(r"[\w.-]", "", subject)[0]
        strange = "a blank" if first == " " else f"'{first}'"
        return (
            f"{strange} in the name of the subject, '{subject}': ONE knows letters, digits "
            "and . _ - only"
        )
    if not re.fullmatch(r"\d{3}", number):
        return f"number '{number}' without zeros: ONE expects {int(number):03d}"
    return None


def dangling(folder: Path) -> list[str]:
    """Files of a session that ingestion needs and that are links to nothing, as paths within it.

    DataLad and git-annex have them where content was not fetched.
    """
    return [
        path.relative_to(folder).as_posix()
        for path in sorted(folder.rglob("*"))
        if path.is_symlink() and not path.exists() and _NEEDED.fullmatch(path.name)
    ]


def spikes_of_another_name(folder: Path) -> str | None:
    """A file of spikes of a session that brainbox would not find; None where there is none."""
    found = min(folder.glob("alf/**/*spikes*times*.npy"), default=None)
    return None if found is None else found.relative_to(folder).as_posix()


def _below(path: Path, root: Path) -> str:
    try:
        return path.relative_to(root).as_posix()
    except ValueError:
        return str(path)
