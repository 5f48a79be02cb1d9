"""Two minutes of real spikes, from files to scores: no trials, no regions, no behaviour."""

import numpy as np
import pytest
from real_recording import write_real_recording

from ibl_mtm.cache.cache import open_cache
from ibl_mtm.config.dataset import Align, Dataset
from ibl_mtm.config.sources import LocalSource
from ibl_mtm.evaluation.evaluate import evaluate
from ibl_mtm.ingest.run import ingest
from ibl_mtm.training.run import train
from ibl_mtm.training.settings import read_run_settings

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def scores(shared_data, tmp_path_factory):
    root = tmp_path_factory.mktemp("real")
    write_real_recording(root / "one")
    source = LocalSource(kind="local", path=root / "one")
    dataset = Dataset(source=source, align=Align(contiguous=2.0))
    assert not ingest(dataset, "real", root / "cache.zarr").failed
    cache = open_cache(root / "cache.zarr")
    # Far shorter than real_recording.yaml, of which docs/experiments.md tells what it reaches.
    settings = read_run_settings(
        "real_recording", ["steps=120", "validate_every=40", "model.width=64"]
    )
    train(settings, cache, root / "run", progress=False)
    (ds,) = cache.values()
    return ds, evaluate(root / "run", cache)


def test_co_smoothing_is_above_zero_over_the_active_units(scores):
    ds, evaluation = scores
    active = ds.unit.values[ds.spikes.values.sum((0, 1)) > 120]
    table = evaluation.per_unit.query("task == 'co_smoothing'").set_index("unit")
    bits = table.bits_per_spike.reindex(active.tolist())
    assert len(bits) == pytest.approx(144, abs=2)  # the last second is in no whole window
    assert bits.mean() > 0.08


def test_tasks_without_regions_or_behaviour_are_skipped_with_a_reason(scores):
    ds, evaluation = scores
    skipped = evaluation.metrics["skipped"][ds.attrs["eid"]]
    tasks = {"intra_region", "inter_region", "choice", "whisker_motion_energy"}
    assert set(skipped) == tasks | {"psth_r2"}
    assert all(skipped.values())
    assert np.isfinite(evaluation.metrics["tasks"]["forward_prediction"]["bits_per_spike"])
    assert evaluation.metrics["simulated"] is False
