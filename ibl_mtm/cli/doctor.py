"""What a machine has for this tool, and what is missing.

for check in examine(online=False):
    check.name, check.found, check.status, check.mend
"""

import os
import platform
import shutil
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from packaging.requirements import Requirement

from ibl_mtm._provenance import __version__, source_commit

__all__ = ["Check", "examine"]

#: Of free disk and memory, bytes: with less, a first session may not fit.
_LITTLE_DISK, _LITTLE_MEMORY = 5e9, 4e9
_PATIENCE = 10.0  # s, for the database


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes
    ----------
    name, found
        What, and what it is here.
    status
        `ok`; `note`, of what may be wanted and is not there; or `broken`.
    mend
        What to do; empty if nothing.
    """

    name: str
    found: str
    status: Literal["ok", "note", "broken"] = "ok"
    mend: str = ""

    def to_json(self) -> dict[str, Any]:
        """As plain Python."""
        return asdict(self)


def examine(online: bool = True) -> list[Check]:
    """Look at versions, extras, devices, memory, disk and the database.

    Parameters
    ----------
    online
        Whether to ask the database.
    """
    checks = [
        Check("ibl-mtm", " ".join(filter(None, [__version__, source_commit()]))),
        Check("python", f"{platform.python_version()}, {sys.executable}"),
        *_packages(),
        *_devices(),
        _memory(),
        _disk(Path.cwd()),
    ]
    return [*checks, *(_databases() if online else ())]


def _packages() -> Iterator[Check]:
    """All packages that are needed, those that are wrong, and each extra as a whole."""
    needed: list[Check] = []
    extras: dict[str, list[Requirement]] = {}
    for text in metadata.requires("ibl-mtm") or ():
        requirement = Requirement(text)
        extra = _extra_of(requirement)
        if extra in ("dev", "docs"):
            continue
        if extra:
            extras.setdefault(extra, []).append(requirement)
        elif requirement.marker is None or requirement.marker.evaluate():
            needed.append(_package(requirement))
    right = [f"{check.name} {check.found}" for check in needed if check.status == "ok"]
    yield Check("packages", ", ".join(right))
    yield from (check for check in needed if check.status != "ok")
    for extra, requirements in extras.items():
        wrong = [check for check in map(_package, requirements) if check.status != "ok"]
        absent = [check.name for check in wrong if check.found == "not installed"]
        if not wrong:
            yield Check(f"extra {extra}", "installed")
        elif len(absent) == len(wrong):
            yield Check(
                f"extra {extra}",
                f"without {', '.join(absent)}",
                "note",
                f"if you want it: pip install 'ibl-mtm[{extra}]'",
            )
        else:
            yield from (check for check in wrong if check.found != "not installed")


def _extra_of(requirement: Requirement) -> str | None:
    """The extra that a requirement belongs to: the one without which its marker is false."""
    marker = requirement.marker
    if marker is None or marker.evaluate({"extra": ""}):
        return None
    known = metadata.metadata("ibl-mtm").get_all("Provides-Extra") or []
    return next((extra for extra in known if marker.evaluate({"extra": extra})), None)


def _package(requirement: Requirement) -> Check:
    name = requirement.name
    try:
        version = metadata.version(name)
    except metadata.PackageNotFoundError:
        return Check(
            name, "not installed", "broken", f"pip install '{name}{requirement.specifier}'"
        )
    if not requirement.specifier.contains(version, prereleases=True):
        mend = f"pip install -U '{name}{requirement.specifier}'"
        return Check(name, f"{version}, and {requirement.specifier} is needed", "broken", mend)
    return Check(name, version)


def _devices() -> Iterator[Check]:
    import torch

    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    yield Check("processors", f"{allowed}; PyTorch computes on {torch.get_num_threads()}")
    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        yield Check("gpu", ", ".join(names))
    elif torch.backends.mps.is_available():
        yield Check("gpu", "Apple's, as mps")
    else:
        built = torch.version.cuda
        why = "PyTorch is built without CUDA" if built is None else f"no driver for CUDA {built}"
        yield Check("gpu", f"none: {why}", "note", "small models train on the CPU in minutes")


def _memory() -> Check:
    from ibl_mtm.cli.terminal import size_text
    from ibl_mtm.training.data.memory import available_memory

    free = available_memory()
    if free < _LITTLE_MEMORY:
        mend = "set data.memory_gb, train on fewer sessions (--where)"
        return Check("memory", f"{size_text(free)} available", "note", mend)
    return Check("memory", f"{size_text(free)} available")


def _disk(folder: Path) -> Check:
    from ibl_mtm.cli.terminal import size_text

    free = shutil.disk_usage(folder).free
    if free < _LITTLE_DISK:
        mend = "a session downloads 0.1 to 0.5 GB; put --cache and the source's path elsewhere"
        return Check("disk", f"{size_text(free)} free in {folder}", "note", mend)
    return Check("disk", f"{size_text(free)} free in {folder}")


def _databases() -> Iterator[Check]:
    """Whether each Alyx of the catalog answers."""
    from ibl_mtm.config.catalog import load_catalog
    from ibl_mtm.config.sources import AlyxSource

    sources = [d.source for d in load_catalog().datasets.values()]
    urls = dict.fromkeys(s.url for s in sources if isinstance(s, AlyxSource) and s.url)
    try:
        import requests
    except ModuleNotFoundError:
        return  # told as an extra
    for url in urls:
        try:
            answer = requests.get(url, timeout=_PATIENCE)
        except requests.RequestException as error:
            why = type(error).__name__
            mend = "check the network and proxy; what is downloaded already works with --offline"
            yield Check("database", f"{url} does not answer ({why})", "note", mend)
            continue
        if answer.status_code >= 500:
            found = f"{url} answers with {answer.status_code}"
            yield Check("database", found, "note", "it may be down for a while; try again later")
        else:
            yield Check("database", f"{url} answers")
