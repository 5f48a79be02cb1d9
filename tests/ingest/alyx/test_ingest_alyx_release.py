"""What a tag or a revision pins of what an Alyx database has."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from alyx_server import TAG, AlyxServer
from remote_ingest import alyx, assert_same, single

from ibl_mtm.config.dataset import Dataset, SessionEntry
from ibl_mtm.errors import UserError
from ibl_mtm.ingest.run import ingest


class TestRelease:
    """What a tag or a revision pins."""

    revised = 2  # the session of the experiment that was sorted anew

    def files(self, server, experiment, tmp_path, **settings) -> list[str]:
        dataset = single(server, experiment, self.revised, **settings)
        report = ingest(dataset, "x", tmp_path / "cache.zarr")
        assert not report.failed
        self.notes = next(iter(report.sessions.values())).notes
        return [file for file in server.file_requests() if "spikes.times" in file]

    def test_the_default_revision_without_either(self, server, experiment, tmp_path):
        (times,) = self.files(server, experiment, tmp_path, tag=None)
        assert "#2024-05-06#" in times
        assert len(server.rest_requests()) == 1

    def test_the_files_that_carry_the_tag(self, server, experiment, tmp_path):
        server.tags = lambda path: [] if "#2024-05-06#" in path else [TAG]
        (times,) = self.files(server, experiment, tmp_path)
        assert "#2024-05-06#" not in times
        assert self.notes == ()

    def test_a_tag_that_only_contains_the_name_is_another(self, server, experiment, tmp_path):
        server.tags = lambda path: [f"{TAG}2" if "#2024-05-06#" not in path else TAG]
        (times,) = self.files(server, experiment, tmp_path)
        assert "#2024-05-06#" in times

    def test_the_last_revision_up_to_a_date(self, server, experiment, tmp_path):
        (times,) = self.files(server, experiment, tmp_path, revision="2024-01-01")
        assert "#2024-05-06#" not in times
        with xr.open_zarr(tmp_path / "cache.zarr" / experiment.eids[self.revised]) as ds:
            assert json.loads(ds.attrs["definition"])["source"]["revision"] == "2024-01-01"
            assert ds.attrs["revisions"] == [""]

    def test_what_the_release_lacks_is_taken_and_noted(self, server, experiment, tmp_path):
        server.tags = lambda path: [] if "probe" in path or "wheel" in path else [TAG]
        (times,) = self.files(server, experiment, tmp_path)
        assert "#2024-05-06#" in times
        assert any(note.startswith("alf/probe00: not in release") for note in self.notes)
        assert any("_ibl_wheel.position.npy: not in release" in note for note in self.notes)

    def test_files_of_several_revisions_are_refused(self, server, experiment, tmp_path):
        server.tags = lambda path: [TAG] if "#" not in path or "spikes.times" in path else []
        server.edit = lambda record: (
            None if record["name"] == "spikes.times.npy" and not record["revision"] else record
        )
        dataset = single(server, experiment, self.revised)
        (reason,) = ingest(dataset, "x", tmp_path / "cache.zarr").failed.values()
        assert "files of several revisions" in reason


class TestATagThatNothingCarries:
    """It must not unpin a release without a word."""

    def test_of_one_session_it_is_refused(self, server, experiment, tmp_path):
        server.tags = lambda path: ["RepeatedSite2"]
        server.insertions = lambda tag: [{"session": f"{server.url}/sessions/{experiment.eids[1]}"}]
        (reason,) = ingest(single(server, experiment), "x", tmp_path / "c.zarr").failed.values()
        assert f"nothing of it carries the tag '{TAG}'" in reason
        assert "untagged: default" in reason
        assert server.file_requests() == []

    def test_or_taken_and_said_where_the_catalog_says_so(
        self, server, experiment, from_disk, tmp_path
    ):
        server.tags = lambda path: ["RepeatedSite2"]
        server.insertions = lambda tag: [{"session": f"{server.url}/sessions/{experiment.eids[1]}"}]
        dataset = single(server, experiment, untagged="default")
        (outcome,) = ingest(dataset, "x", tmp_path / "cache.zarr").sessions.values()
        assert outcome.notes == (
            f"nothing of it is in release {TAG}; the default revision is used",
        )
        assert_same(tmp_path / "cache.zarr", from_disk, experiment.eids[:1], notes=False)

    def test_one_that_the_database_does_not_know_ends_it_at_once(
        self, server, experiment, tmp_path
    ):
        entries = tuple(SessionEntry(eid=eid) for eid in experiment.eids)
        dataset = Dataset(source=alyx(server, tag="RepeatedSit"), sessions=entries)
        with pytest.raises(UserError, match=r"tag 'RepeatedSit'; did you mean 'RepeatedSite'"):
            ingest(dataset, "x", tmp_path / "cache.zarr")
        assert len(server.rest_requests()) == 3
        assert not (tmp_path / "cache.zarr").exists()

    def test_caches_keep_their_definitions(self, server, experiment):
        """A setting that was not there is not in the definition of sessions ingested before."""
        source = single(server, experiment).definition(experiment.eids[0])["source"]
        assert set(source) == {"kind", "url", "tag", "revision"}


class TestMapsOfChannels:
    """A tag need not cover where a probe's channels are: regions are not lost for it."""

    sorted_for_it = 0

    def outcome(self, server, experiment, tmp_path):
        self.eid = experiment.eids[self.sorted_for_it]
        dataset = single(server, experiment, self.sorted_for_it)
        (outcome,) = ingest(dataset, "x", tmp_path / "cache.zarr").sessions.values()
        assert outcome.status == "ingested"
        return outcome

    def regions(self, tmp_path) -> set[str]:
        with xr.open_zarr(tmp_path / "cache.zarr" / self.eid, chunks=None) as ds:
            return set(ds["region"].values)

    def test_those_without_the_tag_are_taken_and_noted(
        self, server, experiment, from_disk, tmp_path
    ):
        server.tags = lambda path: [] if "channels." in path.split("clusters")[0] else [TAG]
        outcome = self.outcome(server, experiment, tmp_path)
        (note,) = outcome.notes
        assert note.startswith(f"alf/probe00: channels.* not in release {TAG}; the default")
        assert_same(tmp_path / "cache.zarr", from_disk, [self.eid], notes=False)

    def test_histology_alone_may_lack_the_tag(self, server, experiment, from_disk, tmp_path):
        places = ("mlapdv", "brainLocationIds")
        server.tags = lambda path: [] if any(name in path for name in places) else [TAG]
        assert len(self.outcome(server, experiment, tmp_path).notes) == 1
        assert_same(tmp_path / "cache.zarr", from_disk, [self.eid], notes=False)

    def test_spikes_and_metrics_stay_the_release_s(self, server, experiment, tmp_path):
        server.tags = lambda path: [] if "channels." in path or "metrics" in path else [TAG]
        notes = self.outcome(server, experiment, tmp_path).notes
        assert any("clusters.metrics: no labels" in note for note in notes)
        with xr.open_zarr(tmp_path / "cache.zarr" / self.eid, chunks=None) as ds:
            assert np.isnan(ds["label"]).all()


class TestMapsOfOtherChannels:
    """A newer map, without the tag, that is not of the channels of the release's sorting."""

    @pytest.fixture
    def server(self, experiment, tmp_path, monkeypatch):
        """A copy of the experiment whose first session has maps of fewer channels besides."""
        monkeypatch.setenv("IBL_MTM_PASSWORD", "open sesame")
        root = tmp_path / "ONE"
        shutil.copytree(experiment.root, root)
        alf = root / experiment.alf(0).relative_to(experiment.root)
        newer = alf / "probe00/pykilosort/#2025-01-01#"
        newer.mkdir()
        rows = []
        for path in (alf / "probe00/pykilosort").glob("channels.*.npy"):
            np.save(newer / path.name, np.load(path)[:40])
            rows.append(f"alf/probe00/pykilosort/#2025-01-01#/{path.name}")
        table = pd.read_parquet(root / "datasets.pqt")
        table["default_revision"] &= ~table["rel_path"].str.contains("pykilosort/channels")
        ids = [
            (experiment.eids[0], f"{n:08d}-6b3a-4c53-8d0e-0c7c0a9e8f21") for n in range(len(rows))
        ]
        made = pd.DataFrame(
            {
                "rel_path": rows,
                "file_size": [(alf.parent / row).stat().st_size for row in rows],
                "default_revision": True,
            },
            index=pd.MultiIndex.from_tuples(ids, names=table.index.names),
        )
        pd.concat([table, made]).to_parquet(root / "datasets.pqt")
        with AlyxServer(root) as server:
            server.tags = lambda path: [] if "/channels." in path else [TAG]
            yield server

    def test_the_one_beside_the_spikes_is_taken(self, server, experiment, from_disk, tmp_path):
        ingest(single(server, experiment), "x", tmp_path / "cache.zarr")
        assert_same(tmp_path / "cache.zarr", from_disk, experiment.eids[:1], notes=False)

    def test_or_none_with_a_note(self, server, experiment, tmp_path):
        server.edit = lambda record: (
            None if record["name"].startswith("channels.") and not record["revision"] else record
        )
        dataset = single(server, experiment)
        (outcome,) = ingest(dataset, "x", tmp_path / "cache.zarr").sessions.values()
        assert outcome.status == "ingested"
        assert any("not used: of 40 channels, where units are" in note for note in outcome.notes)
        with xr.open_zarr(tmp_path / "cache.zarr" / experiment.eids[0], chunks=None) as ds:
            assert set(ds["region"].values) == {"unknown"}
