"""Steps between files and a session, with numbers worked out by hand."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from ibl_mtm.config.dataset import Dataset, TrialRules
from ibl_mtm.errors import SessionError
from ibl_mtm.ingest import job as jobs
from ibl_mtm.ingest.align import own_samples, sample
from ibl_mtm.ingest.assemble import _between_splits, _pieces
from ibl_mtm.ingest.check_spikes import check_rows, check_spikes
from ibl_mtm.ingest.job import _is_told, is_complete
from ibl_mtm.ingest.outcome import IngestReport, Outcome, one_line
from ibl_mtm.ingest.plausible import check_extent, check_rates
from ibl_mtm.ingest.recording import Behaviour, Insertion, Signal, check_pids
from ibl_mtm.ingest.traces import bin_behaviour, bin_signals
from ibl_mtm.ingest.trials import check_trials, encode_trials, included, keep_columns

EDGES = np.array([[0.0, 0.1, 0.2, 0.3], [1.0, 1.1, 1.2, 1.3]])
NAN = np.nan


class TestRatesInTheWindows:
    def check(self, n_within, seconds, n=800):
        """Spikes of 100 s, so many of them in windows at the start that last so long."""
        within = np.linspace(1000, 1000 + seconds, n_within + 2)[1:-1]
        times = np.concatenate([within, np.linspace(1000 + seconds + 1e-3, 1100, n - n_within - 1)])
        times = np.concatenate([[1000.0], times]) if n_within < n - 1 else times
        one = SimpleNamespace(called="p", times=times)
        edges = np.array([[1000 + 1e-9, 1000 + seconds / 2], [1000 + seconds / 2, 1000 + seconds]])
        return check_rates(SimpleNamespace(eid="e", insertions=[one]), edges)

    def test_fewer_are_noted_from_a_quarter_on_and_refused_from_a_twentieth(self):
        assert self.check(100, 50) == []  # of 400 that are expected
        (note,) = self.check(99, 50)
        assert "p: 2.0 spikes/s in the windows, but 8.0 over the recording" in note
        assert len(self.check(20, 50)) == 1
        with pytest.raises(SessionError, match=r"0\.4 spikes/s in the windows, but 8\.0 over"):
            self.check(19, 50)

    def test_more_are_noted_and_never_refused(self):
        (note,) = self.check(500, 2)  # where 16 are expected
        assert "250.0 spikes/s in the windows" in note

    def test_few_spikes_tell_nothing(self):
        assert self.check(199, 2) == []
        assert len(self.check(200, 2)) == 1
        assert self.check(1, 24.8) == []  # where 198 are expected
        with pytest.raises(SessionError, match="spikes/s in the windows"):
            self.check(1, 25.2)

    @pytest.mark.parametrize(("lasts", "trials"), [(10_000, 100), (100, 10_000)])
    def test_a_hundredfold_is_no_doubt_yet(self, lasts, trials):
        one = SimpleNamespace(called="p", times=np.array([7.0, 7.0 + lasts]))
        recording = SimpleNamespace(eid="e", insertions=[one])
        events = np.append(np.linspace(3, 3 + trials, 12), NAN)
        assert check_extent(recording, events) == []
        further = SimpleNamespace(called="p", times=np.array([7.0, 7.0 + lasts * 1.01]))
        several = SimpleNamespace(eid="e", insertions=[one, further, one])
        if lasts > trials:
            with pytest.raises(SessionError, match="100-fold"):
                check_extent(several, events)
            assert len(check_extent(several, events[[0, 1, 11]])) == 1
        else:
            assert check_extent(several, events) == []


class TestSpikesAsTheyCome:
    def check(self, times, clusters=None, n_notes=0):
        notes: list[str] = []
        clusters = np.zeros(len(times), np.int64) if clusters is None else np.array(clusters)
        found = check_spikes("e", "p", times, clusters, notes)
        assert len(notes) == n_notes
        return found, notes

    def test_seconds_in_order_pass_as_they_are(self):
        times = np.array([-0.5, 0.25, 0.25, 3.5])
        (found, rows), _ = self.check(times, [0, 5, 0, 1])
        assert found is times
        assert rows.tolist() == [0, 5, 0, 1]

    def test_a_hundred_whole_seconds_may_be_chance(self):
        self.check(np.arange(100.0))
        with pytest.raises(SessionError, match="whole numbers, expected seconds"):
            self.check(np.arange(101.0))
        almost = np.arange(303.0)
        almost[1] += 0.5  # no multiple of three
        self.check(almost)
        almost = np.arange(303.0)
        almost[3] += 0.5
        self.check(almost)

    def test_single_precision_is_told_with_its_steps(self):
        _, (note,) = self.check(np.float32([0.5, 4096.5]), n_notes=1)
        assert note == "p.times: float32; at the end in steps of 0.49 ms"
        _, (note,) = self.check(np.float32([0.5, 1.5, 9000]), n_notes=1)
        assert "steps of 0.98 ms" in note

    @pytest.mark.parametrize(
        ("times", "clusters", "told"),
        [
            ([0.5, 0.4], [0, 0], "not in ascending order"),
            ([0.5, np.inf], [0, 0], "not every time is a finite number"),
            ([[0.5]], [0], r"p\.times: expected one value per spike"),
            ([0.5], [[0]], r"p\.clusters: expected one value per spike"),
            (None, [0], r"p\.times: expected one value per spike"),
            ([0.5], [0, 0], "1 times but 2 clusters"),
            ([], [], "no spikes"),
            ([1, 2], [0, 0], "int64, expected seconds; are these samples"),
            ([0.5], [0.0], r"clusters: float64, expected integers"),
            ([0.5, 0.6], [0, -1], "negative cluster -1"),
        ],
    )
    def test_what_they_cannot_be(self, times, clusters, told):
        times = None if times is None else np.array(times, None if len(times) else float)
        clusters = np.array(clusters, None if len(clusters) else int)
        with pytest.raises(SessionError, match=told):
            check_spikes("e", "p", times, clusters, [])

    def test_rows_must_be_those_of_units(self):
        check_rows("e", "p", np.array([0, 2]), 3, [])
        check_rows("e", "p", np.array([0, 0]), 1, notes := [])
        assert notes == []
        with pytest.raises(SessionError, match=r"cluster 3 of 3 \(0 to n - 1\)"):
            check_rows("e", "p", np.array([0, 3]), 3, [])


def test_samples_in_a_gap_and_beyond_the_ends():
    times, values = np.array([0.02, 0.05, 0.25, 1.05]), np.array([2.0, 5.0, 25.0, 105.0])
    found = sample(times, values, EDGES, longest_gap=0.2, outside=-1.0)
    np.testing.assert_allclose(found, [[5, 15, 25], [105, -1, -1]])  # centres 0.05, 0.15, ...
    strict = sample(times, values, EDGES, longest_gap=0.19, outside=-1.0)
    np.testing.assert_allclose(strict, [[5, NAN, 25], [105, -1, -1]])
    late = sample(times + 0.2, values, EDGES)
    np.testing.assert_allclose(
        late, [[NAN, NAN, 5], [np.interp(1.05, times + 0.2, values), 95, 105]]
    )


def test_a_file_s_own_samples_are_taken_by_their_rows():
    times, values = 0.1 * np.arange(12), np.arange(12.0)
    found = own_samples(times, values, 10.0, EDGES)
    np.testing.assert_array_equal(found, [[0, 1, 2], [10, 11, NAN]])
    early = own_samples(times + 0.2, values, 10.0, EDGES)
    np.testing.assert_array_equal(early, [[NAN, NAN, 0], [8, 9, 10]])


class TestTraces:
    def bins(self, **given):
        values = dict.fromkeys(("wheel_velocity", "whisker_motion_energy", "licks"))
        of_ibl = given.pop("of_ibl", True)
        found = bin_behaviour(Behaviour(**values | given, of_ibl=of_ibl), EDGES, 0.1)
        assert all(dims == ("trial", "time") for dims, _ in found.values())
        return {name: array for name, (_, array) in found.items()}

    def test_what_the_ibl_has_is_missing_where_it_is_not_and_in_other_labs_is_not_there(self):
        found = self.bins()
        assert set(found) == {"wheel_velocity", "whisker_motion_energy"}
        assert all(np.isnan(array).all() for array in found.values())
        assert self.bins(of_ibl=False) == {}

    def test_a_wheel_without_samples_stands_still_and_a_camera_is_missing(self):
        signal = Signal(np.array([0.05, 0.15]), np.array([3.0, 4.0]))
        wheel = self.bins(wheel_velocity=signal)["wheel_velocity"]
        np.testing.assert_allclose(wheel, [[3, 4, 0], [0, 0, 0]])
        whisker = self.bins(whisker_motion_energy=signal)["whisker_motion_energy"]
        np.testing.assert_allclose(whisker, [[3, 4, NAN], [NAN] * 3])
        assert whisker.dtype == np.float32
        sampled = Signal(np.array([0.0, 0.1]), np.array([3.0, 4.0]), rate=10.0)
        wheel = self.bins(wheel_velocity=sampled)["wheel_velocity"]
        np.testing.assert_allclose(wheel, [[3, 4, NAN], [NAN] * 3])

    @pytest.mark.parametrize(
        ("times", "known"),
        [
            ([0.01, 0.09, 0.25], True),  # 0.08 and 0.16 s apart, where up to 0.18 are usual
            ([0.05, 0.09, 0.28], False),  # 0.04 and 0.19 s apart, up to 0.17
            ([0.05, 0.29], True),  # one gap is what is usual
        ],
    )
    def test_a_gap_is_longer_than_one_and_a_half_frames(self, times, known):
        signal = Signal(np.array(times), np.array(times) * 10)
        _, found = bin_signals({"pupil": signal}, EDGES, 0.1)["pupil"]
        assert np.isfinite(found[0, 1]) == known

    def test_one_frame_alone(self):
        _, found = bin_signals({"p": Signal(np.array([0.15]), np.array([9.0]))}, EDGES, 0.1)["p"]
        np.testing.assert_array_equal(found, [[NAN, 9, NAN], [NAN] * 3])

    def test_licks_are_counted_once_each(self):
        licks = np.array([-0.1, 0.0, 0.05, 0.2, 0.3, 1.25])
        np.testing.assert_array_equal(self.bins(licks=licks)["lick_count"], [[2, 0, 1], [0, 0, 1]])

    def test_licks_of_samples_as_long_as_bins_and_of_shorter_ones(self):
        rate = Signal(0.1 * np.arange(12), np.array([0, 2, NAN, *[1] * 9]), rate=10.0)
        counts = self.bins(licks=rate)["lick_count"]
        np.testing.assert_array_equal(counts, [[0, 2, 0], [1, 1, 0]])
        assert counts.dtype == np.uint8
        short = Signal(0.05 * np.arange(24), np.array([1, 2, NAN, 0, 3, 0] + [0] * 18), 20.0)
        np.testing.assert_array_equal(self.bins(licks=short)["lick_count"], [[3, 0, 3], [0] * 3])
        long = Signal(np.array([0.0, 0.2]), np.array([2.0, 1.0]), rate=5.0)  # at their middles
        np.testing.assert_array_equal(self.bins(licks=long)["lick_count"], [[0, 2, 0], [0] * 3])


class TestTrials:
    def test_rules_hold_at_their_limits(self):
        table = pd.DataFrame(
            {
                "stimOn_times": [0.0] * 7,
                "firstMovement_times": [0.25, 0.2499, 2.0, 2.0001, 1.0, 1.0, 1.0],
                "goCue_times": [0.0] * 7,
                "feedback_times": [4.0, 4.0, 4.0, 4.0, 8.0, 8.0001, 4.0],
                "choice": [1, 1, -1, 1, 1, 1, 0],
                "probabilityLeft": [0.5] * 7,
                "feedbackType": [1] * 7,
            }
        )
        rules = TrialRules(min_reaction=0.25, max_reaction=2.0, max_length=8.0)
        passed, notes = included(table, rules)
        assert passed.tolist() == [True, False, True, False, True, False, False]
        assert notes == []
        for column in ("choice", "probabilityLeft", "feedbackType"):
            lacks = table.assign(**{column: [NAN, *table[column][1:]]})
            assert not included(lacks, rules)[0][0]
        neutral = table.assign(probabilityLeft=0.0)  # 0 is no missing block
        assert included(neutral, rules)[0].tolist() == passed.tolist()

    def test_events_at_one_time_are_in_order_and_values_are_the_ibls(self):
        table = pd.DataFrame({"go": [1.0, 1.0, NAN, 3.0], "choice": [1, -1, 0, NAN]})
        assert check_trials("e", "t", table, "go")["choice"].isna().sum() == 1
        with pytest.raises(SessionError, match="t: go are not in ascending order"):
            check_trials("e", "t", table.assign(go=[1.0, 0.5, NAN, 3.0]), "go")
        with pytest.raises(SessionError, match="no column x to align to; there are go, choice"):
            check_trials("e", "t", table, "x")
        with pytest.raises(SessionError, match="there are none"):
            check_trials("e", "t", table[[]], "x")
        strange = table.assign(choice=[1, 2, 0, 1])
        with pytest.raises(
            SessionError, match=r"choice: 2 in row 1, expected -1, 0, 1, as the IBL"
        ):
            check_trials("e", "t", strange, "go")
        strange = table.assign(contrastLeft=[0, 1, 0.5, 1.01])
        with pytest.raises(
            SessionError, match=r"contrastLeft: 1\.01 in row 3, expected 0 to 1, as"
        ):
            check_trials("e", "t", strange, "go")

    @pytest.mark.parametrize(
        ("name", "right", "wrong"),
        [
            ("choice", (-1, 0, 1), (-2, 0.5, 2)),
            ("feedbackType", (-1, 1), (-2, 0, 2)),
            ("contrastLeft", (0, 1), (-0.01, 1.01)),
            ("contrastRight", (0, 1), (-0.01, 1.01)),
            ("probabilityLeft", (0, 1), (-0.01, 1.01)),
        ],
    )
    def test_columns_hold_what_the_ibl_s_do(self, name, right, wrong):
        for value in right:
            check_trials("e", "t", pd.DataFrame({"go": [1.0], name: [value]}), "go")
        for value in wrong:
            with pytest.raises(SessionError, match=f"{name}: {value:g} in row 0, expected"):
                check_trials("e", "t", pd.DataFrame({"go": [1.0], name: [value]}), "go")

    def test_no_contrast_has_no_sign(self):
        table = pd.DataFrame(
            {"contrastLeft": [0.0, NAN, 0.5, 0.5, NAN], "contrastRight": [NAN, 0.0, NAN, 0.5, NAN]}
        )
        found = encode_trials(table)
        np.testing.assert_array_equal(found["contrast"], np.float32([0, 0, -0.5, NAN, NAN]))
        assert not np.signbit(found["contrast"][:2]).any()
        assert found["stimulus_side"].tolist() == [-1, 1, -1, -128, -128]
        assert "contrast" not in encode_trials(table[["contrastLeft"]])

    def test_columns_that_are_kept_and_why_others_are_not(self):
        table = pd.DataFrame(
            {"choice": [1], "tone": [0.5], "split": ["x"], "a b": [1], "unit": ["u"], "l": [[1]]}
        )
        kept, notes = keep_columns(table, ["choice", "tone", "block", "lost", "unit", "tone"])
        assert list(kept) == ["tone"]
        assert notes == [
            "trials: no column lost to keep",
            "trials: unit: not kept, as it cannot name a variable; rename it",
        ]
        kept, notes = keep_columns(table.assign(block=[3]), ["block"], everything=True)
        assert {name: values.tolist() for name, values in kept.items()} == {
            "block": [3],
            "tone": [0.5],
        }
        assert [note.split(":")[1].strip() for note in notes] == ["split", "a b", "unit", "l"]
        assert "neither numbers nor text" in notes[-1]


def test_what_is_told_once_is_not_told_again():
    told = (
        "alf/probe01: no spikes; spikes.times.npy is not on the server",
        "alf/_ibl_leftCamera.times.npy: not on disk",
    )
    assert _is_told("alf/probe01: no spikes", told)
    assert not _is_told("alf/probe0: no spikes", told)
    assert _is_told("leftCamera: missing", ["alf/leftCamera.times.npy: gone"])
    assert not _is_told("leftCamera.times", told)
    assert not _is_told("rightCamera: missing", told)
    assert not _is_told("alf", ["alf."])


def test_what_differs_between_two_definitions_is_told(monkeypatch):
    def dataset(**align):
        source = {"kind": "local", "path": "x"}
        return Dataset.model_validate({"source": source, "align": {"event": "go", **align}})

    one, other = dataset(bin=0.02), dataset(bin=0.05)
    eid, absent = f"{'0' * 8}-0000-4000-8000-{'0' * 12}", f"{'1' * 8}-0000-4000-8000-{'0' * 12}"
    held = {
        "definition_hash": one.definition_hash(eid),
        "definition": json.dumps(one.definition(eid)),
    }
    monkeypatch.setattr(jobs, "session_attrs", lambda cache, e: held if e == eid else None)
    assert is_complete(Path("c"), eid, one)
    assert not is_complete(Path("c"), absent, one)
    with pytest.raises(
        SessionError, match=r"definition \(align\.bin 0\.02 -> 0\.05\); --overwrite"
    ):
        is_complete(Path("c"), eid, other)


def test_a_report_lists_what_failed_and_why():
    report = IngestReport(
        Path("c.zarr"),
        {"a": Outcome("ingested"), "b": Outcome("failed", "why"), "c": Outcome("failed")},
        {"folder": "no date"},
    )
    assert report.failed == {"b": "why", "c": ""}
    told = report.to_json()
    assert (told["cache"], told["stopped"]) == ("c.zarr", None)
    assert told["left_aside"] == {"folder": "no date"}
    assert told["sessions"]["a"]["status"] == "ingested"
    assert one_line(ValueError("a\n  b")) == "a b"
    assert one_line(KeyError()) == "KeyError"


def test_trials_between_domains_are_told_where_there_are_some():
    assert _between_splits({}) == ""
    assert _between_splits({"trials_outside_domains": 0}) == ""
    assert _between_splits({"trials_outside_domains": 1}) == ", 1 within none of the files' domains"
    domains = {"val": np.array([[4.0, 5.0]]), "train": np.array([[6.0, 9.0], [0.0, 3.0]])}
    assert _pieces(domains) == [(0, 3), (4, 5), (6, 9)]


def test_what_an_insertion_is_called():
    plain = Insertion("p", "probe00", "", "", np.zeros(1), np.zeros(1, int), pd.DataFrame())
    assert plain.called == "alf/probe00/spikes.times"
    assert (plain.qc, Insertion(*[None] * 7, source="mine").called) == ("NOT_SET", "mine")


def test_insertions_that_a_session_lacks_are_told_with_its_own():
    check_pids("e", None, ["a"])
    check_pids("e", ["a"], ["a", "b"])
    with pytest.raises(SessionError, match="no insertion x; its own are a, b"):
        check_pids("e", ["a", "x"], ["a", "b"])
    with pytest.raises(SessionError, match="no insertion x; its own are none"):
        check_pids("e", ["x"], [])
