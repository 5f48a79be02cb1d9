"""Whose a folder is: a training deletes nothing that it did not make, a refused one leaves none."""

import shutil

import pytest
from synthetic import make_regions, make_session
from training_runs import TINY, tiny_settings

from ibl_mtm.cache.cache import open_cache
from ibl_mtm.cache.store import create_cache, write_session
from ibl_mtm.disk.ownership import MARKER
from ibl_mtm.errors import UserError
from ibl_mtm.training.run import train

SETTINGS = tiny_settings(steps=2, validate_every=2)


@pytest.fixture(scope="module")
def fitted(cache, tmp_path_factory):
    """A run, to be copied."""
    run = tmp_path_factory.mktemp("fitted") / "run"
    fit(cache, run)
    return run


def fit(cache, run, settings=SETTINGS, **how):
    return train(settings, cache, run, progress=False, **how)


def contents(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*"))


@pytest.mark.parametrize("how", [{}, {"overwrite": True}, {"overwrite": True, "resume": True}])
def test_a_folder_that_is_no_run_is_never_emptied(cache, fitted, tmp_path, how):
    """Notes, a folder of runs, a project with a configuration of its own, the cache itself."""
    shutil.copytree(fitted, tmp_path / "runs" / "a")
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "thesis.txt").write_text("three years")
    (tmp_path / "project" / "checkpoints").mkdir(parents=True)
    (tmp_path / "project" / "config.yaml").write_text("data: {}\nmodel: {}\n")
    before = contents(tmp_path)
    for folder in (tmp_path / "runs", tmp_path / "notes", tmp_path / "project", tmp_path):
        with pytest.raises(UserError, match=r"not the folder of a run: it holds .* of its own"):
            fit(cache, folder, **how)
    with pytest.raises(UserError, match="inside of the cache"):
        fit(cache, cache.path, **how)
    with pytest.raises(UserError, match="inside of the cache"):
        fit(cache, cache.path / "run", **how)
    assert contents(tmp_path) == before
    assert cache.path.is_dir()


def test_of_a_run_only_what_it_wrote_is_replaced(cache, fitted, tmp_path):
    run = shutil.copytree(fitted, tmp_path / "run")
    (run / "notes.txt").write_text("the one with the low rate")
    (run / "metrics.json").write_text("{}")
    (tmp_path / "scratch").mkdir()
    (tmp_path / "scratch" / "kept.png").write_text("")
    (run / "figures").symlink_to(tmp_path / "scratch")
    fit(cache, run, overwrite=True)
    assert (run / "notes.txt").read_text() == "the one with the low rate"
    assert not (run / "metrics.json").exists()
    assert not (run / "figures").exists()
    assert (tmp_path / "scratch" / "kept.png").exists()


def test_a_run_of_an_earlier_version_is_known_by_its_files(cache, fitted, tmp_path):
    run = shutil.copytree(fitted, tmp_path / "run")
    (run / MARKER).unlink()
    with pytest.raises(UserError, match="--overwrite to replace it"):
        fit(cache, run)
    fit(cache, run, overwrite=True)
    assert (run / MARKER).is_file()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"data": TINY["data"] | {"memory_gb": 1e-5}}, "data.memory_gb"),
        ({"data": TINY["data"] | {"min_rate": 500}}, "data.min_rate"),
        ({"trainer": {"accelerator": "gpu"}}, "trainer.accelerator"),
    ],
)
def test_a_training_that_is_refused_leaves_all_as_it_was(cache, fitted, tmp_path, changes, reason):
    run, wrong = tmp_path / "runs" / "run", tiny_settings(steps=2, validate_every=2, **changes)
    with pytest.raises(UserError, match=reason):
        fit(cache, run, wrong)
    assert not run.parent.exists()
    shutil.copytree(fitted, run)
    before = (run / "model.safetensors").read_bytes()
    with pytest.raises(UserError, match=reason):
        fit(cache, run, wrong, overwrite=True)
    assert (run / "model.safetensors").read_bytes() == before


def test_a_training_that_failed_before_its_first_checkpoint_does_not_block(
    cache, tmp_path, monkeypatch
):
    def fail(self, batch, batch_idx):
        raise RuntimeError("amid the first step")

    with monkeypatch.context() as broken:
        broken.setattr("ibl_mtm.training.loop.module.Training.training_step", fail)
        with pytest.raises(RuntimeError):
            fit(cache, tmp_path / "run")
    fit(cache, tmp_path / "run")


def test_a_run_that_is_a_file_is_refused(cache, tmp_path):
    (tmp_path / "file").write_text("")
    for run in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(UserError, match="is a file; give the name of a folder"):
            fit(cache, run)


def test_several_devices_need_a_script(cache, tmp_path, monkeypatch):
    """Lightning's own advice, another strategy of its trainer, cannot be followed."""
    monkeypatch.setattr("sys.ps1", ">>> ", raising=False)
    two = tiny_settings(trainer={"devices": 2, "accelerator": "cpu"})
    with pytest.raises(UserError, match=r"trainer\.devices=2 needs the command `ibl-mtm train`"):
        fit(cache, tmp_path / "run", two)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("scheme", ["intra_region", "inter_region"])
def test_a_session_that_allows_no_mask_is_named_before_training(tmp_path, scheme):
    """One session of the two has regions that are large enough; the other was met mid-training."""
    create_cache(tmp_path / "cache.zarr")
    large = make_session(n_units=25, n_trials=40, n_bins=20, seed=1)
    small = make_session(n_units=7, n_trials=40, n_bins=20, seed=2)
    for ds in (large, small):
        write_session(tmp_path / "cache.zarr", ds, make_regions())
    cache = open_cache(tmp_path / "cache.zarr")
    only = tiny_settings(steps=2, masks={"schemes": {scheme: 1.0}}, data={})
    told = rf"session {small.attrs['eid']} allows none of masks\.schemes \({scheme}\).*--where"
    with pytest.raises(UserError, match=told):
        fit(cache, tmp_path / "run", only)
    assert not (tmp_path / "run").exists()
    fit(cache.where("n_units > 10"), tmp_path / "run", only)
