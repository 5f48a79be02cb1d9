"""Constraints for pip that ask for the lowest versions which pyproject.toml admits.

    python tools/bounds.py > build/lowest.txt

Only direct dependencies: what those need themselves is theirs to say. PyTorch is left as it is
pinned, since its oldest builds are gigabytes of their own.
"""

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
AS_PINNED = {"torch"}


def lowest() -> list[str]:
    """A line for each dependency, such as ``zarr==3.1.4``."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    pinned = dict(
        line.split("==")
        for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
        if "==" in line and not line.startswith("#")
    )
    lines = []
    for requirement in project["dependencies"]:
        found = re.fullmatch(r"([\w.-]+)>=([\w.]+)", requirement)
        if found is None:
            raise SystemExit(f"no lower bound in '{requirement}'")
        name, bound = found.groups()
        lines.append(f"{name}=={pinned[name] if name in AS_PINNED else bound}")
    return lines


if __name__ == "__main__":
    sys.stdout.write("\n".join(lowest()) + "\n")
