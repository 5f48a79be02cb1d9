"""The order of training batches."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ibl_mtm.training.data.sampler import Batch, Part, TrialSampler

#: Training trials of five sessions, by position.
TRIALS = [np.arange(0, 2 * n, 2) for n in (14, 23, 9, 31, 18)]


def trials_of(batch):
    return [(part.session, trial) for part in batch.parts for trial in part.trials.tolist()]


def in_order(epoch):
    return [part.session for batch in epoch for part in batch.parts]


@pytest.mark.parametrize("pool", [1, 2, 16])
@pytest.mark.parametrize("sessions_per_batch", [1, 2, 3])
def test_an_epoch_holds_every_training_trial_once(sessions_per_batch, pool):
    sampler = TrialSampler(TRIALS, 6, seed=0, sessions_per_batch=sessions_per_batch, pool=pool)
    per_epoch = sampler.steps_per_epoch
    epochs = []
    for number in range(2):
        epoch = sampler.epoch(number)
        assert [batch.step for batch in epoch] == [number * per_epoch + i for i in range(per_epoch)]
        assert sorted(pair for batch in epoch for pair in trials_of(batch)) == [
            (index, trial) for index, trials in enumerate(TRIALS) for trial in trials
        ]
        for batch in epoch:
            names = [part.session for part in batch.parts]
            assert len(batch) == len(trials_of(batch)) <= 6
            assert len(set(names)) == len(names) <= sessions_per_batch
        epochs.append([trials_of(batch) for batch in epoch])
    assert epochs[0] != epochs[1]
    # Trials are batched with others each time, not the same batches in another order.
    whole = [{tuple(batch) for batch in epoch if len(batch) > 3} for epoch in epochs]
    assert not whole[0] & whole[1]


@pytest.mark.parametrize("pool", [1, 2, 3])
def test_a_session_is_needed_once_an_epoch_while_it_is_in_the_pool(pool):
    sampler = TrialSampler(TRIALS, 4, seed=3, pool=pool)
    assert in_order(sampler.epoch(0)) != in_order(sampler.epoch(1))
    for number in range(5):
        sessions = np.array(in_order(sampler.epoch(number)))
        first, last = (
            np.array([pick(np.flatnonzero(sessions == s)) for s in range(5)]) for pick in (min, max)
        )
        at_a_time = [((first <= i) & (last >= i)).sum() for i in range(len(sessions))]
        assert max(at_a_time) == pool


def test_a_pool_that_holds_all_sessions_shuffles_all():
    """Every session is as likely at the beginning of an epoch as at its end."""
    sampler = TrialSampler([np.arange(8)] * 4, 2, seed=0, pool=4)
    place = np.array([in_order(sampler.epoch(number)) for number in range(800)])
    for position in (0, 7, 15):
        share = np.bincount(place[:, position], minlength=4) / len(place)
        assert share == pytest.approx([0.25] * 4, abs=0.06)
    assert [trials_of(b) for b in sampler.epoch(2)] == [
        trials_of(b) for b in TrialSampler([np.arange(8)] * 4, 2, seed=0, pool=99).epoch(2)
    ]


def test_a_batch_may_mix_sessions():
    mixed = TrialSampler(TRIALS, 6, seed=0, sessions_per_batch=3).epoch(0)
    assert {len(batch.parts) for batch in mixed} == {1, 2, 3}


@pytest.mark.parametrize("pool", [2, 16])
@pytest.mark.parametrize("sessions_per_batch", [1, 3])
def test_batches_may_start_at_any_step(sessions_per_batch, pool):
    sampler = TrialSampler(TRIALS, 6, seed=5, sessions_per_batch=sessions_per_batch, pool=pool)

    def take(start, n):
        some = itertools.chain.from_iterable(sampler.epochs(start))
        return [(batch.step, trials_of(batch)) for batch in itertools.islice(some, n)]

    everything = take(0, 80)
    assert [step for step, _ in everything] == list(range(80))
    for start in (1, sampler.steps_per_epoch - 1, sampler.steps_per_epoch, 23):
        assert take(start, 30) == everything[start : start + 30]


@given(sizes=st.lists(st.integers(1, 9), min_size=1, max_size=4), total=st.integers(1, 7))
def test_shares_hold_every_trial_once_and_are_as_equal_as_can_be(sizes, total):
    batch = Batch(3, tuple(Part(i, 10 * i + np.arange(n)) for i, n in enumerate(sizes)))
    shares = [batch.share(i, total) for i in range(total)]
    assert [pair for share in shares for pair in trials_of(share)] == trials_of(batch)
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    assert {share.step for share in shares} == {3}


def test_counts_that_were_not_read_cannot_be_taken():
    with pytest.raises(ValueError, match="have not been read"):
        Part(0, np.arange(3)).counts()
