"""The page on your own recordings: what it shows is run, from arrays and files to scores."""

import json
import re
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

import ibl_mtm
from ibl_mtm.cli import main
from ibl_mtm.config.catalog import load_catalog
from ibl_mtm.evaluation.scored_run import read_scored_run

PAGE = Path(__file__).parents[1] / "docs" / "your-own-recordings.md"
#: A training that takes a second.
TINY = [
    *("steps=2", "validate_every=2", "batch_size=8", "model.width=16", "model.layers=1"),
    *("model.heads=2", "model.mlp=16", "model.dynamics=0"),
]


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE.read_text("utf-8"), flags=re.M | re.S)


@pytest.fixture
def catalog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory of a reader, with the page's catalog."""
    monkeypatch.chdir(tmp_path)
    found = [yaml.safe_load(block)["datasets"] for block in blocks("yaml")]
    text = yaml.safe_dump({"datasets": {n: d for part in found for n, d in part.items()}})
    path = tmp_path / "data_catalog.yaml"
    path.write_text(text)
    return path


def run(line: str, monkeypatch: pytest.MonkeyPatch, more: list[str]) -> None:
    monkeypatch.setattr(sys, "argv", [*line.split(), *more])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code, line


def lines(starting: str) -> list[str]:
    return [line for block in blocks("sh") for line in block.splitlines() if starting in line]


def test_arrays_to_a_session(catalog: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world: dict[str, object] = {}
    exec(blocks("python")[0], world)
    ds = world["ds"]
    responses = ibl_mtm.psth(ds, by="outcome")
    first = responses.sel(time=slice(0, 0.4)).isel(unit=0).mean("time")
    assert first.sel(outcome="hit") > first.sel(outcome="withheld") + 20
    assert set(ds.region.values) == {"CA1", "my barrel"}


@pytest.mark.slow
def test_arrays_to_a_report(catalog: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exec(blocks("python")[0], {})
    for line in lines(" runs/rig"):
        run(line, monkeypatch, TINY if " train " in line else [])
    run("ibl-mtm sessions rig.zarr", monkeypatch, [])
    scores = read_scored_run(Path("runs/rig"))
    assert scores.task("go")["raw_spikes"]["accuracy"] > 0.8
    assert scores.task("speed")["n_sessions"] == 1
    assert scores.task("co_smoothing")["psth_r2"] is not None
    page = Path("report.html").read_text(encoding="utf-8")
    assert "Go" in page
    assert "trace_speed" in page


@pytest.mark.slow
def test_from_arrays_to_a_scored_model_in_five_lines(catalog: Path) -> None:
    given, five = blocks("python")
    assert len(five.splitlines()) == 5
    world: dict[str, object] = {}
    exec(given, world)
    Path("tiny.yaml").write_text(
        "base: mtm_small\nsteps: 2\nvalidate_every: 2\nbatch_size: 8\n"
        "model: {width: 16, layers: 1, heads: 2, mlp: 16, dynamics: 0}\n"
    )
    exec(five.replace('"mtm_small"', '"tiny.yaml"'), world)
    scores = read_scored_run(Path("runs/five"))
    assert scores.task("co_smoothing")["n_units"] > 20
    assert Path("five.html").is_file()


def test_every_dataset_of_the_page_is_one(catalog: Path) -> None:
    datasets = load_catalog(catalog).datasets
    assert set(datasets) == {"rig", "dandi", "go-nogo", "steinmetz"}
    assert datasets["rig"].kept == ("outcome", "go")


def test_folders_of_phy(catalog: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    session = Path("rig/m1/2024-05-06")
    for probe in ("imec0", "imec1"):
        folder = session / probe
        folder.mkdir(parents=True)
        np.save(folder / "spike_times.npy", np.sort(rng.integers(0, 9_000_000, 20_000)))
        np.save(folder / "spike_clusters.npy", rng.integers(0, 12, 20_000))
        (folder / "params.py").write_text("sample_rate = 30000.\n")
    cue = np.arange(5.0, 295.0, 3.0)
    table = pd.DataFrame({"cue": cue, "go": np.arange(97) % 2, "outcome": "hit"})
    table.to_csv(session / "trials.csv", index=False)
    pd.DataFrame({"t": np.arange(300.0), "v": 1.0}).to_csv(session / "speed.csv", index=False)
    (line,) = lines("ingest rig")
    run(line, monkeypatch, ["--workers", "1"])
    (ds,) = ibl_mtm.open_cache("phy.zarr").values()
    assert set(ds.probe.values) == {"imec0", "imec1"}
    assert ds.attrs["signals"] == ["speed"]
    assert {"outcome", "go"} == set(ds.attrs["kept"])


def test_files_of_nwb(catalog: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pynwb")
    from nwb_files import write

    write(Path("nwb/a.nwb"))
    (line,) = lines("ingest dandi")
    run(line, monkeypatch, ["--workers", "1"])
    (ds,) = ibl_mtm.open_cache("dandi.zarr").values()
    assert ds.attrs["signals"] == ["speed"]
    assert json.loads(ds.attrs["decode"]) == {"speed": "trace"}
