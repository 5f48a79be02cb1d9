"""What schemes hide of behaviour."""

import pytest
import torch

from ibl_mtm.model.behaviour_masks import draw_behaviour_mask, sources_of
from ibl_mtm.model.draws import keys
from ibl_mtm.model.masking import (
    BEHAVIOUR_SCHEMES,
    DRAWS,
    SCHEMES,
    MaskRatios,
    draw_mask,
)

#: Two traces of one variable, a third, and two classes.
NAMES = ("wheel_speed", "wheel_velocity", "lick_rate", "choice", "block")
N, N_TIME = 4000, 7
KEY = keys(0, 3, torch.arange(N))
REGIONS = torch.tensor([0, 0, 1, -1])


def there(*missing):
    have = torch.ones(N, 5, dtype=torch.bool)
    have[:, list(missing)] = False
    return have[:, :3], have[:, 3:]


RATIOS = MaskRatios()


def draw(scheme, have=None, ratios=RATIOS):
    return draw_behaviour_mask(
        scheme, KEY, N_TIME, there() if have is None else have, sources_of(NAMES), ratios
    )


def whole(mask):
    return torch.cat([mask.traces.expand(N, N_TIME, 3).all(1), mask.classes], 1)


def test_old_schemes_keep_their_numbers_and_new_ones_have_others():
    assert SCHEMES == (
        "neuron", "causal", "intra_region", "inter_region", "temporal", "random",
    )  # fmt: skip
    assert set(DRAWS) == {*SCHEMES, *BEHAVIOUR_SCHEMES}


@pytest.mark.parametrize("scheme", [*SCHEMES, "decoding"])
def test_schemes_of_activity_and_decoding_hide_all_behaviour(scheme):
    assert whole(draw(scheme)).all()


def test_encoding_hides_all_spikes_and_of_behaviour_any_share_of_its_variables():
    hidden = whole(draw("encoding"))
    assert (hidden[:, 0] == hidden[:, 1]).all()  # the wheel's velocity tells its speed
    # Of four variables: half of the trials none, the others a share that is drawn evenly, which
    # makes every number of hidden ones equally likely.
    n_hidden = hidden[:, 1:].sum(1)
    shares = [(n_hidden == n).float().mean().item() for n in range(5)]
    assert shares == pytest.approx([0.5 + 0.1, 0.1, 0.1, 0.1, 0.1], abs=0.02)
    alone = whole(draw("encoding", ratios=MaskRatios(encoding=0)))
    assert not alone.any()
    spikes = draw_mask("encoding", KEY[:3], N_TIME, REGIONS)
    assert spikes.hidden.all()
    assert spikes.target.all()
    assert len(spikes.hidden) == 3


@pytest.mark.parametrize("scheme", ["decoding", "behaviour"])
def test_schemes_that_ask_for_behaviour_show_all_spikes(scheme):
    spikes = draw_mask(scheme, KEY[:3], N_TIME, REGIONS)
    assert not spikes.hidden.any()
    assert not spikes.target.any()


def test_one_source_is_hidden_at_a_time_with_all_that_comes_from_it():
    hidden = whole(draw("behaviour"))
    assert (hidden[:, 0] == hidden[:, 1]).all()  # the wheel's velocity tells its speed
    assert (hidden[:, 1:].sum(1) == 1).all()
    share = hidden.float().mean(0)
    assert share.tolist() == pytest.approx([2 / 5, 2 / 5, 1 / 5, 1 / 5, 1 / 5], abs=0.03)


def test_a_source_that_a_trial_does_not_have_is_not_asked_for():
    hidden = whole(draw("behaviour", there(2, 3)))
    assert not hidden[:, [2, 3]].any()
    assert hidden.any(1).all()


def test_mixed_hides_modalities_and_bins_apart_from_units():
    ratios = MaskRatios(mixed=0.25)
    mask, spikes = draw("mixed", ratios=ratios), draw_mask("mixed", KEY, N_TIME, REGIONS, ratios)
    assert (mask.traces[:, :, 0] == mask.traces[:, :, 1]).all()
    assert mask.classes.float().mean() == pytest.approx(0.25, abs=0.02)
    assert mask.traces.float().mean() == pytest.approx(1 - 0.75**2, abs=0.02)
    assert spikes.hidden.float().mean() == pytest.approx(1 - 0.75**2, abs=0.02)
    assert (spikes.hidden == spikes.target).all()
    # Were they the same numbers, bins would be hidden together.
    both = (mask.traces[:, :, 2] & spikes.hidden[:, :, 0]).float().mean()
    assert both == pytest.approx((1 - 0.75**2) ** 2, abs=0.02)


def test_masks_follow_from_keys():
    some = torch.tensor([5, 17])
    for scheme in BEHAVIOUR_SCHEMES:
        have = tuple(part[some] for part in there())
        again = draw_behaviour_mask(scheme, KEY[some], N_TIME, have, sources_of(NAMES))
        assert (again.classes == draw(scheme).classes[some]).all()
        assert (again.traces == draw(scheme).traces[some]).all()
