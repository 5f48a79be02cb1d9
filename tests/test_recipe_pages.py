"""The pages of recipes: each snippet runs, with objects of the libraries that they are about."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr
import yaml
from scipy.io import savemat

import ibl_mtm
from ibl_mtm.cli import main

ROOT = Path(__file__).parents[1]
PAGES = ROOT / "docs" / "recipes"
TINY = [
    *("steps=2", "validate_every=2", "batch_size=8", "model.width=16", "model.layers=1"),
    *("model.heads=2", "model.mlp=16", "model.dynamics=0"),
]


def blocks(page: str, language: str) -> list[str]:
    text = (PAGES / f"{page}.md").read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.M | re.S)


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run(line: str, monkeypatch: pytest.MonkeyPatch, more: list[str] | None = None) -> None:
    monkeypatch.setattr(sys, "argv", [*line.split(), *(more or [])])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code, line


def brute_force(ds: xr.Dataset, times: np.ndarray, unit: int, align: np.ndarray) -> np.ndarray:
    """A unit's counts by a histogram for each trial."""
    edges = np.append(ds.time.values, ds.time.values[-1] + ds.attrs["bin_size"])
    return np.stack([np.histogram(times, align[t] + edges)[0] for t in ds.trial.values])


def test_every_recipe_is_tried_here_and_linked() -> None:
    assert {page.stem for page in PAGES.glob("*.md")} == {
        "own-loader",
        "pynapple",
        "spikeinterface",
    }
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    own = (ROOT / "docs" / "your-own-recordings.md").read_text(encoding="utf-8")
    for page in PAGES.glob("*.md"):
        assert f"recipes/{page.stem}\n" in index
        assert f"recipes/{page.stem}.md" in own


def test_pynapple_in_and_out() -> None:
    nap = pytest.importorskip("pynapple")
    rng = np.random.default_rng(0)
    trains = {
        3: np.sort(rng.uniform(0, 300, 3000)),
        7: np.sort(rng.uniform(0, 300, 900)),
        11: np.sort(rng.uniform(0, 300, 9000)),
    }
    units = nap.TsGroup(
        {unit: nap.Ts(times) for unit, times in trains.items()},
        metadata={"location": ["CA1", "LP", "my spot"], "depth": [10.0, 20.0, 30.0]},
    )
    start = np.cumsum(rng.uniform(2.0, 4.0, 90))
    stimulus = np.array(["a", "b", "c"])[np.arange(90) % 3]
    epochs = nap.IntervalSet(start, start + 1, metadata={"stimulus": stimulus})
    clock = np.arange(0, 300, 0.01)
    world = {"units": units, "epochs": epochs, "speed": nap.Tsd(clock, np.sin(clock))}
    into, out, again = blocks("pynapple", "python")
    for block in (into, out, again):
        exec(block, world)
    ds, counts, windows = world["ds"], world["counts"], world["windows"]
    assert list(ds.cluster_id.values) == [3, 7, 11]
    assert list(ds.region.values) == ["CA1", "LP", "my spot"]
    assert list(ds.depth.values) == [10, 20, 30]
    assert list(ds.stimulus.values) == list(stimulus[ds.trial.values])
    for column, times in enumerate(trains.values()):
        expected = brute_force(ds, times, column, start)
        assert np.array_equal(ds.spikes.values[..., column], expected)
        # What goes out is what pynapple counts itself in the windows.
        assert np.array_equal(counts[:, column].d, expected.ravel())
        inside = nap.Ts(times).restrict(windows)
        assert abs(len(inside) - expected.sum()) <= 2  # an interval holds both of its ends
    back = world["again"]
    assert [len(back[unit]) for unit in (3, 7, 11)] == ds.spikes.sum(
        ("trial", "time")
    ).values.tolist()
    nearest = np.abs(back[11].t[:, None] - trains[11]).min(1)
    assert nearest.max() <= 0.01 + 1e-9  # half a bin
    assert list(back.metadata["region"]) == ["CA1", "LP", "unknown"]


@pytest.fixture
def mat_files() -> dict[str, dict[str, np.ndarray]]:
    """Two sessions of a lab that works in MATLAB, and one on two clocks."""
    Path("mat").mkdir()
    sessions = {}
    for seed, name in enumerate(["m1_2024-05-06", "m1_2024-05-07", "m2_2024-05-06"]):
        rng = np.random.default_rng(seed)
        tone = np.cumsum(rng.uniform(2.0, 3.5, 100 + 7 * seed))
        frequency = np.array([4.0, 8.0, 16.0])[rng.integers(0, 3, len(tone))]
        ids = np.array([2, 5, 9, 10, 14, 20])
        times, units = rng.uniform(0, tone[-1] + 5, 9000), ids[rng.integers(0, 6, 9000)]
        for k, f in enumerate((4.0, 8.0, 16.0)):
            own = (tone[frequency == f][:, None] + rng.uniform(0, 0.5, (1, 8))).ravel()
            times, units = np.append(times, own), np.append(units, np.full(len(own), ids[k]))
        order = np.argsort(times)
        clock = np.arange(0, tone[-1] + 5, 0.02)
        sessions[name] = {
            "spike_time": times[order] * (1000 if name.startswith("m2") else 1),
            "spike_unit": units[order],
            "unit_id": ids,
            "unit_region": np.array(["CA1", "CA1", "LP", "LP", "VISp", "VISp"], dtype=object),
            "tone_time": tone,
            "frequency": frequency,
            "video_time": clock,
            "pupil": np.sin(clock),
        }
        savemat(Path("mat") / f"{name}.mat", sessions[name])
    return sessions


def test_an_own_loader(mat_files: dict[str, dict[str, np.ndarray]]) -> None:
    (snippet,) = blocks("own-loader", "python")
    world: dict[str, dict[str, str]] = {}
    exec(snippet, world)
    assert list(world["refused"]) == ["m2_2024-05-06.mat"]
    cache = ibl_mtm.open_cache("lab.zarr")
    assert sorted(cache.sessions["date"]) == ["2024-05-06", "2024-05-07"]
    for ds in cache.values():
        mat = mat_files[f"{ds.attrs['subject']}_{ds.attrs['date']}"]
        assert list(ds.cluster_id.values) == list(mat["unit_id"])
        for column, unit in enumerate(mat["unit_id"]):
            times = mat["spike_time"][mat["spike_unit"] == unit]
            expected = brute_force(ds, times, column, mat["tone_time"])
            assert np.array_equal(ds.spikes.values[..., column], expected)
    exec(snippet, world)  # nothing to do
    assert list(world["refused"]) == ["m2_2024-05-06.mat"]


@pytest.mark.slow
def test_an_own_loader_to_a_report(
    mat_files: dict[str, dict[str, np.ndarray]], monkeypatch: pytest.MonkeyPatch
) -> None:
    exec(blocks("own-loader", "python")[0], {})
    (commands,) = blocks("own-loader", "sh")
    for line in commands.splitlines():
        run(line, monkeypatch, TINY if " train " in line else None)
    scores = ibl_mtm.read_scored_run("runs/tones")
    frequency = scores.task("frequency")
    assert frequency["levels"] == ["4", "8", "16"]
    assert frequency["raw_spikes"]["accuracy"] > frequency["raw_spikes"]["majority"] + 0.2
    page = Path("report.html").read_text(encoding="utf-8")
    assert "accuracy, 3 classes" in page


def sorters_python() -> Path:
    """Of the environment that SpikeInterface has, with a Zarr that is not ours."""
    python = Path(os.environ.get("IBL_MTM_SORTERS", ROOT / ".sorters" / "bin" / "python"))
    if not python.is_file():
        pytest.skip(f"SpikeInterface is not installed ({python}): make sorters")
    return python


@pytest.mark.slow
def test_spikeinterface_through_its_export(monkeypatch: pytest.MonkeyPatch) -> None:
    export, names = blocks("spikeinterface", "python")
    before = """
from spikeinterface.core import generate_ground_truth_recording
import numpy as np
recording, sorting = generate_ground_truth_recording(
    durations=[60.0], num_channels=8, num_units=6, seed=0, sampling_frequency=30000.0
)
regions = ["CA1", "CA1", "LP", "LP", "LP", "my spot"]
"""
    after = """
np.savez("known.npz", **{str(u): sorting.get_unit_spike_train(u) for u in sorting.unit_ids})
"""
    done = subprocess.run(
        [sorters_python(), "-c", before + export + after],
        capture_output=True,
        text=True,
        timeout=280,
        env={"PATH": os.environ["PATH"], "HOME": os.environ["HOME"], "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    cue = np.cumsum(np.random.default_rng(0).uniform(0.9, 1.3, 45))
    table = pd.DataFrame(
        {"cue": cue, "outcome": np.array(["hit", "miss", "late"])[np.arange(45) % 3]}
    )
    table.to_csv("rig/m1/2024-05-06/trials.csv", index=False)
    (settings,) = blocks("spikeinterface", "yaml")
    dataset = yaml.safe_load(settings)
    dataset["datasets"]["rig"]["align"]["window"] = [-0.3, 0.5]  # of a recording of a minute
    Path("data_catalog.yaml").write_text(yaml.safe_dump(dataset))
    (line,) = blocks("spikeinterface", "sh")
    run(line.strip(), monkeypatch, ["--workers", "1"])
    world: dict[str, pd.Series] = {}
    exec(names, world)
    (ds,) = ibl_mtm.open_cache("rig.zarr").values()
    with np.load("known.npz") as known:
        assert len(ds.unit) == len(known.files) == 6
        for column, name in enumerate(world["names"].astype(str)):
            expected = brute_force(ds, known[name] / 30000.0, column, cue)
            assert np.array_equal(ds.spikes.values[..., column], expected)
            assert expected.sum() > 20
    assert list(ds.region.values) == ["CA1", "CA1", "LP", "LP", "LP", "my spot"]
    assert np.isnan(ds.label.values).all()
    assert list(ds.outcome.values) == list(table["outcome"][ds.trial.values])
