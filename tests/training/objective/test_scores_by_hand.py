"""Scores of training and validation, worked out with a pencil."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from test_behaviour_objective import NAMES, B, N, T, make_answer, make_task

from ibl_mtm.model.behaviour_masks import sources_of
from ibl_mtm.model.group import Group
from ibl_mtm.sessions.modalities import ModalityValues
from ibl_mtm.training.objective.behaviour_scores import add_behaviour_to, new_behaviour_totals
from ibl_mtm.training.objective.draw_tasks import (
    SessionRows,
    Task,
    behaviour_losses,
    draw_tasks,
    trial_keys,
)
from ibl_mtm.training.objective.draw_tasks import (
    make_task as mask_trials,
)
from ibl_mtm.training.objective.step_score import bits_per_spike, totals_of
from ibl_mtm.training.objective.target import ask_only
from ibl_mtm.training.objective.unit_scores import add_to, mean_over_units, new_totals, pooled
from ibl_mtm.training.settings import MaskSettings

LN2 = math.log(2)


def spikes_task():
    """One trial, two bins, of units 2 and 0 of a model of three; the second bin is asked for."""
    counts = torch.tensor([[[5, 7], [2, 1]]])
    target = torch.tensor([False, True])[None, :, None]
    return Task(Group(counts, target, torch.tensor([2, 0]), 0, "causal"), target)


def test_a_step_is_scored_on_what_it_asks_for():
    log_rate = torch.tensor([[[9.0, 9.0], [0.5, -0.5]]])
    null = torch.tensor([0.25, 9.0, 0.75])
    own = math.exp(0.5) - 2 * 0.5 + math.exp(-0.5) + 0.5
    mean = math.exp(0.75) - 2 * 0.75 + math.exp(0.25) - 0.25
    found = totals_of(spikes_task(), log_rate, null)
    assert found.tolist() == pytest.approx([own, mean, 3])
    assert float(bits_per_spike(found)) == pytest.approx((mean - own) / 3 / LN2, rel=1e-5)


@pytest.mark.parametrize(("spikes", "over"), [(0, 1), (1, 1), (4, 4)])
def test_gains_are_divided_by_spikes_of_which_there_may_be_none(spikes, over):
    found = bits_per_spike(torch.tensor([2.0, 5.0, float(spikes)]))
    assert float(found) == pytest.approx(3 / over / LN2)
    assert float(pooled(torch.tensor([[1.0, 9.0, spikes], [2.0, 9.0, 0]]))) == pytest.approx(
        3 / over / LN2
    )


def test_units_are_scored_in_their_own_rows():
    """Twice: sums are added up."""
    task, totals = spikes_task(), new_totals(3)
    log_rate = torch.tensor([[[9.0, 9.0], [0.5, -0.5]]])
    null = torch.tensor([0.75, 0.25])
    for _ in range(2):
        add_to(totals, task.group.units, log_rate, task.group.counts, task.target, null)
    of_two = math.exp(0.75) - 1.5 - (math.exp(0.5) - 1), math.exp(0.75), 2
    of_none = math.exp(0.25) - 0.25 - (math.exp(-0.5) + 0.5), math.exp(0.25), 1
    for row, expected in enumerate((of_none, (0, 0, 0), of_two)):
        assert totals[row].tolist() == pytest.approx([2 * v for v in expected], rel=1e-4), row


@pytest.mark.parametrize(
    ("totals", "expected"),
    [
        ([[1.0, 5.0, 3], [3.0, 10.0, 4], [99.0, 4.9, 4]], (0.2 + 0.3) / 2),  # five are enough
        ([[1.0, 2.0, 3], [2.0, 4.0, 4]], 3 / 6),  # of none are there enough: all together
        ([[0.25, 0.25, 0], [0.25, 0.25, 0]], 0.5),  # nor less than one spike expected
        ([[1.0, 1.0, 0]], 1.0),
    ],
)
def test_units_of_which_enough_spikes_are_expected_are_averaged(totals, expected):
    assert float(mean_over_units(torch.tensor(totals))) == pytest.approx(expected / LN2)


def test_what_is_not_asked_for_of_behaviour_has_no_score():
    task, answer = make_task(), make_answer()
    traces = torch.zeros(B, T, 2, dtype=torch.bool)
    classes = torch.zeros(B, 1, dtype=torch.bool)
    traces[0, 1, 0] = traces[2, 3, 1] = classes[1] = True
    task = replace(task, asked=replace(task.asked, traces=traces, classes=classes))
    totals = new_behaviour_totals(3)
    add_behaviour_to(totals, task, answer)
    (own_t, own_c), (null_t, null_c) = (
        said.nll(task.group.behaviour) for said in (answer, answer.null())
    )
    pairs = (own_t[0, 1, 0], null_t[0, 1, 0]), (own_t[2, 3, 1], null_t[2, 3, 1])
    for row, (own, null) in enumerate((*pairs, (own_c[1, 0], null_c[1, 0]))):
        torch.testing.assert_close(totals[row], torch.stack([null - own, null]))
    before = totals.clone()
    add_behaviour_to(totals, replace(task, asked=None), answer)
    add_behaviour_to(totals, replace(task, group=replace(task.group, behaviour=None)), answer)
    assert torch.equal(totals, before)


@pytest.mark.parametrize("only", range(3))
def test_a_trial_of_one_modality_weighs_as_one_of_all(only):
    """Also where the session lacks one, of which the null model has no loss."""
    answer = make_answer()
    null = answer.scales.null.clone()
    null[(only + 1) % 3] = 0
    answer = replace(answer, scales=replace(answer.scales, null=null))
    shown = make_task().group.behaviour
    traces, classes = shown.traces.clone(), shown.classes.clone()
    for each in {0, 1} - {only}:
        traces[..., each] = torch.nan
    if only != 2:
        classes[:] = 0
    task = make_task(traces=traces, classes=classes)
    own_t, own_c = answer.nll(task.group.behaviour)
    expected = own_c[:, 0] if only == 2 else own_t[..., only].mean(1)
    torch.testing.assert_close(behaviour_losses(task, answer), expected / null[only])


def test_a_target_leaves_one_modality_to_be_asked_for():
    task = make_task()
    for number in range(3):
        asked = ask_only(task, number, n_traces=2).asked
        found = [*asked.traces.flatten(0, 1).any(0).tolist(), bool(asked.classes.any())]
        assert found == [each == number for each in range(3)]
    assert ask_only(replace(task, asked=None), 1, 2).asked is None


def test_behaviour_goes_to_a_device_with_its_task():
    task = make_task()
    moved = task.on(torch.device("meta"), torch.arange(N, device="meta"), 3)
    shown = vars(moved.group.behaviour).values()
    assert {t.device.type for t in (*shown, *vars(moved.asked).values())} == {"meta"}
    assert moved.group.behaviour.traces.shape == (B, T, 2)
    assert replace(task, asked=None).on(torch.device("meta"), torch.arange(N), 3).asked is None


def test_a_trace_of_which_a_part_is_missing_is_asked_for():
    """Under `behaviour`, which asks for one of what a trial has."""
    n = 300
    rows = SessionRows(0, torch.arange(N), torch.zeros(N, dtype=torch.long), sources_of(NAMES))
    traces = np.full((n, T, 2), np.nan, np.float32)
    traces[:, 1:3, 0] = 0.5
    values = ModalityValues(traces, np.zeros((n, 1), np.int8))
    key = trial_keys(0, 0, 0, np.arange(n))
    task = mask_trials(rows, torch.zeros(n, T, N), "behaviour", key, MaskSettings(), values)
    assert task.asked.traces[:, 0, 0].all()
    assert not task.asked.traces[..., 1].any()
    assert not task.asked.classes.any()


def test_a_scheme_of_no_weight_changes_no_mask():
    counts, trial = torch.zeros(40, T, N), np.arange(40)
    rows = SessionRows(0, torch.arange(N), torch.zeros(N, dtype=torch.long))
    found = [
        draw_tasks(rows, counts, trial, 0, 0, MaskSettings(schemes=schemes, draw_per="trial"))
        for schemes in ({"neuron": 0.5, "random": 0.2},
                        {"temporal": 0, "neuron": 0.5, "causal": 0, "random": 0.2})
    ]  # fmt: skip
    for one, other in zip(*found, strict=True):
        assert one.group.scheme == other.group.scheme
        assert torch.equal(one.group.hidden, other.group.hidden)
