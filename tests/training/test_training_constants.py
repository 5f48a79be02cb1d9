"""Numbers that trained models follow from: with others, they are not those of before.

Who changes one says so in CHANGELOG.md, and here. What is only an amount of work is not here.
"""

import importlib

import numpy as np
import pytest

CONSTANTS = {
    "training.checkpoint.pretrained": {"FORMAT_VERSION": 1},
    "training.data.loader": {"VALIDATION_BATCH": 64},
    "training.encoding": {
        "PENALTIES": (100.0, 30.0, 10.0, 3.0, 1.0, 0.3, 0.1, 0.03),
        "USUAL_PENALTY": 3.0,
    },
    "training.loop.dynamics": {
        "SHARES": (0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1),
        "SHARE_STEP": -1_000_000,
        "USUAL_SHARE": 0.7,
        "USUAL_TRIALS": 40,
    },
    "training.loop.module": {"LOG_EVERY": 10, "VALIDATION_STEP": -1},
    "training.loop.progress": {"EVERY": 10, "SILENCE": 300.0, "WIDE": 120},
    "training.objective.unit_scores": {"FEWEST": 5.0},
}


@pytest.mark.parametrize("module", CONSTANTS)
def test_numbers_of_a_training_are_what_they_were(module: str) -> None:
    found = importlib.import_module(f"ibl_mtm.{module}")
    for name, before in CONSTANTS[module].items():
        assert np.allclose(getattr(found, name), before, rtol=1e-12), name
