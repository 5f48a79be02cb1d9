"""Parts of what is known of a session, each with numbers worked out by hand."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import xarray as xr
from pydantic import ValidationError
from synthetic import make_session

from ibl_mtm.errors import SessionError, UserError
from ibl_mtm.sessions.bins import bin_width, rebin
from ibl_mtm.sessions.deal import deal_trials
from ibl_mtm.sessions.modalities import (
    ModalityValues,
    SessionBehaviour,
    describe_modalities,
    read_modalities,
)
from ibl_mtm.sessions.schema import validate
from ibl_mtm.sessions.selection import SelectionSettings
from ibl_mtm.sessions.spikes import Spikes, spikes_of
from ibl_mtm.sessions.split import _consecutive_pieces
from ibl_mtm.sessions.text import as_text, counted
from ibl_mtm.sessions.titles import in_text
from ibl_mtm.sessions.view import CountSums, describe_session, eligible_regions, sum_counts

COUNTS = np.arange(7 * 2 * 3, dtype=np.uint8).reshape(7, 2, 3)


def make_spikes(counts=COUNTS, size=3):
    """Counts in chunks of three trials, and the numbers of the chunks that were decoded."""
    decoded = []

    def decode(number, chunk):
        decoded.append(number)
        part = counts[number * size : (number + 1) * size]
        chunk[: len(part)] = part

    return Spikes("e1", counts.shape, counts.dtype, size, decode), decoded


@pytest.mark.parametrize(
    ("trials", "units", "chunks"),
    [
        ([0, 2, 3, 6], [0, 1, 2], [0, 1, 2]),
        ([0, 1, 2], [1], [0]),
        ([6], [0, 2], [2]),
        ([5], [2], [1]),
        ([], [0], []),
        ([1], [], [0]),
    ],
)
def test_only_chunks_with_trials_that_are_asked_for_are_decoded(trials, units, chunks):
    spikes, decoded = make_spikes()
    found = spikes.read(np.array(trials, int), np.array(units, int))
    np.testing.assert_array_equal(found, COUNTS[np.ix_(trials, range(2), units)])
    assert decoded == chunks


@pytest.mark.parametrize(
    ("trials", "units", "told"),
    [
        ([-1, 2], [0], "7 trials; asked for are trials -1 to 2"),
        ([2, 7], [0], "7 trials; asked for are trials 2 to 7"),
        ([2, 2], [0], "7 trials; asked for are trials 2 to 2"),
        ([3, 2], [0], "7 trials; asked for are trials 2 to 3"),
        ([0], [3], "3 units; asked for are units 3 to 3"),
        ([0], [-1, 0], "3 units; asked for are units -1 to 0"),
        ([0], [0, 2, 1], "3 units; asked for are units 0 to 2"),
    ],
)
def test_positions_must_be_there_and_increase(trials, units, told):
    with pytest.raises(IndexError, match=f"session e1 has {told}"):
        make_spikes()[0].read(np.array(trials), np.array(units))


def test_counts_of_a_dataset_come_in_its_chunks():
    ds = make_session(n_trials=7, n_bins=2, n_units=3)
    assert spikes_of(ds).trials_per_chunk == 7
    ds.spikes.encoding["preferred_chunks"] = {"trial": 3}
    spikes = spikes_of(ds)
    assert spikes.trials_per_chunk == 3
    every = np.arange(7)
    np.testing.assert_array_equal(spikes.read(every, np.arange(3)), ds.spikes)


class Damaged:
    """Counts of which the second chunk of three trials cannot be read."""

    shape, dtype, encoding = COUNTS.shape, COUNTS.dtype, {"preferred_chunks": {"trial": 3}}

    def __init__(self, fault):
        self.fault = fault

    def __len__(self):
        return len(COUNTS)

    def __getitem__(self, part):
        if part.start:
            raise self.fault
        return SimpleNamespace(values=COUNTS[part])


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (OSError("flipped"), "e1: spikes, chunk 1: flipped"),
        (SessionError("e9", "was replaced"), "e9: was replaced"),
    ],
)
def test_damage_is_told_once_with_its_chunk(fault, told):
    spikes = spikes_of(SimpleNamespace(spikes=Damaged(fault), attrs={"eid": "e1"}))
    with pytest.raises(SessionError) as raised:
        spikes.read(np.arange(7), np.arange(3))
    assert str(raised.value).endswith(told)


def test_sums_of_counts_by_hand():
    counts = np.zeros((9, 2, 2), np.uint16)
    counts[:, 0, 0] = [4, 9, 0, 0, 0, 0, 0, 0, 16]
    counts[8, 1, 1] = 400
    spikes, _ = make_spikes(counts, size=9)
    found = sum_counts(spikes, np.array([0, 1, 2, 3, 4, 5, 6, 7, 8]))
    assert found.n_bins == 18
    assert found.counts.tolist() == [29, 400]
    assert found.squares.tolist() == [16 + 81 + 256, 160_000]
    assert found.roots.tolist() == [2 + 3 + 4, 20]
    few = sum_counts(spikes, np.array([0, 8])).of(np.array([1]))
    assert (few.n_bins, few.counts, few.squares, few.roots) == (4, [400], [160_000], [20])


def test_mean_and_spread_by_hand():
    sums = CountSums(4, np.array([6.0, 8.0]), np.array([18.0, 16.0]), np.array([4.0, 4.0]))
    mean, spread = sums.mean_and_spread("none")
    assert mean.tolist() == [1.5, 2]
    assert spread == pytest.approx([np.sqrt(3), 0])  # of 3, 3, 0, 0 and of 2, 2, 2, 2
    mean, spread = sums.mean_and_spread("sqrt")
    assert mean.tolist() == [1, 1]
    assert spread == pytest.approx(np.sqrt([2 / 3, 4 / 3]))
    assert sums.log_mean == pytest.approx(np.log([6.5 / 4, 8.5 / 4]))
    single = CountSums(1, np.array([3.0]), np.array([9.0]), np.array([np.sqrt(3)]))
    assert single.mean_and_spread("none")[1].tolist() == [0]
    rounded = CountSums(3, np.array([0.3]), np.array([0.03 - 1e-12]), np.array([0.0]))
    assert rounded.mean_and_spread("none")[1].tolist() == [0]  # no root of less than nothing


def test_quality_labels_are_compared_within_single_precision():
    ds = make_session(n_units=5, n_trials=30)
    ds["label"][:] = np.float32([0.7, 0.69, 1 / 3, 1, np.nan])
    kept = describe_session(ds, SelectionSettings(min_label=0.7))
    assert kept.units.tolist() == ds.unit.values[[0, 3]].tolist()
    assert kept.unit_positions.tolist() == [0, 3]
    assert kept.n_bytes("train") == kept.read("train").nbytes
    assert kept.subject == ds.attrs["subject"]
    assert kept.region.tolist() == ["", ""]
    every = describe_session(ds, SelectionSettings(min_units_per_region=1, regions="cosmos"))
    assert every.region.tolist() == ds.cosmos.values.tolist()
    with pytest.raises(UserError, match=r"no unit of .* data.min_label=0.7 and data.min_rate=999"):
        describe_session(ds, SelectionSettings(min_label=0.7, min_rate=999))
    deal = deal_trials(ds, SelectionSettings())
    with pytest.raises(UserError, match="has no training trials"):
        describe_session(ds, SelectionSettings(), deal=replace(deal, used=deal.split != "train"))


def test_behaviour_of_trials_is_that_of_the_trials_that_are_used():
    ds = make_session(n_units=3, n_trials=30)
    ds.included[:] = np.arange(30) % 4 > 0
    session = describe_session(ds, SelectionSettings(included_only=True), modalities=["choice"])
    some = np.array([2, 5])
    expected = ds.choice.values[ds.included.values][some]
    assert session.behaviour_of(some).classes[:, 0].tolist() == expected.tolist()
    train = expected_train = ds.choice.values[ds.included.values & (ds.split.values == "train")]
    share = (train == 1).sum() / len(expected_train)
    odds = session.behaviour.statistics.log_odds
    assert odds == pytest.approx(np.log(share / (1 - share)), rel=1e-5)
    assert describe_session(ds, SelectionSettings()).behaviour_of(some) is None


@pytest.mark.parametrize(("least", "expected"), [(2, "aab"), (3, "aaa"), (4, "")])
def test_a_region_needs_so_many_units(least, expected):
    region = np.array(["a", "b", "a", "b", "a"])
    kept = {2: ["a", "b"], 3: ["a"], 4: []}[least]
    assert eligible_regions(region, least).tolist() == [r if r in kept else "" for r in region]


@pytest.mark.parametrize(
    ("name", "right", "wrong"),
    [
        ("min_rate", (0, 80), (-0.01,)),
        ("min_label", (0, 1), (-0.01, 1.01)),
        ("min_units_per_region", (1,), (0,)),
    ],
)
def test_limits_of_a_selection(name, right, wrong):
    for value in right:
        assert getattr(SelectionSettings(**{name: value}), name) == value
    for value in wrong:
        with pytest.raises(ValidationError, match=name):
            SelectionSettings(**{name: value})


def test_everything_is_selected_unless_told():
    chosen = SelectionSettings()
    assert (chosen.split, chosen.min_rate, chosen.min_label) == (None, 0, 0)
    assert (chosen.included_only, chosen.min_units_per_region) == (False, 5)
    with pytest.raises(ValidationError, match="null takes their split"):
        SelectionSettings(split={"kind": "file"})


def _described(traces, names=("wheel_speed", "lick_rate"), classes=None):
    n = len(traces)
    classes = np.zeros((n, 0), np.int8) if classes is None else np.array(classes, np.int8)
    return describe_modalities(ModalityValues(np.float32(traces), classes), np.arange(n), names)


def test_how_small_a_change_of_a_trace_counts():
    tiny = np.array([[1e-7], [3e-7]])
    steady = np.array([[1e7], [1e7 + 1]])  # within what single precision tells apart
    found = _described(np.stack([tiny, np.zeros((2, 1))], 2))
    assert found.scale[0] == pytest.approx(1e-7, rel=1e-5)
    assert found.offset[0] == pytest.approx(2e-7, rel=1e-5)
    assert (found.null > 0).tolist() == [True, False]
    still = _described(np.stack([steady, np.zeros((2, 1))], 2))
    assert (still.offset[0], still.scale[0]) == (0, 1)
    assert not still.null.any()
    nobody = SessionBehaviour(ModalityValues(np.zeros((2, 1, 2)), np.zeros((2, 0))), still)
    assert not nobody.is_there
    assert replace(nobody, statistics=found).is_there


def test_rare_events_and_sure_classes_cost_a_tenth_at_least():
    licks = np.zeros((40, 10, 1))
    licks[3, 4] = 1  # one in 400 bins: 0.017 nats
    found = _described(licks, ["lick_rate"])
    assert found.null == pytest.approx([0.1])
    assert found.offset == pytest.approx([1 / 400])
    label = np.array([[1]] * 99 + [[-1]])
    found = _described(np.zeros((100, 1, 0)), ["choice"], label)
    assert found.null == pytest.approx([0.1])
    assert found.log_odds == pytest.approx([np.log(99)])
    alone = _described(np.zeros((3, 1, 0)), ["choice"], [[1], [1], [0]])
    assert (alone.null[0], alone.log_odds[0]) == (0, 0)
    other = _described(np.zeros((3, 1, 0)), ["choice"], [[-1], [-1], [0]])
    assert (other.null[0], other.log_odds[0]) == (0, 0)


def test_what_is_no_number_is_missing_and_trials_are_taken_by_position():
    ds = make_session(n_units=2, n_trials=5, n_bins=4)
    ds["wheel_velocity"][1, 2] = np.inf
    ds["wheel_velocity"][3, 0] = -2
    values = read_modalities(ds, ["wheel_velocity", "wheel_speed"]).take(np.array([3, 1]))
    assert values.traces[0, 0].tolist() == [-2, 2]
    assert np.isnan(values.traces[1, 2]).all()
    assert np.isnan(values.traces).sum() == 2


@pytest.mark.parametrize(
    ("size", "piece"),
    [
        ([3, 1, 1, 35], [0, 1, 2, 3]),  # their middles: 1.5, 3.5, 4.5 and 22.5 of 40 trials
        ([1, 1, 2, 36], [0, 0, 1, 2]),
        ([1, 1, 38], [0, 1, 2]),  # two pieces were too few
    ],
)
def test_neighbours_are_joined_to_twentieths_of_a_session(size, piece):
    found = _consecutive_pieces(np.repeat(np.arange(len(size)), size))
    assert found.tolist() == np.repeat(piece, size).tolist()


def test_widths_of_bins_at_their_limits():
    def at(*time, **attrs):
        return xr.DataArray(np.zeros(len(time)), coords={"time": list(time)}, attrs=attrs)

    assert bin_width(at(0.5, 0.75, bin_size=9.0)) == 0.25
    assert bin_width(at(0.5, bin_size=0.1)) == 0.1
    for time in ([1.0, 1.0, 1.0], [1.0, 0.5, 0.0], [0.0, 0.5, 1.001]):
        with pytest.raises(UserError, match="not evenly spaced"):
            bin_width(at(*time))
    twelve = at(*np.arange(12) * 0.5)
    with pytest.raises(UserError, match=r"12 bins of 0\.5 s .* had: 0\.5, 1, 1\.5, 2, 3, 6$"):
        rebin(twelve, 2.5)
    assert rebin(twelve, 6).sizes == {"time": 1}
    assert "bin_size" not in rebin(twelve, 1.0).attrs
    licks = xr.DataArray(
        np.uint32([[9, 1, 2, 3]]),
        dims=("trial", "time"),
        coords={"time": [0.0, 0.1, 0.2, 0.3]},
        name="lick_count",
    )
    assert rebin(licks, 0.2).values.tolist() == [[10, 5]]
    assert rebin(licks, 0.2).dtype == np.uint32
    assert rebin(licks.astype(np.uint8), 0.2).dtype == np.uint16
    assert rebin(licks.rename("rate"), 0.2).values.tolist() == [[5, 2.5]]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda d: d.assign_attrs(number=True), "attribute number: expected"),
        (lambda d: d.assign_attrs(window=[-0.5, 0.5, 1.5]), "attributes window, bin_size"),
        (lambda d: d.assign_attrs(window=[1.5, 1.5]), "attributes window, bin_size"),
        (lambda d: d.assign_attrs(bin_size=0.0), "attributes window, bin_size"),
        (lambda d: d.assign_attrs(bin_size=2.5), "attributes window, bin_size"),
        (lambda d: d.assign_attrs(decode="["), "attribute decode: expected JSON"),
        (lambda d: d.isel(time=slice(99)), "time: expected the left edges"),
        (lambda d: d.assign_coords(probe=("unit", [""] * 12)), "probe: expected no empty"),
        (
            lambda d: d.assign_coords(region=("unit", np.array(["VISa5", 3] * 6, dtype=object))),
            "region: expected dtype string, got object",
        ),
    ],
)
def test_what_no_session_may_be(change, told):
    with pytest.raises(ValueError, match=f"^{told}"):
        validate(change(make_session()))


@pytest.mark.parametrize(
    ("name", "right", "wrong"),
    [
        ("choice", (-1, 0, 1, -128), (-2, 2, -127)),
        ("stimulus_side", (-1, 1, -128), (-2, 0, 2, -127)),
        ("feedback", (-1, 1, -128), (-2, 0, 2, -127)),
    ],
)
def test_codes_of_trials(name, right, wrong):
    ds = make_session(n_trials=4, n_units=3, n_bins=5)
    for value in right:
        validate(ds.assign_coords({name: ("trial", np.int8([value] * 4))}))
    for value in wrong:
        with pytest.raises(ValueError, match=f"^{name}: expected .* only"):
            validate(ds.assign_coords({name: ("trial", np.int8([right[0]] * 3 + [value]))}))


def test_a_session_of_one_bin_and_text_of_every_kind_fit():
    ds = make_session(n_bins=1)
    validate(ds.assign_attrs(bin_size=0.02))
    names = np.array(["probe00"] * 12, dtype=object)
    validate(ds.assign_coords(probe=("unit", names)))
    validate(ds.assign_coords(probe=("unit", names.astype(np.dtypes.StringDType()))))
    assert as_text(np.array(["CA1", "D"], np.dtypes.StringDType())).dtype == np.dtype("<U3")


def test_numbers_and_names_in_a_line():
    found = [counted(n, "session") for n in (0, 1, 2, 1500)]
    assert found == ["0 sessions", "1 session", "2 sessions", "1,500 sessions"]
    assert [in_text(name) for name in ("co_smoothing", "wheel_speed")] == [
        "co-smoothing",
        "wheel speed",
    ]
