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


#: What a configuration need not say, as `pipelines/configs` and runs of before count on.
DEFAULTS = {
    "name": "mtm", "seed": 0, "target": None, "batch_size": 16, "sessions_per_batch": 1,
    "steps": None, "epochs": None, "validate_every": None, "validation_masks": 1, "patience": None,
    "average": 0.0,
    "masks": {
        "schemes": {"neuron": 1.0, "causal": 1.0, "intra_region": 1.0, "inter_region": 1.0},
        "draw_per": "step", "draw_region_per": "trial", "loss": "sum", "behaviour_weight": 0.1,
        "ratios": {
            "neuron": 0.3, "causal": 0.6, "intra_region": 0.3, "intra_region_by": "count",
            "temporal": 0.3, "random": 0.3, "mixed": 0.3, "encoding": 0.5, "tail_share": 0.0,
            "tail_bins": 20,
        },
    },
    "data": {
        "split": None, "min_rate": 0.0, "min_label": 0.0, "included_only": False,
        "regions": "beryl", "min_units_per_region": 5, "void_and_root": "leave_out", "pool": 16,
        "memory_gb": None, "device_cache": "auto", "evaluated_animals": "refuse",
    },
    "model": {
        "width": 512, "layers": 5, "heads": 8, "mlp": 1024, "stitch_width": 668,
        "input_dropout": 0.2, "dropout": 0.4, "attention_dropout": 0.4, "dropout_at": "branches",
        "transform": "none", "standardise": False, "mask_indicator": False, "convolution": 0,
        "start_as_identity": False, "t_fixup": False, "embedding_std": 0.02,
        "stitcher_bias": "zero", "prompt": True, "shared_token": True, "prompt_region": False,
        "leading_tokens_see_all": False, "bias": "log_mean", "dynamics": 0, "drift": False,
        "modalities": [], "refit_encoding": False,
    },
    "optimizer": {
        "learning_rate": 1e-4, "weight_decay": 0.01, "decay_biases": False,
        "cycle_momentum": False, "warmup": 0.15, "clip": 1.0,
    },
    "finetune": {"stitchers_only": 0, "body_rate": 1.0},
    "trainer": {
        "accelerator": "auto", "precision": "32", "compile": False, "devices": 1, "nodes": 1,
        "accumulate": 1, "logger": "tensorboard",
    },
}  # fmt: skip


def test_what_a_configuration_need_not_say_stays():
    found = RunSettings().model_dump(mode="json")
    assert found == DEFAULTS


#: Intervals of what may be said: of whole numbers, then of others.
WHOLE = {
    "seed": "[0, 9223372036854775807]",
    **dict.fromkeys(
        ("steps", "epochs", "batch_size", "validate_every", "validation_masks", "patience"), "[1,"
    ),
    **{f"trainer.{key}": "[1," for key in ("devices", "nodes", "accumulate")},
    **{f"model.{key}": "[1," for key in ("mlp", "stitch_width")},
    **{f"model.{key}": "[0," for key in ("layers", "convolution", "dynamics")},
    **{f"data.{key}": "[1," for key in ("pool", "min_units_per_region")},
    "masks.ratios.tail_bins": "[1,",
    "finetune.stitchers_only": "[0,",
}
REAL = {
    "average": "[0, 1)",
    "optimizer.warmup": "[0, 1)",
    "optimizer.learning_rate": "(0,",
    "optimizer.weight_decay": "[0,",
    "optimizer.clip": "(0,",
    "finetune.body_rate": "(0,",
    "masks.behaviour_weight": "[0,",
    "model.embedding_std": "[0,",
    **{f"model.{key}": "[0, 1)" for key in ("input_dropout", "dropout", "attention_dropout")},
    **{
        f"masks.ratios.{key}": "[0, 1]"
        for key in ("neuron", "causal", "intra_region", "temporal", "random", "mixed", "encoding",
                    "tail_share")
    },
    "data.memory_gb": "(0,",
    "data.min_rate": "[0,",
    "data.min_label": "[0, 1]",
}  # fmt: skip


@pytest.mark.parametrize("key", [*WHOLE, *REAL])
def test_settings_have_limits(key):
    interval, step = (WHOLE | REAL)[key], 1 if key in WHOLE else 1e-6
    low, _, high = interval.strip("[]()").partition(",")
    ends = [(low, interval[0] == "[", -step), (high, interval[-1] == "]", step)]
    for end, included, outwards in ends[: 1 + bool(high)]:
        limit = type(step)(end)
        inside, outside = (limit, limit + outwards) if included else (limit - outwards, limit)
        *above, last = key.split(".")
        for value in (inside, outside):
            given = {last: value}
            for name in reversed(above):
                given = {name: given}
            if value == inside:
                found = as_run_settings(given)
                for name in key.split("."):
                    found = getattr(found, name)
                assert found == inside
            else:
                with pytest.raises(UserError, match=last):
                    as_run_settings(given)


def test_words_that_yaml_reads_as_truth_values_or_numbers(write):
    text = "base: mtm_small\ndata: {device_cache: %s}\ntrainer: {precision: %s}\n"
    for word in ("on", "off", "auto"):
        found = read_run_settings(write(text % (word, 32)))
        assert (found.data.device_cache, found.trainer.precision) == (word, "32")


@pytest.mark.parametrize(
    ("schemes", "told"),
    [
        ({"neuron": 0.0, "causal": 0.5}, None),
        ({"neuron": 0.0}, "give at least one scheme a positive weight"),
        ({}, "give at least one scheme a positive weight"),
        ({"neuron": 2.0, "causal": -0.5}, "and none a negative one"),
        ({"neuron": 1.0, "encoding": 0.5}, "masks.schemes has encoding, of behaviour"),
        ({"neuron": 1.0, "encoding": 0.0}, None),
    ],
)
def test_weights_of_schemes(schemes, told):
    given = {"masks": {"schemes": schemes}}
    if told is None:
        assert as_run_settings(given).masks.schemes == schemes
    else:
        with pytest.raises(UserError, match=told):
            as_run_settings(given)


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
