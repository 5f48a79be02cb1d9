"""The benchmark's own packages, in an environment of their own: `make judge` installs it.

python = judge_python()                     # skips the test where it is not installed
answer = ask_judge("open_brainset.py", path, out)

They pin versions that cannot stand beside ours, so that they are run, not imported.
"""

import os
import subprocess
from pathlib import Path

import pytest

__all__ = ["ask_judge", "judge_python"]

_HERE = Path(__file__).parent
_ROOT = _HERE.parents[1]


def judge_python() -> Path:
    """The environment's Python: that of IBL_MTM_JUDGE, else `.judge` of the checkout."""
    python = Path(os.environ.get("IBL_MTM_JUDGE", _ROOT / ".judge" / "bin" / "python"))
    if not python.is_file():
        pytest.skip(f"the benchmark's own packages are not installed ({python}): make judge")
    return python


def ask_judge(script: str, *arguments: object) -> str:
    """Run a script of `tests/helpers/judge` there; what it printed."""
    done = subprocess.run(
        [judge_python(), _HERE / "judge" / script, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=280,
        env={"PATH": os.environ["PATH"], "HOME": os.environ["HOME"], "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout
