"""Which trials train, validate and test: decided once, kept by a run, and held to ever after."""

import json

import numpy as np
import pytest
from short_fits import shorten
from synthetic import make_regions, make_session
from training_runs import tiny_settings

from ibl_mtm.cache.cache import open_cache
from ibl_mtm.cache.store import create_cache, write_session
from ibl_mtm.config.dataset import Split
from ibl_mtm.errors import UserError
from ibl_mtm.evaluation.compare import compare_runs
from ibl_mtm.evaluation.evaluate import evaluate, evaluate_baseline
from ibl_mtm.sessions.deal import TRIALS, deal_trials, digest_of, read_deals, write_deals
from ibl_mtm.sessions.view import describe_session
from ibl_mtm.training.run import train
from ibl_mtm.training.settings import DataSettings

OWN = {"fractions": (0.6, 0.2, 0.2), "kind": "random", "seed": 5}
TASKS = ["co_smoothing"]


def irregular(seed, n_units, n_trials, n_bins=20):
    """A session of which some trials were dropped, so that numbers are no positions."""
    ds = make_session(n_units=n_units, n_trials=n_trials, n_bins=n_bins, seed=seed)
    return ds.isel(trial=np.flatnonzero(np.arange(n_trials) % 7 != 3))


def sessions():
    return [irregular(1, 15, 60), irregular(2, 20, 45)]


def make_cache(root, made=None):
    create_cache(root)
    for ds in made or sessions():
        write_session(root, ds, make_regions())
    return open_cache(root)


def replace(cache, ds):
    write_session(cache.path, ds, make_regions(), overwrite=True)
    return open_cache(cache.path)


def split_again(ds, seed=9):
    """The same trials, ingested with another split."""
    rng = np.random.default_rng(seed)
    names = rng.choice(["train", "val", "test"], ds.sizes["trial"], p=[0.5, 0.2, 0.3])
    return ds.assign_coords(split=("trial", names))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("deal")
    cache = make_cache(folder / "cache.zarr")
    train(tiny_settings(steps=4), cache, folder / "run", progress=False)
    return folder / "run", cache


@pytest.mark.parametrize("kind", ["random", "blocks"])
def test_a_filter_of_trials_moves_none_to_another_split(kind):
    """Else trials that trained a model on included trials would test it on all of them."""
    ds = irregular(3, 10, 120)
    for split in (None, Split(**OWN | {"kind": kind})):
        everything = describe_session(ds, DataSettings(split=split))
        included = describe_session(ds, DataSettings(split=split, included_only=True))
        assert 0 < len(included.trial) < len(everything.trial)
        of = dict(zip(everything.trial.tolist(), everything.split.tolist(), strict=True))
        assert [of[number] for number in included.trial.tolist()] == included.split.tolist()
        assert digest_of({"a": included.deal}) == digest_of({"a": everything.deal})


def test_no_test_trial_trained_the_model_that_it_tests(tmp_path, monkeypatch):
    """With included trials and a split of its own, training and evaluation once had two splits."""
    shorten(monkeypatch)
    cache = make_cache(tmp_path / "cache.zarr")
    data = {"min_units_per_region": 2, "included_only": True, "split": OWN}
    run = tmp_path / "run"
    settings = tiny_settings(steps=2, validate_every=2, data=data)
    train(settings, cache, run, progress=False)
    found = evaluate(run, cache, tasks=["choice", *TASKS])
    for eid, ds in cache.items():
        session = describe_session(ds, settings.data)
        seen = set(session.trial[session.split != "test"].tolist())
        scores = found.scores[eid]
        examples = set(scores.examples.example.values.tolist())
        assert examples
        assert not examples & seen
        assert scores.n_test == (read_deals(run)[eid].split == "test").sum()
        decoded = scores.behaviour.decoded["choice"].trials
        assert not set(scores.trial[decoded].tolist()) & seen


def test_a_run_keeps_its_trials(trained, tmp_path):
    run, cache = trained
    deals = read_deals(run)
    assert list(deals) == list(cache)
    for eid, ds in cache.items():
        assert deals[eid].trial.tolist() == ds.trial.values.tolist()
        assert deals[eid].window_start.tolist() == ds.window_start.values.tolist()
        assert deals[eid].split.tolist() == ds.split.values.tolist()
        assert deals[eid].used.all()
        deals[eid].check(ds)
    assert json.loads((run / "training.json").read_text())["trials"] == digest_of(deals)
    write_deals(tmp_path, deals)
    assert digest_of(read_deals(tmp_path)) == digest_of(deals)


def test_evaluation_uses_the_split_of_the_run(trained, tmp_path):
    """Also after the cache was ingested again with another one, and for a baseline like it."""
    run, first = trained
    before = evaluate(run, first, tasks=TASKS)
    like = evaluate_baseline("psth", first, like=run, tasks=TASKS)
    again = make_cache(tmp_path / "again.zarr", [split_again(ds) for ds in sessions()])
    after = evaluate(run, again, tasks=TASKS)
    assert after.per_unit.equals(before.per_unit)
    kept = [found.metrics["provenance"]["sessions"] for found in (before, after)]
    assert kept[0] == kept[1]
    assert {row["trials"] for row in kept[0].values()} == {
        deal.digest for deal in read_deals(run).values()
    }
    assert evaluate_baseline("psth", again, like=run, tasks=TASKS).per_unit.equals(like.per_unit)
    own = evaluate_baseline("psth", again, tasks=TASKS)
    assert own.metrics["provenance"]["sessions"] != kept[0]


def test_behaviours_of_other_trials_are_not_compared(trained, tmp_path, monkeypatch):
    """Where activity is, spikes tell that test trials are others; behaviours have none."""
    shorten(monkeypatch)
    run, cache = trained
    evaluate_baseline("unit_mean", cache, like=run, tasks=["choice"]).write(tmp_path / "a")
    again = make_cache(tmp_path / "again.zarr", [split_again(ds) for ds in sessions()])
    evaluate_baseline("unit_mean", again, tasks=["choice"]).write(tmp_path / "b")
    with pytest.raises(UserError, match="not scored on the same trials"):
        compare_runs([tmp_path / "a", tmp_path / "b"])


@pytest.mark.parametrize("kind", ["fewer", "others", "shifted"])
def test_a_cache_of_other_trials_is_refused(trained, tmp_path, kind):
    run, _ = trained
    one, two = sessions()
    if kind == "fewer":
        two = two.isel(trial=slice(1, None))
    elif kind == "others":
        two = two.assign_coords(trial=two.trial + 1)
    else:
        two = two.assign_coords(window_start=two.window_start + 0.01)
    cache = make_cache(tmp_path / "cache.zarr", [one, two])
    eid = two.attrs["eid"]
    refused = f"{eid} has other trials in this cache"
    with pytest.raises(UserError, match=refused):
        evaluate(run, cache, tasks=TASKS)
    with pytest.raises(UserError, match=refused):
        evaluate_baseline("psth", cache, like=run, tasks=TASKS)
    with pytest.raises(UserError, match=refused):
        train(tiny_settings(steps=4), cache, run, resume=True, progress=False)
    evaluate(run, cache, tasks=TASKS, sessions=[one.attrs["eid"]])


def test_a_resumed_run_goes_on_with_its_own_split(tmp_path):
    cache = make_cache(tmp_path / "cache.zarr")
    run, settings = tmp_path / "run", tiny_settings(steps=4)
    train(settings, cache, run, progress=False)
    before = (run / TRIALS).read_bytes()
    for ds in sessions():
        cache = replace(cache, split_again(ds))
    train(settings, cache, run, resume=True, progress=False)
    assert (run / TRIALS).read_bytes() == before


def test_what_trained_a_model_does_not_test_one_that_starts_from_it(trained, tmp_path):
    run, cache = trained
    settings = tiny_settings(steps=2, validate_every=2)
    train(settings, cache, tmp_path / "same", init=run, progress=False)
    one, two = sessions()
    again = make_cache(tmp_path / "again.zarr", [one, split_again(two)])
    eid = two.attrs["eid"]
    with pytest.raises(UserError, match=rf"test trials of session {eid} trained .*data\.split"):
        train(settings, again, tmp_path / "other", init=run, progress=False)
    assert not (tmp_path / "other").exists() or not any(
        path.name != ".lock" for path in (tmp_path / "other").iterdir()
    )
    alone = again.where(f"subject == '{one.attrs['subject']}'")
    train(settings, alone, tmp_path / "alone", init=run, progress=False)


def test_a_window_of_another_event_that_overlaps_is_seen():
    ds = irregular(1, 5, 60)
    before = deal_trials(ds, DataSettings())
    moved = deal_trials(ds.assign_coords(window_start=ds.window_start + 0.3), DataSettings())
    assert before.n_seen_by(before) == 0
    assert moved.n_seen_by(before) == 0  # each overlaps its own former self alone
    later = ds.isel(trial=slice(1, None)).assign_coords(split=("trial", ds.split.values[:-1]))
    after = deal_trials(later, DataSettings())
    trains = before.split[1:] != "test"
    assert after.n_seen_by(before) == (trains & (after.split == "test")).sum() > 0


def test_a_run_of_an_earlier_version_says_what_is_not_known(tmp_path, caplog):
    cache = make_cache(tmp_path / "cache.zarr")
    run = tmp_path / "run"
    data = {"min_units_per_region": 2, "included_only": True}
    train(tiny_settings(steps=2, validate_every=2, data=data), cache, run, progress=False)
    (run / TRIALS).unlink()
    evaluate(run, cache, tasks=TASKS)
    assert "does not tell which trials" in caplog.text
    settings = tiny_settings(steps=2, validate_every=2, data=data | {"split": OWN})
    train(settings, cache, run, overwrite=True, progress=False)
    (run / TRIALS).unlink()
    with pytest.raises(UserError, match="split included trials on their own"):
        evaluate(run, cache, tasks=TASKS)


def test_a_damaged_file_of_trials_is_named(trained, tmp_path):
    run, _ = trained
    (tmp_path / TRIALS).write_bytes((run / TRIALS).read_bytes()[:-50])
    with pytest.raises(UserError, match=TRIALS):
        read_deals(tmp_path)
