"""Training with modalities: one session without behaviour among others, resumed, kept, refused."""

from dataclasses import replace

import pytest
import torch
from synthetic import make_regions, make_session
from training_runs import TINY, read_logs, tiny_settings

from ibl_mtm.cache.cache import open_cache
from ibl_mtm.cache.store import create_cache, write_session
from ibl_mtm.errors import UserError
from ibl_mtm.training.checkpoint.initialise import initialise
from ibl_mtm.training.checkpoint.pretrained import load_model
from ibl_mtm.training.loop.module import Training
from ibl_mtm.training.run import train

NAMES = ["wheel_speed", "whisker_motion_energy", "lick_rate", "choice", "block"]
SCHEMES = {
    "neuron": 1.0, "causal": 1.0, "decoding": 2.0, "encoding": 1.0, "behaviour": 1.0, "mixed": 1.0,
}  # fmt: skip
ABSENT = ["whisker_motion_energy", "wheel_velocity", "lick_count"]
CLASSES = ["choice", "probability_left"]


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """A session with all behaviour, one without a camera, one with none at all."""
    root = tmp_path_factory.mktemp("modal") / "cache.zarr"
    create_cache(root)
    for seed, n_units in ((1, 15), (2, 20), (3, 12)):
        ds = make_session(n_units=n_units, n_trials=40, n_bins=20, seed=seed)
        ds["choice"][::9] = 0
        if seed == 2:
            ds = ds.drop_vars("whisker_motion_energy")
        if seed == 3:
            ds = ds.drop_vars(ABSENT)
            ds["choice"][:] = -128
            ds["probability_left"][:] = 0.5
        write_session(root, ds, make_regions())
    return open_cache(root)


def settings_of(**changes):
    values = {
        "model": TINY["model"] | {"modalities": NAMES},
        "masks": TINY["masks"] | {"schemes": SCHEMES},
        "steps": 24,
        "validate_every": 8,
    }
    return tiny_settings(**values | changes)


@pytest.fixture(scope="module")
def run(cache, tmp_path_factory):
    said = []
    run = tmp_path_factory.mktemp("runs") / "modal"
    report = train(settings_of(), cache, run, progress=False, say=said.append)
    return run, report, said


def test_it_trains_and_says_what_is_missing(run):
    path, report, said = run
    assert set(report.val) == {
        "neuron", "causal", "encoding", "mixed", "decoding", "behaviour",
    }  # fmt: skip
    assert "whisker_motion_energy: in 1 of 3 sessions; masked in the others" in said
    assert "choice: in 2 of 3 sessions; masked in the others" in said
    score, bits = read_logs(path, "val/score"), read_logs(path, "val/bits_per_spike")
    decoding = read_logs(path, "val/decoding")
    torch.testing.assert_close(
        torch.tensor(score.values), torch.tensor((bits + decoding).values), rtol=1e-4, atol=1e-5
    )
    kinds = [read_logs(path, f"val/{scheme}") for scheme in ("neuron", "causal")]
    assert bits.values == pytest.approx(sum(kinds).values / 2, abs=1e-5)
    assert report.best_step == score.index[score.argmax()] + 1
    per = [read_logs(path, f"val_behaviour/{name}") for name in NAMES]
    assert sum(per).values / 5 == pytest.approx(decoding.values, abs=1e-5)


def test_every_part_learned(run, cache):
    path, *_ = run
    model = load_model(path)
    assert model.settings.modalities == tuple(NAMES)
    for name, parameter in model.modalities.named_parameters():
        assert parameter.any(), name
    has = {
        str(ds.attrs["subject"]): int(
            (model.behaviour_null[model.scope.sessions.index(eid)] > 0).sum()
        )
        for eid, ds in cache.items()
    }
    assert has == {"SYN_001": 5, "SYN_002": 4, "SYN_003": 0}


def test_a_run_that_was_stopped_goes_on_as_if_it_had_not_been(run, cache, tmp_path):
    path, *_ = run
    part = tmp_path / "part"

    class HaltError(Exception):
        pass

    begun = Training.on_validation_epoch_end

    def stop(self):
        begun(self)
        if self.global_step == 16:
            raise HaltError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Training, "on_validation_epoch_end", stop)
        with pytest.raises(HaltError):
            train(settings_of(), cache, part, progress=False)
    train(settings_of(), cache, part, progress=False, resume=True)
    one, two = load_model(path).state_dict(), load_model(part).state_dict()
    for name, tensor in one.items():
        assert torch.equal(tensor, two[name]), name


def test_a_batch_may_be_cut_in_any_way(cache, tmp_path):
    """A loss is of a trial, whatever else is there or missing in its part of the batch."""
    still = {"input_dropout": 0.0, "dropout": 0.0, "attention_dropout": 0.0}
    weights = []
    for parts in (1, 3):
        settings = settings_of(
            model=TINY["model"] | still | {"modalities": NAMES},
            trainer={"accumulate": parts},
            sessions_per_batch=2,
            steps=5,
            validate_every=5,
        )
        train(settings, cache, tmp_path / f"{parts}", progress=False)
        weights.append(load_model(tmp_path / f"{parts}").state_dict())
    for name, tensor in weights[0].items():
        torch.testing.assert_close(tensor, weights[1][name], rtol=1e-3, atol=1e-5, msg=name)


def test_initialised_models_keep_scales_of_what_they_know(run, cache, tmp_path):
    path, *_ = run
    tuned = tmp_path / "tuned"
    settings = settings_of(steps=1, validate_every=1, average=0.0)
    train(settings, cache, tuned, init=path, progress=False)
    one, two = load_model(path), load_model(tuned)
    for name in one.BEHAVIOUR_TABLES:
        assert torch.equal(getattr(one, name), getattr(two, name))
    plain = settings_of(
        model=TINY["model"], masks=TINY["masks"] | {"schemes": {"neuron": 1.0}}
    )  # fmt: skip
    with pytest.raises(UserError, match=r"model\.modalities"):
        train(plain, cache, tmp_path / "other", init=path, progress=False)


def test_a_session_that_both_know_keeps_the_scale_it_was_read_under(run):
    path, *_ = run
    model, trained = load_model(path), load_model(path)
    own = model.behaviour_scale.clone()
    trained.behaviour_scale *= 2
    first, *rest = trained.scope.sessions
    trained.scope = replace(trained.scope, sessions=("another", *rest))
    initialise(model, trained, "another run")
    assert model.scope.sessions[0] == first
    assert torch.equal(model.behaviour_scale[0], own[0])
    assert torch.equal(model.behaviour_scale[1:], 2 * own[1:])


def test_a_session_without_behaviour_needs_a_scheme_of_activity(cache, tmp_path):
    settings = settings_of(masks=TINY["masks"] | {"schemes": {"decoding": 1.0}})
    with pytest.raises(UserError, match=r"none of model\.modalities; add a scheme of activity"):
        train(settings, cache, tmp_path / "run", progress=False)


@pytest.mark.parametrize(
    ("model", "schemes", "message"),
    [
        ({}, {"neuron": 1, "decoding": 1}, "has decoding, of behaviour, and the model has none"),
        ({"modalities": ["choice"]}, {"neuron": 1}, "none of masks.schemes trains them"),
        ({"modalities": ["chioce"]}, {"decoding": 1}, "unknown modality 'chioce'; known: choice"),
        ({"modalities": ["choice", "choice"]}, {"decoding": 1}, "names a modality twice"),
    ],
)
def test_settings_that_do_not_fit_are_refused(model, schemes, message):
    with pytest.raises(UserError, match=message):
        settings_of(model=TINY["model"] | model, masks={"schemes": schemes})
