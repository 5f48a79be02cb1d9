"""Each scheme masks and targets what its row in the table of schemes says."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ibl_mtm.model.draws import keys, uniform
from ibl_mtm.model.masking import DRAWS, SCHEMES, MaskRatios, draw_mask, mask_last_bins

N_TIME = 20


def draw(scheme, regions, seed=0, n_trials=3, **ratios):
    key = keys(seed, 0, torch.arange(n_trials))
    mask = draw_mask(scheme, key, N_TIME, torch.tensor(regions), MaskRatios(**ratios))
    shape = (n_trials, N_TIME, len(regions))
    return mask.hidden.expand(shape).numpy(), mask.target.expand(shape).numpy(), mask.region


# Regions of 2 to 8 units, and units of none (-1), in any order.
REGIONS = (
    st.lists(st.integers(2, 8), min_size=2, max_size=4)
    .flatmap(
        lambda sizes: st.tuples(
            st.just([r for r, size in enumerate(sizes) for _ in range(size)]), st.integers(0, 4)
        )
    )
    .flatmap(lambda pair: st.permutations(pair[0] + [-1] * pair[1]))
)
SEEDS = st.integers(-(2**40), 2**40)


@given(REGIONS, SEEDS)
@settings(max_examples=50, deadline=None)
def test_neuron_hides_and_targets_the_same_whole_units(regions, seed):
    hidden, target, region = draw("neuron", regions, seed)
    assert (hidden == target).all()
    assert (hidden == hidden[:, :1]).all()
    assert (region == -1).all()


@pytest.mark.parametrize("scheme", sorted({*DRAWS} - {"intra_region", "inter_region"}))
def test_a_scheme_that_draws_no_region_says_so(scheme):
    assert draw(scheme, [0, 1, -1, 1])[2].tolist() == [-1, -1, -1]


@pytest.mark.parametrize("scheme", ["causal", "temporal"])
@given(REGIONS, SEEDS)
@settings(max_examples=50, deadline=None)
def test_causal_and_temporal_hide_and_target_whole_time_steps(scheme, regions, seed):
    hidden, target, region = draw(scheme, regions, seed)
    assert (hidden == target).all()
    assert (hidden == hidden[:, :, :1]).all()
    assert (region == -1).all()


@given(REGIONS, SEEDS, st.sampled_from([0.05, 0.3, 1.0]))
@settings(max_examples=100, deadline=None)
def test_intra_region_hides_all_other_units_and_targets_a_share_of_one_region(regions, seed, share):
    hidden, target, drawn = draw("intra_region", regions, seed, intra_region=share)
    regions = np.array(regions)
    for trial, region in enumerate(drawn.tolist()):
        inside = regions == region
        assert region >= 0
        assert hidden[trial][:, ~inside].all()
        assert not target[trial][:, ~inside].any()
        assert (hidden[trial][:, inside] == target[trial][:, inside]).all()
        assert (target[trial] == target[trial][:1]).all()
        # Half a unit rounds to the even number, as everywhere in Python.
        expected = min(max(1, round(share * inside.sum())), inside.sum() - 1)
        assert target[trial, 0].sum() == expected


@given(REGIONS, SEEDS)
@settings(max_examples=50, deadline=None)
def test_inter_region_hides_and_targets_one_whole_region(regions, seed):
    hidden, target, drawn = draw("inter_region", regions, seed)
    regions = np.array(regions)
    for trial, region in enumerate(drawn.tolist()):
        assert region >= 0
        assert (hidden[trial] == (regions == region)).all()
    assert (hidden == target).all()


@pytest.mark.parametrize(
    ("scheme", "share"), [("neuron", 0.3), ("causal", 0.6), ("temporal", 0.3), ("random", 0.3)]
)
def test_shares_are_the_papers(scheme, share):
    hidden, _, _ = draw(scheme, [0] * 50, n_trials=2000)
    # Entries of a unit or step are not independent: 2000 x 20 draws give an error below 0.003.
    assert hidden.mean() == pytest.approx(share, abs=0.01)


def test_regions_are_drawn_evenly():
    _, _, drawn = draw("inter_region", [0, 0, 1, 1, 1, 1, 2, 2, -1], n_trials=3000)
    assert np.bincount(drawn, minlength=3) == pytest.approx(1000, abs=100)


def test_causal_tails_run_to_the_end():
    hidden, _, _ = draw("causal", [0], n_trials=500, tail_share=1.0, tail_bins=5)
    steps = hidden[:, :, 0]
    lengths = steps.sum(1)
    assert set(lengths) == {1, 2, 3, 4, 5}
    for row, length in zip(steps, lengths, strict=True):
        assert row[N_TIME - length :].all()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_trials_mask_does_not_depend_on_its_batch(scheme):
    regions = torch.tensor([0, 0, 0, 1, 1, -1])
    key = keys(3, 5, torch.tensor([7, 8, 9]))
    together = draw_mask(scheme, key, N_TIME, regions)
    alone = draw_mask(scheme, key[1:2], N_TIME, regions)
    assert torch.equal(together.hidden[1:2], alone.hidden)
    assert torch.equal(together.target[1:2], alone.target)


def test_another_step_seed_or_trial_gives_another_mask():
    drawn = [
        uniform(keys(seed, step, torch.tensor([trial])), 8)
        for seed in (0, 1)
        for step in (0, 1)
        for trial in (0, 1)
    ]
    assert len({tuple(row[0].tolist()) for row in drawn}) == 8


def test_draws_are_uniform_and_independent():
    draws = uniform(keys(0, 0, torch.arange(400)), 500).numpy()
    assert draws.min() >= 0
    assert draws.max() < 1
    counts, _ = np.histogram(draws, bins=20, range=(0, 1))
    assert counts == pytest.approx(10_000, abs=500)  # 5 standard deviations
    assert abs(np.corrcoef(draws[:, :-1].ravel(), draws[:, 1:].ravel())[0, 1]) < 0.01
    assert abs(np.corrcoef(draws[:-1].ravel(), draws[1:].ravel())[0, 1]) < 0.01


def test_the_first_draws_are_those_of_splitmix64():
    # Reference values of the generator's authors for the seed 1234567.
    bits = uniform(torch.tensor([1234567]), 3).double() * 2**24
    expected = [6457827717110365317, 3203168211198807973, 9817491932198370423]
    assert bits[0].long().tolist() == [value >> 40 for value in expected]


def test_a_region_scheme_without_regions_is_refused():
    with pytest.raises(ValueError, match="eligible region"):
        draw("intra_region", [-1, -1])


def test_an_unknown_scheme_is_refused():
    with pytest.raises(ValueError, match="known: neuron"):
        draw("neurons", [0, 0])


@pytest.mark.parametrize(("n_time", "late"), [(100, range(90, 100)), (20, [18, 19]), (5, [4])])
def test_forward_prediction_hides_the_last_tenth_and_nothing_else(n_time, late):
    mask = mask_last_bins(3, n_time)
    assert mask.hidden.shape == mask.target.shape == (3, n_time, 1)
    for trial in range(3):
        assert mask.hidden[trial, :, 0].nonzero()[:, 0].tolist() == list(late)
    assert torch.equal(mask.hidden, mask.target)
    assert mask.region.tolist() == [-1, -1, -1]


def test_by_a_coin_each_unit_of_a_region_is_a_target_for_itself():
    """So a region of one unit has a target in three of ten masks, and then no input."""
    ratios = MaskRatios(intra_region_by="coin")
    regions = torch.tensor([0, 1, 1, 1, -1])
    mask = draw_mask("intra_region", keys(0, 0, torch.arange(6000)), 4, regions, ratios)
    for region, units in ((0, [0]), (1, [1, 2, 3])):
        own = mask[mask.region == region]
        target, hidden = own.target[:, 0], own.hidden[:, 0]
        for unit in units:
            assert target[:, unit].float().mean().item() == pytest.approx(0.3, abs=0.03)
        none = (~target.any(1)).float().mean().item()
        assert none == pytest.approx(0.7 ** len(units), abs=0.03)
        outside = [unit for unit in range(5) if unit not in units]
        assert hidden[:, outside].all()
        assert torch.equal(hidden[:, units], target[:, units])
