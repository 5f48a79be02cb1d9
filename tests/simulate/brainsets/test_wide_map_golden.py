"""The same settings give the same brain-wide map from version to version, or `GENERATOR` is raised.

`wide_map_golden.json` tells of every array and attribute of one recording for evaluation and one
for pre-training (see `tests/simulate/test_simulate_golden.py`). After a change of what is simulated
write it anew: ``PYTHONPATH=tests/helpers python tests/simulate/brainsets/test_wide_map_golden.py``.
"""

import hashlib
import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import h5py
import numpy as np
import pytest
from golden import numbers_of
from wide_maps import make_wide_map

from ibl_mtm.brainsets.layout import BUILDS, REGIMES, file_of, recordings_in
from ibl_mtm.simulate.brainsets.wide_map import GENERATOR

GOLDEN = Path(__file__).with_name("wide_map_golden.json")

Facts = dict[str, dict[str, list[float] | str]]


def facts(root: Path) -> Facts:
    """Of each array its numbers, or a digest of its text; likewise of attributes."""
    found: Facts = {}
    for regime in REGIMES:
        eid = recordings_in(root, "all_units", regime)[0]
        for build in BUILDS:
            own = found[f"{build} {regime}"] = {}
            with h5py.File(file_of(root, build, regime, eid)) as file:
                file.visititems(lambda name, node, own=own: own.update(_told(name, node)))
                own.update(_told("", file))
    return found


def _told(name: str, node: Any) -> dict[str, list[float] | str]:
    told = {f"{name}@{key}": _fact(np.asarray(value)) for key, value in node.attrs.items()}
    if isinstance(node, h5py.Dataset):
        told[name] = _fact(node[()])
    return told


def _fact(values: Any) -> list[float] | str:
    array = np.asarray(values)
    if array.dtype.kind in "biuf":
        return numbers_of(array)
    text = "|".join(v.decode() if isinstance(v, bytes) else str(v) for v in array.ravel())
    return f"{array.size} {hashlib.sha256(text.encode()).hexdigest()[:12]}"


@pytest.fixture(scope="module")
def golden() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(GOLDEN.read_text(encoding="utf-8"))
    return found


def test_a_map_is_what_it_was(golden: dict[str, Any], wide_map: Path) -> None:
    assert golden["generator"] == GENERATOR
    found = facts(wide_map)
    assert set(found) == set(golden["files"])
    for file, expected in golden["files"].items():
        assert set(found[file]) == set(expected), file
        for name, value in expected.items():
            same = value if isinstance(value, str) else pytest.approx(value, rel=1e-6, abs=1e-9)
            assert found[file][name] == same, (file, name)


if __name__ == "__main__":
    with TemporaryDirectory() as folder:
        files = facts(make_wide_map(Path(folder) / "map"))
    blocks = []
    for file, of_file in files.items():
        lines = ",\n".join(f"{json.dumps(n)}: {json.dumps(v)}" for n, v in sorted(of_file.items()))
        blocks.append(f"{json.dumps(file)}: {{\n{lines}\n}}")
    text = ",\n".join(blocks)
    GOLDEN.write_text(f'{{"generator": {GENERATOR}, "files": {{{text}}}}}\n', encoding="utf-8")
