"""Which version, and which state of the source code, made a result.

source_commit()     # "0417ffa2c1d3", "0417ffa2c1d3-dirty", or None for an installed package
"""

import functools
import os
import subprocess
from importlib import metadata
from pathlib import Path

__all__ = ["__version__", "source_commit"]

__version__: str = metadata.version("ibl-mtm")


@functools.cache
def source_commit() -> str | None:
    """The commit of the checkout that the package runs from; None where it is installed.

    Ends in ``-dirty`` where tracked files differ from that commit.
    """
    checkout = Path(__file__).parents[1]
    if not (checkout / ".git").exists():
        return None
    command = ["git", "-C", str(checkout), "describe", "--always", "--dirty", "--abbrev=12"]
    command += ["--match", "", "--exclude", "*"]  # tags would hide the hash
    environment = os.environ | {"GIT_OPTIONAL_LOCKS": "0"}  # in nobody's way
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=30, env=environment, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None
