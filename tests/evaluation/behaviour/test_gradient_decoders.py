"""Steps of decoders that are fitted by gradients: when they stop, what they see, what they need."""

import numpy as np
import pytest
import torch

from ibl_mtm.evaluation.behaviour import gradient_decoders
from ibl_mtm.evaluation.behaviour.decodable_trials import Undecodable
from ibl_mtm.evaluation.behaviour.gradient_decoders import decode_by_gradients

N = 30
TRAIN, VAL, TEST = np.arange(20), np.arange(20, 25), np.arange(25, 30)


class Network(torch.nn.Module):
    """Notes what it is given, and answers nothing of it."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1, 1))
        self.seen: list[torch.Tensor] = []

    def forward(self, x):
        if self.training and torch.is_grad_enabled():
            self.seen.append(x)
        return x.mean((1, 2))[:, None] * 0 + self.weight * 0 + 7


def fit(monkeypatch, val_losses, patience=3, every=5, steps=100):
    """Fit with given losses of val, one at each look."""
    monkeypatch.setattr(gradient_decoders, "_STEPS", steps)
    monkeypatch.setattr(gradient_decoders, "_EVERY", every)
    monkeypatch.setattr(gradient_decoders, "_PATIENCE", patience)
    network, losses = Network(), iter(val_losses)

    def loss(out, at):
        if np.array_equal(at, VAL):
            return torch.tensor(next(losses))
        return out.sum()

    x = torch.ones(N, 4, 6)
    return gradient_decoders._fit(network, x, loss, TRAIN, VAL, TEST, 0), network


@pytest.mark.parametrize(
    ("val_losses", "best", "n_steps"),
    [
        ([3.0, 2.0, 2.0, 2.5, 2.0], 2, 25),  # as good is no better
        ([3.0, 4.0, 4.0, 2.0, 4.0, 3.0, 3.0], 4, 35),  # waits anew from the best one on
        ([1.0, 2.0, 2.0, 2.0], 1, 20),
        ([9.0 - i for i in range(20)], 20, 100),
    ],
)
def test_it_stops_where_val_gains_no_more(monkeypatch, val_losses, best, n_steps):
    (loss, step, out), network = fit(monkeypatch, val_losses)
    assert (loss, step) == (val_losses[best - 1], 5 * best)
    assert out.shape == (len(TEST), 1)
    assert len(network.seen) == n_steps


def test_a_step_sees_most_units_of_some_trials_as_loud_as_all_of_them(monkeypatch):
    """What is dropped is dropped for a whole trial; what is left makes up for it."""
    _, network = fit(monkeypatch, [9.0 - i / 100 for i in range(30)], steps=150)
    seen = torch.stack(network.seen)
    assert seen.shape == (150, 20, 4, 6)  # as many trials as there are, up to 32
    values = seen.unique()
    assert values[0] == 0
    torch.testing.assert_close(values[1:], torch.tensor([1 / 0.7]))
    assert (seen == seen[:, :, :1]).all()
    assert seen.mean().item() == pytest.approx(1, abs=0.03)


def test_a_fit_is_as_long_and_as_fast_as_it_was(monkeypatch):
    """With others, scores do not compare with those of before."""
    asked = []
    adam = torch.optim.AdamW

    def optimizer(parameters, **how):
        asked.append(how)
        return adam(parameters, **how)

    monkeypatch.setattr(torch.optim, "AdamW", optimizer)
    # A val that always gains, looked at every tenth step; and one that gains but once.
    for losses, n_steps in ((range(40, 0, -1), 400), ([1, *[2] * 8], 90)):
        network, told, seen = Network(), iter(losses), []

        def loss(out, at, told=told, seen=seen):
            if len(at) == len(VAL):
                return torch.tensor(float(next(told)))
            seen.append(len(at))
            return out.sum()

        x, train = torch.ones(70, 1, 2), np.arange(5, 70)
        gradient_decoders._fit(network, x, loss, train, np.arange(5), np.arange(5), 0)
        assert seen == [32] * n_steps
    assert asked == [{"lr": 3e-3, "weight_decay": 0.1}] * 2


@pytest.fixture(scope="module")
def counts():
    return np.random.default_rng(0).poisson(1.0, (N, 4, 6))


def split(**parts):
    names = np.full(N, "train", dtype="<U5")
    for name, at in parts.items():
        names[at] = name
    return names


@pytest.mark.parametrize("lacks", ["val", "train"])
def test_train_and_val_trials_are_needed(counts, lacks):
    label = np.where(np.arange(N) % 2, 1, -1)
    parts = split(test=TEST) if lacks == "val" else split(val=np.r_[TRAIN, VAL], test=TEST)
    with pytest.raises(Undecodable, match="needs train and val trials"):
        decode_by_gradients("recurrent", counts, label, parts, np.ones(N, bool), is_class=True)


def test_inputs_and_traces_are_in_units_of_the_training_trials(counts, monkeypatch):
    """Roots of counts; a silent unit is as it is, and the mean and spread of a trace come back."""
    counts = counts.copy()
    counts[:, :, 3] = 0
    trace = np.random.default_rng(1).normal(5, 2, (N, 4))
    given = []

    def fitted(network, x, loss, train_at, val_at, test_at, seed):
        given.append((x, loss(torch.zeros(len(train_at), 4), train_at)))
        return 0.5, 40, torch.ones(len(test_at), 4)

    monkeypatch.setattr(gradient_decoders, "_fit", fitted)
    parts = split(val=VAL, test=TEST)
    score = decode_by_gradients("recurrent", counts, trace, parts, np.ones(N, bool), is_class=False)
    ((x, loss),) = given
    roots = np.sqrt(counts)
    mean, spread = roots[TRAIN].mean((0, 1)), roots[TRAIN].std((0, 1), ddof=1)
    spread[3] = 1
    np.testing.assert_allclose(x, (roots - mean) / spread, atol=1e-5)
    centre, scale = trace[TRAIN].mean(0), trace[TRAIN].std(ddof=1)
    assert float(loss) == pytest.approx((((trace[TRAIN] - centre) / scale) ** 2).mean(), rel=1e-5)
    np.testing.assert_allclose(score.predicted, np.tile(centre + scale, (5, 1)), rtol=1e-5)
    assert score.chosen == {"steps": 40.0}


@pytest.mark.parametrize(("vals", "rank"), [((0.5, 0.4), 6.0), ((0.3, 0.4), 2.0)])
def test_of_two_ranks_the_one_that_val_likes_is_taken(counts, monkeypatch, vals, rank):
    """And a class that is sure costs nothing, one that is wrong what it is sure of."""
    label = np.where(np.arange(N) % 2, 1, -1)
    losses, found = [], iter(vals)

    def fitted(network, x, loss, train_at, val_at, test_at, seed):
        sure = torch.from_numpy(np.where(train_at % 2, 20.0, -20.0))[:, None].float()
        losses.append((float(loss(sure, train_at)), float(loss(-sure, train_at))))
        assert network(x).shape == (N, 1)
        val = next(found)
        return val, int(10 * val), torch.full((len(test_at), 1), val)

    monkeypatch.setattr(gradient_decoders, "_fit", fitted)
    parts = split(val=VAL, test=TEST)
    score = decode_by_gradients(
        "reduced_rank", counts, label, parts, np.ones(N, bool), is_class=True
    )
    assert score.chosen == {"steps": float(int(10 * min(vals))), "rank": rank}
    assert score.logit.tolist() == pytest.approx([min(vals)] * 5)
    assert losses == [pytest.approx((0, 20), abs=1e-5)] * 2
