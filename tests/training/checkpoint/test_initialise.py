"""Fine-tuning: rows are taken over by name, and nothing is dropped or reused unsaid."""

import json

import pytest
import torch
from synthetic import make_regions, make_session

from ibl_mtm.cache.cache import open_cache
from ibl_mtm.cache.store import create_cache, write_session
from ibl_mtm.config.yaml_settings import validate_settings
from ibl_mtm.errors import UserError
from ibl_mtm.model.mtm import MtM
from ibl_mtm.model.scope import Scope
from ibl_mtm.model.settings import ModelSettings
from ibl_mtm.sessions.trial_format import TrialFormat
from ibl_mtm.training.checkpoint.initialise import Match, initialise
from ibl_mtm.training.checkpoint.pretrained import load_model
from ibl_mtm.training.run import train
from ibl_mtm.training.settings import RunSettings

TINY = ModelSettings(
    width=8, layers=1, heads=2, mlp=8, stitch_width=6, mask_indicator=True, prompt_region=True
)
FORMAT = TrialFormat(10, 0.02, "stimOn_times", -0.5)
BODY = {"positions", "prompt_token", "norm.weight", "embed.0.weight", "blocks.0.qkv.weight"}


def make_model(units, sessions, regions, seed, settings=TINY, **scope):
    model = MtM(settings, Scope(units, sessions, regions, FORMAT, ("neuron",), **scope))
    torch.manual_seed(seed)
    for tensor in model.state_dict().values():
        torch.nn.init.normal_(tensor)
    return model


@pytest.fixture
def models():
    trained = make_model(("u1", "u2", "u3"), ("A", "B"), ("CA1", "DG"), seed=1)
    new = make_model(("u9", "u3", "u1"), ("C", "B"), ("DG", "LP"), seed=2)
    return new, trained


def test_rows_are_taken_over_by_name(models):
    new, trained = models
    before = {name: tensor.clone() for name, tensor in new.state_dict().items()}
    report = initialise(new, trained, "runs/a")
    after, old = new.state_dict(), trained.state_dict()
    assert report.units == Match(matched=("u3", "u1"), new=("u9",), left_out=("u2",))
    assert report.sessions == Match(matched=("B",), new=("C",), left_out=("A",))
    assert report.regions == Match(matched=("DG",), new=("LP",), left_out=("CA1",))
    for name in ("read_in", "indicator", "read_out", "read_out_bias", "input_mean", "input_scale"):
        assert torch.equal(after[name], torch.stack([before[name][0], *old[name][[2, 0]]])), name
    for name in ("read_in_bias", "session_token"):
        assert torch.equal(after[name], torch.stack([old[name].mean(0), old[name][1]])), name
    expected = torch.stack([old["region_token"][1], before["region_token"][1]])
    assert torch.equal(after["region_token"], expected)
    # The null model is the mean of the trials at hand, whoever trained on others before.
    assert torch.equal(after["null_log_rate"], before["null_log_rate"])
    assert after.keys() > BODY
    for name in BODY:
        assert torch.equal(after[name], old[name]), name


def test_every_tensor_of_units_or_sessions_is_declared():
    """A table that `MtM` does not name would be taken for a part of the shared transformer."""
    units, sessions = tuple(map(str, range(41))), tuple(map(str, range(37)))
    every_choice = TINY.model_copy(update={"standardise": True, "convolution": 2})
    model = make_model(units, sessions, ("CA1",), seed=0, settings=every_choice)
    by_size = {
        size: {name for name, tensor in model.state_dict().items() if len(tensor) == size}
        for size in (41, 37)
    }
    assert by_size == {41: set(MtM.UNIT_TABLES), 37: set(MtM.SESSION_TABLES)}


def test_models_that_mean_other_things_by_their_weights_are_refused(models):
    _, trained = models
    for key, value in {"mlp": 16, "standardise": True, "prompt": False}.items():
        other = make_model(
            ("u1",), ("A",), ("CA1",), 0, settings=TINY.model_copy(update={key: value})
        )
        with pytest.raises(UserError, match=rf"a was trained with model\.{key}="):
            initialise(other, trained, "a")
    dropout = TINY.model_copy(update={"dropout": 0.1, "input_dropout": 0.3})
    initialise(make_model(("u1",), ("A",), ("CA1",), 0, settings=dropout), trained, "a")
    with pytest.raises(UserError, match=r"data\.regions=beryl"):
        initialise(make_model(("u1",), ("A",), ("CA1",), 0, region_map="cosmos"), trained, "a")


def test_how_a_model_starts_and_drops_does_not_bind_the_next_one(models, caplog):
    """Nor whether an unprompted token would have been shared, where both have prompts."""
    _, trained = models
    for key, value in {"embedding_std": 1.0, "t_fixup": True, "dropout_at": "paper",
                       "stitcher_bias": "uniform", "shared_token": False}.items():  # fmt: skip
        other = TINY.model_copy(update={key: value})
        initialise(make_model(("u1",), ("A",), ("CA1",), 0, settings=other), trained, "a")
    assert not caplog.messages
    leak = TINY.model_copy(update={"leading_tokens_see_all": True})
    initialise(make_model(("u1",), ("A",), ("CA1",), 0, settings=leak), trained, "a")
    assert "model.leading_tokens_see_all=false" in caplog.text
    lone = TINY.model_copy(update={"prompt": False, "prompt_region": False})
    before = make_model(("u1",), ("A",), ("CA1",), 0, settings=lone)
    without = make_model(("u1",), ("A",), ("CA1",), 0,
                         settings=lone.model_copy(update={"shared_token": False}))  # fmt: skip
    with pytest.raises(UserError, match=r"model\.shared_token=True, not False"):
        initialise(without, before, "a")


def test_of_a_model_without_sessions_the_body_is_taken(models):
    new, _ = models
    before = {name: tensor.clone() for name, tensor in new.state_dict().items()}
    body = make_model((), (), (), seed=3)
    initialise(new, body, "a")
    for name, tensor in new.state_dict().items():
        kept = name in {*MtM.UNIT_TABLES, *MtM.SESSION_TABLES, "region_token"}
        assert torch.equal(tensor, before[name] if kept else body.state_dict()[name]), name


@pytest.fixture(scope="module")
def caches(tmp_path_factory):
    """Three animals, and two of which one is new and one has lost half of its units."""
    folder = tmp_path_factory.mktemp("finetune")
    sessions = [make_session(n_units=15, n_trials=30, n_bins=20, seed=seed) for seed in range(4)]
    for name, chosen in (
        ("pretrain", sessions[:3]),
        ("finetune", [sessions[2].isel(unit=slice(0, 8)), sessions[3]]),
    ):
        create_cache(folder / name)
        for ds in chosen:
            write_session(folder / name, ds, make_regions())
    return open_cache(folder / "pretrain"), open_cache(folder / "finetune")


def settings(**changes):
    values = {
        "model": {"width": 16, "layers": 1, "heads": 2, "mlp": 16, "stitch_width": None},
        "data": {"min_units_per_region": 2},
        "batch_size": 8,
        "steps": 4,
        "validate_every": 4,
    }
    return validate_settings(values | changes, RunSettings, "test")


@pytest.fixture(scope="module")
def pretrained(caches, tmp_path_factory):
    run = tmp_path_factory.mktemp("finetune-runs") / "pretrained"
    train(settings(), caches[0], run, progress=False)
    return run


def test_a_run_starts_from_another_and_says_what_it_took(caches, pretrained, tmp_path):
    said = []
    report = train(
        settings(optimizer={"learning_rate": 1e-12}),
        caches[1],
        tmp_path / "tuned",
        init=pretrained,
        progress=False,
        say=said.append,
    )
    assert report.init == {
        "from": str(pretrained),
        "units": {"matched": 8, "new": 15, "left_out": 37},
        "sessions": {"matched": 1, "new": 1, "left_out": 2},
        "regions": {"matched": 5, "new": 0, "left_out": 0},
    }
    assert any("matched" in line or "taken over" in line for line in said)
    assert "8, new: 15, left out: 37" in said[0]
    names = json.loads((tmp_path / "tuned" / "init.json").read_text())["units"]
    known = {u for ds in caches[0].values() for u in ds.unit.values.tolist()}
    wanted = {u for ds in caches[1].values() for u in ds.unit.values.tolist()}
    assert set(names["matched"]) == known & wanted
    assert set(names["new"]) == wanted - known
    assert set(names["left_out"]) == known - wanted
    # With next to no learning rate, what is kept is what it started from.
    old, new = load_model(pretrained), load_model(tmp_path / "tuned")
    unit = names["matched"][3]
    rows = [model.scope.units.index(unit) for model in (old, new)]
    assert torch.allclose(old.read_out[rows[0]], new.read_out[rows[1]], atol=1e-6)
    for name in ("blocks.0.qkv.weight", "prompt_token"):
        assert torch.allclose(old.state_dict()[name], new.state_dict()[name], atol=1e-6)


def test_stitchers_alone_may_be_trained_first(caches, pretrained, tmp_path):
    def moved(**finetune):
        chosen = settings(finetune=finetune, optimizer={"learning_rate": 1e-2})
        run = tmp_path / str(len(list(tmp_path.iterdir())))
        train(chosen, caches[1], run, init=pretrained, progress=False)
        old, new = load_model(pretrained).state_dict(), load_model(run).state_dict()
        body = [
            (old[name] - new[name]).abs().mean().item() for name in ("norm.weight", "positions")
        ]
        return body, new["read_out"].abs().max().item()

    body, rows = moved(stitchers_only=4)
    assert body == [0, 0]
    assert rows > 1e-3
    whole, _ = moved()
    slow, _ = moved(body_rate=0.01)
    later, _ = moved(stitchers_only=2)
    for position in range(2):
        assert 0 < slow[position] < 0.1 * whole[position]
        assert later[position] > 0


def test_a_fine_tuning_is_resumed_with_or_without_naming_its_source(caches, pretrained, tmp_path):
    run, chosen = tmp_path / "run", settings(finetune={"body_rate": 0.1})
    begun = train(chosen, caches[1], run, init=pretrained, progress=False)
    for init in (None, pretrained):
        again = train(chosen, caches[1], run, init=init, resume=True, progress=False)
        assert again.init == begun.init
    with pytest.raises(UserError, match=f"was begun from {pretrained}, not from"):
        train(chosen, caches[1], run, init=tmp_path, resume=True, progress=False)


def test_requests_that_do_not_fit_are_told(caches, pretrained, tmp_path):
    with pytest.raises(UserError, match="give --init"):
        train(settings(finetune={"body_rate": 0.1}), caches[1], tmp_path / "a", progress=False)
    with pytest.raises(UserError, match="holds no trained model"):
        train(settings(), caches[1], tmp_path / "b", init=tmp_path / "none", progress=False)
    with pytest.raises(UserError, match="same folder"):
        train(settings(), caches[1], pretrained, init=pretrained, overwrite=True, progress=False)
    wide = {"width": 32, "layers": 1, "heads": 2, "mlp": 16, "stitch_width": None}
    done = tmp_path / "done"
    train(settings(), caches[1], done, progress=False)
    with pytest.raises(UserError, match=r"set model\.width=16 to start from it"):
        train(settings(model=wide), caches[1], done, init=pretrained, overwrite=True)
    # A request that fails costs no earlier run.
    assert load_model(pretrained).scope.units
    assert load_model(done).scope.units


def test_a_unit_in_two_sessions_is_refused(caches, tmp_path):
    twin = make_session(n_units=15, n_trials=30, n_bins=20, seed=7)
    twin = twin.assign_coords(unit=make_session(n_units=15, n_trials=30, n_bins=20, seed=0).unit)
    root = tmp_path / "twins"
    create_cache(root)
    for ds in (make_session(n_units=15, n_trials=30, n_bins=20, seed=0), twin):
        write_session(root, ds, make_regions())
    with pytest.raises(UserError, match="stands 2 times in the data"):
        train(settings(), open_cache(root), tmp_path / "run", progress=False)
