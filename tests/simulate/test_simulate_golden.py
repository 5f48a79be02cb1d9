"""The same settings give the same experiment from version to version, or `GENERATOR` is raised.

`golden.json` tells of every file of a tiny experiment: shapes, and sums that no rounding of a
machine's arithmetic moves. After a change of what is simulated, raise `GENERATOR` and write it
anew: ``PYTHONPATH=tests/helpers python tests/simulate/test_simulate_golden.py``.
"""

import json
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import pytest
from golden import numbers_of

from ibl_mtm.simulate.simulation import GENERATOR, Simulation, simulate

GOLDEN = Path(__file__).with_name("golden.json")
SETTINGS = {"sessions": 3, "units": 24, "trials": 100, "seed": 11}

Facts = dict[str, dict[str, list[float]]]


def facts(root: Path) -> Facts:
    """Of each numeric column of each file: its length, mean, spread, and a sum that knows order."""
    found: Facts = {}
    for file in sorted(root.rglob("*")):
        name = file.relative_to(root).as_posix()
        if file.suffix == ".npy":
            array = np.load(file)
            columns = (
                {key: array[key] for key in array.dtype.names} if array.dtype.names else {"": array}
            )
        elif file.suffix == ".pqt" and "Subjects" in name:
            columns = {str(key): column.to_numpy() for key, column in pd.read_parquet(file).items()}
        else:
            continue
        found[name] = {
            key: numbers_of(values)
            for key, values in columns.items()
            if values.dtype.kind in "biuf"
        }
    return found


@pytest.fixture(scope="module")
def golden() -> dict:
    return json.loads(GOLDEN.read_text(encoding="utf-8"))


def test_an_experiment_is_what_it_was(golden, tmp_path):
    assert golden["generator"] == GENERATOR
    simulate(tmp_path / "ONE", Simulation(**SETTINGS))
    found = facts(tmp_path / "ONE")
    assert set(found) == set(golden["files"])
    for name, columns in golden["files"].items():
        assert set(found[name]) == set(columns), name
        for column, expected in columns.items():
            same = pytest.approx(expected, rel=1e-6, abs=1e-9)
            assert found[name][column] == same, (name, column)


if __name__ == "__main__":
    with TemporaryDirectory() as folder:
        simulate(Path(folder) / "ONE", Simulation(**SETTINGS))
        files = facts(Path(folder) / "ONE")
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(files[name])}" for name in files)
    text = f'{{"generator": {GENERATOR}, "files": {{\n{lines}\n}}}}\n'
    GOLDEN.write_text(text, encoding="utf-8")
