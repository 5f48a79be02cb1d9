"""Parts of the model by hand: where tables start, what it tells of itself, which rows answer."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from test_modalities import NAMES, WITH, make_behaviour
from test_mtm import FULL, N_TIME, N_TRIALS, N_UNITS, PAPER, SMALL, make_counts, make_model, rows_of

from ibl_mtm.model.dynamics.posterior import Posterior
from ibl_mtm.model.dynamics.system import HIGHEST, LinearDynamics
from ibl_mtm.model.group import Group
from ibl_mtm.model.layers import Dropout
from ibl_mtm.model.loss import masked_loss
from ibl_mtm.model.masking import SCHEMES, MaskRatios, draw_mask
from ibl_mtm.model.mtm import MtM
from ibl_mtm.model.scope import Scope
from ibl_mtm.model.with_dynamics import average, hides_the_end
from ibl_mtm.sessions.trial_format import TrialFormat


@pytest.mark.parametrize("std", [0.02, 0.5])
def test_embeddings_start_with_the_spread_that_is_chosen(std):
    settings = SMALL.model_copy(
        update={"width": 64, "prompt_region": True, "modalities": NAMES, "embedding_std": std}
    )
    names = tuple(map(str, range(30)))
    form = TrialFormat(30, 0.02, "stimOn_times", -0.5)
    torch.manual_seed(0)
    model = MtM(settings, Scope(names, names, names, form, ("neuron",)))
    tables = [
        model.positions,
        model.session_token,
        model.region_token,
        model.prompt_token,
        model.modality_prompt,
        model.modalities.read_in,
        model.modalities.class_read_in,
    ]
    for table in tables:
        spread = table.detach().std().item()
        assert spread == pytest.approx(std, rel=4 / math.sqrt(2 * table.numel()))
    for name in ("not_shown", "class_not_shown", "read_out", "class_read_out", "query", "when"):
        assert not getattr(model.modalities, name).any()
    assert "modalities.is_count" not in model.state_dict()


@pytest.mark.parametrize("settings", [FULL, PAPER], ids=["full", "paper"])
def test_rows_of_new_units_start_small_and_others_stay(settings):
    """Read-ins as a linear layer of so many inputs; whatever is read out starts at the mean."""
    model = MtM(settings, make_model().scope)
    some, log_mean = torch.tensor([10, 12, 13, 17]), torch.tensor([-1.0, 0.5, -3.0, 0.0])
    model.start_units(some, log_mean + 4, log_mean + 5, log_mean, session=1)
    others = np.delete(np.arange(2 * N_UNITS), some)
    tables = [model.read_in, *([model.indicator] if settings.mask_indicator else [])]
    for table in tables:
        assert not table[others].any()
        assert 0.35 < table[some].abs().max() <= 0.5
    assert torch.equal(model.input_mean[some], log_mean + 4)
    assert torch.equal(model.input_scale[some], log_mean + 5)
    assert (model.input_scale[others] == 1).all()
    assert torch.equal(model.null_log_rate[some], log_mean)
    assert not model.read_in_bias.any()
    if settings.bias == "log_mean":
        assert torch.equal(model.read_out_bias[some], log_mean)
        assert not model.read_out.any()
    else:
        assert not model.read_out_bias.any()
        assert 0.2 < model.read_out[some].abs().max() <= 0.25
    assert not model.read_out[others].any()


def test_uniform_biases_are_those_of_the_session_that_starts():
    model = MtM(PAPER.model_copy(update={"stitcher_bias": "uniform"}), make_model().scope)
    units, zeros = rows_of(1), torch.zeros(N_UNITS)
    model.start_units(units, zeros, zeros + 1, zeros - 2)
    assert not model.read_in_bias.any()
    model.start_units(units, zeros, zeros + 1, zeros - 2, session=1)
    assert not model.read_in_bias[0].any()
    assert 0.2 < model.read_in_bias[1].abs().max() <= 1 / 3
    assert not model.read_out_bias[:N_UNITS].any()
    assert 0.05 < model.read_out_bias[N_UNITS:].abs().max() <= 0.5  # twice 1 / 4


def test_what_a_model_tells_of_itself():
    first = "MtM of 2 sessions, 18 units, 2 regions (beryl)"
    bins = "trials of 12 bins of 20 ms, from -0.5 s (stimOn_times)"
    schemes = "schemes: neuron, causal, intra_region, inter_region"
    scope = make_model().scope
    for update, more, last in (
        ({}, [], ""),
        ({"drift": True}, [], ""),
        ({"dynamics": 3}, [], "; linear dynamics of 3"),
        ({"dynamics": 3, "drift": True}, [], "; linear dynamics of 3, units drift"),
        ({"modalities": ("choice", "block")}, ["modalities: choice, block"], ""),
    ):
        model = MtM(SMALL.model_copy(update=update), scope)
        n = sum(parameter.numel() for parameter in model.parameters())
        size = f"width 16, 2 layers, {n:,} weights{last}"
        assert repr(model).split("\n  ") == [first, bins, schemes, *more, size]


@pytest.mark.parametrize(
    ("scheme", "trained", "expected"),
    [("causal", ("neuron", "causal"), True), ("causal", ("neuron",), False),
     ("neuron", ("neuron", "causal"), False)],
)  # fmt: skip
def test_a_bin_sees_the_past_alone_only_if_that_was_trained(scheme, trained, expected):
    model = make_model(SMALL)
    model.scope = SimpleNamespace(schemes=trained)
    assert model.is_causal(scheme) == expected


def test_a_model_of_no_region_names_none():
    scope = make_model().scope
    empty = Scope(scope.units, scope.sessions, (), scope.trial_format, scope.schemes)
    model = MtM(FULL, empty)
    region = torch.zeros(N_TRIALS, dtype=torch.long)
    group = Group(make_counts(), torch.zeros(1, 1, 1), rows_of(0), 0, "neuron", region=region)
    assert torch.equal(model.lead_tokens(group)[:, 1], model.prompt_token[:1].expand(4, -1))


def test_rows_that_were_fitted_for_encoding_answer_under_its_prompt_alone():
    """Once there are any; units that were given none keep those that they have."""
    h = torch.randn(N_TRIALS, N_TIME, 16, generator=torch.Generator().manual_seed(0))
    some, weights, bias = rows_of(1)[:2], torch.ones(2, 16), torch.tensor([0.5, -1.0])
    hidden = torch.ones(1, 1, 1, dtype=torch.bool)

    def answers(model, scheme):
        group = Group(make_counts(), hidden, rows_of(1), 1, scheme)
        return model.predict(h, group), model.decode(h, group)

    with torch.no_grad():
        plain = make_model(WITH)
        assert torch.equal(*answers(plain, "encoding"))
        assert torch.equal(*answers(make_model(SMALL), "neuron"))
        model = make_model(WITH.model_copy(update={"refit_encoding": True}))
        assert torch.equal(*answers(model, "encoding"))
        model.start_encoding(some, weights, bias)
        assert torch.equal(*answers(model, "decoding"))
        found, before = answers(model, "encoding")
        expected = before.clone()
        expected[..., :2] = h.sum(2)[..., None] + bias
        torch.testing.assert_close(found, expected)
        model.start_encoding(some[:1], 2 * weights[:1], bias[:1])  # the other one stays
        expected[..., 0] = 2 * h.sum(2) + bias[0]
        torch.testing.assert_close(answers(model, "encoding")[0], expected)


def test_scales_of_behaviour_are_each_sessions_own():
    model = make_model(WITH)
    numbers = {"offset": [1.0, 2, 3], "scale": [4.0, 5, 6], "log_odds": [7.0, 8], "null": range(5)}
    statistics = SimpleNamespace(
        **{name: np.array(values, np.float32) for name, values in numbers.items()}
    )
    before = model.scales_of(0)
    model.start_behaviour(1, statistics)
    for name, values in numbers.items():
        assert getattr(model.scales_of(1), name).tolist() == list(values)
        assert torch.equal(getattr(model.scales_of(0), name), getattr(before, name))
    assert model.scales_of(1).has_trace.tolist() == [False, True, True]
    assert model.scales_of(1).has_class.tolist() == [True, True]


@pytest.mark.parametrize(
    ("steps", "ends"),
    [
        ([[0, 0, 1], [0, 1, 1]], True),
        ([[1, 1, 1], [0, 0, 1]], True),
        ([[0, 1, 0], [0, 1, 1]], False),
        ([[1, 0, 1], [0, 0, 1]], False),
        ([[0, 0, 0], [0, 0, 1]], False),
    ],
)
def test_what_hides_the_end_of_each_trial(steps, ends):
    hidden = torch.tensor(steps, dtype=torch.bool)[:, :, None]
    assert hides_the_end(hidden) is ends
    assert not hides_the_end(hidden.expand(-1, -1, 2))
    assert not hides_the_end(hidden[:, -1:])  # of all bins, or of none


def with_dynamics(**changes):
    settings = SMALL.model_copy(update={"dynamics": 2, "modalities": NAMES} | changes)
    return MtM(settings, make_model().scope)


def test_dynamics_have_a_share_under_schemes_of_activity():
    model = with_dynamics()
    assert [model.share_of(scheme) for scheme in SCHEMES] == [0] * len(SCHEMES)
    model.dynamics_share.copy_(torch.arange(len(SCHEMES)) / 8)
    assert [model.share_of(scheme) for scheme in SCHEMES] == [n / 8 for n in range(len(SCHEMES))]
    assert model.share_of("decoding") == 0
    assert with_dynamics(dynamics=0).share_of("causal") == 0


def make_system(**more):
    g = torch.Generator().manual_seed(0)
    return LinearDynamics(
        loading=torch.randn(N_UNITS, 2, generator=g), offset=torch.randn(N_UNITS, generator=g),
        transition=0.5 * torch.eye(2), noise=torch.eye(2), first_noise=2 * torch.eye(2),
        course=torch.randn(N_TIME, 2, generator=g), **more,
    )  # fmt: skip


def test_a_system_is_kept_in_the_rows_of_its_session():
    model, highest = with_dynamics(), torch.arange(N_UNITS) / 4
    for system, bound in ((make_system(highest=highest), highest), (make_system(), None)):
        model.start_dynamics(rows_of(1), 1, system)
        found = model.dynamics_of(rows_of(1), 1)
        for name in ("loading", "offset", "transition", "noise", "first_noise", "course"):
            assert torch.equal(getattr(found, name), getattr(system, name))
        assert found.drift is None
        expected = torch.full((N_UNITS,), HIGHEST) if bound is None else bound
        assert torch.equal(found.highest, expected)
    other = model.dynamics_of(rows_of(0), 0)
    assert not other.loading.any()
    assert torch.equal(other.noise, torch.eye(2))
    assert (other.highest == HIGHEST).all()


@pytest.mark.parametrize("steps", [None, [5], [10, 11]], ids=["units", "amid", "the end"])
@pytest.mark.parametrize("share", [0.0, 0.25])
def test_log_rates_are_blended_where_the_system_sees_no_later_bin(steps, share):
    """Under causal attention that is where the end is hidden; known posteriors are taken."""
    model, system = with_dynamics(), make_system()
    model.start_dynamics(rows_of(1), 1, system)
    model.dynamics_share.fill_(share)
    hidden = torch.zeros(N_TRIALS, N_TIME, 1 if steps else N_UNITS, dtype=torch.bool)
    hidden[:, steps or slice(None), slice(None) if steps else slice(0, 2)] = True
    own = torch.randn(N_TRIALS, 3, 2, generator=torch.Generator().manual_seed(1))
    columns = torch.tensor([4, 1])
    for causal in (False, True):
        group = Group(
            make_counts(), hidden, rows_of(1), 1, "causal" if causal else "neuron", causal,
            outputs=columns,
        )  # fmt: skip
        with torch.no_grad():
            found = model.blend(own, group)  # of the last three bins
            known = model.infer_dynamics(group)
            assert torch.equal(model.blend(own, group, known), found)
            moved = Posterior(known.mean + 1, known.covariance, known.between)
            other = system.log_rates(known)[:, -3:][..., columns]
        if not share or (causal and steps != [10, 11]):
            assert torch.equal(found, own)
        else:
            torch.testing.assert_close(found, 0.75 * own + 0.25 * other, atol=1e-4, rtol=1e-4)
            assert not torch.allclose(model.blend(own, group, moved), found, atol=0.1)


def test_gains_are_added_to_the_transformers_log_rates_alone():
    own, other = torch.full((2, 3, 2), 1.0), torch.full((2, 3, 2), 3.0)
    assert torch.equal(average(own, other, None, 0.25), torch.full((2, 3, 2), 1.5))
    gain = torch.tensor([[1.0, 0.0], [0.0, -4.0]])
    found = average(own, other, gain, 0.25)
    assert found[:, 1].tolist() == [[2.25, 1.5], [1.5, -1.5]]


@pytest.mark.parametrize(("p", "threshold"), [(0.1, 26), (0.4, 102), (0.9, 230), (0.999, 255)])
def test_dropout_is_rounded_to_parts_of_256_and_keeps_the_mean(p, threshold):
    torch.manual_seed(0)
    y = Dropout(p)(torch.ones(1000, 1001))
    assert (y == 0).float().mean().item() == pytest.approx(threshold / 256, abs=0.0015)
    assert y.max().item() == pytest.approx(256 / (256 - threshold), rel=1e-6)


def test_the_mean_over_a_single_target_is_its_loss():
    log_rate, counts = torch.full((1, 2, 2), 0.5), torch.full((1, 2, 2), 3.0)
    target = torch.tensor([[[False, False], [True, False]]])
    assert float(masked_loss(log_rate, counts, target)) == pytest.approx(math.exp(0.5) - 1.5)


@pytest.mark.parametrize(
    ("scheme", "expected"),
    [
        ("neuron", ["100110", "110010", "001110", "001001"]),
        ("causal", ["00111", "00001", "11101", "10011"]),
        ("intra_region", ["000001", "100000", "010000", "010000"]),
        ("inter_region", ["100001", "100001", "011100", "011100"]),
    ],
)
def test_masks_stay_as_runs_of_before_had_them(scheme, expected):
    """Scores of earlier versions are of these: of four trials, in five bins and six units."""
    ratios = MaskRatios(neuron=0.5, causal=0.5, tail_share=0.5, tail_bins=3)
    key, regions = torch.tensor([3, 2**40, -8, 12]), torch.tensor([0, 1, 1, 1, -1, 0])
    target = draw_mask(scheme, key, 5, regions, ratios).target
    rows = target[:, :, 0] if scheme == "causal" else target[:, 0]
    assert ["".join(str(int(each)) for each in row) for row in rows] == expected


def test_modalities_may_be_asked_for_without_being_given():
    """The answer of a model that is shown nothing is that of one without behaviour."""
    model = make_model(WITH)
    for session in range(2):
        model.behaviour_null[session] = 1
    hidden = torch.zeros(1, 1, 1, dtype=torch.bool)
    with torch.no_grad():
        nothing, all_hidden = (
            model([Group(make_counts(), hidden, rows_of(0), 0, "decoding", behaviour=shown)], True)[
                1
            ]
            for shown in (None, make_behaviour(hidden=True))
        )
    torch.testing.assert_close(nothing[0].logit, all_hidden[0].logit)
