"""What training asks of behaviour, how much each part weighs, and that missing is as absent."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from ibl_mtm.model.behaviour_masks import BehaviourMask, sources_of
from ibl_mtm.model.group import Group
from ibl_mtm.model.loss import masked_loss, null_loss
from ibl_mtm.model.modalities import Answer, Behaviour, Scales
from ibl_mtm.sessions.modalities import ModalityValues
from ibl_mtm.training.objective.behaviour_scores import add_behaviour_to, new_behaviour_totals
from ibl_mtm.training.objective.draw_tasks import (
    SessionRows,
    Task,
    behaviour_losses,
    draw_tasks,
    tasks_loss,
)
from ibl_mtm.training.objective.schemes import possible_schemes
from ibl_mtm.training.settings import MaskSettings

NAMES = ("whisker_motion_energy", "lick_rate", "choice")
B, T, N = 3, 4, 5
SCALES = Scales(
    torch.tensor([1.0, 0.5]), torch.tensor([2.0, 0.7]), torch.tensor([0.4]),
    torch.tensor([1.4, 0.9, 0.6]),
)  # fmt: skip


def make_task(**changes) -> Task:
    rng = torch.Generator().manual_seed(0)
    traces = torch.randn(B, T, 2, generator=rng)
    traces[..., 1] = torch.randint(0, 3, (B, T), generator=rng)
    classes = torch.tensor([[1], [-1], [1]])
    everything = torch.ones(B, 1, 2, dtype=torch.bool), torch.ones(B, 1, dtype=torch.bool)
    behaviour = replace(Behaviour(traces, classes, *everything), **changes)
    counts = torch.randint(0, 3, (B, T, N), generator=rng)
    target = torch.zeros(B, 1, 1, dtype=torch.bool)
    group = Group(counts, target, torch.arange(N), 0, "decoding", behaviour=behaviour)
    return Task(group, target, BehaviourMask(*everything))


def make_answer(seed=1, trials=slice(None)) -> Answer:
    rng = torch.Generator().manual_seed(seed)
    mean, logit = torch.randn(B, T, 2, generator=rng), torch.randn(B, 1, generator=rng)
    parts = [mean[trials], torch.tensor([0.3, 0.0]), logit[trials]]
    parts = [part.clone().requires_grad_() for part in parts]
    return Answer(*parts, torch.tensor([False, True]), SCALES)


def test_a_trials_loss_is_the_mean_over_modalities_in_units_of_the_null_model():
    task, answer = make_task(), make_answer()
    traces, classes = (part.detach().numpy() for part in answer.nll(task.group.behaviour))
    per = np.stack(
        [traces[..., 0].mean(1) / 1.4, traces[..., 1].mean(1) / 0.9, classes[:, 0] / 0.6]
    )
    losses = behaviour_losses(task, answer).detach().numpy()
    np.testing.assert_allclose(losses, per.mean(0), rtol=1e-5)


def gradients(task: Task, answer: Answer) -> tuple[torch.Tensor, list[torch.Tensor]]:
    loss = behaviour_losses(task, answer).sum()
    found = torch.autograd.grad(loss, [answer.mean, answer.log_variance, answer.logit])
    return loss.detach(), list(found)


def test_missing_samples_count_as_if_they_were_cut_out():
    """Two of a trace's samples are missing in one trial: as if the trace were shorter there."""
    traces = make_task().group.behaviour.traces.clone()
    traces[1, 2:, 0] = torch.nan
    loss, (mean, _, _) = gradients(make_task(traces=traces), make_answer())
    assert not mean[1, 2:, 0].any()
    whole, answer = make_task(), make_answer()
    own, classes = (part.detach() for part in answer.nll(whole.group.behaviour))
    means = own.mean(1)
    means[1, 0] = own[1, :2, 0].mean()
    by_hand = (means / torch.tensor([1.4, 0.9])).sum(1) + classes[:, 0] / 0.6
    torch.testing.assert_close(loss, by_hand.sum() / 3)


def test_a_missing_modality_counts_as_if_the_model_had_none():
    behaviour = make_task().group.behaviour
    traces = behaviour.traces.clone()
    traces[1, :, 1] = torch.nan
    loss, _ = gradients(make_task(traces=traces), make_answer())
    own, classes = (part.detach() for part in make_answer().nll(behaviour))
    per = torch.cat([own.mean(1) / torch.tensor([1.4, 0.9]), classes / 0.6], 1)
    expected = per[0].mean() + per[1, [0, 2]].mean() + per[2].mean()
    torch.testing.assert_close(loss, expected)


def test_a_missing_trial_counts_as_if_it_did_not_exist():
    behaviour = make_task().group.behaviour
    traces, classes = behaviour.traces.clone(), behaviour.classes.clone()
    traces[1], classes[1] = torch.nan, 0
    loss, found = gradients(make_task(traces=traces, classes=classes), make_answer())
    rest = torch.tensor([0, 2])
    task = make_task()
    everything = task.asked
    shown = Behaviour(
        traces[rest], classes[rest], everything.traces[rest], everything.classes[rest]
    )
    group = replace(task.group, counts=task.group.counts[rest], behaviour=shown)
    asked = BehaviourMask(everything.traces[rest], everything.classes[rest])
    other, without = gradients(Task(group, task.target[rest], asked), make_answer(trials=rest))
    torch.testing.assert_close(loss, other)
    torch.testing.assert_close(found[1], without[1])
    for one, two in zip((found[0], found[2]), (without[0], without[2]), strict=True):
        torch.testing.assert_close(one[rest], two)
        assert not one[1].any()


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_behaviour_weighs_as_the_spikes_null_model(reduction):
    task, answer = make_task(), make_answer()
    task = replace(task, target=torch.ones(B, 1, 1, dtype=torch.bool))
    log_rate, null = torch.zeros(B, T, N), torch.linspace(-3, 0.5, N)
    mean = null.exp().numpy()
    each = np.where(null < 0, mean - mean * null.numpy(), mean)
    scale = each.mean() if reduction == "mean" else T * each.sum()
    assert null_loss(null, T, reduction).item() == pytest.approx(scale, rel=1e-5)
    loss = tasks_loss([task], [log_rate], reduction, [answer], null, 0.5)
    spikes = masked_loss(log_rate, task.group.counts.float(), task.target, reduction)
    expected = spikes + 0.5 * scale * behaviour_losses(task, answer)
    torch.testing.assert_close(loss, expected.mean().float())


def test_a_task_without_behaviour_adds_nothing_and_still_has_gradients():
    task = replace(make_task(), asked=None)
    loss, found = gradients(task, make_answer())
    assert loss == 0
    assert all(not gradient.any() for gradient in found)


def test_sessions_without_behaviour_have_the_schemes_of_activity():
    regions = torch.tensor([0, 0, -1])
    schemes = ["decoding", "neuron", "mixed", "encoding", "intra_region", "behaviour"]
    assert possible_schemes(schemes, regions) == ["neuron", "intra_region"]
    assert possible_schemes(schemes, regions, behaviour=True) == schemes


def test_every_trial_has_its_own_behaviour():
    rows = SessionRows(0, torch.arange(N), torch.zeros(N, dtype=torch.long), sources_of(NAMES))
    n = 60
    number = np.arange(n, dtype=np.float32)
    values = ModalityValues(
        np.tile(number[:, None, None], (1, T, 2)), np.where(number % 2, 1, -1)[:, None]
    )
    masks = MaskSettings(
        schemes={"neuron": 1, "decoding": 1, "encoding": 1, "mixed": 1}, draw_per="trial"
    )
    counts = torch.arange(n).view(-1, 1, 1).expand(-1, T, N)
    tasks = draw_tasks(rows, counts, np.arange(n), 0, 0, masks, values)
    assert {task.group.scheme for task in tasks} == set(masks.schemes)
    for task in tasks:
        behaviour, trial = task.group.behaviour, task.group.counts[:, 0, 0]
        assert torch.equal(behaviour.traces[:, 0, 0], trial.float())
        assert torch.equal(behaviour.classes[:, 0] > 0, trial % 2 == 1)
        asks = task.group.scheme in ("decoding", "mixed")
        hidden = behaviour.hidden_traces.any((1, 2)) | behaviour.hidden_classes.any(1)
        if task.group.scheme == "encoding":  # a part of behaviour, in some trials
            assert hidden.any()
            assert not hidden.all()
        else:
            assert hidden.any()
        assert bool(task.asked.traces.any()) == asks


def test_scores_are_shares_of_the_null_models_loss():
    totals, task = new_behaviour_totals(3), make_task()
    traces = task.group.behaviour.traces.clone()
    traces[0, 0, 0] = torch.nan
    task = make_task(traces=traces)
    answer = make_answer()
    add_behaviour_to(totals, task, answer)
    add_behaviour_to(totals, task, answer)
    own, null = answer.nll(task.group.behaviour), answer.null().nll(task.group.behaviour)
    for said, expected in ((null, totals[:, 1]), (own, totals[:, 1] - totals[:, 0])):
        sums = [said[0][..., 0].sum(), said[0][..., 1].sum(), said[1].sum()]
        torch.testing.assert_close(expected, 2 * torch.stack(sums))
    # By hand: eleven samples of a standardised trace, under mean 0 and variance 1.
    z = (traces[..., 0] - 1.0) / 2.0
    expected = 0.5 * z[~z.isnan()].square().sum() + 11 * 0.5 * np.log(2 * np.pi)
    torch.testing.assert_close(totals[0, 1], 2 * expected)
