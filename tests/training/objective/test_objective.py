"""Which schemes and masks a step draws: by weight, anew for every trial, step and session."""

import numpy as np
import pytest
import torch

from ibl_mtm.model.group import Group
from ibl_mtm.model.masking import Scheme
from ibl_mtm.training.objective.draw_tasks import (
    SessionRows,
    Task,
    draw_tasks,
    tasks_loss,
)
from ibl_mtm.training.objective.schemes import possible_schemes
from ibl_mtm.training.settings import MaskSettings

#: Two regions of three units, and two units of none.
REGIONS = torch.tensor([0, 1, 0, 1, 1, 0, -1, -1])
N_TIME = 6


def rows_of(session: int = 0, regions: torch.Tensor = REGIONS) -> SessionRows:
    return SessionRows(session, torch.arange(len(regions)), regions)


def draw(
    schemes: dict[Scheme, float],
    n_trials: int,
    session: int = 0,
    step: int = 0,
    seed: int = 0,
    **changes: object,
) -> list[Task]:
    masks = MaskSettings(schemes=schemes, **changes)
    counts = torch.arange(n_trials).view(-1, 1, 1).expand(-1, N_TIME, len(REGIONS))
    return draw_tasks(rows_of(session), counts, np.arange(n_trials), seed, step, masks)


@pytest.mark.parametrize(
    ("regions", "allowed"),
    [
        ([-1, -1, -1], []),
        ([2, 2, 2], ["intra_region"]),  # nothing outside of the only region
        ([2, 2, -1], ["intra_region", "inter_region"]),  # units of no region are outside
        ([-1, 0, 0, 1], ["intra_region", "inter_region"]),
    ],
)
def test_schemes_of_regions_need_a_region_and_units_outside_of_it(regions, allowed):
    asked = ["inter_region", "causal", "intra_region", "neuron"]
    expected = [scheme for scheme in asked if scheme in {"causal", "neuron", *allowed}]
    assert possible_schemes(asked, torch.tensor(regions)) == expected


def test_a_session_that_allows_no_scheme_is_refused():
    masks = MaskSettings(schemes={"inter_region": 1})
    counts, trial = torch.zeros(2, N_TIME, 3), np.arange(2)
    with pytest.raises(ValueError, match="none of the masking schemes"):
        draw_tasks(rows_of(0, torch.zeros(3, dtype=torch.long)), counts, trial, 0, 0, masks)


def test_every_trial_is_in_one_task_and_causal_tasks_are_last():
    schemes = {"causal": 1, "neuron": 1, "inter_region": 1, "temporal": 0}
    tasks = draw(schemes, 100, draw_per="trial")
    assert {task.group.scheme for task in tasks} == {"causal", "neuron", "inter_region"}
    assert [task.group.causal for task in tasks] == [False, False, True]
    assert [task.group.scheme == "causal" for task in tasks] == [False, False, True]
    trials = torch.cat([task.group.counts[:, 0, 0] for task in tasks])
    assert sorted(trials.tolist()) == list(range(100))


def test_schemes_are_drawn_by_their_weights_for_each_trial():
    n = 20_000
    tasks = draw({"neuron": 1, "causal": 3, "intra_region": 4}, n, draw_per="trial")
    share = {task.group.scheme: len(task.group.counts) / n for task in tasks}
    # A standard error is 0.0035 at most.
    assert share == pytest.approx(
        {"neuron": 1 / 8, "causal": 3 / 8, "intra_region": 1 / 2}, abs=0.015
    )


def test_one_scheme_is_drawn_for_a_whole_step():
    drawn = []
    for step in range(1500):
        (task,) = draw({"neuron": 1, "temporal": 3}, 5, step=step, draw_per="step")
        assert len(task.group.counts) == 5
        drawn.append(task.group.scheme)
    assert drawn.count("neuron") / len(drawn) == pytest.approx(1 / 4, abs=0.05)
    again = [
        draw({"neuron": 1, "temporal": 3}, 5, step=s, seed=1)[0].group.scheme for s in range(50)
    ]
    assert again != drawn[:50]


def test_in_one_step_all_sessions_are_asked_the_same():
    for step in range(20):
        schemes = {draw({"neuron": 1, "temporal": 1}, 3, s, step)[0].group.scheme for s in range(3)}
        assert len(schemes) == 1


@pytest.mark.parametrize("scheme", ["neuron", "temporal", "intra_region", "inter_region", "causal"])
def test_a_mask_does_not_depend_on_how_its_scheme_was_drawn(scheme):
    """Were both of one number, trials of a scheme would be masked more, or less, than all."""
    n = 20_000
    for others in ({"random": 1}, {"random": 3}):
        tasks = draw({scheme: 1, **others}, n, draw_per="trial")
        task = next(task for task in tasks if task.group.scheme == scheme)
        if scheme in ("intra_region", "inter_region"):
            found = (task.group.region == 0).float().mean()
            expected = 1 / 2
        else:
            found = task.group.hidden[:, 0, 0].float().mean()
            expected = 0.6 if scheme == "causal" else 0.3
        assert float(found) == pytest.approx(expected, abs=0.03)


@pytest.mark.parametrize("other", [{"session": 1}, {"step": 1}, {"seed": 1}])
def test_another_session_step_or_seed_masks_other_entries(other):
    (a,) = draw({"random": 1}, 4)
    (same,) = draw({"random": 1}, 4)
    (b,) = draw({"random": 1}, 4, **other)
    assert torch.equal(a.group.hidden, same.group.hidden)
    for mine, others in zip(a.group.hidden, b.group.hidden, strict=True):
        assert not torch.equal(mine, others)


@pytest.mark.parametrize(("reduction", "expected"), [("sum", 10.5), ("mean", 1.5)])
def test_the_loss_is_the_mean_over_trials_of_all_tasks(reduction, expected):
    """Log rates of 0 cost one nat an entry; 12 + 12 and 3 entries of three trials, one at 2.5."""
    counts = torch.zeros(3, 4, 3)
    target = torch.zeros(3, 4, 3, dtype=torch.bool)
    target[0] = target[1] = True
    target[2, :1] = True
    log_rate = torch.zeros(3, 4, 3)
    log_rate[2] = np.log(2.5)
    tasks, rates = [], []
    for some in (slice(0, 1), slice(1, 3)):
        group = Group(counts[some], target[some], torch.arange(3), 0, "random")
        tasks.append(Task(group, target[some]))
        rates.append(log_rate[some])
    # (12 + 12 + 3 * 2.5) / 3, and (1 + 1 + 2.5) / 3
    assert float(tasks_loss(tasks, rates, reduction)) == pytest.approx(expected)


@pytest.mark.parametrize("scheme", ["intra_region", "inter_region"])
def test_one_region_is_drawn_for_all_trials_of_a_step(scheme):
    """Whatever share of the trials a device has; each session and step draws its own."""
    masks = {"draw_region_per": "step"}
    found = {}
    for session in range(2):
        for step in range(20):
            (task,) = draw({scheme: 1}, 9, session, step, **masks)
            (region,) = set(task.group.region.tolist())
            counts = torch.zeros(4, N_TIME, len(REGIONS))
            chosen = MaskSettings(schemes={scheme: 1}, **masks)
            (part,) = draw_tasks(rows_of(session), counts, np.array([2, 3, 5, 8]), 0, step, chosen)
            assert set(part.group.region.tolist()) == {region}
            shape = (-1, N_TIME, len(REGIONS))
            whole = task.target.expand(9, *shape[1:])[[2, 3, 5, 8]]
            assert torch.equal(part.target.expand(4, *shape[1:]), whole)
            found[session, step] = region
    assert {found[0, step] for step in range(20)} == {0, 1}
    assert any(found[0, step] != found[1, step] for step in range(20))
    regions = {int(r) for step in range(5) for r in draw({scheme: 1}, 9, 0, step)[0].group.region}
    assert regions == {0, 1}  # by default each trial has its own


def test_a_session_without_regions_draws_none_for_a_step():
    masks = MaskSettings(schemes={"neuron": 1, "intra_region": 1}, draw_region_per="step")
    rows = rows_of(0, torch.full((3,), -1))
    for step in range(4):
        tasks = draw_tasks(rows, torch.zeros(2, N_TIME, 3), np.arange(2), 0, step, masks)
        assert {task.group.scheme for task in tasks} == {"neuron"}


@pytest.mark.parametrize("scheme", ["neuron", "inter_region", "intra_region", "causal"])
def test_a_task_is_the_same_on_a_device_but_for_its_rows(scheme):
    (task,) = draw({scheme: 1.0}, 5)
    units = torch.arange(8) + 40
    moved = task.on(torch.device("cpu"), units, 3)
    assert moved.group.units is units
    assert moved.group.session == 3
    assert moved.asked is None
    assert torch.equal(moved.target, task.target)
    for name, value in vars(task.group).items():
        found = getattr(moved.group, name)
        if isinstance(value, torch.Tensor) and name != "units":
            assert torch.equal(found, value), name
        elif name not in ("units", "session"):
            assert found == value, name
    assert (moved.group.region >= 0).all() == ("region" in scheme)
    elsewhere = task.on(torch.device("meta"), units.to("meta"), 3)
    tensors = [value for value in vars(elsewhere.group).values() if isinstance(value, torch.Tensor)]
    assert {tensor.device.type for tensor in (*tensors, elsewhere.target)} == {"meta"}
    assert elsewhere.target.shape == task.target.shape
    # What is hidden and asked for at once is sent once.
    assert (moved.target is moved.group.hidden) == (task.target is task.group.hidden)
