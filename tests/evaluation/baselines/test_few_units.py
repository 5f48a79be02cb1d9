"""Sessions of very few units are scored with what there is, or left out with a reason."""

import numpy as np
import pytest
from short_fits import shorten
from synthetic import make_regions, make_session

from ibl_mtm.cache.cache import open_cache
from ibl_mtm.cache.store import create_cache, write_session
from ibl_mtm.evaluation.baselines.registry import BASELINES
from ibl_mtm.evaluation.evaluate import evaluate_baseline


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """Sessions of one, two and six units."""
    root = tmp_path_factory.mktemp("few") / "cache.zarr"
    create_cache(root)
    for seed, n_units in ((1, 1), (2, 2), (3, 6)):
        ds = make_session(n_units=n_units, n_trials=40, n_bins=20, seed=seed)
        loud = np.random.default_rng(seed).poisson(0.4, ds.spikes.shape).astype(np.uint8)
        write_session(root, ds.assign(spikes=(ds.spikes.dims, loud)), make_regions())
    return open_cache(root)


@pytest.mark.parametrize("name", BASELINES)
def test_a_session_of_few_units_ends_no_evaluation(cache, name, monkeypatch):
    shorten(monkeypatch)
    tasks = [
        task for task in ("co_smoothing", "forward_prediction") if task in BASELINES[name].tasks
    ]
    found = evaluate_baseline(name, cache, tasks=tasks).metrics
    by_units = {int(cache[eid].sizes["unit"]): eid for eid in cache}
    for task in tasks:
        assert found["sessions"][by_units[6]][task]
        assert found["sessions"][by_units[2]][task]
        alone = found["sessions"][by_units[1]][task]
        if task == "co_smoothing":
            assert alone is None
            assert "a single unit" in found["skipped"][by_units[1]][task]
