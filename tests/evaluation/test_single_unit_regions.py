"""Every region takes part, also root, void and those of one unit: nothing is left to see there."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from synthetic import make_regions, make_session
from training_runs import tiny_settings

import ibl_mtm
from ibl_mtm.cache.store import create_cache, write_session

pytestmark = pytest.mark.usefixtures("short")

TASKS = ["intra_region", "inter_region"]
REGIONS = np.array(["CA1", "CA1", "CA1", "root", "void", "void", "DG", "VISa", "VISa"])


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("every-region")
    ds = make_session(n_units=9, n_trials=60, n_bins=20, seed=3)
    ds["region"] = ("unit", REGIONS)
    names = [("root", "root", 1, "#808080"), ("void", "void", 2, "#808080")]
    table = pd.DataFrame(names, columns=make_regions().columns)
    create_cache(folder / "cache.zarr")
    write_session(folder / "cache.zarr", ds, pd.concat([make_regions(), table]))
    cache = ibl_mtm.open_cache(folder / "cache.zarr")
    settings = tiny_settings(
        data={"min_units_per_region": 1, "void_and_root": "use", "regions": "region"},
        masks={"draw_region_per": "step", "ratios": {"intra_region_by": "coin"}},
        steps=6,
    )
    ibl_mtm.train(settings, cache, folder / "run", progress=False)
    return cache, folder / "run"


def test_a_model_is_scored_on_every_unit(trained):
    cache, run = trained
    found = ibl_mtm.evaluate(run, cache, tasks=TASKS)
    assert found.per_unit.groupby("task").size().to_dict() == dict.fromkeys(TASKS, len(REGIONS))
    assert np.isfinite(found.per_unit["bits_per_spike"]).all()
    pairs = found.region_pairs
    assert set(pairs["source"]) == set(REGIONS)
    assert ibl_mtm.load_model(run).scope.void_and_root == "use"


@pytest.mark.parametrize("name", ["unit_mean", "pca_poisson", "poisson_regression"])
def test_baselines_are_fitted_to_the_same_regions(trained, name):
    cache, run = trained
    found = ibl_mtm.evaluate_baseline(name, cache, like=run, tasks=TASKS)
    assert found.per_unit.groupby("task").size().to_dict() == dict.fromkeys(TASKS, len(REGIONS))
    assert np.isfinite(found.per_unit["bits_per_spike"]).all()


def test_regions_are_what_earlier_models_had_where_they_do_not_say(trained, tmp_path):
    """Models of earlier versions leave void and root out."""
    _, run = trained
    copy = shutil.copytree(run, tmp_path / "run")
    config = json.loads((copy / "config.json").read_text())
    del config["void_and_root"]
    (copy / "config.json").write_text(json.dumps(config))
    assert ibl_mtm.load_model(copy).scope.void_and_root == "leave_out"
