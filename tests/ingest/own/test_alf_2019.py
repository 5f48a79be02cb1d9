"""The layout in which Steinmetz et al. 2019 is published, as a local dataset."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import ibl_mtm
from ibl_mtm.cache.check import check
from ibl_mtm.config.dataset import Dataset
from ibl_mtm.ingest.run import ingest

N_TRIALS, N_CLUSTERS = 60, 7


def write_session(folder: Path, seed: int = 0) -> dict[str, np.ndarray]:
    """Columns instead of rows, numbers that count from 1, times as pairs: as it is published."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    cue = np.cumsum(rng.uniform(2.5, 5, N_TRIALS))
    left, right = (rng.choice([0, 0.25, 0.5, 1.0], N_TRIALS) for _ in range(2))
    arrays: dict[str, np.ndarray] = {
        "spikes.times": np.sort(rng.uniform(0.1, cue[-1] + 20, 9000)),
        "spikes.clusters": rng.integers(0, N_CLUSTERS, 9000).astype(np.uint32),
        "clusters.peakChannel": np.array([1, 2, 3, 4, 5, 5, 6.0]),
        "clusters.depths": np.arange(N_CLUSTERS) * 20.0,
        "clusters.probes": np.array([0, 0, 0, 1, 1, 1, 1.0]),
        "clusters._phy_annotation": np.array([2, 1, 3, 2, 2, 0, 1.0]),
        "trials.visualStim_times": cue,
        "trials.visualStim_contrastLeft": left,
        "trials.visualStim_contrastRight": right,
        "trials.goCue_times": cue + 0.6,
        "trials.response_times": cue + 1.0,
        "trials.response_choice": rng.choice([-1.0, 0.0, 1.0], N_TRIALS),
        "trials.feedback_times": cue + 1.05,
        "trials.feedbackType": rng.choice([-1.0, 1.0], N_TRIALS),
        "trials.included": rng.random(N_TRIALS) < 0.8,
        "licks.times": np.sort(rng.uniform(0, cue[-1], 300)),
    }
    n = int((cue[-1] + 20) * 100)
    arrays["wheel.position"] = 1440 * np.sin(np.arange(n) / 100) / (2 * np.pi)  # in ticks
    arrays["face.motionEnergy"] = np.arange(n, dtype=float)
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array[:, None])
    for name in ("wheel", "face"):
        np.save(folder / f"{name}.timestamps.npy", np.array([[0, 0.0], [n - 1, (n - 1) / 100]]))
    place = pd.DataFrame(
        {"ccf_ap": 1.0, "allen_ontology": ["VISp", "CA1", "root", "MB", "LP", "XX"]}
    )
    place.to_csv(folder / "channels.brainLocation.tsv", sep="\t", index=False)
    return arrays


def dataset(root: Path, **settings: Any) -> Dataset:
    return Dataset.model_validate({"source": {"kind": "local", "path": root}, **settings})


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, dict[str, np.ndarray]]:
    root = tmp_path_factory.mktemp("steinmetz")
    arrays = write_session(root / "data" / "Cori_2016-12-14")
    chosen = dataset(
        root / "data", trials={"keep": ["engaged"]}, signals={"face": "face.motionEnergy"}
    )
    report = ingest(chosen, "steinmetz", root / "c.zarr", workers=1)
    assert report.failed == {}
    assert check(report.cache) == {}
    (ds,) = ibl_mtm.open_cache(report.cache).values()
    return ds, arrays


def test_spikes_by_probe_and_cluster(made: Any) -> None:
    ds, arrays = made
    assert (ds.attrs["subject"], ds.attrs["date"]) == ("Cori", "2016-12-14")
    assert list(ds.cluster_id.values) == [0, 1, 2, 3, 4, 6]  # 5 is noise
    assert list(ds.probe.values) == ["probe00"] * 3 + ["probe01"] * 3
    for column, cluster in enumerate(ds.cluster_id.values):
        own = arrays["spikes.times"][arrays["spikes.clusters"] == cluster]
        for trial in (0, 20, 50):
            start = arrays["trials.visualStim_times"][ds.trial.values[trial]] - 0.5
            inside = ((own >= start) & (own < start + 2.0)).sum()
            assert ds.spikes.values[trial, :, column].sum() == inside


def test_places_and_quality(made: Any) -> None:
    ds, _ = made
    assert list(ds.region.values) == ["VISp", "CA1", "root", "MB", "LP", "XX"]
    assert list(ds.cosmos.values)[:3] == ["Isocortex", "HPF", "root"]
    assert ds.cosmos.values[5] == "unknown"
    assert list(ds.channel.values) == [0, 1, 2, 3, 4, 5]
    assert np.array_equal(ds.label.values, [1, 0, np.nan, 1, 1, 0], equal_nan=True)
    assert list(ds.depth.values) == [0, 20, 40, 60, 80, 120]


def test_trials_in_the_ibls_codes(made: Any) -> None:
    ds, arrays = made
    at = ds.trial.values
    left, right = (arrays[f"trials.visualStim_contrast{side}"][at] for side in ("Left", "Right"))
    for k, contrast in enumerate(ds.contrast.values):
        one = (left[k] > 0) != (right[k] > 0)
        assert np.isnan(contrast) if not one else contrast == (right[k] or -left[k])
    assert list(ds.choice.values) == list(arrays["trials.response_choice"][at])
    assert list(ds.feedback.values) == list(arrays["trials.feedbackType"][at])
    assert list(ds.engaged.values) == list(arrays["trials.included"][at])
    assert "probability_left" not in ds
    # No first movement is told: no-go trials are left out, and nobody for being slow.
    assert list(ds.included.values) == list(ds.choice.values != 0)
    assert any("reaction time (firstMovement_times)" in note for note in ds.attrs["notes"])


def test_behaviour_by_its_even_clock(made: Any) -> None:
    ds, arrays = made
    centre = ds.window_start.values[:, None] + (np.arange(100) + 0.5) * 0.02
    assert np.abs(ds.wheel_velocity.values - np.cos(centre))[5:-5].max() < 0.05  # rad/s
    assert np.allclose(ds.face.values, centre * 100, rtol=1e-5)
    first = ds.window_start.values[10]
    licks = arrays["licks.times"]
    assert ds.lick_count.values[10].sum() == ((licks >= first) & (licks < first + 2)).sum()


def test_the_folders_of_the_other_publication(tmp_path: Path) -> None:
    write_session(tmp_path / "nicklab" / "Subjects" / "Hench" / "2017-06-15" / "001" / "alf")
    report = ingest(dataset(tmp_path / "nicklab"), "s", tmp_path / "c.zarr", workers=1)
    assert report.failed == {}
    (ds,) = ibl_mtm.open_cache(report.cache).values()
    assert [ds.attrs[k] for k in ("lab", "subject", "number")] == ["nicklab", "Hench", 1]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("spikes.times.npy", "no session in"),
        ("spikes.clusters.npy", "spikes.clusters.npy: missing"),
        ("channels.brainLocation.tsv", "channels.brainLocation.tsv: missing"),
        ("trials.visualStim_times.npy", "no column stimOn_times to align to"),
    ],
)
def test_what_is_missing_is_named(tmp_path: Path, name: str, said: str) -> None:
    folder = tmp_path / "data" / "Cori_2016-12-14"
    write_session(folder)
    (folder / name).unlink()
    try:
        report = ingest(dataset(tmp_path / "data"), "s", tmp_path / "c.zarr", workers=1)
        ((_, reason),) = report.failed.items()
    except ibl_mtm.UserError as error:
        reason = str(error)
    assert said in reason


def test_what_is_not_needed_is_noted(tmp_path: Path) -> None:
    folder = tmp_path / "data" / "Cori_2016-12-14"
    write_session(folder)
    for name in ("wheel.timestamps", "licks.times", "clusters._phy_annotation", "clusters.probes"):
        (folder / f"{name}.npy").unlink()
    report = ingest(dataset(tmp_path / "data"), "s", tmp_path / "c.zarr", workers=1)
    (ds,) = ibl_mtm.open_cache(report.cache).values()
    notes = " | ".join(ds.attrs["notes"])
    for said in ("wheel.timestamps.npy: missing", "licks.times", "_phy_annotation", "probes"):
        assert notes.count(said) == 1
    assert set(ds.probe.values) == {"probe00"}
    assert np.isnan(ds.label.values).all()
