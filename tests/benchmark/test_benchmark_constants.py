"""Numbers that submissions and their checks follow from: with others, they are not those of before.

Who changes one says so in CHANGELOG.md, and here. What is only an amount of work is not here.
"""

import importlib

import numpy as np
import pytest

CONSTANTS = {
    "benchmark.check": {"LEAST_SEEDS": 3},
    "benchmark.predict.activity_baselines": {"LOWEST": -14.0},
    "benchmark.predict.decoded": {
        "INVERSE_PENALTIES": (0.001, 0.01, 0.1, 1.0),
        "LAGS": (-8, -6, -4, -2, 0, 2, 4, 6, 8),
        "PENALTIES": (1.0, 10.0, 100.0, 1000.0, 10000.0),
        "RANKS": (1, 2, 4),
    },
    "benchmark.ranks": {"ALPHA": 0.05},
    "benchmark.tasks": {"N_FORECAST": 5},
    "benchmark.windows": {"VAL_STRIDE": 3},
    "brainsets.layout": {"RATE": 50.0},
}


@pytest.mark.parametrize("module", CONSTANTS)
def test_numbers_of_submissions_are_what_they_were(module: str) -> None:
    found = importlib.import_module(f"ibl_mtm.{module}")
    for name, before in CONSTANTS[module].items():
        assert np.allclose(getattr(found, name), before, rtol=1e-12), name
