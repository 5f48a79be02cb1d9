"""What a tag or a revision pins of what an Alyx database has."""

import json

import xarray as xr
from alyx_server import TAG
from remote_ingest import single

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
