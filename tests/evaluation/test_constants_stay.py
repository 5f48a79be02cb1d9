"""Numbers that scores follow from: with others, scores do not compare with those of before.

Who changes one says so in CHANGELOG.md, and here.
"""

import importlib

import numpy as np
import pytest
from defaults import defaults_of

CONSTANTS = {
    "evaluation.activity.response": {"FEWEST_TRIALS": 5, "SMOOTHING": 0.03},
    "evaluation.baselines.autoregressive": {
        "BUMP_SCALE": 10.0,
        "DECAYS": (0.0, 0.8, 0.96),
        "FOLDS": 3,
        "PENALTIES": (1000.0, 100.0, 30.0, 10.0, 3.0, 1.0, 0.3, 0.1),
        "TIME_BUMPS": 10,
    },
    "evaluation.baselines.encoding": {"LAGS": range(-5, 6), "N_BUMPS": 10},
    "evaluation.baselines.poisson": {"SILENT": 1e-6},
    "evaluation.baselines.poisson_lds": {"COMPONENTS": 20},
    "evaluation.baselines.registry": {"PRIOR_TRIALS": (1.0, 5.0, 20.0, 100.0)},
    "evaluation.baselines.regression": {
        "COMPONENTS": (3, 6, 12),
        "PCA_PENALTY": 3e-3,
        "PENALTIES": (100.0, 30.0, 10.0, 3.0, 1.0, 0.3, 0.1),
        "RANKS": (2, 4, 8, 16),
        "WIDTHS": (1.5, 3.0, 5.0, 8.0),
    },
    "evaluation.behaviour.behaviours": {"MOST_CLASSES": 20},
    "evaluation.behaviour.decodable_trials": {"FOLDS": 4},
    "evaluation.behaviour.decode_session": {"PSEUDO_SESSIONS": 99, "SHUFFLES": 50},
    "evaluation.behaviour.imposters": {"FEWEST": 19, "MOST": 49},
    "evaluation.behaviour.linear_decoders": {
        "ALPHAS": [10 ** (half / 2) for half in range(21)],
        "INVERSE_PENALTIES": [1e-4, 1e-3, 1e-2, 1e-1, 1.0, 1e1, 1e2, 1e3, 1e4],
    },
    "evaluation.behaviour.pseudo_sessions": {
        "LONGEST": 100,
        "MEAN_LENGTH": 60.0,
        "PRIORS": (0.2, 0.8),
        "SHORTEST": 20,
        "UNBIASED": 90,
    },
    "evaluation.metrics": {"ZERO_RATE": 1e-9},
    "evaluation.score_session": {"N_EXAMPLES": 4},
}


@pytest.mark.parametrize("module", CONSTANTS)
def test_numbers_are_what_they_were(module: str) -> None:
    found = importlib.import_module(f"ibl_mtm.{module}")
    for name, before in CONSTANTS[module].items():
        now = getattr(found, name)
        assert now == before if not isinstance(now, np.ndarray) else np.allclose(now, before), name


@pytest.mark.parametrize("module", ["autoregressive", "regression"])
def test_penalties_fall_by_threes(module: str) -> None:
    """From the strongest on, since a search ends where they no longer help."""
    grid = np.array(CONSTANTS[f"evaluation.baselines.{module}"]["PENALTIES"])
    steps = grid[:-1] / grid[1:]
    assert (steps > 1).all()
    assert (steps[steps < 9] < 3.5).all()


#: Of what is called from elsewhere: truth values and numbers that need not be given.
DEFAULTS = {
    "evaluation.activity.predict:population_of": {"min_distance_um": 0.0},
    "evaluation.activity.predictions:predict": {"min_distance_um": 0.0},
    "evaluation.baselines.poisson:LowRank.fit": {"steps": 60},
    "evaluation.baselines.poisson:fit_few": {"steps": 30},
    "evaluation.baselines.poisson_lds:predict": {"drift": False},
    "evaluation.baselines.registry:Baseline": {"pairs": False},
    "evaluation.behaviour.decode:decode": {"shuffles": 50},
    "evaluation.behaviour.decoding_scores:calibration_error": {"n_bins": 10},
    "evaluation.behaviour.gradient_decoders:decode_by_gradients": {"seed": 0},
    "evaluation.behaviour.level_decoder:decode_levels": {"seed": 0, "shuffles": 0},
    "evaluation.behaviour.linear_decoders:decode_class": {"seed": 0, "shuffles": 0},
    "evaluation.behaviour.linear_decoders:decode_trace": {"seed": 0, "shuffles": 0},
    "evaluation.compare:paired_interval": {"seed": 0},
    "evaluation.evaluate:evaluate": {"min_distance_um": 0.0, "overwrite": False},
    "evaluation.evaluate:evaluate_baseline": {"overwrite": False},
    "evaluation.result:Evaluation.write": {"overwrite": False},
}


@pytest.mark.parametrize("place", DEFAULTS)
def test_defaults_of_evaluation_stay(place: str) -> None:
    assert defaults_of(f"ibl_mtm.{place}") == DEFAULTS[place]
