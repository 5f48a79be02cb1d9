"""A folder that phylib, Phy's own library, wrote its curation into: the same spikes and words."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ibl_mtm
from ibl_mtm.config.dataset import Dataset
from ibl_mtm.ingest.run import ingest

pytest.importorskip("phylib")
from phylib.io.model import load_model

RATE = 25000.0


@pytest.fixture
def curated(tmp_path: Path) -> tuple[Path, Any]:
    """Files as Kilosort leaves them; in Phy two templates were merged, three clusters judged."""
    rng = np.random.default_rng(2)
    folder = tmp_path / "data" / "m1" / "2024-05-06" / "imec0"
    folder.mkdir(parents=True)
    samples = np.sort(rng.integers(100, int(200 * RATE), 8000)).astype(np.uint64)
    np.save(folder / "spike_times.npy", samples)
    np.save(folder / "spike_templates.npy", rng.integers(0, 5, 8000).astype(np.int32))
    np.save(folder / "amplitudes.npy", np.ones(8000))
    np.save(folder / "channel_map.npy", np.arange(4))
    np.save(folder / "channel_positions.npy", np.c_[np.zeros(4), np.arange(4) * 20.0])
    np.save(folder / "templates.npy", rng.normal(size=(5, 30, 4)).astype(np.float32))
    (folder / "params.py").write_text(
        f"dat_path = []\nn_channels_dat = 4\ndtype = 'int16'\noffset = 0\nsample_rate = {RATE}\n"
        "hp_filtered = False\n"
    )
    model = load_model(folder / "params.py")
    clusters = model.spike_clusters.copy()
    clusters[np.isin(clusters, [1, 3])] = 5  # merged, as Phy numbers it
    model.save_spike_clusters(clusters)
    model.save_metadata("group", {0: "good", 2: "noise", 5: "mua"})
    model.save_metadata("region", {0: "CA1", 4: "LP", 5: "my spot"})
    cue = np.cumsum(rng.uniform(3, 5, 40))
    text = "cue\n" + "\n".join(map(str, cue))
    (folder.parent / "trials.csv").write_text(text)
    return folder, cue


def test_spikes_and_words_are_those_of_phylib(curated: Any, tmp_path: Path) -> None:
    folder, cue = curated
    align = {"event": "cue", "window": [-0.2, 0.8], "bin": 0.02}
    chosen = Dataset.model_validate(
        {"source": {"kind": "phy", "path": tmp_path / "data"}, "align": align}
    )
    report = ingest(chosen, "rig", tmp_path / "c.zarr", workers=1)
    assert report.failed == {}
    (ds,) = ibl_mtm.open_cache(report.cache).values()
    model = load_model(folder / "params.py")
    assert list(ds.cluster_id.values) == [0, 4, 5]  # 2 is noise; 1 and 3 are 5
    assert ds.label.values[[0, 2]].tolist() == [1, 0]
    assert np.isnan(ds.label.values[1])
    assert list(ds.region.values) == ["CA1", "LP", "my spot"]
    for column, cluster in enumerate(ds.cluster_id.values):
        times = model.spike_times[model.spike_clusters == cluster]
        for row, trial in enumerate(ds.trial.values):
            edges = cue[trial] - 0.2 + np.arange(51) * 0.02
            expected, _ = np.histogram(times, edges)
            assert ds.spikes.values[row, :, column].tolist() == expected.tolist()
    assert {"wheel_velocity", "whisker_motion_energy", "lick_count"}.isdisjoint(ds.variables)
