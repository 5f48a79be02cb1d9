"""Numbers that fitted dynamics follow from: with others, they are not those of before.

Who changes one says so in CHANGELOG.md, and here. What is only an amount of work is not here.
"""

import pytest
from defaults import changed, defaults_of

CONSTANTS = {
    "model.dynamics.drift": {
        "FACTORS": (0.7, 1.4),
        "KNOTS": 64,
        "LONGEST_STEP": 1.5,
        "MOST_SPREAD": 1.0,
        "PRIOR_INFORMATION": 20.0,
        "PRIOR_TRIALS": 20,
        "PRIVATE": 0.02,
        "START_SPREAD": 0.1,
        "TIME_CONSTANT": 100.0,
        "TOLERANCE": 0.01,
    },
    "model.dynamics.fit": {
        "ITERATIONS": 20,
        "LEAST_NOISE": 1e-3,
        "PERSISTENCE": 0.95,
        "PRIOR_TRIALS": 3,
        "SETTLED": 3,
        "SMALL": 1e-5,
        "STABLE": 0.998,
        "START_PRECISION": 10.0,
        "START_WIDTH": 3.0,
        "WEAK": 1e-3,
    },
    "model.dynamics.system": {
        "HIGHEST": 10.0,
        "LONGEST_STEP": 1.5,
        "NEWTON_STEPS": 120,
        "SLOW": 0.3,
        "STALE": 0.5,
        "STALE_BY_TURNS": 0.1,
        "TOLERANCE": 0.002,
    },
}


@pytest.mark.parametrize("module", CONSTANTS)
def test_numbers_of_dynamics_are_what_they_were(module: str) -> None:
    assert changed(f"ibl_mtm.{module}", CONSTANTS[module]) == []


#: Of what is called from elsewhere: truth values and numbers that need not be given.
DEFAULTS = {
    "model.dynamics.drift:fit_drift": {"steps": 4},
    "model.layers:Block": {"start_as_identity": False, "n_open": 0},
    "model.modalities:Modalities": {"std": 0.02},
    "model.poisson_regression:PoissonRegression.fit": {"tolerance": 1e-4, "steps": 200},
    "model.group:Group": {"causal": False, "recurring": False},
    "model.scope:Scope": {"min_units_per_region": 5},
}


@pytest.mark.parametrize("place", DEFAULTS)
def test_defaults_of_model_stay(place: str) -> None:
    assert defaults_of(f"ibl_mtm.{place}") == DEFAULTS[place]
