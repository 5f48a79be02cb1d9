"""What a run knows of a session before it trains."""

import numpy as np
import pytest
import torch
from synthetic import make_regions, make_session

from ibl_mtm.cache.cache import open_cache
from ibl_mtm.cache.store import create_cache, write_session
from ibl_mtm.config.dataset import Split
from ibl_mtm.errors import SessionError, UserError
from ibl_mtm.sessions.view import describe_session, eligible_regions
from ibl_mtm.training.data.describe import describe_sessions
from ibl_mtm.training.settings import DataSettings


@pytest.fixture(scope="module")
def ds():
    return make_session(n_units=20, n_trials=40, seed=1)


def test_all_units_and_trials_are_read_by_default(ds):
    session = describe_session(ds, DataSettings())
    for split in ("train", "val", "test"):
        counts = session.read(split)
        assert np.array_equal(counts, ds.spikes.values[ds.split.values == split])
        assert counts.dtype == np.uint8
        assert session.n_bytes(split) == counts.nbytes
    assert session.units.tolist() == ds.unit.values.tolist()
    assert session.split.tolist() == ds.split.values.tolist()


def test_counts_of_two_bytes_take_twice_the_memory(ds):
    wide = describe_session(ds.assign(spikes=ds.spikes.astype(np.uint16)), DataSettings())
    counts = wide.read("train")
    assert counts.dtype == np.uint16
    assert wide.n_bytes("train") == counts.nbytes == 2 * counts.size


def test_filters_leave_out_units_and_trials(ds):
    good = describe_session(ds, DataSettings(min_label=1))
    assert good.units.tolist() == ds.unit.values[ds.label.values == 1].tolist()
    train = ds.spikes.values[ds.split.values == "train"]
    rate = train.mean((0, 1)) / ds.attrs["bin_size"]
    limit = float(np.median(rate))
    busy = describe_session(ds, DataSettings(min_rate=limit))
    assert busy.units.tolist() == ds.unit.values[rate >= limit].tolist()
    assert np.array_equal(busy.read("train"), train[:, :, rate >= limit])
    assert np.array_equal(busy.training.counts, train.sum((0, 1))[rate >= limit])
    included = describe_session(ds, DataSettings(included_only=True))
    assert included.trial.tolist() == ds.trial.values[ds.included.values].tolist()
    assert included.start.tolist() == ds.window_start.values[ds.included.values].tolist()
    chosen = ds.included.values & (ds.split.values == "train")
    assert np.array_equal(included.read("train"), ds.spikes.values[chosen])
    assert np.array_equal(included.training.counts, ds.spikes.values[chosen].sum((0, 1)))


def test_the_rate_filter_looks_at_training_trials_only(ds):
    loud = ds.copy(deep=True)
    loud.spikes[{"trial": np.flatnonzero(ds.split.values == "test")}] = 200
    settings = DataSettings(min_rate=4)
    kept = describe_session(ds, settings).units.tolist()
    assert describe_session(loud, settings).units.tolist() == kept
    assert 0 < len(kept) < ds.sizes["unit"]


def test_another_split_can_be_asked_for(ds):
    settings = DataSettings(split=Split(fractions=(0.5, 0.25, 0.25), kind="blocks", seed=3))
    session = describe_session(ds, settings)
    assert len(session.trials_in("train")) == pytest.approx(20, abs=2)
    assert describe_session(ds, settings).split.tolist() == session.split.tolist()


def test_the_log_mean_counts_half_a_spike_for_silent_units(ds):
    silent = ds.copy(deep=True)
    silent.spikes[{"unit": 0}] = 0
    session = describe_session(silent, DataSettings())
    n_bins = len(session.trials_in("train")) * 100
    log_mean = session.training.log_mean
    assert log_mean[0] == pytest.approx(np.log(0.5 / n_bins))
    mean = session.read("train")[:, :, 3].mean()
    assert log_mean[3] == pytest.approx(np.log(mean + 0.5 / n_bins))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("transform", ["none", "sqrt"])
def test_mean_and_spread_are_those_of_all_training_bins(ds, transform, dtype):
    many = ds.assign(spikes=ds.spikes.astype(dtype) * np.iinfo(dtype).max // 10)
    mean, spread = describe_session(many, DataSettings()).training.mean_and_spread(transform)
    counts = many.spikes.values[ds.split.values == "train"].astype(float)
    x = np.sqrt(counts) if transform == "sqrt" else counts
    assert mean == pytest.approx(x.mean((0, 1)))
    assert spread == pytest.approx(torch.from_numpy(x).flatten(0, 1).std(0).numpy())


def test_small_regions_and_no_regions_take_no_part():
    region = np.array(["CA1"] * 5 + ["DG"] * 4 + ["void"] * 9 + ["root"] * 9 + ["unknown"] * 9)
    assert eligible_regions(region, 5).tolist() == ["CA1"] * 5 + [""] * 31
    assert set(eligible_regions(region, 4)) == {"CA1", "DG", ""}


def test_regions_that_are_none_take_part_by_their_names_where_that_is_asked():
    region = np.array(["CA1", "void", "void", "root", "unknown", ""])
    found = eligible_regions(region, 1, "use").tolist()
    assert found == ["CA1", "void", "void", "root", "unknown", ""]
    assert eligible_regions(region, 2, "use").tolist() == ["", "void", "void", "", "", ""]
    assert eligible_regions(region, 1).tolist() == ["CA1", "", "", "", "", ""]


def test_filters_that_leave_nothing_are_named(ds):
    with pytest.raises(UserError, match=r"data.min_rate=1000.*"):
        describe_session(ds, DataSettings(min_rate=1000))
    with pytest.raises(UserError, match="included_only=false"):
        describe_session(make_session(contiguous=True), DataSettings(included_only=True))


def test_sessions_of_a_cache_are_described_at_once_without_their_counts(tmp_path):
    create_cache(tmp_path / "cache.zarr")
    made = [make_session(n_units=8 + seed, n_trials=150, n_bins=40, seed=seed) for seed in range(3)]
    for ds in made:
        write_session(tmp_path / "cache.zarr", ds, make_regions())
    cache = open_cache(tmp_path / "cache.zarr")
    sessions = describe_sessions(cache, DataSettings())
    assert [session.eid for session in sessions] == list(cache)
    for session in sessions:
        (ds,) = (ds for ds in made if ds.attrs["eid"] == session.eid)
        train = ds.spikes.values[ds.split.values == "train"]
        assert np.array_equal(session.training.counts, train.sum((0, 1)))
        assert np.array_equal(session.read("train"), train)
        held = (v for v in vars(session).values() if isinstance(v, np.ndarray))
        assert sum(v.nbytes for v in held) < 0.5 * ds.spikes.nbytes
    write_session(tmp_path / "cache.zarr", made[0], make_regions(), overwrite=True)
    (replaced,) = (s for s in sessions if s.eid == made[0].attrs["eid"])
    with pytest.raises(SessionError, match=rf"{replaced.eid}: replaced since it was opened"):
        replaced.read("train")
