"""Decoded sessions under a budget: what stays, what is read again, and what ends a reading."""

import threading
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest
import torch
from synthetic import make_session

from ibl_mtm.errors import SessionError, UserError
from ibl_mtm.sessions.view import describe_session
from ibl_mtm.training.data.describe import READERS
from ibl_mtm.training.data.held import Held, gather
from ibl_mtm.training.data.store import Store
from ibl_mtm.training.settings import DataSettings

N = 12


@pytest.fixture(scope="module")
def sessions():
    return [
        describe_session(make_session(n_units=8, n_trials=40, n_bins=10, seed=seed), DataSettings())
        for seed in range(N)
    ]


def count_reads(sessions):
    """The same sessions, and a list to which each adds its position when it is read."""
    reads = []

    def counted(index, session):
        def decode(number, chunk):
            reads.append(index)
            session.spikes.decode(number, chunk)

        return replace(session, spikes=replace(session.spikes, decode=decode))

    return [counted(i, session) for i, session in enumerate(sessions)], reads


def total(sessions):
    return sum(s.n_bytes("train") + s.n_bytes("val") for s in sessions)


def use(store, key):
    store.ask(key)
    held = store.get(key)
    store.release(key)
    return held


def test_counts_are_where_they_were_asked_for(sessions):
    for device in (None, torch.device("meta")):
        with closing(Store(sessions[:2], total(sessions[:2]), 1, device)) as store:
            held = use(store, (1, "val"))
        assert held.counts.device.type == ("cpu" if device is None else "meta")
        assert tuple(held.counts.shape) == (len(sessions[1].trials_in("val")), 10, 8)


def test_what_fits_is_read_once(sessions):
    counted, reads = count_reads(sessions)
    with closing(Store(counted, total(sessions), pool=4)) as store:
        for _ in range(3):
            for index, session in enumerate(sessions):
                held = use(store, (index, "train"))
                assert np.array_equal(held.counts.numpy(), session.read("train"))
                trials = session.trials_in("train")[::-2]
                expected = session.spikes.read(np.sort(trials), np.arange(8))[::-1]
                assert np.array_equal(held.take(trials).numpy(), expected)
    assert sorted(reads) == list(range(N))


def test_beyond_the_budget_some_stay_and_the_others_are_read_again(sessions):
    counted, reads = count_reads(sessions)
    with closing(Store(counted, 0.8 * total(sessions), pool=2)) as store:
        for _ in range(3):
            for index in range(N):
                use(store, (index, "train"))
                held = [entry.future.result().counts for entry in store._entries.values()]
                assert sum(counts.nbytes for counts in held) <= 0.8 * total(sessions)
    times = np.bincount(reads)
    assert set(times) == {1, 3}
    # The rest is for those that are in use at a time.
    assert sum(times == 1) >= 2


def test_validation_trials_come_first(sessions):
    with closing(Store(sessions, 0.8 * total(sessions), pool=2)) as store:
        assert {key for key in store.kept if key[1] == "val"} == {(i, "val") for i in range(N)}


def test_a_session_in_use_is_not_forgotten(sessions):
    counted, reads = count_reads(sessions)
    with closing(Store(counted, 0.8 * total(sessions), pool=2)) as store:
        (key, *_) = (key for key in store.size if key[1] == "train" and key not in store.kept)
        store.ask(key)
        store.ask(key)
        store.release(key)
        use(store, key)
        store.release(key)
        assert reads == [key[0]]
        use(store, key)
        assert reads == [key[0]] * 2


def test_a_budget_that_cannot_hold_the_pool_is_refused(sessions):
    with pytest.raises(
        UserError, match=r"2 sessions .* larger data.memory_gb or a smaller data.pool"
    ):
        Store(sessions, 0.1 * total(sessions), pool=2)


def test_counts_on_the_device_are_the_same(sessions):
    device = torch.device("cpu")
    with (
        closing(Store(sessions, 1, pool=4, device=device)) as there,
        closing(Store(sessions, 1e9, pool=4)) as here,
    ):
        for index, session in enumerate(sessions):
            trials = session.trials_in("train")[::3]
            key = (index, "train")
            assert torch.equal(use(there, key).take(trials), use(here, key).take(trials))
        assert there.kept == set(there.size)


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_trials_are_taken_by_their_positions_in_the_session(kind):
    counts = np.random.default_rng(0).integers(0, np.iinfo(kind).max, (4, 3, 2), kind)
    taken = Held(torch.from_numpy(counts), np.array([1, 4, 5, 9])).take(np.array([9, 4]))
    assert np.array_equal(taken.numpy(), counts[[3, 1]])
    assert torch.equal(gather(torch.from_numpy(counts), torch.tensor([3, 1])), taken)


def test_a_failure_is_told_at_once_even_if_its_session_is_not_needed_yet(sessions):
    failed = threading.Event()

    def broken(number, chunk):
        failed.set()
        raise SessionError(sessions[1].eid, "spikes/c/0/0/0 is damaged")

    damaged = replace(sessions[1], spikes=replace(sessions[1].spikes, decode=broken))
    with closing(Store([sessions[0], damaged], 1e9, pool=2)) as store:
        use(store, (0, "train"))
        store.ask((1, "train"))
        assert failed.wait(10)
        store._entries[1, "train"].future.exception(10)
        store.ask((0, "train"))
        with pytest.raises(SessionError, match=f"{sessions[1].eid}: .* damaged"):
            store.get((0, "train"))


def test_closing_waits_for_nothing_but_what_is_being_read(sessions):
    begun, go_on = threading.Semaphore(0), threading.Event()
    reads = []

    def slow(number, chunk):
        reads.append(number)
        begun.release()
        go_on.wait(10)

    slow_ones = [replace(s, spikes=replace(s.spikes, decode=slow)) for s in sessions]
    before = threading.active_count()
    store = Store(slow_ones, 1e9, pool=2)
    for index in range(N):
        store.ask((index, "train"))
    for _ in range(READERS):
        assert begun.acquire(timeout=10)
    threading.Timer(0.05, go_on.set).start()
    store.close()
    assert len(reads) == READERS
    assert not [t for t in threading.enumerate() if t.name.startswith("read")]
    assert threading.active_count() <= before + 1


@pytest.mark.parametrize("asked", [[3], [0, 1], [-1], [9], [4, 40], [2, 4, 5]])
def test_a_trial_that_is_not_held_is_not_its_neighbour(asked):
    """Between, before and after those that are: each once had another trial's counts."""
    counts = torch.arange(4 * 2 * 3, dtype=torch.uint8).reshape(4, 2, 3)
    held = Held(counts, np.array([1, 2, 4, 7]))
    assert torch.equal(held.take(np.array([4, 1, 7])), counts[[2, 0, 3]])
    with pytest.raises(IndexError, match="are not held"):
        held.take(np.array(asked))
