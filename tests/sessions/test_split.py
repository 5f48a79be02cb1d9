"""The split of trials: stable, fair, and never across overlapping windows."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ibl_mtm.config.dataset import Split
from ibl_mtm.sessions.deal import _in_words
from ibl_mtm.sessions.split import N_BLOCKS, SPLITS, split_trials

FRACTIONS = (0.7, 0.1, 0.2)
KINDS = ("random", "blocks")
kinds = st.sampled_from(KINDS)


def split(n_trials, *, eid="a", kind="random", seed=42, spacing=4.0, fractions=FRACTIONS):
    trial = np.arange(n_trials)
    return split_trials(eid, trial, fractions, kind, seed, trial * spacing, 2.0)


@pytest.mark.parametrize("kind", KINDS)
def test_fractions_are_met(kind):
    names, counts = np.unique(split(600, kind=kind), return_counts=True)
    assert dict(zip(names, counts, strict=True)) == {"train": 420, "val": 60, "test": 120}


@given(st.integers(3, 400), kinds, st.integers(0, 9))
def test_random_fractions_are_met_to_one_trial_and_blocks_to_one_piece(n_trials, kind, seed):
    counts = np.array([(split(n_trials, kind=kind, seed=seed) == name).sum() for name in SPLITS])
    error = np.abs(counts - np.array(FRACTIONS) * n_trials)
    piece = 1 if kind == "random" else np.ceil(n_trials / N_BLOCKS)
    assert counts.min() > 0
    # With few trials, one may be taken from its due place so that no split is empty.
    assert error.max() <= 1 + piece


@given(
    st.lists(st.floats(0, 200), min_size=1, max_size=60),
    st.floats(0.5, 8),
    kinds,
    st.integers(0, 3),
)
def test_overlapping_windows_stay_together(starts, length, kind, seed):
    starts = np.array(starts)
    result = split_trials("a", np.arange(len(starts)), FRACTIONS, kind, seed, starts, length)
    overlap = np.abs(starts[:, None] - starts[None]) < length - 1e-5
    assert (result[:, None] == result[None])[overlap].all()
    n_groups = 1 + (np.diff(np.sort(starts)) >= length).sum()
    if n_groups >= len(SPLITS):
        assert set(result) == set(SPLITS)


@given(st.permutations(range(50)), kinds)
def test_the_order_of_trials_does_not_matter(order, kind):
    trial = np.array(order)
    shuffled = split_trials("a", trial, FRACTIONS, kind, 42, trial * 4.0, 2.0)
    assert (shuffled == split(50, kind=kind)[trial]).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("change", [{"eid": "b"}, {"seed": 43}])
def test_sessions_and_seeds_are_split_differently(kind, change):
    assert (split(200, kind=kind) != split(200, kind=kind, **change)).any()


def test_every_trial_may_be_drawn_for_every_split():
    drawn = [split(10, seed=seed) for seed in range(200)]
    for name in SPLITS:
        often = np.mean([result == name for result in drawn], axis=0)
        assert (often > 0.02).all()
        assert np.ptp(often) < 0.2


def test_blocks_are_consecutive_pieces():
    result = split(600, kind="blocks")
    changes = np.flatnonzero(result[1:] != result[:-1]) + 1
    assert 2 <= len(changes) < N_BLOCKS
    assert (changes % (600 // N_BLOCKS) == 0).all()


def test_touching_windows_do_not_overlap():
    starts = 0.1 + 2.0 * np.arange(60)  # contiguous windows, subject to rounding
    result = split_trials("a", np.arange(60), FRACTIONS, "random", 42, starts, 2.0)
    assert [(result == name).sum() for name in SPLITS] == [42, 6, 12]


def test_this_split_stays_as_it_is():
    # Caches and runs of different days are compared trial by trial.
    letters = "".join(name[1] for name in split(20, eid="0b9a5c1e-6b3a-4c53-8d0e-0c7c0a9e8f21"))
    assert letters == "rreeraererarrrrrrrrr"


def test_one_trial_or_none():
    assert split(0).shape == (0,)
    assert split(1).tolist() == ["train"]


@pytest.mark.parametrize(
    ("split", "words"),
    [
        ({"kind": "file"}, "as the files have it"),
        ({"kind": "file", "domains": "ts2"}, "as the files have it, ts2"),
        (
            {"kind": "blocks", "fractions": [0.625, 0.125, 0.25], "seed": 3},
            "blocks, 62.5/12.5/25 % train/val/test, seed 3",
        ),
    ],
)
def test_a_rule_in_words(split, words):
    assert _in_words(Split.model_validate(split)) == words
