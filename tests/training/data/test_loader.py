"""Batches with their counts: the same, however they are read."""

import itertools
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest
import torch
from synthetic import make_session
from training_runs import tiny_settings

from ibl_mtm.errors import SessionError, UserError
from ibl_mtm.sessions.view import describe_session
from ibl_mtm.training.data.loader import VALIDATION_BATCH, Loader, Replica
from ibl_mtm.training.data.store import Store
from ibl_mtm.training.settings import DataSettings

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def datasets():
    return [make_session(n_units=5 + s, n_trials=30 + 5 * s, n_bins=8, seed=s) for s in range(14)]


@pytest.fixture(scope="module")
def sessions(datasets):
    return [describe_session(ds, DataSettings()) for ds in datasets]


def settings(**data):
    return tiny_settings(sessions_per_batch=2, data={"pool": 3, **data})


def take(loader, n, start=0):
    """Steps, sessions, trials and counts of `n` batches."""
    batches = itertools.islice(loader.training(start), n)
    return [
        (batch.step, part.session, part.trials.tolist(), part.counts().numpy())
        for batch in batches
        for part in batch.parts
        if part.held is not None
    ]


def same(a, b):
    return len(a) == len(b) and all(
        x[:3] == y[:3] and np.array_equal(x[3], y[3]) for x, y in zip(a, b, strict=True)
    )


def test_batches_hold_the_counts_of_their_trials(sessions, datasets):
    with closing(Loader(sessions, settings())) as loader:
        got = take(loader, 2 * loader.sampler.steps_per_epoch)
    for _, index, trials, counts in got:
        assert np.array_equal(counts, datasets[index].spikes.values[trials])
        assert set(datasets[index].split.values[trials]) == {"train"}
        assert counts.dtype == np.uint8


def memory_of(sessions, share):
    total = sum(s.n_bytes(split) for s in sessions for split in ("train", "val"))
    return share * total / 1e9


@pytest.mark.parametrize("way", ["little memory", "on the device", "resumed"])
def test_batches_are_the_same_however_they_are_read(sessions, way):
    with closing(Loader(sessions, settings())) as loader:
        n = 3 * loader.sampler.steps_per_epoch
        expected = take(loader, n)
    if way == "resumed":
        start = n // 2 + 5
        with closing(Loader(sessions, settings())) as loader:
            got = take(loader, n - start, start)
        expected = [batch for batch in expected if batch[0] >= start]
    else:
        little, on_device = {"memory_gb": memory_of(sessions, 0.85)}, {"device_cache": "on"}
        chosen = settings(**(little if way == "little memory" else on_device))
        with closing(Loader(sessions, chosen)) as loader:
            got = take(loader, n)
            assert (len(loader.store.kept) < len(loader.store.size)) == (way == "little memory")
            assert (loader.store.device == CPU) == (way == "on the device")
    assert same(got, expected)


@pytest.mark.parametrize("total", [2, 3])
def test_processes_share_batches_without_overlap_or_loss(sessions, total):
    with closing(Loader(sessions, settings())) as loader:
        n = loader.sampler.steps_per_epoch
        whole = {
            (step, session, trial): counts[i].tobytes()
            for step, session, trials, counts in take(loader, n)
            for i, trial in enumerate(trials)
        }
    shares = {}
    for rank in range(total):
        with closing(Loader(sessions, settings())) as loader:
            for batch in itertools.islice(loader.training(0, Replica(CPU, rank, total)), n):
                own = batch.share(rank, total)
                for part in own.parts:
                    for trial, counts in zip(part.trials.tolist(), part.counts(), strict=True):
                        key = (batch.step, part.session, trial)
                        assert key not in shares
                        shares[key] = counts.numpy().tobytes()
                if not own.parts:  # it takes part with a weight of 0
                    assert len(batch.share(0, len(batch)).parts[0].counts()) == 1
    assert shares == whole


def test_a_process_reads_no_session_that_it_has_no_trials_of(sessions):
    with closing(Loader(sessions, settings())) as loader:
        for batch in itertools.islice(loader.training(0, Replica(CPU, 1, 2)), 20):
            own = {part.session for part in batch.share(1, 2).parts}
            assert {p.session for p in batch.parts if p.held is not None} == (
                own or {batch.parts[0].session}
            )


def test_validation_holds_every_trial_once_on_one_of_the_processes(sessions, datasets):
    seen = []
    for rank in range(2):
        with closing(Loader(sessions, settings())) as loader:
            parts = list(loader.validation(Replica(CPU, rank, 2)))
            assert len(parts) == len(loader.validation_parts)
            for number, part in enumerate(parts):
                assert (part.held is not None) == (number % 2 == rank)
                if part.held is not None:
                    assert len(part) <= VALIDATION_BATCH
                    counts = datasets[part.session].spikes.values[part.trials]
                    assert np.array_equal(part.counts().numpy(), counts)
                    seen += [(part.session, trial) for trial in part.trials.tolist()]
    assert sorted(seen) == [
        (index, trial) for index, s in enumerate(sessions) for trial in s.trials_in("val")
    ]


def test_validation_may_come_in_between(sessions):
    chosen = settings(memory_gb=memory_of(sessions, 0.85))
    with closing(Loader(sessions, chosen)) as loader:
        expected = take(loader, 60)
    with closing(Loader(sessions, chosen)) as loader:
        batches = loader.training()
        first = [next(batches) for _ in range(25)]
        assert len(list(loader.validation())) == len(loader.validation_parts)
        parts = [p for batch in first + [next(batches) for _ in range(35)] for p in batch.parts]
    assert all(
        np.array_equal(part.counts().numpy(), counts)
        for part, (*_, counts) in zip(parts, expected, strict=True)
    )


@pytest.mark.parametrize("share", [0.85, 1.0])
def test_memory_stays_within_its_budget(sessions, monkeypatch, share):
    budget = memory_of(sessions, share)
    taken = []
    ask = Store.ask

    def noted(self, key):
        ask(self, key)
        taken.append(sum(self.size[key] for key in self._entries))

    monkeypatch.setattr(Store, "ask", noted)
    with closing(Loader(sessions, settings(memory_gb=budget))) as loader:
        for batch in itertools.islice(loader.training(), 3 * loader.sampler.steps_per_epoch):
            if batch.step % 40 == 0:
                list(loader.validation())
    assert 0.5 * budget < max(taken) / 1e9 <= budget


def test_what_is_not_taken_to_its_end_is_let_go(sessions):
    chosen = settings(memory_gb=memory_of(sessions, 0.85))
    with closing(Loader(sessions, chosen)) as loader:
        take(loader, 7)
        for _ in zip(range(5), loader.validation(), strict=False):
            pass
        assert loader.store.taken == 0
        assert set(loader.store._entries) <= loader.store.kept


def test_damage_ends_the_batches_and_names_the_session(sessions):
    def broken(number, chunk):
        raise SessionError(sessions[3].eid, "spikes/c/0/0/0 is damaged")

    damaged = list(sessions)
    damaged[3] = replace(damaged[3], spikes=replace(damaged[3].spikes, decode=broken))
    with closing(Loader(damaged, settings())) as loader:
        n = loader.sampler.steps_per_epoch
        with pytest.raises(SessionError, match=f"{sessions[3].eid}: .*is damaged"):
            take(loader, n)


def test_there_must_be_validation_trials(datasets):
    ds = datasets[0].assign_coords(split=("trial", ["train"] * datasets[0].sizes["trial"]))
    with pytest.raises(UserError, match=r"no validation trials: give data\.split a share"):
        Loader([describe_session(ds, DataSettings())], settings())
