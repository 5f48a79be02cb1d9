"""What a configuration may say, and what it may not: told with its key before anything begins."""

from pathlib import Path

import pytest
import yaml

from ibl_mtm.config.yaml_settings import read_settings
from ibl_mtm.errors import UserError
from ibl_mtm.training.settings import RunSettings, as_run_settings, read_run_settings


@pytest.fixture
def write(tmp_path, monkeypatch):
    def write(text, name="own.yaml"):
        (tmp_path / name).write_text(text)
        return str(tmp_path / name)

    monkeypatch.chdir(tmp_path)
    return write


@pytest.mark.parametrize("base", ["mtm_small.yaml", "mtm_small", "near.yaml"])
def test_a_file_is_based_on_a_shipped_one_by_name(write, base):
    write("base: mtm_small\nseed: 3\n", "near.yaml")
    found = read_run_settings(write(f"base: {base}\nname: own\n"))
    assert found.model == read_run_settings("mtm_small").model
    assert found.name == "own"
    assert found.seed == (3 if base == "near.yaml" else 0)


def test_a_name_that_is_nearly_right_gets_a_suggestion(write):
    with pytest.raises(UserError, match="did you mean 'mtm_small'"):
        read_run_settings("mtm_smal")
    with pytest.raises(UserError, match=r"shipped are .*mtm_small"):
        read_run_settings("zebra.yaml")


@pytest.mark.parametrize("text", ["", "# nothing yet\n", "{}\n", "name: mtm\n"])
def test_a_file_that_says_nothing_does_not_train_the_largest_model(write, text):
    with pytest.raises(UserError, match="sets nothing, and would train the paper's full-size"):
        read_run_settings(write(text))
    assert read_run_settings(write(text), ["steps=4"]).steps == 4


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("model.heads=3", "model: width 64 is no multiple of heads 3"),
        ("seed=-1", "'seed=-1': seed: input should be greater than or equal to 0"),
        ("optimizer.clip=-1", "'optimizer.clip=-1': optimizer.clip: input should be greater"),
        ("optimizer.learning_rate=.inf", "finite number"),
        ("model.stitch_width=0", "model.stitch_width: input should be greater than 0"),
        ("masks.ratios.neuron=1.5", "masks.ratios.neuron: input should be less"),
        ("masks.ratios.tail_bins=0", "masks.ratios.tail_bins"),
        ("sessions_per_batch=3", "batch_size 32 is no multiple of sessions_per_batch 3"),
        ("name=", "name"),
        ("data.min_units_per_region=0", "min_units_per_region: input should be greater than or"),
        ("data.void_and_root=all", "data.void_and_root: input should be 'leave_out' or 'use'"),
        ("model.dropout_at=tokens", "model.dropout_at: input should be 'branches' or 'paper'"),
        ("model.embedding_std=-1", "model.embedding_std: input should be greater than or equal"),
        ("masks.ratios.intra_region_by=dice", "input should be 'count' or 'coin'"),
        ("model={prompt: false, shared_token: false, prompt_region: true}", "prompt_region needs"),
    ],
)
def test_settings_that_mean_nothing_are_told(override, told):
    with pytest.raises(UserError) as error:
        read_run_settings("mtm_small", [override])
    assert told in str(error.value)
    assert "\n" not in str(error.value)


def test_of_steps_and_epochs_the_later_one_counts(write):
    assert read_run_settings("mtm").epochs == 1000
    for found in (
        read_run_settings("mtm", ["steps=40"]),
        read_run_settings(write("base: mtm\nsteps: 40\n")),
        read_run_settings(write("base: mtm_small\nepochs: 3\n"), ["steps=40"]),
    ):
        assert (found.steps, found.epochs) == (40, None)
    for config, overrides in (
        (write("base: mtm\nsteps: 4\nepochs: 2\n"), []),
        ("mtm_small", ["steps=4", "epochs=2"]),
    ):
        with pytest.raises(UserError, match="both steps and epochs"):
            read_run_settings(config, overrides)


def test_runs_of_earlier_versions_kept_both_and_are_read(write):
    values = RunSettings(steps=4).model_dump(mode="json") | {"epochs": 2}
    path = write(yaml.safe_dump(values))
    assert read_settings(Path(path), RunSettings).steps == 4


def test_settings_from_python_are_a_name_a_path_or_a_mapping(write):
    """The same as a file that says so."""
    text = "base: mtm_small\nsteps: 7\nmodel: {width: 32}\n"
    expected = read_run_settings(write(text))
    assert as_run_settings(yaml.safe_load(text)) == expected
    assert as_run_settings(Path(write(text))) == as_run_settings(write(text)) == expected
    assert as_run_settings(expected) is expected
    assert as_run_settings("temporal_small") == read_run_settings("temporal_small")
    # One of steps and epochs drops the other of the base, as in a file.
    assert as_run_settings({"base": "mtm_small", "epochs": 3}).steps is None


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"base": "mtm_small", "stpes": 3}, "unknown key 'stpes'"),
        ({"base": "mtm_smal"}, "no shipped configuration 'mtm_smal'"),
        ({"steps": -1}, "steps"),
    ],
)
def test_a_mapping_that_does_not_fit_is_told(write, given, told):
    with pytest.raises(UserError, match=told):
        as_run_settings(given)
