"""A database that is wrong about a file: the session is refused, or the loss is noted."""

import re
import shutil

import numpy as np
import pandas as pd
import pytest
import server_faults
import xarray as xr
from alyx_server import PASSWORD, AlyxServer
from remote_ingest import assert_same, outcome_of, single

from ibl_mtm.cache.cache import open_cache
from ibl_mtm.config.dataset import Dataset, SessionEntry

TIMES = "probe00/pykilosort/spikes.times"


@pytest.fixture
def dataset(server, experiment) -> Dataset:
    return single(server, experiment, timeout=0.5, attempts=3)


class TestADatabaseThatIsWrong:
    """About one file; the session is refused, or the loss is harmless and noted."""

    def ingest(self, server, dataset, tmp_path, name="spikes.times.npy", **values):
        server.edit = lambda record: record | (values if record["name"] == name else {})
        return outcome_of(dataset, tmp_path / "cache.zarr")

    def test_a_wrong_hash(self, server, dataset, tmp_path):
        outcome = self.ingest(server, dataset, tmp_path, hash="0" * 32)
        assert "spikes.times.npy: its MD5 is not the one in the database" in outcome.reason

    def test_a_wrong_size(self, server, dataset, tmp_path):
        outcome = self.ingest(server, dataset, tmp_path, file_size=10)
        assert "spikes.times.npy: came as" in outcome.reason
        assert "of 10 bytes" in outcome.reason

    def test_no_size(self, server, dataset, experiment, from_disk, tmp_path):
        assert self.ingest(server, dataset, tmp_path, file_size=None).notes == ()
        assert_same(tmp_path / "cache.zarr", from_disk, experiment.eids[:1])

    def test_no_hash(self, server, dataset, tmp_path):
        (note,) = self.ingest(server, dataset, tmp_path, hash=None).notes
        assert "spikes.times.npy: no MD5 in the database; its size alone was compared" in note

    def test_neither_and_a_transfer_cut_short(self, server, dataset, tmp_path):
        server.fail(TIMES, server_faults.cut, float("inf"))
        outcome = self.ingest(server, dataset, tmp_path, hash=None, file_size=None)
        assert outcome.status == "failed"

    def test_a_camera_that_only_a_laboratory_has(self, server, dataset, tmp_path):
        name = "leftCamera.ROIMotionEnergy.npy"
        outcome = self.ingest(server, dataset, tmp_path, name=name, data_url=None)
        assert outcome.status == "ingested"
        assert "leftCamera.ROIMotionEnergy: missing" in outcome.notes

    def test_a_critical_file(self, server, dataset, tmp_path):
        name = "_ibl_wheel.position.npy"
        outcome = self.ingest(server, dataset, tmp_path, name=name, qc="CRITICAL")
        assert f"alf/{name}: left out, as its quality is CRITICAL" in outcome.notes

    def test_a_probe_whose_spikes_are_not_on_the_server(
        self, server, experiment, from_disk, tmp_path
    ):
        def edit(record):
            away = "probe01" in record["collection"] and record["name"].startswith("spikes.")
            return record | ({"data_url": None} if away else {})

        server.edit = edit
        dataset = single(server, experiment, 1)
        outcome = outcome_of(dataset, tmp_path / "cache.zarr")
        assert outcome.status == "ingested"
        (note,) = outcome.notes
        assert note.startswith("alf/probe01: no spikes; spikes.times.npy is not on the server")
        insertions = server.session(experiment.eids[1])["probe_insertion"]
        (pid,) = (i["id"] for i in insertions if i["name"] == "probe01")
        entry = SessionEntry(eid=experiment.eids[1], pids=(pid,))
        named = dataset.model_copy(update={"sessions": (entry,)})
        outcome = outcome_of(named, tmp_path / "other.zarr")
        assert outcome.status == "failed"
        assert "alf/probe01: no spikes" in outcome.reason

    def test_no_file_on_the_server(self, server, dataset, tmp_path):
        server.edit = lambda record: record | {"data_url": None}
        outcome = outcome_of(dataset, tmp_path / "cache.zarr")
        assert re.search(r"none of its \d+ files is on the server", outcome.reason)

    @pytest.mark.parametrize("name", ["_ibl_trials.table.pqt", "spikes.times.npy"])
    def test_what_is_critical_is_not_called_missing(self, server, dataset, tmp_path, name):
        bad = (name, "spikes.clusters.npy")
        server.edit = lambda r: r | ({"qc": "CRITICAL"} if r["name"] in bad else {})
        outcome = outcome_of(dataset, tmp_path / "cache.zarr")
        assert outcome.status == "failed"
        assert "its quality is CRITICAL" in outcome.reason

    def test_many_notes_of_a_kind_are_one(self, server, dataset, tmp_path):
        server.edit = lambda record: record | {"hash": None}
        (note,) = outcome_of(dataset, tmp_path / "cache.zarr").notes
        assert re.search(r"and \d+ more files: no MD5 in the database", note)

    def test_a_left_camera_a_frame_short_gives_way_to_the_right_one(
        self, experiment, tmp_path, monkeypatch
    ):
        monkeypatch.setenv("IBL_MTM_PASSWORD", PASSWORD)
        root = tmp_path / "ONE"
        shutil.copytree(experiment.root, root)
        alf = root / experiment.alf(0).relative_to(experiment.root)
        times = np.load(alf / "_ibl_leftCamera.times.npy")
        energy = np.load(alf / "leftCamera.ROIMotionEnergy.npy")
        made = {
            "_ibl_rightCamera.times.npy": times,
            "rightCamera.ROIMotionEnergy.npy": energy,
            "_ibl_leftCamera.times.npy": times[:-1],
        }
        table = pd.read_parquet(root / "datasets.pqt").reset_index()
        table = table[~table["rel_path"].str.contains("rightCamera")]
        rows = []
        for number, (name, array) in enumerate(made.items()):
            np.save(alf / name, array)
            rows.append(
                {
                    "eid": experiment.eids[0],
                    "id": f"{number:08d}-6b3a-4c53-8d0e-0c7c0a9e8f21",
                    "rel_path": f"alf/{name}",
                    "file_size": (alf / name).stat().st_size,
                    "default_revision": True,
                }
            )
        table = table[~table["rel_path"].isin([row["rel_path"] for row in rows])]
        table = pd.concat([table, pd.DataFrame(rows)])
        table.set_index(["eid", "id"]).to_parquet(root / "datasets.pqt")
        with AlyxServer(root) as server:
            dataset = single(server, experiment)
            outcome = outcome_of(dataset, tmp_path / "cache.zarr")
            assert any("rightCamera" in file for file in server.file_requests())
        assert outcome.status == "ingested"
        with xr.open_zarr(tmp_path / "cache.zarr" / experiment.eids[0]) as ds:
            assert not np.isnan(ds["whisker_motion_energy"]).all()

    def test_no_spikes_at_all(self, server, dataset, tmp_path):
        server.edit = lambda record: None if "spikes" in record["name"] else record
        outcome = outcome_of(dataset, tmp_path / "cache.zarr")
        assert "no spikes in any folder alf/probe*" in outcome.reason


class TestQualityOfInsertions:
    """Kept with the units, and left out only if that is asked for."""

    @pytest.fixture
    def critical(self, server, experiment):
        """The second probe of the second session is of quality CRITICAL."""
        insertion = server._insertion

        def judged(row):
            qc = "CRITICAL" if row.name == "probe01" else "PASS"
            return insertion(row) | {"json": {"qc": qc}}

        server._insertion = judged
        return server

    def test_is_a_coordinate_and_a_note(self, critical, experiment, tmp_path):
        dataset = single(critical, experiment, 1)
        outcome = outcome_of(dataset, tmp_path / "cache.zarr")
        assert any("alf/probe01: quality of the insertion is CRITICAL" in n for n in outcome.notes)
        ds = open_cache(tmp_path / "cache.zarr")[experiment.eids[1]]
        qc = {str(p): {str(q) for q in g.values} for p, g in ds["probe_qc"].groupby(ds["probe"])}
        assert qc == {"probe00": {"PASS"}, "probe01": {"CRITICAL"}}
        assert set(ds.sel(unit=ds["probe_qc"] != "CRITICAL")["probe"].values) == {"probe00"}

    def test_or_left_out(self, critical, experiment, tmp_path):
        dataset = single(critical, experiment, 1, leave_out=["CRITICAL"])
        outcome = outcome_of(dataset, tmp_path / "cache.zarr")
        assert outcome.notes == ("alf/probe01: left out, as the insertion's quality is CRITICAL",)
        ds = open_cache(tmp_path / "cache.zarr")[experiment.eids[1]]
        assert set(ds["probe"].values) == {"probe00"}
        assert not any("probe01" in file for file in critical.file_requests())
