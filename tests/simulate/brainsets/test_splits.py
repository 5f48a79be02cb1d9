"""The benchmark's splits: by hand, and what must hold of any."""

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from ibl_mtm.simulate.brainsets.splits import causal, chunked, held_out


def _trials(n: int, length: float, pause: float, start: float = 10.0) -> NDArray[np.float64]:
    begin = start + np.arange(n) * (length + pause)
    return np.stack([begin, begin + length], axis=1)


def test_causal_cuts_by_hand() -> None:
    # Ten trials of 4 s, 6 s apart: 40 s of trials. 40 % is 16 s, the end of the fourth trial;
    # 65 % is 26 s, the middle of the seventh, and so its start.
    trials = _trials(10, 4.0, 6.0)
    train, val, test = causal(trials, (1.0, 120.0), (0.4, 0.25, 0.35))
    assert train.tolist() == [[1.0, 44.0]]
    # The sixth ends at 64 s, the ninth begins at 90 s: neither is inside of a trial.
    assert val == pytest.approx(np.array([[64.0, 70.0]]))
    assert test == pytest.approx(np.array([[90.0, 120.0]]))


def test_a_cut_snaps_to_the_nearer_edge_and_a_gap_ends_at_an_edge() -> None:
    trials = np.array([[0.0, 10.0], [20.0, 30.0], [52.0, 60.0], [70.0, 90.0]])
    # 48 s of trials; a quarter is 12 s: 2 s into the second, nearer to its start.
    first, second = causal(trials, (0.0, 100.0), (0.25, 0.75))
    assert first.tolist() == [[0.0, 20.0]]
    # 40 s lies in no trial.
    assert second == pytest.approx(np.array([[40.0, 100.0]]), abs=1e-9)
    # 0.4: 19.2 s, 0.8 s before the end of the second; 50 s is in no trial.
    first, second = causal(trials, (0.0, 100.0), (0.4, 0.6))
    assert first.tolist() == [[0.0, 30.0]]
    # A cut at 60 s: 80 s lies within the last trial, so its end is next.
    first, second = causal(trials, (0.0, 100.0), (0.55, 0.45))
    assert first.tolist() == [[0.0, 60.0]]
    assert second.tolist() == [[90.0, 100.0]]


def test_chunks_by_hand() -> None:
    # A trial every 40 s, 5 s long, in 1600 s: the one from 290 to 310 has half on either side.
    trials = np.array(
        [[100.0, 105.0], [290.0, 310.0], [340.0, 345.0], [880.0, 905.0], [1300.0, 1301.0]]
    )
    train, val, test = chunked(trials, (0.0, 1400.0))
    # The tie goes to the first chunk, so the border moves to 310; the next begins at the first
    # trial 20 s later, 340. The trial over 900 has most in the third chunk.
    assert train.tolist() == [[0.0, 310.0], [880.0, 905.0]]
    assert test.tolist() == [[340.0, 600.0], [1300.0, 1400.0]]
    # The fourth would begin 20 s after 905: its first trial is the one at 1300, beyond its end.
    assert val.tolist() == []


@given(st.integers(0, 10_000))
def test_no_trial_is_split_and_splits_are_apart(seed: int) -> None:
    rng = np.random.default_rng(seed)
    length, pause = rng.uniform(2.0, 9.0, 200), rng.uniform(0.5, 12.0, 200)
    start = 15.0 + np.cumsum(np.concatenate([[0.0], (length + pause)[:-1]]))
    trials = np.stack([start, start + length], axis=1)
    extent = (1.0, float(trials[-1, 1] + 30.0))
    for splits in (causal(trials, extent, (0.4, 0.2, 0.4)), chunked(trials, extent)):
        pieces = np.concatenate(splits)
        pieces = pieces[np.argsort(pieces[:, 0])]
        apart = pieces[1:, 0] - pieces[:-1, 1]
        assert (apart >= 20.0 - 1e-9).all()
        for begin, end in trials:
            cut = (pieces > begin + 1e-9) & (pieces < end - 1e-9)
            assert not cut.any()


def test_held_out_units_by_hash() -> None:
    zero = "00000000-0000-0000-0000-000000000000"
    salted = hashlib.sha256(f"ts2_co_smoothing_test:{zero}".encode()).hexdigest()
    assert salted == "9ed00d2191079a3fc08c9b530eef812c7f990365eac2afec62d87242ac232506"
    rng = np.random.default_rng(0)
    units = [rng.bytes(16).hex() for _ in range(35)]
    flags = held_out(units, "ts2_co_smoothing_test")
    digests = {u: hashlib.sha256(f"ts2_co_smoothing_test:{u}".encode()).hexdigest() for u in units}
    assert {u for u, f in zip(units, flags, strict=True) if f} == set(
        sorted(units, key=digests.__getitem__)[:4]  # 3.5 rounds to 4, 2.5 to 2
    )
    assert held_out(units[:25], "ts2_co_smoothing_test").sum() == 2
    assert held_out(units[:3], "ts2_co_smoothing_val").sum() == 1
