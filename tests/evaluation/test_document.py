"""Numbers of the document of an evaluation, worked out by hand for three unequal sessions."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from synthetic import make_regions, make_session

from ibl_mtm.cache.cache import open_cache
from ibl_mtm.cache.store import create_cache, write_session
from ibl_mtm.evaluation.behaviour.decode_session import DecodedSession
from ibl_mtm.evaluation.document import (
    average_pairs,
    data_digest,
    make_document,
    stacked,
    summarise_tasks,
)
from ibl_mtm.evaluation.score_session import SessionScores
from ibl_mtm.sessions.deal import deal_trials
from ibl_mtm.sessions.selection import SelectionSettings

TASKS = ("co_smoothing", "inter_region", "choice", "wheel_speed")


def session(
    eid: str, bits: list[float], pair: tuple[float, int] | None, **behaviour
) -> SessionScores:
    units = pd.DataFrame(
        {
            "eid": eid,
            "unit": [f"{eid}-{at}" for at in range(len(bits))],
            "task": "co_smoothing",
            "bits_per_spike": bits,
            "psth_r2": np.nan,
            "residual_r2": np.nan,
        }
    )
    columns = ["eid", "source", "target", "bits_per_spike", "n_units"]
    rows = [] if pair is None else [(eid, "CA1", "LP", *pair)]
    pairs = pd.DataFrame(rows, columns=columns)
    none = np.empty(0)
    skipped = {} if pair else {"inter_region": "needs a region"}
    found = DecodedSession(scores=behaviour)
    return SessionScores(units, pairs, found, skipped, xr.Dataset(), none, none, len(bits))


@pytest.fixture(scope="module")
def document(tmp_path_factory):
    root = tmp_path_factory.mktemp("document") / "cache.zarr"
    create_cache(root)
    simulated = (0, 1, 0)
    for seed, made_up in enumerate(simulated):
        ds = make_session(n_units=5 + seed, n_trials=12, n_bins=5, seed=seed, simulated=made_up)
        write_session(root, ds, make_regions())
    cache = open_cache(root)
    a, b, c = cache

    def choice(accuracy: float, n_test: int) -> dict:
        raw = {"accuracy": accuracy - 0.1, "n_test": n_test}
        return {"accuracy": accuracy, "prompt": "neuron", "n_test": n_test, "raw_spikes": raw,
                "intervals": {"accuracy": [0, 1]}}  # fmt: skip

    scores = {
        a: session(a, [0.1, 0.3], (0.2, 2), choice=choice(0.5, 10), wheel_speed={"r2": 0.4}),
        b: session(b, [0.6, np.nan], (0.6, 3), choice=choice(0.8, 30)),
        c: session(c, [0.0, 0.0, 0.3], None, choice=choice(0.9, 20)),
    }
    deals = {eid: deal_trials(ds, SelectionSettings()) for eid, ds in cache.items()}
    data = {eid: {"data": data_digest(ds, deals[eid])} for eid, ds in cache.items()}
    origin = {"model": "a model", "sessions": data}
    return (a, b, c), make_document({"run": "r"}, cache, scores, TASKS, deals, origin)


def test_activity_is_the_mean_over_sessions_of_means_over_units(document):
    (_, b, _), found = document
    score = found["tasks"]["co_smoothing"]
    # Sessions: 0.2, 0.6 and 0.1.
    assert score["bits_per_spike"] == pytest.approx(0.3)
    assert score["sem"] == pytest.approx(np.sqrt((0.01 + 0.09 + 0.04) / 2 / 3), abs=1e-6)
    assert (score["n_units"], score["n_sessions"], score["n_silent"]) == (6, 3, 1)
    assert score["psth_r2"] is None
    assert found["sessions"][b]["co_smoothing"]["bits_per_spike"] == 0.6
    assert found["tasks"]["inter_region"] is None


def test_behaviour_is_the_mean_over_sessions_with_its_standard_error(document):
    _, found = document
    score = found["tasks"]["choice"]
    mean = (0.5 + 0.8 + 0.9) / 3
    sem = np.sqrt(sum((x - mean) ** 2 for x in (0.5, 0.8, 0.9)) / 2 / 3)
    assert score["accuracy"] == pytest.approx(mean, abs=1e-6)
    assert score["raw_spikes"]["accuracy"] == pytest.approx(mean - 0.1, abs=1e-6)
    assert score["sem"] == score["sem_sessions"] == pytest.approx(sem, abs=1e-6)
    assert score["median_sessions"] == 0.8
    assert (score["n_test"], score["n_sessions"]) == (60, 3)
    assert "intervals" not in score
    assert found["tasks"]["wheel_speed"] == {"r2": 0.4, "n_sessions": 1}


def test_pairs_of_regions_are_means_over_the_sessions_that_have_them(document):
    _, found = document
    (pair,) = found["region_pairs"]
    assert pair == {
        "source": "CA1", "target": "LP", "bits_per_spike": 0.4, "n_units": 5, "n_sessions": 2,
    }  # fmt: skip


def test_one_simulated_session_makes_it_simulated(document):
    (_, _, c), found = document
    assert found["simulated"] is True
    assert found["skipped"] == {c: {"inter_region": "needs a region"}}
    assert found["provenance"]["sessions"][c]["n_test"] == 3


def test_it_says_what_the_trials_are(document):
    (a, _, _), found = document
    assert found["provenance"]["trials"] == "-0.5 to -0.4 s around stimOn_times, 5 bins of 20 ms"
    assert found["tasks"]["co_smoothing"]["sem_over"] == "sessions"
    assert found["sessions"][a]["co_smoothing"]["sem_over"] == "units"
    assert all(len(row["data"]) == 16 for row in found["provenance"]["sessions"].values())


def test_numbers_have_six_digits():
    """Of activity, of behaviour over sessions and of one, and of pairs of regions."""
    third, two_thirds = 0.333333, 0.666667
    units = pd.DataFrame({"eid": "a", "unit": ["1", "2", "3"], "task": "co_smoothing",
                          "bits_per_spike": [0.0, 0.0, 1.0]})  # fmt: skip
    traces = [{"wheel_speed": {"r2": r}} for r in (0.0, 0.0, 1.0)]
    found = summarise_tasks(units, traces, [])
    assert found["co_smoothing"]["bits_per_spike"] == third
    wheel = found["wheel_speed"]
    assert (wheel["r2"], wheel["median_sessions"]) == (third, 0.0)
    assert wheel["sem"] == wheel["sem_sessions"] == third  # sqrt((1/9 + 1/9 + 4/9) / 2 / 3)
    nested = {"r2": 2 / 3, "chance": {"r2": [1 / 3]}, "n_test": 7, "null": "imposters"}
    assert summarise_tasks(pd.DataFrame(), [{"wheel_speed": nested}], [])["wheel_speed"] == {
        "r2": two_thirds, "chance": {"r2": [third]}, "n_test": 7, "null": "imposters",
        "n_sessions": 1,
    }  # fmt: skip
    pairs = pd.DataFrame({"source": "CA1", "target": "DG", "eid": ["a", "b", "c"],
                          "bits_per_spike": [0.0, 1.0, 1.0], "n_units": 2})  # fmt: skip
    (pair,) = average_pairs(pairs, [{}])
    assert pair["bits_per_spike"] == two_thirds


def test_a_median_over_two_sessions_lies_between_them():
    """And of p values and intervals, each of one session, there is no mean."""
    traces = [
        {"wheel_speed": {"r2": r, "p": {"r2": 0.1}, "intervals": {"r2": [0, 1]}, "chance": c}}
        for r, c in ((0.1, {"r2": 0.2}), (0.4, {"r2": 0.0}))
    ]
    assert summarise_tasks(pd.DataFrame(), traces, [])["wheel_speed"] == {
        "r2": 0.25, "chance": {"r2": 0.1}, "sem": 0.15, "sem_over": "sessions",
        "median_sessions": 0.25, "sem_sessions": 0.15, "n_sessions": 2,
    }  # fmt: skip


def test_pairs_that_one_session_lacks_the_others_may_have():
    """Without any: none where a predictor predicts no pairs, an empty list where none could be."""
    nothing = pd.DataFrame()
    assert average_pairs(nothing, [{"region_pairs": "it does not"}, {}]) is None
    assert average_pairs(nothing, [{"inter_region": "one region"}, {}]) == []


def test_tables_are_stacked_without_those_that_are_empty():
    a, b = pd.DataFrame({"x": [1, 2]}), pd.DataFrame({"x": [3]})
    found = stacked([pd.DataFrame(), a, pd.DataFrame({"x": []}), b])
    pd.testing.assert_frame_equal(found, pd.DataFrame({"x": [1, 2, 3]}))
    assert list(stacked([pd.DataFrame({"y": []}), pd.DataFrame()]).columns) == ["y"]
