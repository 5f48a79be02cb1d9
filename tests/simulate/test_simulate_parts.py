"""Single steps of the simulation, with numbers worked out by hand."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from ibl_mtm.simulate import spikes, truth
from ibl_mtm.simulate.alf import draw_uuids, write_table
from ibl_mtm.simulate.brain import TASK
from ibl_mtm.simulate.brainsets.wide_map import WideMap
from ibl_mtm.simulate.latents import task_variables
from ibl_mtm.simulate.population import draw_population
from ibl_mtm.simulate.probe import place_channels
from ibl_mtm.simulate.simulation import Simulation, plan_session
from ibl_mtm.simulate.trials import FULL_PACING, SMALL_PACING
from ibl_mtm.simulate.truth import Truth, to_fixed_point, unit_dtype

#: Channels of a probe from the tip up, where each border lies half a micrometre lower than usual:
#: two every 20 um, the first two 20 um above the tip.
CHANNELS = [
    ("VPM", 18), ("PO", 70), ("LP", 66), ("root", 12), ("DG-mo", 18), ("DG-sg", 10),
    ("DG-po", 18), ("DG-sg", 8), ("DG-mo", 14), ("CA1", 44), ("alv", 10), ("VISa6b", 6),
    ("VISa6a", 18), ("VISa5", 20), ("VISa4", 10), ("VISa2/3", 18), ("VISa1", 10), ("void", 14),
]  # fmt: skip


def test_the_borders_of_regions_along_a_probe():
    lower = SimpleNamespace(uniform=lambda low, high, n: np.full(n, -0.5))
    channels = place_channels(lower, side=-1)
    at = np.concatenate([[0], np.cumsum([n for _, n in CHANNELS])])
    assert at[-1] == len(channels.acronym) == 384
    for (region, _), first, last in zip(CHANNELS, at, at[1:], strict=False):
        assert set(channels.acronym[first:last]) == {region}
    assert channels.local[:5].tolist() == [[43, 20], [11, 20], [59, 40], [27, 40], [43, 60]]
    assert channels.labels.tolist() == [0] * 370 + [3] * 14
    # Of the Allen atlas: CA1 is 382, the void has none.
    assert channels.allen_ids[[250, -1]].tolist() == [382, 0]


def test_a_session_is_called_what_it_was():
    (one, other) = (plan_session(Simulation(seed=7), index) for index in (0, 1))
    assert one.entry.eid == "7d1b8aba-0ff2-4ad5-8dcd-2acc457bfd7b"
    assert [(i.name, i.pid, i.serial) for i in other.entry.insertions] == [
        ("probe00", "6b0488c4-5765-461c-b572-b25a630581cd", "11161588945"),
        ("probe01", "78f6c227-05b5-409d-bdcd-eccbf51893a9", "13172993531"),
    ]
    assert (one.entry.subject, one.entry.lab, one.entry.number) == ("SIM7_001", "simlab_a", 1)
    assert (other.entry.subject, other.entry.lab) == ("SIM7_002", "simlab_b")
    assert other.entry.date.isoformat() == "2024-09-03"
    assert (one.good, one.pacing, one.n_trials) == (0.75, SMALL_PACING, 240)


def test_at_full_scale_units_are_those_of_an_insertion():
    small = [plan_session(Simulation(units=100), index) for index in range(5)]
    full = [plan_session(Simulation(units=100, scale="full"), index) for index in range(5)]
    assert [len(plan.sorters) for plan in full] == [1, 2, 1, 2, 1]
    for one, other in zip(small, full, strict=True):
        assert other.n_units == one.n_units * len(other.sorters)
        assert (other.good, other.pacing, other.n_trials) == (0.2, FULL_PACING, 600)
    many = {plan_session(Simulation(units=30), index).n_units for index in range(7)}
    assert many == {27, 28, 29, 30, 31, 32, 33}  # all there are within a tenth


@pytest.mark.parametrize(
    ("settings", "name", "least", "most"),
    [
        (Simulation, "sessions", 1, None),
        (Simulation, "units", 10, 50_000),
        (Simulation, "trials", 1, None),
        (Simulation, "seed", 0, None),
        (WideMap, "sessions", 2, None),
        (WideMap, "units", 20, 50_000),
        (WideMap, "trials", 20, None),
        (WideMap, "seed", 0, None),
    ],
)
def test_sizes_that_an_experiment_may_have(settings, name, least, most):
    assert getattr(settings(**{name: least}), name) == least
    with pytest.raises(ValidationError, match=f"greater than or equal to {least}"):
        settings(**{name: least - 1})
    if most is not None:
        assert getattr(settings(**{name: most}), name) == most
        with pytest.raises(ValidationError, match=f"less than or equal to {most}"):
            settings(**{name: most + 1})


@pytest.mark.parametrize(
    ("n_units", "silent"),
    [(20, [10]), (79, [39]), (80, [20, 60]), (120, [20, 60, 100])],
)
def test_a_fortieth_of_the_units_has_no_spikes(n_units, silent):
    drawn = draw_population(np.random.default_rng(0), n_units, good=1.0)
    assert np.flatnonzero(drawn.baseline == 0).tolist() == silent
    assert np.flatnonzero(~drawn.passes.all(1)).tolist() == silent


@pytest.mark.parametrize(
    ("n_units", "share", "elsewhere"),
    [(80, 0.1, 8), (100, 0.6, 60), (20, 0.1, 4), (6, 0.1, 3), (60, 0.1, 6), (11, 0.9, 9)],
)
def test_a_share_of_the_units_is_elsewhere(n_units, share, elsewhere):
    drawn = draw_population(np.random.default_rng(1), n_units, good=0.5, elsewhere=share)
    counts = np.bincount(drawn.population, minlength=6)
    assert counts[5] == elsewhere
    assert counts.sum() == n_units
    assert (np.diff(drawn.population) >= 0).all()


def make_trials(**columns):
    """Two trials, 2 s apart."""
    start = np.array([1.0, 3.0])
    table = {
        "intervals_0": start,
        "stimOn_times": start + 0.205,  # at the middle of a step
        "firstMovement_times": [1.405, np.nan],
        "feedback_times": start + 0.705,
        "contrastLeft": [0.25, np.nan],
        "contrastRight": [np.nan, 1.0],
        "choice": [1, 0],
        "feedbackType": [1, -1],
        "probabilityLeft": [0.8, 0.2],
    }
    return SimpleNamespace(table=pd.DataFrame(table | columns))


def variables(trials, first, last, speed=0.0):
    times = (np.arange(first, last) + 0.5) * 0.01
    found = task_variables(trials, np.full(len(times), speed), times)
    return dict(zip(TASK, found.T, strict=True)), times


def test_task_variables_by_hand():
    found, times = variables(make_trials(), 0, 500, speed=1.0)
    assert (found["wheel_speed"] == 0.5).all()
    assert (variables(make_trials(), 0, 3, speed=9.0)[0]["wheel_speed"] == 3).all()
    engaged = ((times > 1.2) & (times < 1.7)) | ((times > 3.2) & (times < 3.7))
    sure = np.abs(times[:, None] - [1.205, 1.705, 3.205, 3.705]).min(1) > 0.006
    np.testing.assert_array_equal(found["engaged"][sure], engaged[sure])
    np.testing.assert_allclose(found["prior"], np.where(times < 3, 1, -1))  # (0.8 - 0.5) / 0.3
    # At its peak, 70 ms after the stimulus, 1 and half of a swell that is to last 0.35 s.
    at = np.argmin(np.abs(times - 1.275))
    swell = 0.07 / 0.35 * np.exp(1 - 0.07 / 0.35)
    assert found["stimulus_left"][at] == pytest.approx((1 + 0.5 * swell) * 0.25 / 0.4 * 1.15)
    assert not found["stimulus_left"][times < 1.2].any()
    assert found["stimulus_right"][np.argmin(np.abs(times - 3.275))] == pytest.approx(
        (1 + 0.5 * swell) / 1.15 * 1.15
    )
    # Movement begins to show before it does; its peak is 50 ms after.
    assert times[found["move_left"].argmax()] == pytest.approx(1.455)
    assert found["move_left"].max() == pytest.approx(1)
    early, late = (found["move_left"][np.argmin(np.abs(times - t))] for t in (1.335, 1.575))
    assert early == pytest.approx(np.exp(-0.5))  # 0.12 s before the peak
    assert late == pytest.approx(np.exp(-0.5 * (0.12 / 0.18) ** 2))
    assert not found["move_right"].any()
    # Rewards and errors 0.2 and 0.45 s after, from 40 ms on.
    assert times[found["reward"].argmax()] == pytest.approx(1.905)
    assert times[found["error"].argmax()] == pytest.approx(4.155)
    assert found["reward"].max() == found["error"].max() == pytest.approx(1)
    shown = times[found["reward"] > 0]
    assert shown.min() == pytest.approx(1.75, abs=0.006)


@pytest.mark.parametrize(("first", "last"), [(100, 300), (125, 126), (80, 121), (331, 420)])
def test_what_reaches_beyond_the_ends_of_a_grid_is_cut_off(first, last):
    whole, _ = variables(make_trials(), -100, 900)
    part, _ = variables(make_trials(), first, last)
    for name in TASK:
        np.testing.assert_allclose(part[name], whole[name][100 + first : 100 + last], atol=1e-12)


def flat_truth(n_units=5, n_steps=401, rate=40.0):
    units = np.zeros(n_units, unit_dtype(1))
    units["uuid"] = [f"u{n}" for n in range(n_units)]
    units["baseline"] = rate * np.arange(n_units)
    return Truth(np.zeros((n_steps + 6, 1), np.int16), np.array([[3]], np.int16), units, 3)


def test_spikes_are_drawn_block_by_block_in_order(monkeypatch):
    monkeypatch.setattr(spikes, "_BLOCK", 12)  # two steps of five units
    blocks = list(spikes.draw_spikes(np.random.default_rng(4), flat_truth()))
    assert len(blocks) == 201
    for number, (times, unit) in enumerate(blocks):
        assert len(times) == len(unit)
        assert (np.diff(times) >= 0).all()
        if len(times):
            assert times[0] >= 0.02 * number - 1e-9
            assert times[-1] <= min(0.02 * (number + 1), 4.01) + 1e-9
    counts = np.bincount(np.concatenate([unit for _, unit in blocks]), minlength=5)
    expected = 40 * np.arange(5) * 4.01
    expected[4] = 150 * 4.01  # as fast as any may fire
    assert counts[0] == 0
    assert (np.abs(counts - expected)[1:] < 4 * np.sqrt(expected[1:])).all()


def test_presence_and_extremes_are_gathered_over_blocks():
    activity = spikes.Activity(2, 35.0)
    activity.add(np.array([0.5, 9.99, 10.0]), np.array([0, 0, 1]), np.array([3e-5, 9e-5, 5e-5]))
    activity.add(np.array([34.9]), np.array([0]), np.array([1e-5]))
    assert activity.count.tolist() == [3, 1]
    assert activity.presence.tolist() == [0.5, 0.25]  # of four pieces of 10 s
    assert activity.largest.tolist() == [9e-5, 5e-5]
    assert activity.smallest.tolist() == [1e-5, 5e-5]


def test_rates_do_not_depend_on_what_is_held_at_a_time(monkeypatch):
    rng = np.random.default_rng(2)
    units = np.zeros(3, unit_dtype(2))
    units["uuid"], units["baseline"] = list("abc"), [4, 9, 1]
    units["weights"] = to_fixed_point(rng.normal(0, 0.5, (3, 2)), "weights")
    latents = to_fixed_point(rng.standard_normal((90, 2)), "latents")
    own = Truth(latents, np.array([[0, 2]], np.int16), units, 2)
    starts = np.array([0.0, 0.203, 0.4, 0.61])
    whole = own.expected_counts(list("cab"), starts, 5, 0.03)
    less = own.without([1]).rates(np.arange(86))
    monkeypatch.setattr(truth, "_BLOCK", 7)
    np.testing.assert_array_equal(own.expected_counts(list("cab"), starts, 5, 0.03), whole)
    np.testing.assert_allclose(own.without([1]).rates(np.arange(86)), less, rtol=1e-12)
    assert own.expected_counts([], starts, 5, 0.03).shape == (4, 5, 0)
    assert to_fixed_point(np.array([1e9, -1e9]), "latents").tolist() == [32767, -32767]


def test_tables_and_ids_are_made_where_they_are_to_be(tmp_path):
    table = pd.DataFrame({"a": [1, 2]})
    for _ in range(2):
        write_table(tmp_path / "a" / "b" / "t.pqt", table)
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "a" / "b" / "t.pqt"), table)
    ids = draw_uuids(np.random.default_rng(0), 3)
    assert len(set(ids)) == 3
    assert all(one[14] == "4" for one in ids)
