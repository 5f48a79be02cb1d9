"""Training by Lightning, rows and running averages is the same as a loop that anyone can read.

The reference has whole tables, one AdamW written out, an average of all weights after each step,
and a schedule given as numbers. It shares with the package only what is tested elsewhere: the
model, the order of trials, and which entries are masked.
"""

import copy
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from synthetic import make_regions, make_session
from training_runs import TINY, tiny_settings

from ibl_mtm.cache.cache import Cache, open_cache
from ibl_mtm.cache.store import create_cache, write_session
from ibl_mtm.model.mtm import MtM
from ibl_mtm.sessions.trial_format import trial_format
from ibl_mtm.sessions.view import Session
from ibl_mtm.training.checkpoint.build import build_model
from ibl_mtm.training.checkpoint.pretrained import load_model
from ibl_mtm.training.data.describe import describe_sessions
from ibl_mtm.training.data.sampler import TrialSampler
from ibl_mtm.training.loop.module import Training
from ibl_mtm.training.objective.draw_tasks import (
    SessionRows,
    draw_tasks,
    make_task,
    trial_keys,
)
from ibl_mtm.training.objective.schemes import possible_schemes
from ibl_mtm.training.run import fit, train
from ibl_mtm.training.settings import RunSettings

TABLES = {*MtM.UNIT_TABLES, *MtM.SESSION_TABLES}
#: Learning rates of three steps, relative to the one that is set: one step of rising, then half a
#: cosine over two.
SCHEDULE = (0.1, 1.0, 0.5)
#: Decay of the first moment, where it goes the other way.
MOMENTS = (0.95, 0.85, 0.9)
STILL = {"input_dropout": 0.0, "dropout": 0.0, "attention_dropout": 0.0}


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Cache:
    """Unequal sessions, with a trial missing in the middle of one and units of no region."""
    root = tmp_path_factory.mktemp("plain") / "cache.zarr"
    create_cache(root)
    for seed, n_units, n_trials in ((1, 15, 37), (2, 20, 52)):
        ds = make_session(n_units=n_units, n_trials=n_trials, n_bins=12, seed=seed)
        if seed == 2:
            ds = ds.isel(trial=np.delete(np.arange(n_trials), 11))
        write_session(root, ds, make_regions())
    return open_cache(root)


def settings_of(**changes) -> RunSettings:
    optimizer = {"learning_rate": 0.001, "weight_decay": 0.3, "warmup": 0.34, "clip": 1e3}
    values = {
        "model": TINY["model"] | STILL,
        "optimizer": optimizer | changes.pop("optimizer", {}),
        "steps": len(SCHEDULE),
        "validate_every": len(SCHEDULE),
        "validation_masks": 2,
        "data": {"min_units_per_region": 4},
    }
    return tiny_settings(**values | changes)


def begin(settings: RunSettings, cache: Cache) -> tuple[MtM, list[Session]]:
    """A model that reads something out, so that all of it learns from the first step on."""
    sessions = describe_sessions(cache, settings.data)
    torch.manual_seed(settings.seed)
    model = build_model(settings, sessions, trial_format(cache[sessions[0].eid]))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return model, sessions


def lightning(settings: RunSettings, cache: Cache, run: Path) -> tuple[dict, dict]:
    """Train; the last weights, and those that are kept."""
    model, sessions = begin(settings, cache)
    run.mkdir()
    fit(settings, sessions, model, run, progress=False)
    state = torch.load(run / "checkpoints/last.ckpt", weights_only=True)["state_dict"]
    kept = dict(load_model(run).named_parameters())
    return {name: state[f"model.{name}"] for name in kept}, kept


def plain_loop(settings: RunSettings, cache: Cache) -> tuple[MtM, MtM]:
    """Train; the last weights, and their average."""
    model, sessions = begin(settings, cache)
    average = copy.deepcopy(model)
    all_rows = SessionRows.of(sessions, model.scope)
    parameters = dict(model.named_parameters())
    first, second, count = ({n: torch.zeros_like(p) for n, p in parameters.items()} for _ in "123")
    chosen, beta_2 = settings.optimizer, 0.999
    for step, batch in zip(
        range(len(SCHEDULE)), TrialSampler.of(sessions, settings).epoch(0), strict=False
    ):
        model.zero_grad()
        beta_1 = MOMENTS[step] if chosen.cycle_momentum else 0.9
        losses = []
        for part in batch.parts:
            session = sessions[part.session]
            counts = torch.from_numpy(session.read("train"))
            counts = counts[np.searchsorted(session.trials_in("train"), part.trials)]
            rows, trial = all_rows[part.session], session.trial[part.trials]
            for task in draw_tasks(rows, counts, trial, settings.seed, step, settings.masks):
                (log_rate,) = model([task.group])
                nll = log_rate.exp() - task.group.counts * log_rate
                target = task.target.expand_as(nll)
                total = (nll * target).sum((1, 2))
                mean = total / target.sum((1, 2)).clamp(min=1)
                losses += (total if settings.masks.loss == "sum" else mean).unbind()
        torch.stack(losses).mean().backward()
        norm = math.sqrt(sum(float((p.grad**2).sum()) for p in parameters.values()))
        assert (norm > chosen.clip) == (chosen.clip < 1)  # both sides of it are tested
        shrink = min(1.0, chosen.clip / norm)
        for name, p in parameters.items():
            rows = slice(None)  # of tables, only those that the step touches
            if name in MtM.UNIT_TABLES:
                rows = torch.cat([all_rows[part.session].units for part in batch.parts])
            elif name in MtM.SESSION_TABLES:
                rows = torch.tensor([all_rows[part.session].session for part in batch.parts])
            rate = chosen.learning_rate * SCHEDULE[step]
            if name not in TABLES:
                frozen = step < settings.finetune.stitchers_only
                rate *= 0.0 if frozen else settings.finetune.body_rate
            decay = chosen.weight_decay if p.ndim > 1 or chosen.decay_biases else 0.0
            gradient = p.grad[rows] * shrink
            first[name][rows] = beta_1 * first[name][rows] + (1 - beta_1) * gradient
            second[name][rows] = beta_2 * second[name][rows] + (1 - beta_2) * gradient**2
            count[name][rows] += 1
            n = count[name][rows]
            size = (second[name][rows] / (1 - beta_2**n)).sqrt() + 1e-8
            p.data[rows] -= rate * decay * p.data[rows]
            p.data[rows] -= rate * (first[name][rows] / (1 - beta_1**n)) / size
        weight = min(settings.average, (1 + step) / (10 + step)) if step else 0.0
        for name, p in average.named_parameters():
            p.data = weight * p.data + (1 - weight) * parameters[name].data
    return model, average


def check_same(found: dict[str, torch.Tensor], expected: MtM) -> None:
    for name, parameter in expected.named_parameters():
        a, b = found[name].detach(), parameter.detach()
        if name.endswith("qkv.bias"):
            # Softmax does not see a bias of all keys: its gradient is rounding, which AdamW
            # makes as large as any other.
            query, _, value = torch.arange(len(b)).chunk(3)
            a, b = (x[torch.cat([query, value])] for x in (a, b))
        torch.testing.assert_close(a, b, rtol=0, atol=1e-6, msg=f"{name}: {(a - b).abs().max()}")


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"optimizer": {"clip": 0.05}},
        {"trainer": {"accumulate": 3}, "masks": TINY["masks"] | {"loss": "mean"}},
        {"sessions_per_batch": 2, "average": 0.15},
        {"masks": {"draw_per": "step"}, "optimizer": {"decay_biases": True}},
        {"optimizer": {"cycle_momentum": True}},
    ],
    ids=["plain", "clipped", "in parts", "two sessions", "biases decayed", "momentum cycled"],
)
def test_three_steps_are_those_of_a_plain_loop(cache, tmp_path, changes):
    settings = settings_of(**changes)
    last, kept = lightning(settings, cache, tmp_path / "run")
    plain_last, plain_kept = plain_loop(settings, cache)
    check_same(last, plain_last)  # what goes on when it is resumed
    check_same(kept, plain_kept)
    assert not torch.allclose(kept["read_in"], last["read_in"], atol=1e-5)


def test_three_steps_of_fine_tuning_are_those_of_a_plain_loop(cache, tmp_path):
    """The body waits for a step, and then learns at half the rate; nothing is averaged."""
    settings = settings_of(finetune={"stitchers_only": 1, "body_rate": 0.5}, average=0.0)
    last, kept = lightning(settings, cache, tmp_path / "run")
    expected, _ = plain_loop(settings, cache)
    check_same(last, expected)
    check_same(kept, expected)


def test_validation_is_what_can_be_computed_by_hand(cache, tmp_path):
    """Trial by trial, unit by unit, of the averaged model, against each unit's mean in training."""
    settings = settings_of(steps=6, validate_every=3)
    run = tmp_path / "run"
    report = train(settings, cache, run, progress=False)
    model = load_model(run)
    sessions = describe_sessions(cache, settings.data)
    n_units = len(model.scope.units)
    totals = {scheme: np.zeros((2, n_units)) for scheme in model.scope.schemes}
    for rows, session in zip(SessionRows.of(sessions, model.scope), sessions, strict=True):
        training = session.read("train").astype(float)
        n_bins = training.shape[0] * training.shape[1]
        null_rate = (training.sum((0, 1)) + 0.5) / n_bins
        trials = session.trial[session.trials_in("val")]
        for counts, trial in zip(session.read("val"), trials, strict=True):
            for repeat in range(2):
                key = trial_keys(settings.seed, -1 - repeat, rows.session, np.array([trial]))
                for scheme in possible_schemes(model.scope.schemes, rows.regions):
                    batch = torch.from_numpy(counts[None])
                    task = make_task(rows, batch, scheme, key, settings.masks)
                    with torch.no_grad():
                        rate = model([task.group])[0][0].double().exp().numpy()
                    target = np.broadcast_to(task.target[0].numpy(), counts.shape)
                    null = np.broadcast_to(null_rate, counts.shape)
                    gain = null - counts * np.log(null) - rate + counts * np.log(rate)
                    for part, values in zip(totals[scheme], (gain, null), strict=True):
                        part[rows.units.numpy()] += (values * target).sum(0)
    for scheme, (gain, expected) in totals.items():
        enough = expected >= 5
        assert enough.any()
        bits = (gain[enough] / expected[enough]).mean() / math.log(2)
        assert report.val[scheme] == pytest.approx(bits, abs=1e-5), scheme


def test_masks_of_validation_are_the_same_every_time(cache, tmp_path, monkeypatch):
    """A score may change because the model did, never because of a draw."""
    drawn = []
    real = make_task

    def record(rows, counts, scheme, key, masks, behaviour):
        drawn.append((scheme, tuple(key.tolist())))
        return real(rows, counts, scheme, key, masks, behaviour)

    monkeypatch.setattr("ibl_mtm.training.loop.module.make_task", record)
    train(settings_of(steps=6, validate_every=2), cache, tmp_path / "run", progress=False)
    once = len(drawn) // 3
    assert once
    assert drawn[:once] == drawn[once : 2 * once] == drawn[2 * once :]
    # Repeated masks differ from each other.
    keys = {key for _, key in drawn[:once]}
    n_val = sum(len(s.trials_in("val")) > 0 for s in describe_sessions(cache, settings_of().data))
    assert len(keys) == 2 * n_val


def test_dropout_is_drawn_for_each_step_and_device(cache, tmp_path, monkeypatch):
    """From (seed, step, device): a resumed run draws what the undisturbed one would."""

    class EnoughError(Exception):
        pass

    def seeds_of(rank: int, seed: int) -> list[int]:
        seen = []

        def record(self, batch, rows):
            seen.append(torch.initial_seed())
            if len(seen) == 4:
                raise EnoughError
            return tasks_of(self, batch, rows)

        with pytest.MonkeyPatch.context() as patch:
            tasks_of = Training.tasks_of
            patch.setattr(Training, "tasks_of", record)
            patch.setattr(Training, "global_rank", property(lambda self: rank))
            run = tmp_path / f"{rank}-{seed}"
            with pytest.raises(EnoughError):
                train(settings_of(steps=8, validate_every=8, seed=seed), cache, run, progress=False)
        return seen

    seeds = [*seeds_of(0, 0), *seeds_of(1, 0), *seeds_of(0, 1)]
    assert len(set(seeds)) == len(seeds) == 12


@pytest.mark.parametrize(
    ("step", "rate"),
    [
        (0, 0.1),
        (5, 0.55),
        (6, 0.689058),
        (10, 1.0),
        (40, 0.75),
        (55, 0.5),
        (70, 0.25),
        (100, 0.0),
        (120, 0.0),
    ],
)
def test_the_rate_rises_and_falls_as_half_cosines(cache, step, rate):
    """A tenth of the steps up from a tenth of the rate, then down to nothing."""
    settings = settings_of(optimizer={"warmup": 0.1}, finetune={"stitchers_only": 6})
    model, sessions = begin(settings, cache)
    module = Training(settings, model, sessions, steps=100)
    assert module.schedule.rate(step) == pytest.approx(rate, abs=1e-6)
    assert module.schedule.body_rate(step) == (0.0 if step < 6 else pytest.approx(rate, abs=1e-6))
