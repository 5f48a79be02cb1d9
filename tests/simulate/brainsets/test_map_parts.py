"""Single steps of the simulated brain-wide map, with numbers worked out by hand."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from ibl_mtm.simulate.brainsets.bench_files import _domains, _rows, _selected
from ibl_mtm.simulate.brainsets.recorded import Series, _with_gap, _with_pause
from ibl_mtm.simulate.brainsets.signals import Grid, _stretches, lick_signals, wheel_signals
from ibl_mtm.simulate.brainsets.splits import causal, chunked
from ibl_mtm.simulate.brainsets.wide_map import WideMap, plan_recording
from ibl_mtm.simulate.brainsets.windows import encode, task_windows, trial_domains
from ibl_mtm.simulate.trials import Trials

NAN = np.nan


def test_recordings_of_a_map_differ_in_what_they_lack():
    settings = WideMap(sessions=9, units=50, trials=40, seed=2)
    assert [WideMap(sessions=n).n_eval for n in (2, 3, 6, 8, 9)] == [1, 1, 2, 2, 3]
    plans = [plan_recording(settings, index) for index in range(9)]
    assert [plan.regime for plan in plans] == ["eval"] * 3 + ["pretrain"] * 6
    assert [plan.n_units for plan in plans] == [50, 49, 48] * 3
    assert [plan.n_trials for plan in plans] == [40, 39, 38, 37, 40, 39, 38, 37, 40]
    assert [plan.missing for plan in plans] == [
        *((), (), ()),
        *((), ("licks",), (), ("whisker",), (), ("paws", "whisker")),
    ]
    assert [index for index, plan in enumerate(plans) if plan.gap] == [5]
    assert [index for index, plan in enumerate(plans) if plan.late] == [1]
    assert [plan.lab[-1] for plan in plans] == list("abcabcabc")
    assert [plan.date for plan in plans][::8] == ["2025-09-01", "2025-09-09"]
    assert [plan.subject for plan in plans] == [
        *("WIDE2_E01", "WIDE2_E02", "WIDE2_E02"),
        *("WIDE2_P01", "WIDE2_P02", "WIDE2_P02", "WIDE2_P03", "WIDE2_P04", "WIDE2_P05"),
    ]
    assert [len(plan.probes) for plan in plans] == [2, 2, 2, 2, 2, 2, 1, 2, 2]
    assert len({plan.eid for plan in plans}) == 9
    assert {plan.good for plan in plans} == {0.75}
    full = plan_recording(WideMap(sessions=9, scale="full"), 3)
    assert (full.n_units, full.n_trials, full.good) == (1000, 497, 0.85)


def make_trials():
    return pd.DataFrame(
        {
            "intervals_0": np.arange(6) * 10.0,
            "intervals_1": np.arange(6) * 10.0 + 8,
            "stimOn_times": np.arange(6) * 10.0 + 1,
            "goCue_times": np.arange(6) * 10.0 + 1.1,
            "response_times": np.arange(6) * 10.0 + 2,
            "feedback_times": np.arange(6) * 10.0 + 2.1,
            "choice": [-1, 1, 0, 1, -1, 1],
            "feedbackType": [1, -1, -1, 1, 1, 1],
            "rewardVolume": [1.5, 0, 0, 1.5, 1.5, 1.5],
            "contrastLeft": [NAN, 0.25, NAN, 0.0, NAN, 1.0],
            "contrastRight": [0.125, NAN, 0.0625, NAN, 0.0, NAN],
            "probabilityLeft": [0.5, 0.5, 0.2, 0.2, 0.8, 0.8],
        }
    )


EXTRA = {"goCueTrigger_times": np.arange(6) * 10.0 + 1.05, "stimOff_times": np.arange(6) * 10.0 + 7}
#: After the stimulus: at once, 10 s, 0.5 s without a choice, never, before it, 10.01 s.
ONSET = np.arange(6) * 10.0 + 1 + np.array([0.0, 10.0, 0.5, NAN, -0.08, 10.01])


def test_codes_of_the_benchmark():
    table = encode(make_trials(), EXTRA, ONSET)
    assert table["is_valid"].tolist() == [True, True, False, False, False, False]
    assert table["choice"].tolist() == [0, 1, 2, 1, 0, 1]
    assert table["reward"].tolist() == [1, 0, 0, 1, 1, 1]
    assert table["stimulus_side"].tolist() == [0, 1, 0, 1, 0, 1]
    assert table["stimulus_contrast"].tolist() == [2, 3, 1, 0, 0, 4]
    assert table["block_prior"].tolist() == [-1, -1, 0, 0, 1, 1]
    assert table["trial_index"].tolist() == list(range(6))
    assert table["feedback_type"].tolist() == [1, -1, -1, 1, 1, 1]


def test_windows_of_tasks_and_what_they_cover():
    onset = np.arange(6) * 10.0 + 1 + np.array([0.25, 0.5, 0.5, NAN, 0.75, 0.5])
    windows = task_windows(encode(make_trials(), EXTRA, onset))
    valid = np.array([0, 1, 4, 5])
    bounds = {
        "stimulus_side": (0.1, 1.1),
        "stimulus_contrast": (0.1, 1.1),
        "reward": (2.1, 3.1),
        "licking_window": (2.1, 3.1),
    }
    for name, (start, end) in bounds.items():
        expected = np.stack([valid * 10 + start, valid * 10 + end], axis=1)
        np.testing.assert_allclose(windows[name].bounds, expected)
        assert windows[name].columns["trial_index"].tolist() == valid.tolist()
    np.testing.assert_allclose(windows["choice"].bounds[:, 1], onset[valid])
    np.testing.assert_allclose(windows["choice"].bounds[:, 0], onset[valid] - 1)
    np.testing.assert_allclose(windows["movement_window"].bounds[:, 1], onset[valid] + 1)
    assert windows["choice"].columns["choice"].tolist() == [0, 1, 0, 1]
    # Of unbiased trials nobody asks for the block.
    assert windows["block_prior"].columns["block_prior"].tolist() == [1, 1]
    np.testing.assert_allclose(windows["block_prior"].bounds, [[40, 41], [50, 51]])
    domains = trial_domains(windows)
    np.testing.assert_allclose(domains, [[0.1, 3.1], [10.1, 13.1], [40, 43.1], [50, 53.1]])


def units():
    return pd.DataFrame(
        {
            "firing_rate": [1.0, 1.01, 5, 5, 5],
            "label": [1.0, 1.0, 1.0, 2 / 3, 1.0],
            "qc_neural": ["PASS", "PASS", "FAIL", "PASS", "WARNING"],
        }
    )


@pytest.mark.parametrize(
    ("regime", "build", "kept", "filters"),
    [
        ("eval", "all_units", [0, 1, 2, 3, 4], ()),
        ("pretrain", "selected_units", [1, 2, 4], ("firing_rate", "unit_qc")),
        ("eval", "selected_units", [1], ("firing_rate", "probe_qc", "unit_qc")),
    ],
)
def test_which_units_are_selected(regime, build, kept, filters):
    recorded = SimpleNamespace(units=units(), plan=SimpleNamespace(regime=regime))
    found, names = _selected(recorded, build)
    assert np.flatnonzero(found).tolist() == kept
    assert names == filters


def test_domains_of_either_regime():
    start = 20.0 + 30 * np.arange(60)
    trials, extent = np.stack([start, start + 5], axis=1), (1.0, 1900.0)
    recorded = SimpleNamespace(plan=SimpleNamespace(regime="pretrain"))
    found = _domains(recorded, trials, extent)
    assert list(found) == ["pretrain_train", "pretrain_val"]
    for domain, expected in zip(found.values(), causal(trials, extent, (0.9, 0.1)), strict=True):
        np.testing.assert_array_equal(domain, expected)
    # 60 trials: nine tenths end with the 54th.
    assert found["pretrain_train"].tolist() == [[1.0, 20.0 + 30 * 53 + 5]]
    recorded.plan.regime = "eval"
    found = _domains(recorded, trials, extent)
    splits = ("train", "val", "test")
    assert list(found) == [f"{scope}_{split}" for scope in ("ts1", "ts2") for split in splits]
    assert found["ts1_train"].tolist() == [[1.0, 20.0 + 30 * 23 + 5]]
    # Six tenths of them end with the 36th; but for rounding with the start of the next.
    assert found["ts1_val"][0, 1] in (20.0 + 30 * 35 + 5, 20.0 + 30 * 36)
    for split, expected in zip(splits, chunked(trials, extent), strict=True):
        np.testing.assert_array_equal(found[f"ts2_{split}"], expected)


def test_rows_of_a_series_between_two_times():
    series = Series(np.array([[3.0, 5.0]]), {"x": np.zeros(100)})  # at 50 Hz
    bounds = np.array([[2.0, 3.02], [3.0, 3.03], [3.021, 4.0], [4.9, 9.0]])
    assert _rows(series, bounds).tolist() == [[0, 1], [0, 2], [2, 50], [95, 100]]


def test_the_second_half_of_a_session_is_later():
    table = pd.DataFrame({"stimOn_times": [1.0, 2, 3, 4, 5], "choice": [1] * 5})
    table["intervals_0"] = table["stimOn_times"] - 0.5
    extra = {"stimOff_times": np.ones(5), "quiescencePeriod": np.full(5, 0.4)}
    found = _with_pause(Trials(table, extra))
    later = np.array([0, 0, 45, 45, 45])
    np.testing.assert_array_equal(found.table["stimOn_times"], table["stimOn_times"] + later)
    np.testing.assert_array_equal(found.table["intervals_0"], table["intervals_0"] + later)
    np.testing.assert_array_equal(found.extra["stimOff_times"], 1 + later)
    assert (found.table["choice"] == 1).all()
    assert (found.extra["quiescencePeriod"] == 0.4).all()


def test_a_gap_of_twelve_seconds_begins_after_a_third():
    grid = Grid(2.0, 2400)
    found = _with_gap(Series(np.array([[2.0, 50.0]]), {"x": np.ones(2400)}), grid)
    assert np.flatnonzero(np.isnan(found.signals["x"])).tolist() == list(range(800, 1400))
    np.testing.assert_allclose(found.domain, [[2, 18], [30, 50]])
    assert grid.end == 50.0
    np.testing.assert_allclose(grid.times[[0, 1, -1]], [2, 2.02, 49.98])


def test_a_wheel_keeps_its_place_until_the_next_sample():
    wheel = SimpleNamespace(timestamps=np.array([0.1, 0.2]), position=np.array([1.0, 6.0]))
    found = wheel_signals(wheel, Grid(0.0, 20))
    position = np.array([1.0] * 10 + [6.0] * 10)
    np.testing.assert_array_equal(found["wheel_pos"], position)
    # Smoothed over five samples, of which one at the border has 1, 2, 3, 4 that moved.
    smooth = np.array([1.0] * 8 + [2, 3, 4, 5] + [6.0] * 8)
    np.testing.assert_allclose(found["wheel_vel"], np.gradient(smooth) * 50, atol=1e-9)
    np.testing.assert_allclose(found["wheel_speed"], np.abs(found["wheel_vel"]))


def test_licks_outside_of_a_grid_are_not_counted():
    found = lick_signals(np.array([0.999, 1.0, 1.099, 1.1, 1.101]), Grid(1.0, 5))
    assert found["licking_rate"].tolist() == [50, 0, 0, 0, 50]


def test_a_short_recording_is_hidden_as_a_whole():
    assert _stretches(np.random.default_rng(0), 60).all()
    hidden = _stretches(np.random.default_rng(0), 20_000)
    edges = np.flatnonzero(np.diff(hidden.astype(int)))
    assert 3 <= len(edges) // 2 <= 10
    assert hidden.sum() <= 1000
