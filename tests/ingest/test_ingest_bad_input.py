"""Broken sessions: each fails with a reason that names the file, and none stops the others."""

import re
import shutil

import numpy as np
import pytest
import xarray as xr
from spoil import (
    SORTING,
    TRIALS,
    Spoil,
    cut,
    edit_array,
    edit_table,
    edit_uuids,
    events_missing,
    few_spikes_in_windows,
    metrics_by_index,
    newer_choice,
    partly_sorted_anew,
    probe_with_a_longer_name,
    put,
    raw_channels_negative,
    remove,
    sites_of_another_probe,
    times_in,
    trials_scaled,
    trials_squeezed_into,
    uuids_with_index,
    without_units,
    write,
)

from ibl_mtm.config.dataset import Dataset
from ibl_mtm.config.sources import LocalSource
from ibl_mtm.ingest.run import ingest

TIMES, CLUSTERS = f"{SORTING}/spikes.times.npy", f"{SORTING}/spikes.clusters.npy"
METRICS = f"{SORTING}/clusters.metrics.pqt"

BROKEN: dict[str, tuple[Spoil, str]] = {
    "times cut short": (cut(TIMES), rf"{TIMES}: cut short at \d+ of \d+ bytes"),
    "times empty": (write(TIMES, b""), f"{TIMES}: no NPY file"),
    "times garbage": (write(TIMES, b"times"), f"{TIMES}: no NPY file"),
    "times pickled": (
        edit_array(TIMES, lambda times: times.astype(object)),
        f"{TIMES}: holds Python objects",
    ),
    "times missing": (remove(TIMES), "spikes.times: missing"),
    "clusters missing": (remove(CLUSTERS), "spikes.clusters: missing"),
    "lengths unequal": (edit_array(CLUSTERS, lambda c: c[:-3]), r"\d+ times but \d+ clusters"),
    "times unsorted": (edit_array(TIMES, put(7, 9.0)), "spikes.times: not in ascending order"),
    "a time missing": (edit_array(TIMES, put(7, np.nan)), "spikes.times: not every time"),
    "a cluster too high": (edit_array(CLUSTERS, put(7, 999)), r"spikes.clusters: cluster 999 of"),
    "times in samples": (times_in(30000, np.int64), "spikes.times: int64, expected seconds"),
    "times in samples as floats": (
        edit_array(TIMES, lambda times: np.round(times * 30000)),
        "spikes.times: whole numbers, expected seconds; are these samples",
    ),
    "times in ms": (times_in(1000), r"spikes.times: .* outlasts its trials .* samples or ms"),
    "times in ms, one early": (
        edit_array(TIMES, lambda times: np.concatenate([[0.01], times[1:] * 1000])),
        r"spikes.times: .* outlasts its trials",
    ),
    "times as text": (
        edit_array(TIMES, lambda times: times.astype("U9")),
        "spikes.times: <U9, expected seconds",
    ),
    "trials in minutes": (trials_scaled(1 / 60), "outlasts its trials|spikes/s in the windows"),
    "trials in ms": (trials_scaled(1000), "no trial left: .*another clock"),
    "trials squeezed": (trials_squeezed_into(0.5), "outlasts its trials .* another clock"),
    "silent in the windows": (few_spikes_in_windows, "spikes/s in the windows, but"),
    "clusters all one": (
        edit_array(CLUSTERS, lambda clusters: clusters * 0),
        "spikes.clusters: every spike is of cluster 0, of",
    ),
    "metrics by an index": (metrics_by_index, "clusters.metrics: cluster_id is not 0 to"),
    "label is text": (
        edit_table(METRICS, lambda table: table.assign(label="good")),
        "clusters.metrics: label: 'good' in row 0, expected a number",
    ),
    "uuids with an index": (uuids_with_index, "clusters.uuids: 2 columns, expected one"),
    "raw channels negative": (raw_channels_negative, "no rawInd that tells which is which"),
    "places of two columns": (
        edit_array(f"{SORTING}/channels.mlapdv.npy", lambda places: places[:, :2]),
        "channels.mlapdv.npy: shape .* expected 3 columns",
    ),
    "choice of another kind": (
        edit_table(TRIALS, lambda t: t.assign(choice=t.choice.astype("Int64").where(t.index > 2))),
        rf"{TRIALS}: choice: <NA> in row 0, expected a number",
    ),
    "choice 1 and 2": (
        edit_table(TRIALS, lambda t: t.assign(choice=np.where(t.choice == 1, 1, 2))),
        rf"{TRIALS}: choice: 2 in row \d+, expected -1, 0, 1",
    ),
    "contrast in percent": (
        edit_table(TRIALS, lambda t: t.assign(contrastLeft=t.contrastLeft * 100)),
        rf"{TRIALS}: contrastLeft: .* expected 0 to 1",
    ),
    "a newer column too short": (
        lambda alf: [
            newer_choice(alf),
            edit_array("#2025-03-01#/_ibl_trials.choice.npy", lambda c: c[:-2])(alf),
        ],
        rf"alf/{TRIALS}: cannot be read|28,. values for 30 trials",
    ),
    "no spikes": (
        lambda alf: [edit_array(name, lambda a: a[:0])(alf) for name in (TIMES, CLUSTERS)],
        "spikes.times: no spikes",
    ),
    "no units": (without_units, "clusters: no units"),
    "metrics permuted": (
        edit_table(METRICS, lambda table: table[::-1]),
        "clusters.metrics: cluster_id is not 0 to",
    ),
    "metrics short": (edit_table(METRICS, lambda t: t[:-1]), "clusters: .* do not fit together"),
    "metrics corrupt": (cut(METRICS), "clusters.metrics.pqt: cannot be read"),
    "uuids short": (edit_uuids(lambda uuids: uuids[:-2]), "clusters: .* do not fit together"),
    "uuid twice": (
        edit_uuids(lambda uuids: [uuids[1], *uuids[1:]]),
        "clusters.uuids: .* stands twice",
    ),
    "channel too high": (
        edit_array(f"{SORTING}/clusters.channels.npy", put(0, 999)),
        r"clusters.channels: row 999 of 384",
    ),
    "region unheard of": (
        edit_array(f"{SORTING}/channels.brainLocationIds_ccf_2017.npy", put(0, 123456789)),
        "brainLocationIds_ccf_2017: an id that the Allen atlas lacks",
    ),
    "places missing": (remove(f"{SORTING}/channels.mlapdv.npy"), "channels.mlapdv: missing"),
    "sites do not fit": (sites_of_another_probe, "384 rows but 393 electrodeSites"),
    "partly sorted anew": (partly_sorted_anew, "files of several revisions"),
    "trials missing": (remove("_ibl_trials.*"), f"alf/{TRIALS}: missing"),
    "trials table missing": (remove(TRIALS), f"alf/{TRIALS}: no column stimOn_times"),
    "trials corrupt": (cut(TRIALS), f"alf/{TRIALS}: cannot be read"),
    "trials of other length": (
        edit_array("_ibl_trials.stimOff_times.npy", lambda times: times[:-1]),
        f"alf/{TRIALS}: cannot be read",
    ),
    "a column missing": (
        edit_table(TRIALS, lambda table: table.drop(columns="stimOn_times")),
        f"alf/{TRIALS}: no column stimOn_times",
    ),
    "trials out of order": (
        edit_table(TRIALS, lambda table: table[::-1]),
        "stimOn_times are not in ascending order",
    ),
    "zero trials": (
        lambda alf: [
            remove("_ibl_trials.*.npy")(alf),
            edit_table(TRIALS, lambda table: table[:0])(alf),
        ],
        "no trial left: 0 without",
    ),
    "trials in two places": (
        lambda alf: [
            (alf / "task_00").mkdir(),
            shutil.copy(alf / TRIALS, alf / "task_00"),
        ],
        "trials: in several folders",
    ),
    "spikes of two makers": (
        lambda alf: shutil.copy(alf / CLUSTERS, alf / SORTING / "_av_spikes.clusters.npy"),
        "spikes.clusters.npy and .*spikes.clusters.npy: which one counts",
    ),
    "channels as floats": (
        edit_array(f"{SORTING}/clusters.channels.npy", lambda channels: channels.astype(float)),
        "clusters.channels: expected channel numbers",
    ),
    "no events": (
        edit_table(TRIALS, lambda table: table.assign(stimOn_times=np.nan)),
        "no trial left: 30 without stimOn_times",
    ),
    "probe stopped early": (
        lambda alf: [edit_array(name, lambda a: a[:40])(alf) for name in (TIMES, CLUSTERS)],
        "no trial left: 0 without stimOn_times, 30 beyond the recording",
    ),
}

WHEEL, CAMERA = "_ibl_wheel", "_ibl_leftCamera.times.npy"


LACKING: dict[str, tuple[Spoil, str | None, str]] = {
    # what is wrong, the variables that are missing for it, and the note that says so
    "sound": (lambda alf: None, None, "^$"),
    "events missing": (events_missing, None, "^$"),
    "zero good units": (
        edit_table(METRICS, lambda table: table.assign(label=0.0)),
        None,
        "^$",
    ),
    "times as float32": (
        times_in(1, np.float32),
        None,
        "spikes.times: float32; at the end in steps of",
    ),
    "metrics by an index in order": (
        edit_table(METRICS, lambda table: table.set_index("cluster_id")),
        None,
        "^$",
    ),
    "a choice newer than the table": (newer_choice, None, "^$"),
    "a choice beside the table": (
        lambda alf: np.save(alf / "_ibl_trials.choice.npy", np.zeros(30)),
        None,
        "^$",
    ),
    "no camera": (
        remove("*leftCamera*"),
        "whisker_motion_energy",
        "leftCamera.ROIMotionEnergy: missing",
    ),
    "camera times short": (
        edit_array(CAMERA, lambda times: times[:-5]),
        "whisker_motion_energy",
        "left: Camera times are shorter",
    ),
    "camera times long": (
        edit_array(CAMERA, lambda times: np.concatenate([times[:1] - [0.3, 0.2, 0.1], times])),
        None,
        "leftCamera: of .* times the first 3 have no frame",
    ),
    "no licks": (remove("*licks*"), None, "licks.times: missing"),
    "two names, one beginning": (probe_with_a_longer_name, None, "clusters.uuids: missing"),
    "no wheel": (remove(f"{WHEEL}*"), "wheel_velocity", "wheel.position: missing"),
    "wheel cut short": (
        cut(f"{WHEEL}.position.npy"),
        "wheel_velocity",
        f"alf/{WHEEL}.position.npy: cut short",
    ),
    "a wheel position missing": (
        edit_array(f"{WHEEL}.position.npy", put(5, np.nan)),
        "wheel_velocity",
        "wheel: not every time and value",
    ),
    "wheel empty": (
        lambda alf: [
            edit_array(f"{WHEEL}.{name}.npy", lambda a: a[:0])(alf)
            for name in ("position", "timestamps")
        ],
        "wheel_velocity",
        "wheel",
    ),
    "wheel unsorted": (
        edit_array(f"{WHEEL}.timestamps.npy", put(5, 0.0)),
        "wheel_velocity",
        "wheel: times are not in ascending order",
    ),
    "no metrics": (remove(METRICS), "label", "clusters.metrics: no labels"),
    "no places": (
        remove(f"{SORTING}/channels.mlapdv.npy", f"{SORTING}/channels.brain*.npy"),
        "x",
        "channels: no histology",
    ),
    "no channels": (remove(f"{SORTING}/channels.*"), "x", "no channels"),
    "no clusters": (
        remove(f"{SORTING}/clusters.*"),
        "label x",
        "no clusters.*; units are the clusters that have spikes",
    ),
    "no channel of each unit": (
        remove(f"{SORTING}/clusters.channels.npy"),
        "x",
        "no clusters.channels",
    ),
}


@pytest.fixture(scope="module")
def outcome(experiment, tmp_path_factory):
    """Ingests all of them at once, each a session of its own; name -> (outcome, folder)."""
    root = tmp_path_factory.mktemp("broken")
    spoils = {name: case[0] for name, case in (BROKEN | LACKING).items()}
    eids = {
        name: experiment.copy_session(root / "ONE", number, spoil=spoil)
        for number, (name, spoil) in enumerate(spoils.items(), start=1)
    }
    dataset = Dataset(source=LocalSource(kind="local", path=root / "ONE"))
    report = ingest(dataset, "broken", root / "cache.zarr")
    assert set(report.sessions) == set(eids.values())
    assert set(report.failed) == {eids[name] for name in BROKEN}
    return lambda name: (report.sessions[eids[name]], root / "cache.zarr" / eids[name])


@pytest.mark.parametrize("name", BROKEN)
def test_what_cannot_be_trusted_fails_and_is_named(outcome, name):
    found, folder = outcome(name)
    assert found.status == "failed"
    assert re.search(BROKEN[name][1], found.reason)
    assert "\n" not in found.reason
    assert not folder.exists()


@pytest.mark.parametrize("name", LACKING)
def test_what_is_lacking_is_noted_and_missing(outcome, name):
    found, folder = outcome(name)
    _, variables, note = LACKING[name]
    lost = (variables or "").split()
    assert found.status == "ingested"
    notes = found.notes or ("",)
    assert any(re.search(note, text) for text in notes)
    with xr.open_zarr(folder, chunks=None) as ds:
        assert list(found.notes) == ds.attrs["notes"]
        continuous = ("whisker_motion_energy", "wheel_velocity", "label", "x")
        for other in continuous:
            assert np.isnan(ds[other].values).all() == (other in lost)
        expected = "unknown" if "x" in lost else "CA1"
        assert expected in ds["region"].values


def test_without_clusters_each_that_has_spikes_is_a_unit(outcome):
    with (
        xr.open_zarr(outcome("no clusters")[1], chunks=None) as ds,
        xr.open_zarr(outcome("sound")[1], chunks=None) as sound,
    ):
        its = np.isin(sound["cluster_id"], ds["cluster_id"])
        np.testing.assert_array_equal(ds["spikes"], sound["spikes"][:, :, its])
        assert not sound["spikes"][:, :, ~its].any()


def test_events_that_are_missing_are_no_trials(outcome):
    found, folder = outcome("events missing")
    assert found.n_trials == outcome("sound")[0].n_trials - 2
    with xr.open_zarr(folder, chunks=None) as ds:
        assert ds.attrs["trials_without_event"] == 2
        assert {3, 7}.isdisjoint(ds["trial"].values)
        assert (ds["spikes"].sum(("time", "unit")) > 0).all()


def test_the_table_counts_where_a_file_contradicts_it(outcome):
    with (
        xr.open_zarr(outcome("a choice beside the table")[1], chunks=None) as ds,
        xr.open_zarr(outcome("sound")[1], chunks=None) as sound,
    ):
        np.testing.assert_array_equal(ds["choice"], sound["choice"])
        assert set(np.unique(ds["choice"])) >= {-1, 1}


def test_a_column_that_was_revised_after_the_table_counts(outcome):
    with (
        xr.open_zarr(outcome("a choice newer than the table")[1], chunks=None) as ds,
        xr.open_zarr(outcome("sound")[1], chunks=None) as sound,
    ):
        np.testing.assert_array_equal(ds["choice"], -sound["choice"])
        np.testing.assert_array_equal(ds["contrast"], sound["contrast"])


def test_probes_whose_names_begin_alike_have_spikes_of_their_own(outcome):
    """Brainbox takes the one for the other."""
    with xr.open_zarr(outcome("two names, one beginning")[1], chunks=None) as ds:
        per_probe = ds["spikes"].sum(("trial", "time")).groupby(ds["probe"]).sum()
        first, second = (int(per_probe.sel(probe=name)) for name in ("probe00", "probe00a"))
    with xr.open_zarr(outcome("sound")[1], chunks=None) as sound:
        assert first == int(sound["spikes"].sum())
    assert abs(second - first / 2) < 0.1 * first


def test_a_session_that_fails_spoils_none_after_it(outcome):
    """Brainbox leaves a ONE that failed on trials unable to find anything: each has its own."""
    for name in ("trials corrupt", "trials of other length"):
        assert outcome(name)[0].status == "failed"
    assert outcome("sound")[0].status == "ingested"
