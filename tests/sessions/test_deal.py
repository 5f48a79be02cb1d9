"""What trials are for: which overlap, what a digest tells apart, what is refused and how."""

from dataclasses import replace

import numpy as np
import pytest
from synthetic import make_session

from ibl_mtm.errors import UserError
from ibl_mtm.sessions.deal import (
    TRIALS,
    Deal,
    check_held_out,
    deal_trials,
    digest_of,
    read_deals,
    write_deals,
)
from ibl_mtm.sessions.selection import SelectionSettings

T, V, E = "train", "val", "test"


def make_deal(start, split, *, length=2.0, used=None, rule="as ingested"):
    n = len(start)
    trial = 3 * np.arange(n) + 1
    used = np.ones(n, bool) if used is None else np.array(used, bool)
    return Deal(trial, np.array(start, float), length, np.array(split), used, rule)


BEFORE = make_deal([0, 10, 20, 30], [T, V, E, T], used=[1, 1, 1, 0])


@pytest.mark.parametrize(
    ("start", "seen"),
    [
        (1.9, 1),  # within a window that trained
        (2.0, 0),  # which it touches only
        (2 - 5e-7, 0),  # but for rounding
        (10.0, 1),  # the very window, which chose a model
        (7.0, 0),  # a window of 3 s that ends where that begins
        (7 + 5e-7, 0),
        (7.1, 1),
        (20.0, 0),  # tested before, too
        (30.0, 0),  # no part of the training
        (-1.5, 1),  # ends within the first
    ],
)
def test_test_trials_that_trained_before_are_counted(start, seen):
    after = make_deal([start, 0, 11.9, 200], [E, T, V, E], length=3.0)
    assert after.n_seen_by(BEFORE) == seen


def test_several_that_trained_are_told_with_the_rule_of_the_model():
    after = {"b": make_deal([0, 10, 20, 50], [E, E, E, T]), "a": make_deal([90.0], [E])}
    trained = {"b": replace(BEFORE, rule="random, seed 3"), "c": BEFORE}
    with pytest.raises(UserError, match=r"^2 of 3 test trials of session b trained M,.*random, se"):
        check_held_out(after, trained, "M")
    check_held_out({"a": after["a"], "c": make_deal([20.0], [E])}, trained, "M")


def test_a_digest_tells_trials_windows_and_splits_apart():
    digests = {
        deal.digest
        for deal in (
            BEFORE,
            replace(BEFORE, trial=BEFORE.trial + 1),
            replace(BEFORE, window_start=BEFORE.window_start + 1e-5),
            replace(BEFORE, split=np.array([T, V, E, V])),
        )
    }
    assert len(digests) == 4
    assert {len(digest) for digest in digests} == {16}
    same = replace(BEFORE, window_start=BEFORE.window_start + 1e-8, used=np.ones(4, bool))
    assert same.digest == BEFORE.digest
    # Of test trials alone, what the others are for makes no difference.
    assert replace(BEFORE, split=np.array([V, V, E, T])).test_digest == BEFORE.test_digest
    assert replace(BEFORE, split=np.array([T, E, E, T])).test_digest != BEFORE.test_digest
    assert BEFORE.test_digest != BEFORE.digest


def test_a_digest_of_many_knows_no_order_but_whose_trials_are_whose():
    one, other = BEFORE, make_deal([0.0, 5.0], [T, E])
    assert digest_of({"a": one, "b": other}) == digest_of({"b": other, "a": one})
    assert digest_of({"a": one, "b": other}) != digest_of({"a": other, "b": one})


def test_a_cache_must_have_the_trials_that_were_dealt_out():
    ds = make_session(n_trials=12)
    deal = replace(deal_trials(ds, SelectionSettings()), kept_in="runs/a")
    late = ds.assign_coords(window_start=ds.window_start + 5e-7)
    deal.check(late)  # within a microsecond
    for other in (
        ds.isel(trial=slice(11)),
        ds.assign_coords(trial=ds.trial + 1),
        ds.assign_coords(window_start=ds.window_start + 3e-6),
        ds.assign_coords(window_start=ds.window_start * 1.01),
    ):
        told = rf"other trials in this cache \({other.sizes['trial']}\) than runs/a.*\(12\)"
        with pytest.raises(UserError, match=told):
            deal.check(other)


def test_trials_are_dealt_as_the_cache_has_them_or_as_is_asked():
    ds = make_session(n_trials=20, n_bins=50)
    ds.included[:] = np.arange(20) % 3 > 0
    deal = deal_trials(ds, SelectionSettings())
    assert deal.used.all()
    assert deal.split.tolist() == ds.split.values.tolist()
    assert deal.window_length == pytest.approx(1.0)
    assert (deal.rule, deal.kept_in) == ("as ingested", "")
    definition = '{"split": {"fractions": [0.5, 0.25, 0.25], "kind": "blocks", "seed": 4}}'
    known = deal_trials(ds.assign_attrs(definition=definition), SelectionSettings())
    assert known.rule == "blocks, 50/25/25 % train/val/test, seed 4"
    filtered = deal_trials(ds, SelectionSettings(included_only=True))
    assert filtered.used.tolist() == (np.arange(20) % 3 > 0).tolist()
    with pytest.raises(UserError, match="no trials table; set data"):
        deal_trials(ds.drop_vars("included"), SelectionSettings(included_only=True))
    split = {"fractions": (0.6, 0.2, 0.2), "kind": "random", "seed": 1}
    asked = deal_trials(ds, SelectionSettings(split=split))
    assert [(asked.split == name).sum() for name in (T, V, E)] == [12, 4, 4]
    assert asked.rule == "random, 60/20/20 % train/val/test, seed 1"


def test_windows_that_overlap_stay_together_when_they_are_dealt_anew():
    ds = make_session(n_trials=40, n_bins=100)
    ds["window_start"][:] = np.arange(40) * 4.0 - (np.arange(40) % 2) * 2.5  # pairs, 1.5 s apart
    split = deal_trials(ds, SelectionSettings(split={"seed": 2})).split
    assert (split[::2] == split[1::2]).all()


def test_what_is_kept_is_read_again(tmp_path):
    deals = {"b": BEFORE, "a": make_deal([0.5, 5.25], [T, E], length=1.5, rule="blocks")}
    write_deals(tmp_path, deals)
    found = read_deals(tmp_path)
    assert list(found) == ["b", "a"]
    for eid, deal in deals.items():
        for name, value in vars(deal).items():
            expected = str(tmp_path) if name == "kept_in" else value
            np.testing.assert_array_equal(getattr(found[eid], name), expected)
    found["a"].window_start[0] = 7  # nobody else's memory
    assert read_deals(tmp_path / "elsewhere") == {}
    (tmp_path / TRIALS).write_bytes(b"PAR1")
    with pytest.raises(UserError, match=r"trials\.parquet is damaged"):
        read_deals(tmp_path)
