"""Numbers that submissions and their checks follow from: with others, they are not those of before.

Who changes one says so in CHANGELOG.md, and here. What is only an amount of work is not here.
"""

import pytest
from defaults import changed, defaults_of

from ibl_mtm.benchmark.predict.unit_regions import _classifiers

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
    "benchmark.predict.unit_regions": {"NEIGHBOURS": 5, "RADIUS_UM": 60.0},
    "benchmark.tasks": {"BIN": 0.02, "N_BINS": 50, "N_FORECAST": 5, "WINDOW": 1.0},
    "benchmark.windows": {"VAL_STRIDE": 3},
    "brainsets.layout": {"RATE": 50.0},
}


@pytest.mark.parametrize("module", CONSTANTS)
def test_numbers_of_submissions_are_what_they_were(module: str) -> None:
    assert changed(f"ibl_mtm.{module}", CONSTANTS[module]) == []


#: Of what is called from elsewhere: truth values and numbers that need not be given.
DEFAULTS = {
    "benchmark.check:check_submission": {"deterministic": False},
    "benchmark.counts:count_window": {"n_before": 0},
    "benchmark.pack:pack": {"overwrite": False},
    "benchmark.predict.activity_baselines:poisson_lds": {"drift": False},
    "benchmark.predict.adaptation:windows_to_adapt": {"n_before": 0},
    "benchmark.predict.decoded:predict_behaviour": {
        "end_to_end": False,
        "seed": 0,
        "low_rank": False,
    },
    "benchmark.predict.end_to_end:Schedule": {
        "steps": 200,
        "every": 20,
        "batch": 32,
        "rate": 3e-3,
        "body_rate": 3e-4,
    },
    "benchmark.predict.end_to_end:train_for_task": {"seed": 0},
    "benchmark.predict.requests:Request": {"end_to_end": False},
    "benchmark.ranks:rank": {"alpha": 0.05},
    "benchmark.tasks:Task": {"n_steps": 50},
    "benchmark.truth:NeuralTruth.of": {"spikes": True},
    "benchmark.truth:NeuralTruth.windows": {"n_before": 0},
    "benchmark.windows:start_of_windows": {"stride": 1},
}


@pytest.mark.parametrize("place", DEFAULTS)
def test_defaults_of_benchmark_stay(place: str) -> None:
    assert defaults_of(f"ibl_mtm.{place}") == DEFAULTS[place]


def test_classifiers_of_regions_are_what_they_were() -> None:
    found = dict(_classifiers(7))
    settings = {name: steps[-1].get_params() for name, steps in found.items()}
    expected = {
        "linear": {"C": 1.0, "class_weight": "balanced", "max_iter": 1000, "random_state": 7},
        "network": {
            "hidden_layer_sizes": (64,), "alpha": 1.0, "max_iter": 200, "tol": 1e-3,
            "n_iter_no_change": 5, "random_state": 7,
        },
    }  # fmt: skip
    for name, values in expected.items():
        assert {key: settings[name][key] for key in values} == values
