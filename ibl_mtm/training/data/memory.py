"""How much memory a process may take."""

import os
import sys
from pathlib import Path

__all__ = ["available_memory"]

_CGROUPS = Path("/sys/fs/cgroup")


def available_memory() -> int:
    """Bytes that the system has to give: free ones, or those of a job's limit if that is less."""
    found = [_physical_memory()]
    meminfo = Path("/proc/meminfo")
    if meminfo.is_file():
        lines = dict(line.split(":") for line in meminfo.read_text().splitlines())
        found.append(1024 * int(lines["MemAvailable"].split()[0]))
    return min(found + _job_limits())


def _physical_memory() -> int:
    if sys.platform == "win32":  # has no sysconf
        import ctypes

        kilobytes = ctypes.c_ulonglong()
        ctypes.windll.kernel32.GetPhysicallyInstalledSystemMemory(ctypes.byref(kilobytes))
        return 1024 * kilobytes.value
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _job_limits() -> list[int]:
    """Limits of the control groups (version 2) that this process belongs to."""
    own = Path("/proc/self/cgroup")
    if not own.is_file():
        return []
    paths = [line[3:] for line in own.read_text().splitlines() if line.startswith("0::")]
    limits = []
    for path in paths:
        group = _CGROUPS / path.lstrip("/")
        for folder in (group, *group.parents):
            file = folder / "memory.max"
            if file.is_file() and (text := file.read_text().strip()) != "max":
                limits.append(int(text))
    return limits
