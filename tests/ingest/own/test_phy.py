"""Folders of Phy: ids, quality, samples to seconds, several probes; and nothing executed."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

import ibl_mtm
from ibl_mtm.config.dataset import Dataset
from ibl_mtm.errors import UserError
from ibl_mtm.ingest.own.phy import read_params
from ibl_mtm.ingest.run import ingest

ALIGN = {"event": "cue", "window": [-0.2, 0.8], "bin": 0.02}
RATE = 25000.0


def write_probe(folder: Path, seed: int = 0, ids: tuple[int, ...] = (3, 11, 40, 41)) -> np.ndarray:
    """Files as Kilosort and Phy leave them; the (sample, cluster) of each spike."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    samples = np.sort(rng.integers(100, int(200 * RATE), 8000)).astype(np.uint64)
    clusters = rng.choice(ids, len(samples)).astype(np.int32)
    np.save(folder / "spike_times.npy", samples[:, None])  # a column, as MATLAB's Kilosort writes
    np.save(folder / "spike_clusters.npy", clusters)
    np.save(folder / "spike_templates.npy", np.zeros_like(clusters) + 1)
    (folder / "params.py").write_text(
        "import os\nopen('executed', 'w').write('!')\ndat_path = os.path.join('a', 'b')\n"
        f"n_channels_dat = 385\ndtype = 'int16'\nsample_rate = {RATE}\nhp_filtered = False\n"
    )
    groups = ["good", "mua", "noise", "unsorted"][: len(ids)]
    frame = pd.DataFrame({"cluster_id": ids, "group": groups})
    frame.to_csv(folder / "cluster_group.tsv", sep="\t", index=False)
    frame = pd.DataFrame(
        {"cluster_id": ids, "KSLabel": ["mua", "good", "good", "good"][: len(ids)]}
    )
    frame.to_csv(folder / "cluster_KSLabel.tsv", sep="\t", index=False)
    return np.stack([samples.astype(np.int64), clusters], axis=1)


def write_trials(folder: Path) -> pd.DataFrame:
    cue = np.cumsum(np.random.default_rng(5).uniform(3, 5, 40))
    table = pd.DataFrame({"cue": cue, "outcome": ["hit", "miss"] * 20})
    table.to_csv(folder / "trials.csv", index=False)
    return table


def dataset(root: Path, **settings: Any) -> Dataset:
    source = {"kind": "phy", "path": root, **settings.pop("source", {})}
    return Dataset.model_validate({"source": source, "align": ALIGN, **settings})


@pytest.fixture
def session(tmp_path: Path) -> tuple[Path, dict[str, np.ndarray], pd.DataFrame]:
    folder = tmp_path / "data" / "m1" / "2024-05-06" / "002"
    spikes = {
        "imec0.phy": write_probe(folder / "imec0" / "phy"),
        "imec1.phy": write_probe(folder / "imec1" / "phy", 1, (0, 7)),
    }
    return folder, spikes, write_trials(folder)


def test_counts_ids_and_quality(session: Any, tmp_path: Path) -> None:
    folder, spikes, trials = session
    info = pd.DataFrame({"cluster_id": [3, 11, 40, 41], "ch": [5, 6, 7, 8], "depth": 10.0})
    info.to_csv(folder / "imec0" / "phy" / "cluster_info.tsv", sep="\t", index=False)
    chosen = dataset(tmp_path / "data", trials={"keep": ["outcome"]})
    report = ingest(chosen, "rig", tmp_path / "c.zarr", workers=1)
    assert report.failed == {}
    (ds,) = ibl_mtm.open_cache(report.cache).values()
    assert [ds.attrs[key] for key in ("subject", "date", "number")] == ["m1", "2024-05-06", 2]
    assert ds.attrs["source"] == str(folder)
    # Noise is left out; who was not looked at has Kilosort's word.
    assert list(ds.cluster_id.values) == [3, 11, 41, 0, 7]
    assert list(ds.probe.values) == ["imec0.phy"] * 3 + ["imec1.phy"] * 2
    assert list(ds.label.values) == [1, 0, 1, 1, 0]
    # What a task of the IBL would lack is of no other task a variable.
    assert not {"wheel_velocity", "whisker_motion_energy"} & set(ds.variables)
    assert list(ds.channel.values) == [5, 6, 8, -1, -1]
    assert any("1 clusters are noise" in note for note in ds.attrs["notes"])
    cue = trials["cue"].to_numpy()[ds.trial.values]
    for column in range(5):
        samples, clusters = spikes[str(ds.probe.values[column])].T
        own = samples[clusters == ds.cluster_id.values[column]] / RATE
        for trial in range(0, len(cue), 7):
            edges = cue[trial] - 0.2 + np.arange(51) * 0.02
            expected = [((own >= a) & (own < b)).sum() for a, b in pairwise(edges)]
            assert ds.spikes.values[trial, :, column].tolist() == expected
    assert list(ds.outcome.values) == list(trials["outcome"][ds.trial.values])
    assert not list(tmp_path.rglob("executed"))
    assert not Path("executed").exists()


def test_params_are_read_and_never_run(tmp_path: Path) -> None:
    (tmp_path / "params.py").write_text(
        "sample_rate = 30000.\nn = 3\nnames = ['a', 'b']\ndat_path = __import__('os').getcwd()\n"
        "x = y = 5\nraise SystemExit\n"
    )
    assert read_params("x", tmp_path) == {
        "sample_rate": 30000.0,
        "n": 3,
        "names": ["a", "b"],
        "x": 5,
        "y": 5,
    }


def test_windows_without_trials_and_a_session_that_no_place_tells(tmp_path: Path) -> None:
    write_probe(tmp_path / "rec")
    bare = dataset(tmp_path / "rec", align={"contiguous": 2.0, "bin": 0.02})
    with pytest.raises(UserError, match="nobody tells its subject and date"):
        ingest(bare, "rig", tmp_path / "c.zarr")
    about = {"subject": "m2", "date": "2024-01-02", "lab": "here"}
    told = dataset(tmp_path / "rec", align={"contiguous": 2.0, "bin": 0.02}, source=about)
    report = ingest(told, "rig", tmp_path / "c.zarr", workers=1)
    assert report.failed == {}
    (ds,) = ibl_mtm.open_cache(report.cache).values()
    assert [ds.attrs[key] for key in ("subject", "date", "lab")] == ["m2", "2024-01-02", "here"]
    assert set(ds.probe.values) == {"probe00"}
    assert ds.sizes["trial"] == 99


def test_from_python_by_name_and_as_a_mapping(
    session: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    described = {"source": {"kind": "phy", "path": "data"}, "align": ALIGN}
    (tmp_path / "data_catalog.yaml").write_text(yaml.safe_dump({"datasets": {"rig": described}}))
    monkeypatch.chdir(tmp_path)
    found = [
        ibl_mtm.ingest_dataset("rig", "a.zarr"),
        ibl_mtm.ingest_dataset(described, tmp_path / "b.zarr", name="rig"),
        ibl_mtm.ingest_dataset("rig", "c.zarr", catalog=str(tmp_path / "data_catalog.yaml")),
    ]
    assert [report.failed for report in found] == [{}, {}, {}]
    (first, second, third) = (
        ds.load() for report in found for ds in ibl_mtm.open_cache(report.cache).values()
    )
    assert first.spikes.equals(second.spikes)
    assert first.attrs["dataset"] == second.attrs["dataset"] == third.attrs["dataset"] == "rig"
    with pytest.raises(UserError, match="no dataset 'rug'"):
        ibl_mtm.ingest_dataset("rug", "a.zarr")
    with pytest.raises(UserError, match="alignn"):
        ibl_mtm.ingest_dataset({"source": {"kind": "phy", "path": "x"}, "alignn": {}}, "a.zarr")


def test_traces_are_tables_of_two_columns(session: Any, tmp_path: Path) -> None:
    folder, _, _ = session
    times = np.arange(0, 200, 0.01)
    pd.DataFrame({"t": times, "speed": times * 2}).to_csv(folder / "speed.csv", index=False)
    chosen = dataset(tmp_path / "data", signals={"speed": "speed.csv", "lost": "lost.csv"})
    (ds,) = ibl_mtm.open_cache(ingest(chosen, "rig", tmp_path / "c.zarr", workers=1).cache).values()
    centre = ds.window_start.values[:, None] + (np.arange(50) + 0.5) * 0.02
    assert np.allclose(ds.speed.values, 2 * centre, rtol=1e-5)
    assert "signal lost: lost.csv: missing" in ds.attrs["notes"]


def _save(name: str, change: Any) -> Any:
    def spoil(folder: Path) -> None:
        path = folder / "imec0" / "phy" / name
        np.save(path, change(np.load(path)), allow_pickle=True)

    return spoil


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (_save("spike_times.npy", lambda a: a / RATE), "no whole samples; are these seconds"),
        (_save("spike_times.npy", lambda a: a[::-1]), "times: not in ascending order"),
        (_save("spike_times.npy", lambda a: a[1:]), "7999 times but 8000 clusters"),
        (_save("spike_clusters.npy", lambda a: a.astype(object)), "spike_clusters.npy: cannot be"),
        (lambda f: (f / "imec0/phy/params.py").unlink(), "params.py: tells no sample_rate; give"),
        (lambda f: (f / "imec0/phy/params.py").write_text("a = ("), "params.py: cannot be read"),
        (
            lambda f: (f / "imec0/phy/cluster_group.tsv").write_text("a\n1\n"),
            "no column cluster_id",
        ),
        (lambda f: (f / "trials.csv").write_text("que\n1.0\n"), "trials.csv: no column cue"),
        (lambda f: (f / "trials.csv").unlink(), "trials.csv: missing"),
    ],
)
def test_what_cannot_be_trusted_names_its_file(
    session: Any, tmp_path: Path, spoil: Any, said: str
) -> None:
    spoil(session[0])
    report = ingest(dataset(tmp_path / "data"), "rig", tmp_path / "c.zarr", workers=1)
    ((_, reason),) = report.failed.items()
    assert said in reason


def test_before_anybody_looked_clusters_are_templates(session: Any, tmp_path: Path) -> None:
    folder, _, _ = session
    probe = folder / "imec0" / "phy"
    templates = np.load(probe / "spike_clusters.npy")
    np.save(probe / "spike_templates.npy", templates)
    (probe / "spike_clusters.npy").unlink()
    for table in probe.glob("*.tsv"):
        table.unlink()
    (ds,) = ibl_mtm.open_cache(
        ingest(dataset(tmp_path / "data"), "rig", tmp_path / "c.zarr", workers=1).cache
    ).values()
    assert list(ds.cluster_id.values[:4]) == [3, 11, 40, 41]
    assert np.isnan(ds.label.values[:4]).all()
    assert sum("Kilosort's templates" in note for note in ds.attrs["notes"]) == 1


def test_sessions_side_by_side_and_those_that_are_none(session: Any, tmp_path: Path) -> None:
    folder, _, _ = session
    other = folder.parents[2] / "m2_2024-06-07"
    write_probe(other)
    write_trials(other)
    stray = folder.parents[2] / "stray"
    write_probe(stray)
    write_trials(stray)
    report = ingest(dataset(tmp_path / "data"), "rig", tmp_path / "c.zarr", workers=1)
    assert report.failed == {}
    assert sorted(ds.attrs["subject"] for ds in ibl_mtm.open_cache(report.cache).values()) == [
        "m1",
        "m2",
    ]
    assert list(report.left_aside) == [str(stray)]
    listed = dataset(tmp_path / "data", sessions=[{"eid": next(iter(report.sessions))}])
    assert len(ingest(listed, "rig", tmp_path / "d.zarr", workers=1).sessions) == 1
    nobody = dataset(tmp_path / "data", sessions=[{"eid": "0" * 8 + "-0000-4000-8000-" + "0" * 12}])
    with pytest.raises(UserError, match="the catalog lists session 00000000"):
        ingest(nobody, "rig", tmp_path / "d.zarr")


def test_a_folder_without_any(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no folder of Phy in"):
        ingest(dataset(tmp_path), "rig", tmp_path / "c.zarr")
    with pytest.raises(UserError, match=r"no folder '.*lost' to ingest from"):
        ingest(dataset(tmp_path / "lost"), "rig", tmp_path / "c.zarr")
