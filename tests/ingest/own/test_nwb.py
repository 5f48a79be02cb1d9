"""Files of NWB, written by pynwb: in the layouts that DANDI's files have."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ibl_mtm
from ibl_mtm.cache.check import check
from ibl_mtm.config.dataset import Dataset
from ibl_mtm.errors import UserError
from ibl_mtm.ingest.run import ingest

ALIGN = {"event": "cue_time", "window": [-0.2, 0.8], "bin": 0.02}


pytest.importorskip("pynwb")

from nwb_files import write  # noqa: E402


def dataset(root: Path, **settings: Any) -> Dataset:
    source = {"kind": "nwb", "path": root, **settings.pop("source", {})}
    return Dataset.model_validate({"source": source, "align": ALIGN, **settings})


@pytest.mark.parametrize("regions", ["electrodes", "column", "peak", "groups", "none"])
def test_units_as_several_layouts_tell_of_them(tmp_path: Path, regions: str) -> None:
    spikes, cues = write(tmp_path / "data" / "a.nwb", regions=regions)
    report = ingest(dataset(tmp_path / "data"), "dandi", tmp_path / "c.zarr", workers=1)
    assert report.failed == {}
    assert check(report.cache) == {}
    (ds,) = ibl_mtm.open_cache(report.cache).values()
    assert [ds.attrs[k] for k in ("subject", "date", "lab")] == ["m1", "2024-05-06", "here"]
    place = (
        {4: "CA1", 2: "VISp", 30: "my spot"} if regions in ("electrodes", "column", "peak") else {}
    )
    on_probe = regions in ("electrodes", "peak", "groups")
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
    assert any("no regions" in note for note in ds.attrs["notes"]) == (not place)


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
    assert ds.attrs["signals"] == ["speed", "pupil"]
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
