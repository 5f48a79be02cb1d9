"""What a run reads from a session, and the order of its batches."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from synthetic import make_session

from ibl_mtm.catalog import Split
from ibl_mtm.errors import UserError
from ibl_mtm.training.data import (
    Batch,
    batches,
    eligible_regions,
    load_session,
    steps_per_epoch,
)
from ibl_mtm.training.settings import DataSettings


@pytest.fixture(scope="module")
def ds():
    return make_session(n_units=20, n_trials=40, seed=1)


def test_all_units_and_trials_are_read_by_default(ds):
    session = load_session(ds, DataSettings())
    assert np.array_equal(session.counts, ds.spikes.values)
    assert session.counts.dtype == np.uint8
    assert session.units.tolist() == ds.unit.values.tolist()
    assert session.split.tolist() == ds.split.values.tolist()


def test_filters_leave_out_units_and_trials(ds):
    good = load_session(ds, DataSettings(min_label=1))
    assert good.units.tolist() == ds.unit.values[ds.label.values == 1].tolist()
    train = ds.spikes.values[ds.split.values == "train"]
    rate = train.mean((0, 1)) / ds.attrs["bin_size"]
    limit = float(np.median(rate))
    busy = load_session(ds, DataSettings(min_rate=limit))
    assert busy.units.tolist() == ds.unit.values[rate >= limit].tolist()
    assert np.array_equal(busy.counts, ds.spikes.values[:, :, rate >= limit])
    included = load_session(ds, DataSettings(included_only=True))
    assert included.trial.tolist() == ds.trial.values[ds.included.values].tolist()


def test_the_rate_filter_looks_at_training_trials_only(ds):
    loud = ds.copy(deep=True)
    loud.spikes[{"trial": np.flatnonzero(ds.split.values == "test")}] = 200
    settings = DataSettings(min_rate=4)
    kept = load_session(ds, settings).units.tolist()
    assert load_session(loud, settings).units.tolist() == kept
    assert 0 < len(kept) < ds.sizes["unit"]


def test_another_split_can_be_asked_for(ds):
    settings = DataSettings(split=Split(fractions=(0.5, 0.25, 0.25), kind="blocks", seed=3))
    session = load_session(ds, settings)
    assert len(session.trials_in("train")) == pytest.approx(20, abs=2)
    assert load_session(ds, settings).split.tolist() == session.split.tolist()


def test_the_log_mean_counts_half_a_spike_for_silent_units(ds):
    silent = ds.copy(deep=True)
    silent.spikes[{"unit": 0}] = 0
    session = load_session(silent, DataSettings())
    n_bins = len(session.trials_in("train")) * 100
    assert session.log_mean[0] == pytest.approx(np.log(0.5 / n_bins))
    mean = session.counts[session.trials_in("train")][:, :, 3].mean()
    assert session.log_mean[3] == pytest.approx(np.log(mean + 0.5 / n_bins))


def test_small_regions_and_no_regions_take_no_part():
    region = np.array(["CA1"] * 5 + ["DG"] * 4 + ["void"] * 9 + ["root"] * 9 + ["unknown"] * 9)
    assert eligible_regions(region, 5).tolist() == ["CA1"] * 5 + [""] * 31
    assert set(eligible_regions(region, 4)) == {"CA1", "DG", ""}


def test_filters_that_leave_nothing_are_named(ds):
    with pytest.raises(UserError, match=r"data.min_rate=1000.*"):
        load_session(ds, DataSettings(min_rate=1000))
    with pytest.raises(UserError, match="included_only=false"):
        load_session(make_session(contiguous=True), DataSettings(included_only=True))


@pytest.fixture(scope="module")
def sessions():
    return [load_session(make_session(n_trials=n, seed=n), DataSettings()) for n in (20, 33)]


def trials_of(batch):
    return [(index, trial) for index, trials in batch.parts for trial in trials.tolist()]


@pytest.mark.parametrize("sessions_per_batch", [1, 2, 3])
def test_an_epoch_holds_every_training_trial_once(sessions, sessions_per_batch):
    per_epoch = steps_per_epoch(sessions, 6, sessions_per_batch)
    epochs = []
    order = batches(sessions, 6, seed=0, sessions_per_batch=sessions_per_batch)
    for number in range(2):
        epoch = list(itertools.islice(order, per_epoch))
        assert [batch.step for batch in epoch] == [number * per_epoch + i for i in range(per_epoch)]
        assert sorted(pair for batch in epoch for pair in trials_of(batch)) == [
            (index, trial)
            for index, session in enumerate(sessions)
            for trial in session.trials_in("train")
        ]
        for batch in epoch:
            names = [index for index, _ in batch.parts]
            assert len(batch) == len(trials_of(batch)) <= 6
            assert len(set(names)) == len(names) <= sessions_per_batch
        epochs.append([trials_of(batch) for batch in epoch])
    assert epochs[0] != epochs[1]
    # Trials are batched with others each time, not the same batches in another order.
    assert not set(map(tuple, epochs[0])) & set(map(tuple, epochs[1]))


def test_a_batch_may_mix_sessions(sessions):
    mixed = itertools.islice(batches(sessions, 6, seed=0, sessions_per_batch=3), 10)
    assert {len(batch.parts) for batch in mixed} == {1, 2}


@pytest.mark.parametrize("sessions_per_batch", [1, 3])
def test_batches_may_start_at_any_step(sessions, sessions_per_batch):
    def take(start, n):
        some = batches(sessions, 6, seed=5, start=start, sessions_per_batch=sessions_per_batch)
        return [(batch.step, trials_of(batch)) for batch in itertools.islice(some, n)]

    everything = take(0, 40)
    assert [step for step, _ in everything] == list(range(40))
    for start in (1, 7, 8, 23):
        assert take(start, 10) == everything[start : start + 10]


@given(sizes=st.lists(st.integers(1, 9), min_size=1, max_size=4), total=st.integers(1, 7))
def test_shares_hold_every_trial_once_and_are_as_equal_as_can_be(sizes, total):
    batch = Batch(3, tuple((i, 10 * i + np.arange(n)) for i, n in enumerate(sizes)))
    shares = [batch.share(i, total) for i in range(total)]
    assert [pair for share in shares for pair in trials_of(share)] == trials_of(batch)
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    assert {share.step for share in shares} == {3}
