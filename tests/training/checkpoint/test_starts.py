"""Where a new model starts, what it may start from, and what is told where it may not."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from synthetic import make_session
from test_initialise import FORMAT, TINY, make_model
from training_runs import tiny_settings

from ibl_mtm.errors import UserError
from ibl_mtm.sessions.trial_format import TrialFormat
from ibl_mtm.sessions.view import describe_session
from ibl_mtm.training.checkpoint.build import build_model
from ibl_mtm.training.checkpoint.initialise import initialise
from ibl_mtm.training.checkpoint.model_card import _scores, model_card
from ibl_mtm.training.checkpoint.pretrained import (
    PretrainedMtM,
    is_of_hub,
    load_model,
    save_model,
)

BINS = TrialFormat(8, 0.02, "stimOn_times", -0.5)


def describe(seed, settings, change=lambda counts: counts):
    ds = make_session(n_units=6, n_trials=30, n_bins=8, seed=seed)
    ds["spikes"] = ds.spikes.dims, change(ds.spikes.values)
    return describe_session(ds, settings.data)


def test_inputs_are_centred_and_scaled_by_training_trials():
    """A unit that never fires keeps its input as it is; a quiet one has a small scale."""

    def change(counts):
        counts[:, :, 1] = 0
        counts[:, :, 4] *= 9
        return counts

    settings = tiny_settings(masks={"schemes": {"causal": 0.25, "neuron": 0, "random": 2}})
    sessions = [describe(1, settings), describe(2, settings, change)]
    model = build_model(settings, sessions, BINS)
    assert model.scope.schemes == ("causal", "random")
    assert model.scope.sessions == tuple(session.eid for session in sessions)
    assert "" not in model.scope.regions
    for number, session in enumerate(sessions):
        rows = slice(6 * number, 6 * number + 6)
        counts = session.read("train").reshape(-1, 6)
        np.testing.assert_allclose(model.input_mean[rows], counts.mean(0), rtol=1e-5)
        scale = counts.std(0, ddof=1)
        if number:
            assert scale[1] == 0
            scale[1] = 1
        np.testing.assert_allclose(model.input_scale[rows], scale, rtol=1e-4)
        null = np.log((counts.sum(0) + 0.5) / len(counts))
        np.testing.assert_allclose(model.null_log_rate[rows], null, rtol=1e-4, atol=1e-6)
    assert model.input_scale[:6].min() < 0.5


def test_of_sessions_that_share_a_unit_both_are_named():
    settings = tiny_settings()
    one, other, third = (describe(seed, settings) for seed in (1, 2, 3))
    other.units[3] = one.units[2]
    told = rf"unit {one.units[2]} stands 2 times in the data \(sessions {one.eid}, {other.eid}\)"
    with pytest.raises(UserError, match=told):
        build_model(settings, [third, one, other], BINS)


def other_format(seed=0, **changes):
    """A model of trials of another format."""
    model = make_model(("u1",), ("A",), ("CA1",), seed)
    form = TrialFormat(**vars(FORMAT) | changes)
    model.scope = SimpleNamespace(**vars(model.scope) | {"trial_format": form})
    return model


@pytest.mark.parametrize(
    ("new", "old", "warned", "refused"),
    [
        ({}, {}, False, False),
        ({"alignment": "feedback_times"}, {}, True, False),
        ({"alignment": "contiguous"}, {}, False, True),
        ({}, {"alignment": "contiguous"}, False, True),
        ({"alignment": "contiguous"}, {"alignment": "contiguous"}, False, False),
        ({"start": 0.0}, {}, False, True),
        ({"alignment": "feedback_times", "bin_size": 0.01}, {}, True, True),
    ],
)
def test_a_model_may_start_from_one_of_another_event_but_of_no_other_format(
    caplog, new, old, warned, refused
):
    model, trained = other_format(**new), other_format(seed=1, **old)
    if refused:
        with pytest.raises(UserError, match="trials of another format"):
            initialise(model, trained, "a")
    else:
        initialise(model, trained, "a")
        assert torch.equal(model.positions, trained.positions)
    assert ("its time bins mean something else here" in caplog.text) == warned


def test_names_of_regions_bind_only_models_that_are_told_regions():
    plain = TINY.model_copy(update={"prompt_region": False})
    trained = make_model(("u1",), ("A",), ("CA1",), 1, settings=plain)
    other = make_model(("u1",), ("A",), ("HPF",), 2, settings=plain, region_map="cosmos")
    assert initialise(other, trained, "a").regions.new == ("HPF",)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("lab/mtm", True),
        ("my-lab.org/mtm_2.0", True),
        ("mtm", False),
        ("a/b/c", False),
        ("./mtm", False),
        ("../mtm", False),
        ("/runs/mtm", False),
        ("runs/mtm", False),  # the folder runs is here
        ("runs/there", False),
        ("lab/m t m", False),
    ],
)
def test_a_name_of_the_hub_is_that_of_no_folder_here(tmp_path, monkeypatch, source, expected):
    (tmp_path / "runs" / "there").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert is_of_hub(source) == expected


@pytest.fixture
def saved(tmp_path):
    """A model in a folder of a folder that was not there."""
    model = make_model(("u1",), ("A",), ("CA1",), 1)
    folder = tmp_path / "a" / "b" / "model"
    save_model(model, folder)
    save_model(model, folder)
    return model, folder


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[]", "does not describe an ibl-mtm model"),
        ('"format"', "does not describe an ibl-mtm model"),
        ("{}", "does not describe an ibl-mtm model"),
        ('{"format": "ibl-mtm"}', "is not as ibl-mtm writes it: 'model'"),
        ('{"format": "ibl-mtm", "format_version": 2}', "was written by a newer ibl-mtm"),
        ('{"format": "ibl-mtm", "format_version": 1}', "is not as ibl-mtm writes it: 'model'"),
        ("\x00{", "is not JSON"),
    ],
)
def test_a_description_that_is_none_is_told(saved, text, told):
    _, folder = saved
    (folder / "config.json").write_text(text)
    with pytest.raises(UserError, match=told) as error:
        load_model(folder)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_what_a_folder_lacks_is_named(saved, name):
    _, folder = saved
    (folder / name).unlink()
    with pytest.raises(UserError, match=f"holds no trained model .no {name}."):
        load_model(folder)


def test_a_model_of_before_regions_of_void_were_asked_for_is_read(saved):
    model, folder = saved
    config = json.loads((folder / "config.json").read_text())
    del config["void_and_root"], config["format_version"]
    (folder / "config.json").write_text(json.dumps(config))
    found = load_model(folder)
    assert found.scope == model.scope
    assert (found.scores, found.records) == (None, {})


def test_records_of_a_run_travel_with_its_model(saved, tmp_path):
    _, folder = saved
    (folder / "config.yaml").write_bytes(b"seed: 3\n")
    (folder / "metrics.json").write_text('{"tasks": {}}')
    found = load_model(folder)
    assert found.scores == {"tasks": {}}
    found.save_pretrained(tmp_path / "again")
    assert (tmp_path / "again" / "config.yaml").read_bytes() == b"seed: 3\n"
    assert not (tmp_path / "again" / "trials.parquet").exists()
    assert load_model(tmp_path / "again").scores == {"tasks": {}}


@pytest.mark.parametrize("private", [None, True, False])
def test_a_repository_is_public_unless_it_is_to_be_private_and_may_be_there(
    saved, monkeypatch, private
):
    asked = []
    api = SimpleNamespace(
        create_repo=lambda repo, **how: asked.append((repo, how)),
        upload_folder=lambda **how: "the address",
    )
    hub = SimpleNamespace(HfApi=lambda token: asked.append(token) or api)
    at = "ibl_mtm.training.checkpoint.pretrained._import_hub"
    monkeypatch.setattr(at, lambda: hub)
    model = PretrainedMtM(saved[0].settings, saved[0].scope)
    how = {} if private is None else {"private": private}
    assert model.push_to_hub("lab/mtm", token="t", **how) == "the address"
    assert asked == ["t", ("lab/mtm", {"private": bool(private), "exist_ok": True})]


def test_a_card_tells_errors_of_those_scores_whose_errors_they_are(saved):
    """That of balanced accuracy is not told; settings stand in their order."""
    model, _ = saved
    values = {"accuracy": 0.75, "balanced_accuracy": 0.5, "sem": 0.125, "n_sessions": 3}
    rows = _scores({"tasks": {"choice": values, "wheel_speed": {"r2": 0.5, "sem": None}}})
    assert [row.split(" | ", 1)[1] for row in rows.splitlines()[2:]] == [
        "0.750 ± 0.125 | accuracy |", "0.500 | balanced accuracy |", "0.500 | R² |",
    ]  # fmt: skip
    card = model_card(model, {"tasks": {}, "provenance": {"dataset": "brain-wide"}})
    assert "- dataset: brain-wide\n" in card
    assert "- split:" not in card
    assert "simulated" not in card
    own = card.partition("```yaml\n")[2].partition("```")[0].splitlines()
    own = [line.partition(":")[0] for line in own if not line.startswith("-")]
    assert own == list(model.settings.model_dump())
    n_parameters = sum(parameter.numel() for parameter in model.parameters())
    assert f"{n_parameters:,} parameters." in card
