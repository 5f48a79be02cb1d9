"""The simulated brain-wide map as a whole: what is irregular, what can be known, what is kept."""

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from wide_maps import SETTINGS, make_wide_map

from ibl_mtm.brainsets.intervals import inside
from ibl_mtm.brainsets.layout import BUILDS, REGIMES, file_of, recordings_in
from ibl_mtm.brainsets.recording import open_recording
from ibl_mtm.errors import UserError
from ibl_mtm.simulate.brainsets.wide_map import (
    FULL_TRIALS,
    FULL_UNITS,
    WideMap,
    _probes,
    _subject,
    plan_recording,
    simulate_map,
)
from ibl_mtm.simulate.trials import draw_trials
from ibl_mtm.simulate.truth import open_truth


def test_animals_of_evaluation_are_none_of_pretraining() -> None:
    plans = [plan_recording(WideMap(sessions=18), index) for index in range(18)]
    animals = {regime: {p.subject for p in plans if p.regime == regime} for regime in REGIMES}
    assert sum(p.regime == "eval" for p in plans) == 6
    assert not animals["eval"] & animals["pretrain"]
    assert len(animals["pretrain"]) == 11  # one animal with two sessions
    assert len({p.eid for p in plans}) == 18


def test_selected_units_are_those_that_pass(wide_map: Path) -> None:
    for regime in REGIMES:
        for eid in recordings_in(wide_map, "all_units", regime):
            with open_recording(file_of(wide_map, "all_units", regime, eid)) as everything:
                units = everything.units
                spikes = everything.spikes()
            kept = (units["firing_rate"] > 1.0) & (units["label"] == 1.0)
            if regime == "eval":
                kept &= units["qc_neural"] == "PASS"
            with open_recording(file_of(wide_map, "selected_units", regime, eid)) as selected:
                assert list(selected.unit_ids) == list(units["id"][kept])
                some = selected.spikes()
                domain = selected.domain()
            assert 0 < kept.sum() < len(units)
            assert len(some.times) == units["spike_count"][kept].sum()
            assert domain[0, 0] == spikes.times[kept.to_numpy()[spikes.units]][0]


def test_full_sessions_have_700_selected_units_and_last_an_hour(tmp_path: Path) -> None:
    """A tenth of their units, and few trials: the share that is selected is that of whole ones."""
    full = WideMap(scale="full")
    assert (full.units, full.trials) == (1000, 500)
    few = WideMap(sessions=4, units=100, trials=25, scale="full", seed=1)
    simulate_map(tmp_path, few)
    for regime in REGIMES:
        for eid in recordings_in(tmp_path, "selected_units", regime):
            with open_recording(file_of(tmp_path, "selected_units", regime, eid)) as recording:
                assert 70 <= len(recording.unit_ids) < 95
    for index in range(4):
        plan = plan_recording(full, index)
        trials = draw_trials(plan.generator("trials"), plan.n_trials, plan.pacing)
        assert 3500 < trials.end < 3900


@pytest.mark.parametrize("scale", ["small", "full"])
def test_an_evaluated_session_loses_a_probe_at_small_scale_alone(
    scale: Literal["small", "full"],
) -> None:
    settings = WideMap(sessions=18, scale=scale)
    qualities = {
        regime: [
            probe.qc["qc_neural"]
            for index in range(18)
            if (plan := plan_recording(settings, index)).regime == regime
            for probe in plan.probes
        ]
        for regime in REGIMES
    }
    assert set(qualities["pretrain"]) == {"PASS", "WARNING", "FAIL"}
    lost = {"WARNING", "FAIL"} if scale == "small" else set()
    assert set(qualities["eval"]) == {"PASS"} | lost


def test_spikes_have_the_rates_beside_them(wide_map: Path) -> None:
    eid = recordings_in(wide_map, "all_units", "eval")[0]
    with open_recording(file_of(wide_map, "all_units", "eval", eid)) as recording:
        units, spikes = recording.unit_ids, recording.spikes()
    truth = open_truth(wide_map, eid)
    starts = np.arange(50.0, 900.0, 10.0)
    expected = truth.expected_counts(units, starts, 500, 0.02).sum(axis=1)
    rows = np.searchsorted(spikes.times, starts), np.searchsorted(spikes.times, starts + 10.0)
    counts = np.stack(
        [np.bincount(spikes.units[a:b], minlength=len(units)) for a, b in zip(*rows, strict=True)]
    )
    # Poisson: the standardised sum over everything, and over each unit.
    z = (counts - expected).sum(axis=0) / np.sqrt(expected.sum(axis=0) + 1e-9)
    assert np.abs(z[expected.sum(axis=0) > 5]).max() < 4.5
    assert (counts - expected).sum() ** 2 < 16 * expected.sum()


def test_invalid_trials_and_unsure_paws_occur(wide_map: Path) -> None:
    for regime in REGIMES:
        for eid in recordings_in(wide_map, "all_units", regime):
            with open_recording(file_of(wide_map, "all_units", regime, eid)) as recording:
                trials = recording.trials
                reaction = trials["movement_onset_time"] - trials["stim_on_time"]
                valid = reaction.between(0, 10) & (trials["choice"] != 2)
                assert (valid == trials["is_valid"]).all()
                assert (reaction < 0).any()
                assert reaction.isna().any()
                windows = recording.intervals("movement_window")
                paws = recording.series("paws")
                assert paws is not None
                assert windows is not None
                assert (windows["num_left_paw_confident"] == 0).any()
                bounds = windows[["start", "end"]].to_numpy()
                covered = np.flatnonzero(inside(bounds, paws.domain))
                trial = covered[-1]
                rows = slice(*paws.first(bounds[trial]))
                sure = paws.values["is_left_paw_confident"][rows]
                assert windows["num_left_paw_confident"].iloc[trial] == sure.sum()


def test_units_without_spikes_pass_nothing(wide_map: Path) -> None:
    silent = 0
    for eid in recordings_in(wide_map, "all_units", "pretrain"):
        with open_recording(file_of(wide_map, "all_units", "pretrain", eid)) as recording:
            units = recording.units
        assert (units["label"][units["spike_count"] == 0] == 0).all()
        silent += (units["spike_count"] == 0).sum()
    assert silent > 0


def test_normalisation_is_of_the_training_windows(wide_map: Path) -> None:
    eid = recordings_in(wide_map, "all_units", "eval")[1]
    with open_recording(file_of(wide_map, "all_units", "eval", eid)) as recording:
        windows = recording.intervals("movement_window")
        paws = recording.series("paws")
        train = recording.domain("ts1_train")
        stored = recording.normalisation("paws/right_paw_speed")
    assert windows is not None
    assert paws is not None
    assert stored is not None
    speed, times = paws.values["right_paw_speed"], paws.times
    samples = []
    for start, end in windows[["start", "end"]].to_numpy():
        within = train[0, 0] <= start and end <= train[0, 1] and start >= paws.start
        if within:
            chosen = (times >= start) & (times < end) & paws.values["is_right_paw_confident"]
            samples.append(speed[chosen])
    pooled = np.concatenate(samples)
    assert stored[0] == pytest.approx(pooled.mean())
    assert stored[1] == pytest.approx(pooled.std())


def test_every_split_has_trials(wide_map: Path) -> None:
    for build in BUILDS:
        for eid in recordings_in(wide_map, build, "eval"):
            with open_recording(file_of(wide_map, build, "eval", eid)) as recording:
                for scope in ("ts1", "ts2"):
                    for split in ("train", "val", "test"):
                        domain = recording.domain(f"{scope}_{split}")
                        assert inside(recording.trial_domains, domain).sum() >= 5


def test_same_settings_same_arrays_and_nothing_is_replaced(tmp_path: Path) -> None:
    settings = WideMap(sessions=2, units=20, trials=20, seed=5)
    roots = [tmp_path / name for name in ("a", "b")]
    eids = [simulate_map(root, settings) for root in roots]
    assert eids[0] == eids[1]
    path = [file_of(root, "all_units", "eval", eids[0][0]) for root in roots]
    with open_recording(path[0]) as one, open_recording(path[1]) as other:
        assert np.array_equal(one.spikes().times, other.spikes().times)
        assert one.units.equals(other.units)
    before = path[0].stat().st_mtime_ns
    simulate_map(roots[0], settings)
    assert path[0].stat().st_mtime_ns == before
    with pytest.raises(UserError, match=r"another simulated experiment .*layout=brainsets.*seed=5"):
        simulate_map(roots[0], WideMap(sessions=2, units=20, trials=20, seed=6))


def test_the_fixture_is_what_it_says(wide_map: Path) -> None:
    assert make_wide_map(wide_map) == wide_map
    assert SETTINGS.n_eval == len(recordings_in(wide_map, "all_units", "eval"))


def test_at_full_scale_sizes_are_full_unless_told() -> None:
    small, full = WideMap(), WideMap(scale="full")
    assert (small.sessions, small.units, small.trials, small.seed) == (6, 80, 180, 0)
    assert (full.units, full.trials) == (FULL_UNITS, FULL_TRIALS)
    assert full.trials == 500
    told = WideMap(scale="full", trials=90)
    assert (told.units, told.trials) == (FULL_UNITS, 90)
    assert [WideMap(sessions=n).n_eval for n in (2, 5, 6, 9)] == [1, 1, 2, 3]


@pytest.mark.parametrize(
    ("regime", "number", "full", "quality"),
    [
        ("eval", 0, False, "FAIL"),
        ("eval", 0, True, "PASS"),
        ("eval", 1, False, "WARNING"),
        ("eval", 1, True, "PASS"),
        ("eval", 2, False, "PASS"),
        ("pretrain", 0, False, "PASS"),
        ("pretrain", 1, True, "WARNING"),
        ("pretrain", 2, True, "FAIL"),
        ("pretrain", 3, False, None),  # of one probe
        ("eval", 4, False, "PASS"),
    ],
)
def test_probes_of_a_session(regime: Any, number: int, full: bool, quality: str | None) -> None:
    first, *others = _probes(regime, number, ["p", "q"], full)
    assert (first.pid, first.name) == ("p", "probe00")
    assert set(first.qc.values()) == {"PASS"}
    assert len(others) == (quality is not None)
    for other in others:
        assert (other.pid, other.name) == ("q", "probe01")
        assert other.qc.pop("qc_neural_alignment") == "PASS"
        assert set(other.qc.values()) == {quality}


@pytest.mark.parametrize(
    ("regime", "number", "name"),
    [("eval", 0, "E01"), ("eval", 1, "E02"), ("eval", 2, "E02"), ("pretrain", 3, "P03")],
)
def test_the_third_session_is_of_the_second_animal(regime: Any, number: int, name: str) -> None:
    assert _subject(WideMap(seed=7), regime, number) == f"WIDE7_{name}"
