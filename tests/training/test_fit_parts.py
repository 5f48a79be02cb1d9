"""What `train` and `fit` ask of what they call: how long, with which seed, told to whom."""

import errno
import json
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from training_runs import TINY, tiny_settings

from ibl_mtm.errors import UserError
from ibl_mtm.training import run
from ibl_mtm.training.outcome import cache_of, read_outcome, write_outcome


@pytest.fixture
def calls(monkeypatch):
    """`fit` without anything that computes; what it asked for."""
    calls = SimpleNamespace(fitted=[], made=[], last=[], stores=[], error=None)

    def fitted(module, *loaders, **how):
        calls.fitted.append((module, loaders, how))
        if calls.error:
            raise calls.error

    trainer = SimpleNamespace(
        strategy=SimpleNamespace(root_device="the device"), fit=fitted, global_step=5
    )
    loader = SimpleNamespace(
        sampler=SimpleNamespace(steps_per_epoch=7), open_store=calls.stores.append,
        close=lambda: calls.stores.append("closed"),
    )  # fmt: skip
    watching = (
        SimpleNamespace(best_step=4, val={"neuron": 0.25}),
        SimpleNamespace(time_elapsed={"train": 12.31}.__getitem__),
        SimpleNamespace(told=lambda run: nullcontext()),
    )
    clock = iter((100.0, 102.12))
    monkeypatch.setattr(run, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    monkeypatch.setattr(run, "Loader", lambda sessions, settings: loader)
    monkeypatch.setattr(run, "Training", lambda *given: given[3])
    monkeypatch.setattr(run, "make_loaders", lambda module, loader: ("t", "v"))
    monkeypatch.setattr(
        run, "make_trainer", lambda *given: (calls.made.append(given[2:]), (trainer, *watching))[1]
    )
    monkeypatch.setattr(run, "_fit_last", lambda *given: calls.last.append(given[4]))
    return calls


def fit(folder, *given, **changes):
    settings = tiny_settings(**changes)
    return run.fit(settings, [], "model", folder, *given)


@pytest.mark.parametrize(
    ("changes", "steps", "every"),
    [
        ({"steps": 12, "validate_every": 5}, 12, 5),
        ({"steps": 12, "validate_every": None}, 12, 7),
        ({"steps": 5, "validate_every": None}, 5, 5),
        ({"steps": 5, "validate_every": 9}, 5, 5),
        ({"steps": None, "epochs": 3, "validate_every": None}, 21, 7),
        ({"steps": None, "validate_every": 20}, 700, 20),  # a hundred epochs
    ],
)
def test_how_long_a_training_lasts_and_when_it_is_validated(calls, tmp_path, changes, steps, every):
    fit(tmp_path, None, False, **changes)
    assert calls.made == [(steps, every, False)]
    assert calls.fitted == [(steps, ("t", "v"), {"ckpt_path": None, "weights_only": True})]
    assert calls.stores == ["the device", "closed"]


def test_what_a_training_tells_in_the_end(calls, tmp_path):
    """12.31 s of training, and 2.12 s of what comes last."""
    begun = []
    report = fit(tmp_path, Path("last.ckpt"), True, lambda: begun.append(len(calls.fitted)),
                 print, True, {"cache": "c"})  # fmt: skip
    assert begun == [0]  # before the first step
    assert calls.fitted[0][2]["ckpt_path"] == Path("last.ckpt")
    assert report == run.TrainReport(str(tmp_path), 5, 4, {"neuron": 0.25}, 14.4)
    told = json.loads((tmp_path / "training.json").read_text())
    assert told.items() >= (report.to_json() | {"cache": "c", "seed": 0, "n_sessions": 0}).items()
    assert {"n_animals", "trials"} <= told.keys()


def test_animals_are_counted_and_sessions_without_one_count_as_one_each(
    calls, tmp_path, monkeypatch
):
    monkeypatch.setattr(run, "check_schemes", lambda *given: None)
    sessions = [
        SimpleNamespace(eid=eid, subject=subject, deal=None)
        for eid, subject in (("a", "x"), ("b", "x"), ("c", "x"), ("d", ""), ("e", "y"))
    ]
    monkeypatch.setattr(run, "digest_of", lambda deals: ",".join(deals))
    run.fit(tiny_settings(), sessions, "model", tmp_path)
    told = read_outcome(tmp_path)
    assert (told["n_sessions"], told["n_animals"], told["trials"]) == (5, 3, "a,b,c,d,e")


@pytest.mark.parametrize(
    ("model", "target", "first", "fitted"),
    [
        ({}, None, True, False),
        ({"dynamics": 2}, None, True, True),
        ({"modalities": ["choice"], "refit_encoding": True}, None, True, True),
        ({"dynamics": 2}, None, False, False),
        ({"dynamics": 2, "modalities": ["choice"]}, "choice", True, False),
    ],
    ids=["plain", "dynamics", "encoding", "second process", "target"],
)
def test_what_is_fitted_last_says_something_of_spikes(
    calls, tmp_path, monkeypatch, model, target, first, fitted
):
    monkeypatch.setattr(run, "on_first_process", lambda: first)
    schemes = {"neuron": 1.0} | ({"decoding": 1.0} if "modalities" in model else {})
    fit(tmp_path, model=TINY["model"] | model, target=target, masks={"schemes": schemes})
    assert calls.last == [True] * fitted
    assert (read_outcome(tmp_path) is not None) == first


def test_the_last_fit_may_leave_validation_trials_out(calls, tmp_path):
    settings = tiny_settings(model=TINY["model"] | {"dynamics": 2})
    run.fit(settings, [], "model", tmp_path, refit=False)
    assert calls.last == [False]


@pytest.mark.parametrize("first", [True, False])
def test_missing_modalities_are_told_by_one_process(calls, tmp_path, monkeypatch, first):
    monkeypatch.setattr(run, "on_first_process", lambda: first)
    monkeypatch.setattr(run, "missing_modalities", lambda *given: ["lick_rate: in 1 of 2"])
    said = []
    model = TINY["model"] | {"modalities": ["lick_rate"]}
    settings = tiny_settings(model=model, masks={"schemes": {"decoding": 1.0}})
    run.fit(settings, [], "model", tmp_path, say=said.append)
    assert said == ["lick_rate: in 1 of 2"] * first


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO])
def test_a_full_disk_is_told_from_other_errors(calls, tmp_path, number):
    calls.error = OSError(number, "as the system says")
    full = number != errno.EIO
    told = r"disk of .* is full \(as the system says\) at step 5; .* --resume" if full else "says$"
    with pytest.raises(UserError if full else OSError, match=told):
        fit(tmp_path)
    assert calls.stores[-1] == "closed"
    assert read_outcome(tmp_path) is None


@pytest.fixture
def asked(monkeypatch):
    """What `train` asks of `fit`."""
    asked = []
    monkeypatch.setattr(run, "fit", lambda *given, **more: asked.append((given, more)))
    return asked


@pytest.mark.parametrize(
    ("how", "n"), [({"devices": 3, "nodes": 2}, 6), ({"devices": 2, "nodes": 2}, 4), ({}, 1)]
)
def test_a_training_has_as_many_processes_as_devices_of_all_nodes(
    asked, cache, tmp_path, monkeypatch, how, n
):
    found = []
    monkeypatch.setattr(run, "settle_rank", found.append)
    run.train(tiny_settings(trainer=how), cache, tmp_path / "run")
    assert found == [n]


def test_a_run_knows_its_cache_wherever_it_is_scored_from(asked, cache, tmp_path, monkeypatch):
    monkeypatch.chdir(cache.path.parent)
    run.train(tiny_settings(), cache.path.name, tmp_path / "run", progress=False, refit=False)
    ((given, _),) = asked
    settings, _, _, folder, checkpoint, progress, _, _, refit, about = given
    assert (settings, folder, checkpoint) == (tiny_settings(), tmp_path / "run", None)
    assert (progress, refit, about) == (False, False, {"cache": str(cache.path.resolve())})


@pytest.mark.parametrize("first", [True, False])
def test_only_the_first_process_writes_and_warns(asked, cache, tmp_path, monkeypatch, first):
    monkeypatch.setattr(run, "on_first_process", lambda: first)
    said = []
    leak = tiny_settings(model=TINY["model"] | {"leading_tokens_see_all": True})
    run.train(leak, cache, tmp_path / "run", say=said.append)
    asked[0][0][6]()  # begin
    assert len(said) == first
    assert (tmp_path / "run" / "config.yaml").exists() == first


def test_the_start_of_a_model_follows_from_the_seed(asked, cache, tmp_path):
    for number, seed in enumerate((3, 3, 4)):
        torch.manual_seed(number)
        run.train(tiny_settings(seed=seed), cache, tmp_path / "run", overwrite=True)
    one, same, other = (given[2].session_token for given, _ in asked)
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_the_cache_of_a_run_is_told_or_asked_for(tmp_path):
    with pytest.raises(UserError, match="give --cache CACHE: which sessions to score"):
        cache_of(None)
    for outcome in (None, {}, {"cache": ""}):
        if outcome is not None:
            write_outcome(tmp_path, outcome)
        with pytest.raises(UserError, match="does not tell which cache it was trained on"):
            cache_of(tmp_path)
    write_outcome(tmp_path, {"cache": "somewhere"})
    assert cache_of(tmp_path) == "somewhere"
