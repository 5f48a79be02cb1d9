"""Behaviour read out of any rates, as an evaluation does it."""

import numpy as np
import pytest
from synthetic import make_session

from ibl_mtm.errors import UserError
from ibl_mtm.evaluation.behaviour.decode import decode
from ibl_mtm.evaluation.behaviour.linear_decoders import Features, decode_class


@pytest.fixture
def ds():
    ds = make_session(n_units=8, n_trials=90, n_bins=10, seed=4)
    spikes = np.random.default_rng(0).poisson(0.5, ds.spikes.shape)
    spikes[:, :, 0] += ds.choice.values[:, None] > 0
    ds["spikes"] = ds.spikes.dims, spikes.astype(np.uint8)
    return ds.assign_coords(trial=np.arange(90) * 3 + 7)


def test_it_is_the_decoder_of_an_evaluation_on_the_sessions_split(ds):
    found = decode(ds.spikes, ds, "choice", shuffles=3)
    split, included = ds.split.values, ds.included.values
    fit, test = included & (split != "test"), included & (split == "test")
    expected = decode_class(Features(ds.spikes.values), ds.choice, fit, test, shuffles=3)
    np.testing.assert_array_equal(found.logit, expected.logit)
    assert found.chance == expected.chance
    assert found.accuracy > 0.8


def test_some_trials_in_another_order_of_dimensions(ds):
    """Trials are found by their numbers, and the split may be another."""
    part = ds.spikes.isel(trial=np.arange(0, 90, 2))
    split = np.array(["train", "test", "train"])[np.arange(45) % 3]
    found = decode(part.transpose("unit", "trial", "time"), ds, "choice", split=split, shuffles=0)
    own = ds.isel(trial=np.arange(0, 90, 2))
    test = own.included.values & (split == "test") & (own.choice.values != 0)
    assert found.n_test == test.sum()
    assert found.trials.tolist() == np.flatnonzero(test).tolist()


def test_regions_choose_the_units(ds):
    region = str(ds.beryl.values[0])
    inside = ds.beryl.values == region
    found = decode(ds.spikes, ds, "choice", regions=region, shuffles=0)
    alone = decode(ds.spikes.isel(unit=inside), ds, "choice", shuffles=0)
    np.testing.assert_array_equal(found.logit, alone.logit)
    assert decode(ds.spikes, ds, "wheel_speed", shuffles=0).predicted.shape[1] == 10


def test_what_cannot_be_decoded_is_told(ds):
    with pytest.raises(UserError, match="unknown behaviour 'joy'"):
        decode(ds.spikes, ds, "joy")
    with pytest.raises(UserError, match="trials that session"):
        decode(ds.spikes.assign_coords(trial=np.arange(90)), ds, "choice")
    with pytest.raises(UserError, match="rates need trials, bins and units"):
        decode(ds.spikes.isel(trial=0), ds, "choice")
    with pytest.raises(UserError, match="fewer than two classes"):
        decode(ds.spikes, ds.assign(choice=ds.choice * 0 + 1), "choice")
    with pytest.raises(UserError, match="has no lick_count"):
        decode(ds.spikes, ds.drop_vars("lick_count", errors="ignore"), "lick_rate")
