"""The real ONE and brainbox read a simulated experiment, with no warning and no network."""

import logging
import socket
import types
import warnings

import numpy as np
import pandas as pd
import pytest
from brainbox.io.one import SessionLoader, SpikeSortingLoader
from iblatlas.regions import BrainRegions
from one.api import One

from ibl_mtm.simulate.probe import ALLEN_IDS

ATLAS = types.SimpleNamespace(regions=BrainRegions())


class Complaints(logging.Handler):
    """Collects every message of level WARNING or above."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


@pytest.fixture(autouse=True)
def strict(monkeypatch):
    """Warnings, logged warnings and connections are errors."""

    def refuse(*_):
        raise AssertionError("a loader asked for the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    complaints = Complaints()
    # ibllib's logger does not hand its messages on to the root.
    loggers = [logging.getLogger(name) for name in (None, "ibllib", "one")]
    for logger in loggers:
        logger.addHandler(complaints)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield
    for logger in loggers:
        logger.removeHandler(complaints)
    assert not complaints.messages


@pytest.fixture
def one(experiment):
    return One(cache_dir=experiment.root, mode="local")


def probes(one, eid):
    return sorted({c.split("/")[1] for c in one.list_collections(eid, filename="spikes*")})


def test_one_finds_the_sessions_by_lab_subject_and_dataset(one, experiment):
    assert {str(eid) for eid in one.search()} == set(experiment.eids)
    assert [str(eid) for eid in one.search(subject="SIM3_002")] == [experiment.eids[1]]
    assert len(one.search(lab="simlab_a")) == 2
    assert len(one.search(datasets=["spikes.times.npy", "_ibl_trials.table.pqt"])) == 4
    assert [len(probes(one, eid)) for eid in experiment.eids] == [1, 2, 1, 2]


def test_every_file_is_listed_with_its_size(one, experiment):
    for eid in experiment.eids:
        listed = one.list_datasets(eid, details=True)
        session = one.eid2path(eid)
        on_disk = {p.relative_to(session).as_posix() for p in session.rglob("*") if p.is_file()}
        assert set(listed["rel_path"]) == on_disk
        sizes = [(session / path).stat().st_size for path in listed["rel_path"]]
        assert listed["file_size"].tolist() == sizes
        assert listed["hash"].isna().all()


def test_the_insertions_table_names_the_probes(one, experiment):
    table = one._cache["insertions"]
    for eid in experiment.eids:
        assert sorted(table.xs(one.to_eid(eid), level="eid")["name"]) == probes(one, eid)


def test_brainbox_loads_and_merges_every_sorting(one, experiment):
    for eid in experiment.eids:
        uuids = []
        acronyms = []
        for probe, folder in zip(probes(one, eid), experiment.sortings(eid), strict=True):
            loader = SpikeSortingLoader(one=one, eid=eid, pname=probe, atlas=ATLAS)
            spikes, clusters, channels = loader.load_spike_sorting()
            assert {path.parent for path in loader.files["spikes"]} == {folder}
            assert loader.histology == "alf"
            types_ = {name: values.dtype.name for name, values in spikes.items()}
            assert types_ == {
                "times": "float64",
                "clusters": "uint16",
                "amps": "float32",
                "depths": "float32",
            }
            assert (np.diff(spikes["times"]) >= 0).all()
            metrics = clusters["metrics"].copy()
            merged = SpikeSortingLoader.merge_clusters(spikes, clusters, channels)
            n = len(merged["uuids"])
            assert (merged["cluster_id"] == np.arange(n)).all()
            count = np.bincount(spikes["clusters"], minlength=n)
            np.testing.assert_array_equal(merged["spike_count"], count)
            np.testing.assert_array_equal(merged["label"] > 0, merged["label"] >= 1 / 3)
            assert metrics["noise_cutoff"].isna().equals(pd.Series(count == 0))
            np.testing.assert_array_equal(merged["depths"], merged["axial_um"])
            assert set(np.rint(3 * merged["label"])) <= {0, 1, 2, 3}
            assert (merged["z"] < 0).all()
            uuids += list(merged["uuids"])
            acronyms += list(merged["acronym"])
        truth = experiment.truth(eid)
        assert uuids == truth.units["uuid"].tolist()
        beryl = pd.Series(ATLAS.regions.acronym2acronym(np.array(acronyms), mapping="Beryl"))
        count = beryl.value_counts()
        assert (count[["VISa", "CA1", "DG", "LP", "PO"]] >= 8).all()
        assert {"root", "void", "VPM"} <= set(count.index)


def test_the_recomputed_metrics_that_brainbox_can_check_agree(one, experiment):
    """brainbox computes its metrics from the spikes alone."""
    loader = SpikeSortingLoader(one=one, eid=experiment.eids[0], pname="probe00", atlas=ATLAS)
    spikes, clusters, _ = loader.load_spike_sorting()
    own = clusters["metrics"]
    for cluster in own.index[own["spike_count"] > 0][::9]:
        of_unit = spikes["clusters"] == cluster
        amplitude = spikes["amps"][of_unit]
        assert own["amp_max"][cluster] == pytest.approx(amplitude.max(), rel=1e-5)
        assert own["amp_min"][cluster] == pytest.approx(amplitude.min(), rel=1e-5)
        tolerance = 5 * 0.15 * 1.25 / np.sqrt(len(amplitude))
        assert own["amp_median"][cluster] == pytest.approx(np.median(amplitude), rel=tolerance)
        assert (own["label"][cluster] == 1) <= (own["amp_median"][cluster] > 50e-6)


def test_an_older_sorting_is_loaded_only_when_asked_for(one, experiment):
    eid = experiment.eids[2]
    loader = SpikeSortingLoader(one=one, eid=eid, pname="probe00", atlas=ATLAS)
    newer = loader.load_spike_sorting()[1]
    older = loader.load_spike_sorting(revision="2024-01-01")[1]
    assert len(older["uuids"]) < len(newer["uuids"])


def test_brainbox_loads_trials_wheel_camera_and_licks(one, experiment):
    for eid in experiment.eids:
        loader = SessionLoader(one=one, eid=eid)
        loader.load_trials()
        loader.load_wheel()
        loader.load_motion_energy(views=["left"])
        loader.load_licks()
        assert loader.trials.shape == (150, 18)
        assert 2 < loader.wheel["velocity"].abs().max() < 15
        assert loader.motion_energy["leftCamera"]["whiskerMotionEnergy"].notna().all()
        assert len(loader.licks) > 100


def test_structure_ids_are_the_allen_institutes():
    for acronym, number in ALLEN_IDS.items():
        assert ATLAS.regions.id2acronym(number) == [acronym]
