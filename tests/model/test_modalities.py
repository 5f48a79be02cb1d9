"""Behaviour in the model: hidden values reach nothing, what is missing is as if absent."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats
from test_mtm import FULL, N_TIME, N_TRIALS, N_UNITS, make_counts, make_model, rows_of

from ibl_mtm.model.behaviour_masks import draw_behaviour_mask, sources_of
from ibl_mtm.model.draws import keys
from ibl_mtm.model.group import Group
from ibl_mtm.model.loss import class_nll, gaussian_nll, poisson_nll
from ibl_mtm.model.masking import BEHAVIOUR_SCHEMES, DRAWS, draw_mask
from ibl_mtm.model.modalities import Behaviour, Modalities, Scales

NAMES = ("choice", "wheel_speed", "lick_rate", "block", "whisker_motion_energy")
K, V = 3, 2
WITH = FULL.model_copy(update={"modalities": NAMES})
REGIONS = torch.tensor([0, 0, 0, 0, 1, 1, 1, -1, -1])
KEY = keys(0, 1, torch.arange(N_TRIALS))


@pytest.fixture(scope="module")
def model():
    made = make_model(WITH)
    for session in range(2):
        made.behaviour_offset[session] = torch.tensor([1.0, 0.2, 3.0])
        made.behaviour_scale[session] = torch.tensor([2.0, 0.4, 0.5])
        made.behaviour_log_odds[session] = torch.tensor([0.3, -0.1])
        made.behaviour_null[session] = torch.tensor([1.4, 0.5, 1.4, 0.69, 0.69])
    return made


def make_behaviour(seed=0, hidden=False):
    rng = torch.Generator().manual_seed(seed)
    traces = torch.randn(N_TRIALS, N_TIME, K, generator=rng)
    traces[:, :, 1] = torch.randint(0, 3, (N_TRIALS, N_TIME), generator=rng)
    classes = 2 * torch.randint(0, 2, (N_TRIALS, V), generator=rng) - 1
    nothing = torch.full((1, 1, 1), hidden)
    return Behaviour(traces, classes.to(torch.int8), nothing, nothing[0])


def ask(model, counts, behaviour, hidden=None, scheme="decoding"):
    hidden = torch.zeros(N_TRIALS, 1, 1, dtype=torch.bool) if hidden is None else hidden
    group = Group(
        counts, hidden, rows_of(0), 0, scheme, scheme == "causal", behaviour=behaviour
    )  # fmt: skip
    with torch.no_grad():
        (rates,), (answer,) = model([group], behaviour=True)
    return rates, answer


@pytest.mark.parametrize("scheme", DRAWS)
def test_hidden_values_reach_no_prediction(model, scheme):
    """Under every scheme, whatever it hides of spikes and behaviour: the same to the bit."""
    counts, behaviour = make_counts(), make_behaviour()
    mask = draw_mask(scheme, KEY, N_TIME, REGIONS)
    there = torch.ones(N_TRIALS, K, dtype=torch.bool), torch.ones(N_TRIALS, V, dtype=torch.bool)
    drawn = draw_behaviour_mask(scheme, KEY, N_TIME, there, sources_of(model.names_of_modalities))
    behaviour = replace(behaviour, hidden_traces=drawn.traces, hidden_classes=drawn.classes)
    other = replace(
        behaviour,
        traces=torch.where(drawn.traces, make_behaviour(9).traces * 1e4, behaviour.traces),
        classes=torch.where(drawn.classes, -behaviour.classes, behaviour.classes),
    )
    other.traces[1] = torch.where(
        drawn.traces.expand_as(other.traces)[1], torch.nan, other.traces[1]
    )
    other_counts = torch.where(mask.hidden, make_counts(9) + 5, counts)
    rates, answer = ask(model, counts, behaviour, mask.hidden, scheme)
    again, other_answer = ask(model, other_counts, other, mask.hidden, scheme)
    assert torch.equal(rates, again)
    assert torch.equal(answer.mean, other_answer.mean)
    assert torch.equal(answer.logit, other_answer.logit)


@pytest.mark.parametrize("scheme", ["encoding", "behaviour", "mixed"])
def test_shown_values_reach_predictions(model, scheme):
    counts = make_counts()
    rates, answer = ask(model, counts, make_behaviour(), scheme=scheme)
    for change in ("traces", "classes"):
        changed = replace(make_behaviour(), **{change: -getattr(make_behaviour(), change)})
        other, other_answer = ask(model, counts, changed, scheme=scheme)
        assert not torch.allclose(rates, other, atol=1e-4)
        assert not torch.allclose(answer.logit, other_answer.logit, atol=1e-4)


def test_missing_is_as_hidden_and_as_nothing_given(model):
    counts, behaviour = make_counts(), make_behaviour()
    missing = replace(
        behaviour,
        traces=torch.full_like(behaviour.traces, torch.nan),
        classes=torch.zeros_like(behaviour.classes),
    )
    all_of_it = torch.ones(1, 1, 1, dtype=torch.bool)
    hidden = replace(behaviour, hidden_traces=all_of_it, hidden_classes=all_of_it[0])
    rates = [ask(model, counts, b)[0] for b in (missing, hidden)]
    assert torch.equal(*rates)
    torch.testing.assert_close(rates[0], ask(model, counts, None)[0])


def test_a_modality_that_a_session_lacks_is_neither_read_nor_asked_for(model):
    counts, behaviour = make_counts(), make_behaviour()
    lacking = model.behaviour_null[0].clone()
    try:
        model.behaviour_null[0, [0, 3]] = 0
        traces, classes = behaviour.traces.clone(), behaviour.classes.clone()
        traces[:, :, 0], classes[:, 0] = 50.0, -classes[:, 0]
        other = replace(behaviour, traces=traces, classes=classes)
        rates, answer = ask(model, counts, behaviour)
        again, _ = ask(model, counts, other)
        assert torch.equal(rates, again)
        there, known = answer.observed(other)
        assert there.any(1).any(0).tolist() == [False, True, True]
        assert known.any(0).tolist() == [False, True]
    finally:
        model.behaviour_null[0] = lacking


def test_a_new_model_answers_what_training_trials_have_on_average():
    torch.manual_seed(0)
    modalities = Modalities(NAMES, N_TIME, 16)
    scales = Scales(
        torch.tensor([1.0, 0.2, 3.0]), torch.tensor([2.0, 0.4, 0.5]),
        torch.tensor([0.3, -0.1]), torch.ones(5),
    )  # fmt: skip
    answer = modalities.decode(torch.randn(N_TRIALS, N_TIME, 16), scales)
    expected = answer.expected()
    for k, value in enumerate((1.0, 0.2, 3.0)):
        torch.testing.assert_close(expected[..., k], torch.full((N_TRIALS, N_TIME), value))
    torch.testing.assert_close(answer.logit, torch.tensor([0.3, -0.1]).expand(N_TRIALS, V))
    for own, null in zip(
        answer.nll(make_behaviour()), answer.null().nll(make_behaviour()), strict=True
    ):
        torch.testing.assert_close(own, null)


def test_likelihoods_are_those_of_scipy(model):
    behaviour = make_behaviour()
    _, answer = ask(model, make_counts(), behaviour)
    traces, classes = (part.detach().numpy() for part in answer.nll(behaviour))
    mean, deviation = answer.mean.numpy(), np.exp(answer.log_variance.detach().numpy() / 2)
    z = (behaviour.traces.numpy() - [1.0, 0.2, 3.0]) / [2.0, 0.4, 0.5]
    for k in (0, 2):
        expected = -stats.norm.logpdf(z[..., k], mean[..., k], deviation[k])
        np.testing.assert_allclose(traces[..., k], expected, rtol=1e-4, atol=1e-5)
    licks = -stats.poisson.logpmf(behaviour.traces[..., 1].numpy(), np.exp(mean[..., 1]))
    np.testing.assert_allclose(traces[..., 1], licks, rtol=1e-4, atol=1e-5)
    share = 1 / (1 + np.exp(-answer.logit.numpy()))
    plus = behaviour.classes.numpy() > 0
    np.testing.assert_allclose(classes, -np.log(np.where(plus, share, 1 - share)), rtol=1e-4)
    np.testing.assert_allclose(answer.expected()[..., 1], np.exp(mean[..., 1]), rtol=1e-5)


def test_a_class_is_read_from_bins_by_their_weights(model):
    h = torch.randn(2, N_TIME, 16, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        logit = model.modalities.decode(h, model.scales_of(0)).logit
    part = {name: p.detach().numpy() for name, p in model.modalities.named_parameters()}
    for b in range(2):
        for v in range(V):
            score = h[b].numpy() @ part["query"][v] + part["when"][:, v]
            weight = np.exp(score) / np.exp(score).sum()
            pooled = weight @ h[b].numpy()
            expected = pooled @ part["class_read_out"][v] + part["class_bias"][v]
            expected += (0.3, -0.1)[v]
            assert logit[b, v].item() == pytest.approx(expected, rel=1e-4)


def test_what_is_missing_costs_nothing(model):
    """And what is there costs what it would with nothing missing."""
    _, answer = ask(model, make_counts(), make_behaviour())
    whole = make_behaviour()
    traces, classes = whole.traces.clone(), whole.classes.clone()
    traces[1, 3:, 0], classes[2, 1] = torch.nan, 0
    found = answer.nll(replace(whole, traces=traces, classes=classes))
    for one, all_of_it, gone in zip(
        found, answer.nll(whole), (traces.isnan(), classes == 0), strict=True
    ):
        assert gone.any()
        assert not one[gone].any()
        assert torch.equal(one[~gone], all_of_it[~gone])


def test_gradients_are_those_of_finite_differences():
    rng = torch.Generator().manual_seed(0)
    values = torch.randn(5, dtype=torch.float64, generator=rng)
    mean = torch.randn(5, dtype=torch.float64, generator=rng, requires_grad=True)
    log_variance = torch.randn(5, dtype=torch.float64, generator=rng, requires_grad=True)
    label = torch.tensor([-1.0, 1, 1, -1, 1], dtype=torch.float64)
    counts = torch.tensor([0.0, 1, 3, 0, 2], dtype=torch.float64)
    check = torch.autograd.gradcheck
    assert check(lambda m, v: gaussian_nll(m, v, values), (mean, log_variance))
    assert check(lambda x: class_nll(x, label), (mean,))
    assert check(lambda x: poisson_nll(x, counts), (mean,))


def test_missing_values_give_no_gradient_and_none_that_is_no_number(model):
    behaviour = make_behaviour(hidden=True)
    behaviour.traces[0], behaviour.classes[0] = torch.nan, 0
    hidden = torch.zeros(N_TRIALS, 1, 1, dtype=torch.bool)
    group = Group(make_counts(), hidden, rows_of(0), 0, "decoding", behaviour=behaviour)
    _, (answer,) = model([group], behaviour=True)
    answer.mean.retain_grad()
    answer.logit.retain_grad()
    traces, classes = answer.nll(behaviour)
    (traces.sum() + classes.sum()).backward()
    assert not answer.mean.grad[0].any()
    assert not answer.logit.grad[0].any()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
    model.zero_grad()


def test_a_model_without_modalities_has_the_weights_that_it_had():
    plain, other = make_model(FULL), make_model(WITH)
    assert not [name for name in plain.state_dict() if "modal" in name or "behaviour" in name]
    more = {name for name in other.state_dict() if name not in plain.state_dict()}
    assert {name.partition(".")[0] for name in more} == {
        "modalities", "modality_prompt", *other.BEHAVIOUR_TABLES,
    }  # fmt: skip
    assert other.prompt_token.shape == plain.prompt_token.shape


def test_every_scheme_has_a_prompt_of_its_own(model):
    tokens = torch.stack([model.prompt_of(scheme) for scheme in DRAWS])
    assert len(tokens.unique(dim=0)) == len(DRAWS)
    assert torch.equal(model.prompt_of("mixed"), model.modality_prompt[3])
    assert BEHAVIOUR_SCHEMES[3] == "mixed"


def test_unprompted_and_without_region_units(model):
    settings = WITH.model_copy(update={"prompt": False, "prompt_region": False})
    unprompted = make_model(settings)
    rates, _ = ask(unprompted, make_counts(), make_behaviour(), scheme="encoding")
    other, _ = ask(unprompted, make_counts(), make_behaviour(), scheme="decoding")
    assert torch.equal(rates, other)
    assert rates.shape == (N_TRIALS, N_TIME, N_UNITS)
