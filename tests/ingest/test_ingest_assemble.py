"""A session in the cache holds what its files say, read here without ONE and without brainbox."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from iblatlas.regions import BrainRegions

from ibl_mtm.config.dataset import Align, Dataset, Split, TrialRules
from ibl_mtm.config.sources import LocalSource
from ibl_mtm.errors import SessionError
from ibl_mtm.ingest.assemble import assemble
from ibl_mtm.ingest.on_disk.folder import open_folder
from ibl_mtm.ingest.recording import Behaviour, Signal
from ibl_mtm.ingest.run import ingest
from ibl_mtm.ingest.through_one import channel_locations
from ibl_mtm.ingest.through_one.load import load_session
from ibl_mtm.sessions.split import split_trials

# Where the sorting is that brainbox takes: the newest revision, iblsorter before pykilosort.
SORTINGS = (
    ("probe00/pykilosort",),
    ("probe00/iblsorter", "probe01/pykilosort"),
    ("probe00/pykilosort/#2024-05-06#",),
)


@pytest.fixture(scope="module")
def cache(experiment, tmp_path_factory):
    path = tmp_path_factory.mktemp("cache") / "cache.zarr"
    report = ingest(experiment.dataset(), "tiny", path)
    assert not report.failed
    return path


@pytest.fixture(scope="module", params=range(3), ids=["one probe", "two probes", "revision"])
def session(request, experiment, cache):
    index = request.param
    eid = experiment.eids[index]
    alf = experiment.alf(index)
    with xr.open_zarr(cache / eid, chunks=None) as ds:
        yield ds.load(), alf, [alf / folder for folder in SORTINGS[index]]


def test_every_spike_is_counted_where_it_belongs(session):
    ds, alf, folders = session
    event = pd.read_parquet(alf / "_ibl_trials.table.pqt")["stimOn_times"].to_numpy()[ds.trial]
    expected = np.zeros(ds.spikes.shape, dtype=int)
    before = 0
    for folder in folders:
        times = np.load(folder / "spikes.times.npy")
        clusters = np.load(folder / "spikes.clusters.npy")
        for i in range(len(event)):
            near = np.abs(times - event[i]) < 2
            for t, cluster in zip(times[near], clusters[near], strict=True):
                k = np.searchsorted([event[i] - 0.5 + k * 0.02 for k in range(101)], t, "right") - 1
                if 0 <= k < 100:
                    expected[i, k, before + cluster] += 1
        before += len(np.load(folder / "clusters.channels.npy"))
    assert before == ds.sizes["unit"]
    assert expected.sum() > 1000
    assert (ds.spikes.values == expected).all()
    rate = expected.sum(axis=(0, 1)) / (len(event) * 2.0)
    np.testing.assert_allclose(ds.firing_rate, rate, rtol=1e-6)


def test_units_are_those_of_the_sorting(session):
    ds, _, folders = session
    br = BrainRegions()
    rows = []
    for folder in folders:
        metrics = pd.read_parquet(folder / "clusters.metrics.pqt")
        uuids = (folder / "clusters.uuids.csv").read_text().split()[1:]
        for cluster, channel in enumerate(np.load(folder / "clusters.channels.npy")):
            atlas_id = np.load(folder / "channels.brainLocationIds_ccf_2017.npy")[channel]
            rows.append(
                {
                    "unit": uuids[cluster],
                    "probe": next(part for part in folder.parts if part.startswith("probe")),
                    "cluster_id": cluster,
                    "channel": channel,
                    "region": br.acronym[np.flatnonzero(br.id == atlas_id)[0]],
                    "x": np.load(folder / "channels.mlapdv.npy")[channel, 0] / 1e6,
                    "z": np.load(folder / "channels.mlapdv.npy")[channel, 2] / 1e6,
                    "depth": np.load(folder / "clusters.depths.npy")[cluster],
                    "label": metrics["label"][cluster],
                }
            )
    expected = pd.DataFrame(rows)
    for name in ("unit", "probe", "cluster_id", "channel", "region"):
        assert ds[name].values.tolist() == expected[name].tolist()
    for name in ("x", "z", "depth", "label"):
        np.testing.assert_allclose(ds[name], expected[name], rtol=1e-6)
    assert {"CA1", "VISa"} <= set(ds["beryl"].values)
    assert {"HPF", "TH", "Isocortex"} <= set(ds["cosmos"].values)
    assert len(set(ds["pid"].values)) == len(folders)


def test_trials_are_those_of_the_table(session):
    ds, alf, _ = session
    table = pd.read_parquet(alf / "_ibl_trials.table.pqt").iloc[ds.trial.values]
    np.testing.assert_array_equal(ds["feedback_times"], table["feedback_times"])
    np.testing.assert_allclose(ds["window_start"], table["stimOn_times"] - 0.5, rtol=0, atol=1e-9)
    np.testing.assert_array_equal(ds["choice"], table["choice"])
    signed = table["contrastRight"].fillna(0) - table["contrastLeft"].fillna(0)
    np.testing.assert_allclose(ds["contrast"], signed, rtol=1e-6)
    assert (ds["stimulus_side"].values == np.where(table["contrastLeft"].isna(), 1, -1)).all()
    assert 0 < ds["included"].values.sum() < ds.sizes["trial"]
    expected = split_trials(
        ds.attrs["eid"], ds.trial, (0.7, 0.1, 0.2), "random", 42, ds.window_start, 2.0
    )
    assert ds["split"].values.tolist() == expected.tolist()


def test_behaviour_is_on_the_same_grid(session):
    ds, alf, _ = session
    centre = ds.window_start.values[:, None] + ds.time.values + 0.5 + 0.01
    energy = np.load(alf / "leftCamera.ROIMotionEnergy.npy")
    expected = np.interp(centre, np.load(alf / "_ibl_leftCamera.times.npy"), energy)
    np.testing.assert_allclose(ds["whisker_motion_energy"], expected, rtol=1e-5)
    licks = np.load(alf / "licks.times.npy")
    for i, start in enumerate(ds.window_start.values):
        inside = ((licks >= start) & (licks < start + 2.0)).sum()
        assert ds["lick_count"].values[i].sum() == inside
    position = np.interp(
        np.stack([centre - 0.01, centre + 0.01]),
        np.load(alf / "_ibl_wheel.timestamps.npy"),
        np.load(alf / "_ibl_wheel.position.npy"),
    )
    velocity = (position[1] - position[0]) / 0.02
    assert np.corrcoef(ds["wheel_velocity"].values.ravel(), velocity.ravel())[0, 1] > 0.95


def test_where_it_comes_from_is_written_down(session, experiment):
    ds, _, folders = session
    eid = ds.attrs["eid"]
    assert json.loads(ds.attrs["definition"]) == experiment.dataset().definition(eid)
    assert ds.attrs["definition_hash"] == experiment.dataset().definition_hash(eid)
    assert ds.attrs["source"] == str(experiment.root)
    assert ds.attrs["simulated"] is True
    assert ds.attrs["alignment"] == "stimOn_times"
    assert ds.attrs["window"] == [-0.5, 1.5]
    assert ds.attrs["revisions"] == [
        "2024-05-06" if folder.name.startswith("#") else "" for folder in folders
    ]
    assert [text.split()[0] for text in ds.attrs["software"]][:2] == ["ibl-mtm", "ONE-api"]


@pytest.fixture(scope="module")
def recording(experiment):
    with open_folder(experiment.root) as folder:
        return load_session(folder, experiment.eids[1], experiment.dataset())


class TestAssemble:
    """Alignment settings, on a recording that is already loaded."""

    def assemble(self, experiment, recording, **settings):
        dataset = experiment.dataset(**settings)
        return assemble(recording, dataset, "tiny", "here", simulated=True)[0]

    def test_another_event_window_and_bin(self, experiment, recording):
        align = Align(event="feedback_times", window=(-0.2, 0.4), bin=0.05)
        ds = self.assemble(experiment, recording, align=align)
        assert ds.spikes.shape[1] == 12
        np.testing.assert_allclose(ds.window_start, ds.feedback_times - 0.2)

    def test_contiguous_windows_lie_in_every_probes_recording(self, experiment, recording):
        ds = self.assemble(experiment, recording, align=Align(contiguous=2.0))
        assert "choice" not in ds
        assert "included" not in ds
        first = max(i.times[0] for i in recording.insertions)
        last = min(i.times[-1] for i in recording.insertions)
        assert ds.window_start.values[0] == first
        assert ds.sizes["trial"] == int((last - first) / 2)
        inside = sum(
            ((i.times >= first) & (i.times < ds.window_start.values[-1] + 2)).sum()
            for i in recording.insertions
        )
        assert ds.spikes.sum() == inside

    def test_trials_beyond_one_probes_recording_are_left_out_and_counted(
        self, experiment, recording
    ):
        short = recording.insertions[1]
        keep = short.times < np.quantile(short.times, 0.6)
        short = replace(short, times=short.times[keep], clusters=short.clusters[keep])
        cut = replace(recording, insertions=[recording.insertions[0], short])
        ds = self.assemble(experiment, cut)
        ends = recording.trials["stimOn_times"] + 1.5
        assert ds.trial.values.tolist() == np.flatnonzero(ends <= short.times[-1]).tolist()
        assert ds.attrs["trials_outside_recording"] == 30 - ds.sizes["trial"] > 0

    def test_rules_and_split_are_the_datasets(self, experiment, recording):
        strict = self.assemble(experiment, recording, trials=TrialRules(max_reaction=0.3))
        loose = self.assemble(experiment, recording, split=Split(kind="blocks", seed=3))
        assert strict.included.sum() < loose.included.sum()
        assert (strict.split != loose.split).any()

    def test_a_camera_slower_than_the_bins_has_no_gaps(self, experiment, recording):
        times = np.arange(0, 1e4, 0.1)
        slow = Behaviour(None, Signal(times, times), None)
        changed = replace(recording, behaviour=slow)
        ds = self.assemble(experiment, changed)
        assert np.isfinite(ds.whisker_motion_energy).all()
        assert np.isnan(ds.wheel_velocity).all()
        assert "lick_count" not in ds

    def test_windows_longer_than_the_recording_leave_nothing(self, experiment, recording):
        with pytest.raises(SessionError, match="no trial left"):
            self.assemble(experiment, recording, align=Align(window=(-500.0, 500.0), bin=1.0))


def test_units_are_placed_by_raw_channel_where_the_maps_differ(experiment, tmp_path):
    def with_fewer_channels(alf):
        sorting = alf / "probe00" / "pykilosort"
        names = ("localCoordinates", "mlapdv", "brainLocationIds_ccf_2017")
        for name in names:  # the map of all sites, and a sorter that knows every third one
            sites = np.load(sorting / f"channels.{name}.npy")
            np.save(alf / "probe00" / f"electrodeSites.{name}.npy", sites)
            np.save(sorting / f"channels.{name}.npy", sites[::3])
        np.save(sorting / "channels.rawInd.npy", np.arange(384)[::3])
        (sorting / "channels.labels.npy").unlink()
        channel = np.load(sorting / "clusters.channels.npy")
        np.save(sorting / "clusters.channels.npy", channel // 3)

    eid = experiment.copy_session(tmp_path / "ONE", 1, spoil=with_fewer_channels)
    dataset = Dataset(source=LocalSource(kind="local", path=tmp_path / "ONE"))
    with open_folder(tmp_path / "ONE") as folder:
        units = load_session(folder, eid, dataset).insertions[0].units
    sorting = experiment.alf(0) / "probe00" / "pykilosort"
    site = np.load(sorting / "clusters.channels.npy") // 3 * 3
    mlapdv = np.load(sorting / "channels.mlapdv.npy")
    np.testing.assert_allclose(units["z"], mlapdv[site, 2] / 1e6, rtol=1e-6)


def test_rows_of_the_table_go_by_trial_number_where_trials_are_dropped(experiment, recording):
    """In the middle and at the start: positions among those that are kept are no numbers."""
    table = recording.trials.copy()
    table.loc[table.index[[0, 3, 11]], "stimOn_times"] = np.nan
    ds, _ = assemble(replace(recording, trials=table), experiment.dataset(), "tiny", "here")
    kept = np.delete(np.arange(len(table)), [0, 3, 11])
    assert ds.trial.values.tolist() == kept.tolist()
    assert ds.attrs["trials_without_event"] == 3
    rows = recording.trials.iloc[kept]
    assert (ds.choice.values == rows["choice"]).all()
    assert (rows["choice"].to_numpy() != recording.trials["choice"].to_numpy()[: len(kept)]).any()
    np.testing.assert_array_equal(ds.feedback_times, rows["feedback_times"])
    np.testing.assert_allclose(ds.window_start, rows["stimOn_times"] - 0.5, atol=1e-9)
    whole, _ = assemble(recording, experiment.dataset(), "tiny", "here")
    assert (ds.spikes.values == whole.spikes.values[kept]).all()
    assert (ds.included.values == whole.included.values[kept]).all()


def load_one(experiment, root, spoil):
    eid = experiment.copy_session(root / "ONE", 1, spoil=spoil)
    dataset = Dataset(source=LocalSource(kind="local", path=root / "ONE"))
    with open_folder(root / "ONE") as folder:
        return load_session(folder, eid, dataset).insertions[0]


def test_a_cluster_beyond_the_last_is_refused(experiment, tmp_path):
    """Clusters are numbered from 0 to n - 1."""
    n = len(np.load(experiment.alf(0) / "probe00/pykilosort/clusters.channels.npy"))

    def spoil(number):
        def edit(alf):
            file = alf / "probe00/pykilosort/spikes.clusters.npy"
            clusters = np.load(file)
            clusters[-1] = number
            np.save(file, clusters)

        return edit

    assert load_one(experiment, tmp_path / "last", spoil(n - 1)).clusters[-1] == n - 1
    with pytest.raises(SessionError, match=f"cluster {n} of {n}"):
        load_one(experiment, tmp_path / "beyond", spoil(n))


@pytest.mark.parametrize("named", [True, False], ids=["as brainbox names it", "as the file has it"])
def test_without_depths_of_clusters_those_of_their_channels_are_taken(
    experiment, tmp_path, monkeypatch, named
):
    if not named:
        real = channel_locations._load_sites
        monkeypatch.setattr(
            channel_locations,
            "_load_sites",
            lambda *given: (
                {k: v for k, v in real(*given).items() if k != "axial_um"}
                | {"localCoordinates": local}
            ),
        )
    sorting = experiment.alf(0) / "probe00/pykilosort"
    local = np.load(sorting / "channels.localCoordinates.npy")
    channel = np.load(sorting / "clusters.channels.npy")
    found = load_one(
        experiment, tmp_path, lambda alf: (alf / "probe00/pykilosort/clusters.depths.npy").unlink()
    )
    assert found.units["depth"].tolist() == local[channel, 1].tolist()
