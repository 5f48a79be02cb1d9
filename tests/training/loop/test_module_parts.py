"""Single parts of the training module by hand: scores of a validation, shares of a batch, sums."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from training_runs import TINY, tiny_settings

from ibl_mtm.errors import UserError
from ibl_mtm.model.mtm import MtM
from ibl_mtm.model.scope import Scope
from ibl_mtm.sessions.trial_format import TrialFormat
from ibl_mtm.training.data.sampler import Batch, Part
from ibl_mtm.training.loop import module as module_of
from ibl_mtm.training.loop.best_checkpoint import BestCheckpoint
from ibl_mtm.training.loop.ema import EMA
from ibl_mtm.training.loop.module import Training
from ibl_mtm.training.loop.schedule import Schedule

LN2 = math.log(2)
NAMES = ("wheel_speed", "lick_rate", "choice")


def make(schemes=("neuron", "causal"), names=(), target=None, **changes):
    """A training of a model of three units, and what it logs."""
    weights = dict.fromkeys(schemes, 1.0)
    settings = tiny_settings(
        model=TINY["model"] | {"modalities": names}, masks={"schemes": weights}, target=target,
        **changes,
    )  # fmt: skip
    form = TrialFormat(4, 0.02, "stimOn_times", -0.5)
    model = MtM(settings.model, Scope(("u", "v", "w"), ("e",), (), form, tuple(schemes)))
    training, logged = Training(settings, model, [], 12), {}
    training.log = lambda name, value, **how: logged.update({name: float(value)})
    training.trainer = SimpleNamespace(world_size=1, default_root_dir="the run", global_step=0)
    return training, logged


def test_a_checkpoint_holds_weights_and_their_averages_and_nothing_that_is_made_anew():
    training, _ = make(average=0.9)
    assert {name.partition(".")[0] for name in training.state_dict()} == {"model", "average"}
    of_average = {n.split(".")[1] for n in training.state_dict() if n.startswith("average")}
    assert of_average == {"model", "seen_units", "seen_sessions"}
    assert not any(parameter.requires_grad for parameter in training.average.parameters())
    assert not training.automatic_optimization
    assert training.kept() is training.average.model
    plain, _ = make(average=0)
    assert plain.kept() is plain.model


def test_a_validation_begins_with_nothing():
    training, _ = make(("neuron", "decoding"), NAMES)
    training.totals.fill_(3)
    training.behaviour_totals.fill_(3)
    training.on_validation_epoch_start()
    assert not training.totals.any()
    assert not training.behaviour_totals.any()
    training.diverged.fill_(6)
    for check in (training.on_validation_epoch_start, training.raise_if_diverged):
        with pytest.raises(UserError, match="at step 7; what the run holds is from before"):
            check()


def test_scores_of_a_validation():
    """Of four schemes one was possible in no session; each unit counts once, or by its spikes."""
    training, logged = make(("neuron", "causal", "inter_region", "temporal"))
    training.totals[0] = torch.tensor([[4.0, 8, 10], [2, 10, 5], [9, 4, 5]])  # the last is too few
    training.totals[1] = torch.tensor([[1.0, 5, 4], [0, 5, 0], [0, 0, 0]])
    training.totals[3] = torch.tensor([[0.0, 5, 4], [0, 0, 0], [0, 0, 0]])
    training.on_validation_epoch_end()
    expected = {
        "val/neuron": (4 / 8 + 2 / 10) / 2 / LN2,
        "val/causal": (1 / 5 + 0) / 2 / LN2,
        "val/temporal": 0,
        "val/bits_per_spike": (0.35 + 0.1 + 0) / 3 / LN2,
        "val_pooled/bits_per_spike": (15 / 20 + 1 / 4 + 0) / 3 / LN2,
    }
    assert logged == pytest.approx(expected)


def test_schemes_of_activity_alone_decide_where_there_are_any():
    for schemes, decides in ((("neuron", "encoding"), 0.1), (("encoding", "decoding"), 0.6)):
        training, logged = make(schemes, NAMES)
        at = schemes.index("encoding")
        training.totals[:, 0] = torch.tensor([1.0, 10, 10])
        training.totals[at, 0] = torch.tensor([6.0, 10, 10])
        if "decoding" in schemes:
            training.totals[1 - at] = 0
        training.on_validation_epoch_end()
        assert logged["val/bits_per_spike"] == pytest.approx(decides / LN2)
        assert logged["val/encoding"] == pytest.approx(0.6 / LN2)
        assert logged["val/score"] == logged["val/bits_per_spike"]  # of behaviour nothing is known


def test_of_a_model_of_behaviour_alone_nothing_is_scored_of_spikes():
    training, logged = make(("decoding",), NAMES)
    training.behaviour_totals[0] = torch.tensor([[0.2, 2.0], [0.5, 1.0], [0.0, 4.0]])
    training.on_validation_epoch_end()
    assert logged["val/bits_per_spike"] == 0
    assert "val_pooled/bits_per_spike" not in logged
    assert logged["val/score"] == pytest.approx((0.1 + 0.5 + 0) / 3)


#: Nats gained and nats of the null model, of two traces and a class: one of them is worse than it.
GAINS = torch.tensor([[-3.0, 6.0], [0.2, 0.5], [1.0, 5.0]])


@pytest.mark.parametrize(
    ("schemes", "target", "there", "expected"),
    [
        (("decoding",), None, [1, 1, 1],
         {"val/decoding": (0 + 0.4 + 0.2) / 3, "val_behaviour/wheel_speed": -0.5,
          "val_behaviour/lick_rate": 0.4, "val_behaviour/choice": 0.2}),
        (("decoding",), None, [1, 0, 1],  # no session has lick rates
         {"val/decoding": (0 + 0.2) / 2, "val_behaviour/wheel_speed": -0.5,
          "val_behaviour/lick_rate": 0, "val_behaviour/choice": 0.2}),
        (("decoding",), "wheel_speed", [1, 0, 0],
         {"val/decoding": -0.5, "val_behaviour/wheel_speed": -0.5}),
        (("behaviour",), None, [1, 1, 1], {"val/behaviour": (0 + 0.4 + 0.2) / 3}),
        (("behaviour", "decoding"), None, [0, 0, 0], {}),
        (("neuron",), None, [1, 1, 1], {}),
    ],
    ids=["all", "one is missing", "target", "behaviour", "nothing there", "not trained"],
)  # fmt: skip
def test_gains_on_behaviour(schemes, target, there, expected):
    """What is fitted too closely counts as nothing gained, unless it is what the run is for."""
    trained = schemes if schemes != ("neuron",) else ("decoding",)
    training, logged = make(trained, NAMES, target)
    if schemes == ("neuron",):
        training.model.scope = SimpleNamespace(schemes=("neuron",))
    training.behaviour_totals[:] = GAINS * torch.tensor(there)[:, None]
    decides = training.log_behaviour()
    assert logged == pytest.approx(expected)
    assert float(decides) == pytest.approx(expected.get(f"val/{schemes[-1]}", 0))


def test_the_later_of_both_schemes_of_behaviour_decides():
    training, logged = make(("behaviour", "decoding"), NAMES)
    training.behaviour_totals[0] = torch.tensor([[1.0, 1.0], [1, 1], [1, 1]])
    training.behaviour_totals[1] = GAINS
    assert float(training.log_behaviour()) == pytest.approx(0.2)
    assert logged["val/behaviour"] == 1


@pytest.mark.parametrize(
    ("rank", "world", "accumulate", "losses"),
    [
        (0, 1, 1, [5 / 5 * 1]),
        (0, 1, 2, [2 / 5 * 1, 3 / 5 * 1]),
        (1, 2, 1, [3 / 5 * 2]),
        (1, 2, 2, [1 / 5 * 2, 2 / 5 * 2]),
        (0, 9, 1, [0.0]),  # five trials for nine devices: the first has none
        (8, 9, 3, [1 / 5 * 9]),
    ],
)
def test_a_device_weighs_its_share_of_a_batch(monkeypatch, rank, world, accumulate, losses):
    """So that the mean over devices is that over trials; scores count each trial once."""
    monkeypatch.setattr(
        module_of, "tasks_loss", lambda *given: torch.tensor(1.0) if given[0] else None
    )
    monkeypatch.setattr(
        module_of, "totals_of", lambda task, *given: torch.full((3,), float(len(task)))
    )
    monkeypatch.setattr(
        module_of, "Rows", lambda *given: SimpleNamespace(gather=lambda _: {"null_log_rate": 0})
    )
    asked, logged, summed = [], {}, []
    settings = tiny_settings(trainer={"accumulate": accumulate})
    step = SimpleNamespace(
        global_step=3, settings=settings, global_rank=rank, rows=[None, None], device="cpu",
        model=None, trainer=SimpleNamespace(log_every_n_steps=4, world_size=world),
        tasks_of=lambda piece, rows: [piece], ask=lambda *given: ([torch.zeros(1)], []),
        manual_backward=lambda loss: asked.append(float(loss)), update=lambda *given: None,
        _sum_over_devices=summed.extend, log=lambda name, value: logged.update({name: value}),
        raise_if_diverged=lambda: logged.update(checked=True),
    )  # fmt: skip
    batch = Batch(3, (Part(1, np.arange(4)), Part(0, np.arange(1))))
    Training.training_step(step, batch, 3)
    assert asked == pytest.approx(losses)
    (scores,) = summed
    own = len(batch.share(rank, world))
    assert scores.tolist() == pytest.approx([sum(losses) / world, own, own, own])
    assert logged["train/loss"] == scores[0]
    assert logged["checked"]
    logged.clear()
    for number in (0, 1, 2, 4):  # in between nothing is read from the device
        Training.training_step(step, batch, number)
    assert not logged


def test_what_devices_found_is_summed_where_there_are_several(monkeypatch):
    summed = []
    monkeypatch.setattr(torch.distributed, "all_reduce", summed.append)
    for world in (1, 2, 3):
        training = SimpleNamespace(trainer=SimpleNamespace(world_size=world))
        Training._sum_over_devices(training, ["a", "b"])
        assert summed == ["a", "b"] * (world - 1)


@pytest.mark.parametrize(("n", "own"), [(1, [0, 1, 2]), (2, [1])])
def test_a_device_validates_its_own_parts(n, own):
    """The others it passes over before anything of them is looked at."""
    looked = []
    rows = type("Rows", (), {"__getitem__": lambda self, at: looked.append(at) or 1 / 0})()
    training = SimpleNamespace(
        trainer=SimpleNamespace(world_size=n), global_rank=n - 1, rows=rows, sessions=[]
    )
    for number in range(3):
        try:
            Training.validation_step(training, Part(number, np.arange(2)), number)
        except ZeroDivisionError:
            assert looked[-1] == number
    assert looked == own


@pytest.mark.parametrize(
    ("warmup", "steps", "rates"),
    [
        (0.0, 5, {0: 0.1, 1: 1.0, 3: 0.5, 5: 0.0}),  # at least one step of rising
        (0.5, 2, {0: 0.1, 1: 1.0, 2: 0.0}),
        (0.9, 1, {0: 0.1, 1: 1.0}),
        (0.4, 10, {0: 0.1, 2: 0.55, 4: 1.0, 7: 0.5, 10: 0.0, 11: 0.0}),
    ],
)
def test_rates_of_short_trainings(warmup, steps, rates):
    schedule = Schedule(tiny_settings(optimizer={"warmup": warmup}), steps)
    assert {step: schedule.rate(step) for step in rates} == pytest.approx(rates)
    for step in rates:
        assert schedule.first_moment(step) == 0.95 - 0.1 * schedule.place_in_cycle(step)
    assert schedule.first_moment(schedule.warm_steps) == pytest.approx(0.85)


def test_the_weight_of_the_past_in_an_average():
    average = EMA(make()[0].model, 0.5, 20)
    assert [average.weight(step) for step in (0, 1, 2, 7, 8, 9, 20)] == pytest.approx(
        [0, 2 / 11, 3 / 12, 8 / 17, 0.5, 0.5, 0.5]
    )


class Kept(Training):
    """One that has a model to be kept."""

    def __init__(self):
        pass

    def kept(self):
        return "the model"


@pytest.mark.parametrize("is_first", [True, False])
def test_the_first_of_equally_good_models_is_kept(monkeypatch, tmp_path, is_first):
    saved = []
    at = "ibl_mtm.training.loop.best_checkpoint.save_model"
    monkeypatch.setattr(at, lambda model, run: saved.append((model, run)))
    best = BestCheckpoint(tmp_path, "val/score")
    for step, score in ((4, -0.5), (8, 0.25), (12, 0.25), (16, 0.125)):
        metrics = {"val/score": score, "val/bits_per_spike": 9, "val/neuron": step + 0.12345678,
                   "train/loss": 5, "val_pooled/bits_per_spike": 3}  # fmt: skip
        metrics = {
            name: torch.tensor(value, dtype=torch.float64) for name, value in metrics.items()
        }
        trainer = SimpleNamespace(
            callback_metrics=metrics, global_step=step, is_global_zero=is_first
        )
        best.on_validation_end(trainer, Kept())
    assert (best.best, best.best_step, best.val) == (0.25, 8, {"neuron": 8.123457})
    assert saved == [("the model", tmp_path)] * (2 * is_first)
    again = BestCheckpoint(tmp_path, "val/score")
    again.load_state_dict(best.state_dict())
    assert (again.best, again.best_step, again.val) == (0.25, 8, {"neuron": 8.123457})
    for score in (torch.nan, torch.inf):
        trainer.callback_metrics["val/score"] = score
        with pytest.raises(UserError, match=r"training diverged: val/score is .* at step 16"):
            again.on_validation_end(trainer, Kept())
