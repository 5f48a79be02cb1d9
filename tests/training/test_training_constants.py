"""Numbers that trained models follow from: with others, they are not those of before.

Who changes one says so in CHANGELOG.md, and here. What is only an amount of work is not here.
"""

import pytest
from defaults import changed, defaults_of

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
        "USUAL_SHARE": 0.75,
        "USUAL_SECONDS": 32.0,
    },
    "training.loop.module": {"LOG_EVERY": 10, "VALIDATION_STEP": -1},
    "training.loop.progress": {"EVERY": 10, "SILENCE": 300.0, "WIDE": 120},
    "training.objective.unit_scores": {"FEWEST": 5.0},
}


@pytest.mark.parametrize("module", CONSTANTS)
def test_numbers_of_a_training_are_what_they_were(module: str) -> None:
    assert changed(f"ibl_mtm.{module}", CONSTANTS[module]) == []


#: Of what is called from elsewhere: truth values and numbers that need not be given.
DEFAULTS = {
    "training.data.loader:Replica": {"rank": 0, "total": 1},
    "training.data.sampler:TrialSampler": {"sessions_per_batch": 1, "pool": 16},
    "training.encoding:fit_encoding": {"refit": True},
    "training.objective.draw_tasks:tasks_loss": {"weight": 1.0},
    "training.published.import_run:import_published": {"body_only": False, "overwrite": False},
    "training.run:fit": {"progress": True, "refit": True},
    "training.run:train": {"resume": False, "overwrite": False, "progress": True, "refit": True},
}


@pytest.mark.parametrize("place", DEFAULTS)
def test_defaults_of_training_stay(place: str) -> None:
    assert defaults_of(f"ibl_mtm.{place}") == DEFAULTS[place]
