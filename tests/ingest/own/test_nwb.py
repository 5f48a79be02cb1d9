"""Files of NWB, written by pynwb: in the layouts that DANDI's files have."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pynwb import NWBHDF5IO, NWBFile, TimeSeries
from pynwb.file import Subject

import ibl_mtm
from ibl_mtm.cache.check import check
from ibl_mtm.config.dataset import Dataset
from ibl_mtm.errors import UserError
from ibl_mtm.ingest.run import ingest

ALIGN = {"event": "cue_time", "window": [-0.2, 0.8], "bin": 0.02}
IDS = (4, 9, 2, 30)


def write(
    path: Path,
    *,
    regions: str = "electrodes",
    quality: str = "quality",
    trials: bool = True,
    subject: str | None = "m1",
    units: bool = True,
    day: int = 6,
) -> tuple[dict[int, np.ndarray], np.ndarray]:
    """A file with four units on two probes; the spikes of each, and the cues."""
    rng = np.random.default_rng(day)
    nwb = NWBFile("a test", f"id-{path.stem}", datetime(2024, 5, day, 13, tzinfo=UTC), lab="here")
    if subject is not None:
        nwb.subject = Subject(subject_id=subject, species="Mus musculus")
    device = nwb.create_device("neuropixels")
    for probe, places in (("imec0", ["CA1", "LP"]), ("imec1", ["VISp", "my spot"])):
        group = nwb.create_electrode_group(probe, "a probe", "somewhere", device)
        for place in places:
            nwb.add_electrode(group=group, location=place, rel_y=10.0)
    spikes = {}
    if units:
        if regions == "column":
            nwb.add_unit_column("brain_area", "where")
        if regions == "peak":
            nwb.add_unit_column("peak_channel_id", "the channel")
        if quality:
            nwb.add_unit_column(quality, "how good")
        for row, cluster in enumerate(IDS):
            times = np.sort(rng.uniform(0.5, 200, 900 + 100 * row))
            spikes[cluster] = times
            more: dict[str, Any] = {}
            if regions == "electrodes":
                more["electrodes"] = [row]
            if regions == "column":
                more["brain_area"] = ["CA1", "LP", "VISp", "my spot"][row]
            if regions == "peak":
                more["peak_channel_id"] = row
            if quality:
                more[quality] = ["good", "noise", "mua", "good"][row]
            nwb.add_unit(id=cluster, spike_times=times, **more)
    cues = np.cumsum(rng.uniform(3, 5, 40))
    if trials:
        nwb.add_trial_column("cue_time", "when it was")
        nwb.add_trial_column("outcome", "of it")
        nwb.add_trial_column("go", "whether")
        for k, cue in enumerate(cues):
            nwb.add_trial(
                start_time=cue - 1,
                stop_time=cue + 1,
                cue_time=cue,
                outcome=["hit", "miss"][k % 2],
                go=bool(k % 3 == 0),
            )
    behavior = nwb.create_processing_module("behavior", "of the animal")
    behavior.add(
        TimeSeries(
            "running", data=np.arange(21000) * 2.0, unit="cm/s", starting_time=0.0, rate=100.0,
            conversion=0.5,
        )
    )  # fmt: skip
    own_clock = np.arange(0, 205, 0.01)
    nwb.add_acquisition(
        TimeSeries("pupil", data=np.sin(own_clock), unit="mm", timestamps=own_clock)
    )
    nwb.add_acquisition(
        TimeSeries("video", data=np.zeros((5, 2)), unit="px", timestamps=np.arange(5.0))
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    with NWBHDF5IO(str(path), "w") as io:
        io.write(nwb)
    return spikes, cues


def dataset(root: Path, **settings: Any) -> Dataset:
    source = {"kind": "nwb", "path": root, **settings.pop("source", {})}
    return Dataset.model_validate({"source": source, "align": ALIGN, **settings})


@pytest.mark.parametrize("regions", ["electrodes", "column", "peak", "none"])
def test_units_as_several_layouts_tell_of_them(tmp_path: Path, regions: str) -> None:
    spikes, cues = write(tmp_path / "data" / "a.nwb", regions=regions)
    report = ingest(dataset(tmp_path / "data"), "dandi", tmp_path / "c.zarr", workers=1)
    assert report.failed == {}
    assert check(report.cache) == {}
    (ds,) = ibl_mtm.open_cache(report.cache).values()
    assert [ds.attrs[k] for k in ("subject", "date", "lab")] == ["m1", "2024-05-06", "here"]
    place = {4: "CA1", 2: "VISp", 30: "my spot"} if regions != "none" else {}
    on_probe = regions in ("electrodes", "peak")
    assert list(ds.cluster_id.values) == [4, 2, 30]  # 9 is noise
    for column, cluster in enumerate(ds.cluster_id.values):
        assert ds.region.values[column] == place.get(int(cluster), "unknown")
        assert ds.label.values[column] == {4: 1, 2: 0, 30: 1}[int(cluster)]
        probe = "imec0" if cluster == 4 else "imec1"
        assert ds.probe.values[column] == (probe if on_probe else "probe00")
        for trial in range(0, ds.sizes["trial"], 9):
            edges = cues[ds.trial.values[trial]] - 0.2 + np.arange(51) * 0.02
            expected, _ = np.histogram(spikes[int(cluster)], edges)
            assert ds.spikes.values[trial, :, column].tolist() == expected.tolist()
    assert any("no regions" in note for note in ds.attrs["notes"]) == (regions == "none")


def test_trials_and_time_series(tmp_path: Path) -> None:
    write(tmp_path / "a.nwb")
    signals = {
        "speed": "running",
        "pupil": "acquisition/pupil",
        "lost": "nowhere",
        "video": "video",
    }
    settings = {"trials": {"keep": "all"}, "signals": signals, "decode": {"go": "class"}}
    chosen = dataset(tmp_path / "a.nwb", **settings)
    report = ingest(chosen, "dandi", tmp_path / "c.zarr", workers=1)
    (ds,) = ibl_mtm.open_cache(report.cache).values()
    assert {"cue_time", "start_time", "outcome", "go"} <= set(ds.attrs["kept"])
    at = ds.trial.values
    assert list(ds.outcome.values) == [["hit", "miss"][k % 2] for k in at]
    assert list(ds.go.values) == [k % 3 == 0 for k in at]
    centre = ds.window_start.values[:, None] + (np.arange(50) + 0.5) * 0.02
    assert np.allclose(ds.speed.values, centre * 100, rtol=1e-5)
    assert ds.attrs["signals"] == (["speed", "pupil"] if "pupil" in ds else ["speed"])
    notes = " | ".join(ds.attrs["notes"])
    assert "signal lost: nowhere: no such time series; there are " in notes
    assert "signal video: video: (5, 2) values" in notes


def test_a_path_or_the_end_of_it_names_a_series(tmp_path: Path) -> None:
    write(tmp_path / "a.nwb")
    chosen = dataset(tmp_path, signals={"a": "behavior/running", "b": "pupil"})
    (ds,) = ibl_mtm.open_cache(ingest(chosen, "x", tmp_path / "c.zarr", workers=1).cache).values()
    centre = ds.window_start.values[:, None] + (np.arange(50) + 0.5) * 0.02
    assert np.allclose(ds.a.values, centre * 100, rtol=1e-5)
    assert np.allclose(ds.b.values, np.sin(centre), atol=1e-4)


@pytest.mark.parametrize(
    ("made", "settings", "said"),
    [
        ({"units": False}, {}, "no table of units; it was never sorted"),
        ({"trials": False}, {}, "no table of trials 'trials'; tables of intervals: none"),
        ({}, {"source": {"trials": "epochs"}}, "no table of trials 'epochs'; tables of"),
        ({}, {"align": {**ALIGN, "event": "tone"}}, "no column tone to align to; there are"),
    ],
)
def test_what_is_missing_is_named(
    tmp_path: Path, made: dict[str, Any], settings: dict[str, Any], said: str
) -> None:
    write(tmp_path / "a.nwb", **made)
    report = ingest(dataset(tmp_path, **settings), "x", tmp_path / "c.zarr", workers=1)
    ((_, reason),) = report.failed.items()
    assert said in reason
    assert "a.nwb" in reason


def test_files_that_cannot_be_read_or_name_nobody_are_left_aside(tmp_path: Path) -> None:
    root = tmp_path / "data"
    write(root / "a.nwb")
    write(root / "b.nwb", subject=None)
    write(root / "deeper" / "c.nwb", day=7)
    write(root / "d.nwb")  # of a's subject and date
    (root / "e.nwb").write_bytes(b"no HDF5")
    report = ingest(dataset(root), "x", tmp_path / "c.zarr", workers=1)
    assert report.failed == {}
    assert sorted(ds.attrs["date"] for ds in ibl_mtm.open_cache(report.cache).values()) == [
        "2024-05-06",
        "2024-05-07",
    ]
    reasons = {Path(path).name: reason for path, reason in report.left_aside.items()}
    assert set(reasons) == {"b.nwb", "d.nwb", "e.nwb"}
    assert "it names no subject" in reasons["b.nwb"]
    assert reasons["d.nwb"].endswith("a.nwb")
    assert "no file of NWB" in reasons["e.nwb"]
    named = dataset(root / "b.nwb", source={"subject": "m9"})
    assert ingest(named, "x", tmp_path / "d.zarr", workers=1).failed == {}


def test_a_folder_without_any(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no file of NWB in"):
        ingest(dataset(tmp_path), "x", tmp_path / "c.zarr")


def test_without_pynwb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "a.nwb")
    monkeypatch.setitem(__import__("sys").modules, "pynwb", None)
    with pytest.raises(UserError, match=r"needs the package pynwb: pip install 'ibl-mtm\[nwb\]'"):
        ingest(dataset(tmp_path), "x", tmp_path / "c.zarr")
