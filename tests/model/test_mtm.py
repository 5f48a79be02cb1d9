"""The model: what it must not see it does not see, and what it computes is a plain transformer."""

import math
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from ibl_mtm.model.group import Group
from ibl_mtm.model.loss import masked_loss
from ibl_mtm.model.mtm import MtM
from ibl_mtm.model.scope import Scope
from ibl_mtm.model.settings import ModelSettings
from ibl_mtm.sessions.trial_format import TrialFormat

N_TIME, N_UNITS, N_TRIALS = 12, 9, 4
REGIONS = ("CA1", "DG")
SMALL = ModelSettings(width=16, layers=2, heads=2, mlp=32, stitch_width=None)
FULL = SMALL.model_copy(
    update={
        "transform": "sqrt",
        "standardise": True,
        "mask_indicator": True,
        "convolution": 3,
        "prompt_region": True,
    }
)
PAPER = SMALL.model_copy(update={"stitch_width": 11, "bias": "zero"})


def make_model(settings=FULL, n_sessions=2, seed=0):
    torch.manual_seed(seed)
    scope = Scope(
        units=tuple(f"u{i}" for i in range(N_UNITS * n_sessions)),
        sessions=tuple(f"s{i}" for i in range(n_sessions)),
        regions=REGIONS,
        trial_format=TrialFormat(N_TIME, 0.02, "stimOn_times", -0.5),
        schemes=("neuron", "causal", "intra_region", "inter_region"),
    )
    model = MtM(settings, scope)
    for parameter in model.parameters():  # nothing at zero, so that nothing hides
        torch.nn.init.normal_(parameter, std=0.3)
    for session in range(n_sessions):
        rows = rows_of(session)
        model.input_mean[rows] = torch.rand(N_UNITS)
        model.input_scale[rows] = 0.5 + torch.rand(N_UNITS)
    return model.eval()


def rows_of(session):
    return torch.arange(N_UNITS) + N_UNITS * session


def make_counts(seed=0):
    return torch.randint(
        0, 4, (N_TRIALS, N_TIME, N_UNITS), generator=torch.Generator().manual_seed(seed)
    )


def hide(units=(), steps=()):
    hidden = torch.zeros(N_TRIALS, N_TIME, N_UNITS, dtype=torch.bool)
    hidden[:, :, list(units)] = True
    hidden[:, list(steps)] = True
    return hidden


def run(model, counts, hidden, scheme="neuron", session=0, **options):
    group = Group(counts, hidden, rows_of(session), session, scheme, **options)
    with torch.no_grad():
        return model([group])[0]


@pytest.mark.parametrize("settings", [SMALL, FULL, PAPER], ids=["small", "full", "paper"])
@pytest.mark.parametrize("scheme", ["neuron", "causal", "intra_region", "inter_region"])
def test_hidden_entries_are_not_seen(settings, scheme):
    model, counts = make_model(settings), make_counts()
    hidden = hide(steps=[3, 4, 11]) if scheme == "causal" else hide(units=[0, 5])
    changed = torch.where(hidden, torch.full_like(counts, 200), counts)
    options = {"causal": scheme == "causal", "region": torch.zeros(N_TRIALS, dtype=torch.long)}
    before = run(model, counts, hidden, scheme, **options)
    assert torch.equal(before, run(model, changed, hidden, scheme, **options))
    seen = torch.where(hidden, counts, counts + 1)
    assert not torch.allclose(before, run(model, seen, hidden, scheme, **options))


@pytest.mark.parametrize("settings", [SMALL, FULL, PAPER], ids=["small", "full", "paper"])
def test_causal_attention_does_not_see_later_steps(settings):
    model, counts, hidden = make_model(settings), make_counts(), hide(steps=[2])
    before = run(model, counts, hidden, "causal", causal=True)
    for step in range(N_TIME - 1):
        changed = counts.clone()
        changed[:, step + 1 :] += 7
        after = run(model, changed, hidden, "causal", causal=True)
        assert torch.equal(before[:, : step + 1], after[:, : step + 1])
        assert not torch.allclose(before[:, step + 1 :], after[:, step + 1 :])


def test_full_attention_sees_later_steps():
    model, counts = make_model(), make_counts()
    changed = counts.clone()
    changed[:, -1] += 7
    before, after = (run(model, c, hide(units=[0])) for c in (counts, changed))
    assert not torch.allclose(before[:, 0], after[:, 0])


def test_hidden_masks_of_any_broadcastable_shape_agree():
    model, counts = make_model(), make_counts()
    units = torch.zeros(N_TRIALS, 1, N_UNITS, dtype=torch.bool)
    units[:, :, [1, 2]] = True
    steps = torch.zeros(N_TRIALS, N_TIME, 1, dtype=torch.bool)
    steps[:, [4, 6]] = True
    for hidden in (units, steps):
        full = hidden.expand(N_TRIALS, N_TIME, N_UNITS)
        assert torch.allclose(run(model, counts, hidden), run(model, counts, full), atol=1e-5)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"mask_indicator": True},
        {"standardise": True},
        {"stitch_width": None},
        FULL.model_dump(),
    ],
    ids=["paper", "indicator", "standardised", "unstitched", "full"],
)
def test_recurring_bins_may_be_embedded_once(changes):
    settings = PAPER.model_copy(update=changes)
    model, counts = make_model(settings), make_counts()
    counts[1:] = counts[:1]  # one trial, each time with another unit hidden
    hidden = torch.eye(N_TRIALS, counts.shape[2], dtype=torch.bool)[:, None]
    every = run(model, counts, hidden)
    embedded = []
    model.embed.register_forward_pre_hook(lambda _, given: embedded.extend(given))
    once = run(model, counts, hidden, recurring=True)
    assert torch.allclose(every, once, atol=1e-6)
    # A hidden entry looks like a silent one in the paper's model alone.
    assert (len(embedded[0].flatten(0, -2)) < N_TRIALS * N_TIME) == (not changes)


def test_groups_together_give_what_each_gives_alone():
    model, counts = make_model(), make_counts()
    groups = [
        Group(counts, hide(units=[1]), rows_of(0), 0, "neuron"),
        Group(counts[:3], hide(units=[2])[:3], rows_of(1), 1, "inter_region"),
        Group(counts[:2], hide(steps=[5])[:2], rows_of(1), 1, "causal", causal=True),
    ]
    with torch.no_grad():
        together = model(groups)
        for group, log_rate in zip(groups, together, strict=True):
            assert torch.allclose(log_rate, model([group])[0], atol=1e-5)
    with pytest.raises(ValueError, match="must follow"):
        model(groups[::-1])


def test_asking_for_some_outputs_gives_those_columns():
    model, counts, hidden = make_model(), make_counts(), hide(units=[1])
    everything = run(model, counts, hidden)
    some = run(model, counts, hidden, outputs=torch.tensor([4, 0]))
    assert torch.allclose(some, everything[:, :, [4, 0]], atol=1e-5)
    own = torch.tensor([[0], [3], [3], [8]])
    each = run(model, counts, hidden, outputs=own)
    expected = everything.gather(2, own[:, None, :].expand(-1, N_TIME, -1))
    assert torch.allclose(each, expected, atol=1e-5)


@pytest.mark.parametrize("causal", [False, True], ids=["full", "causal"])
def test_a_plain_transformer_computes_the_same(causal):
    """Written out step by step, with an explicit attention mask and no shared code."""
    model, counts, hidden = make_model(PAPER), make_counts(), hide(units=[3])
    p = dict(model.named_parameters())
    x = counts.float()
    x[hidden] = 0
    x = x @ p["read_in"][:N_UNITS] + p["read_in_bias"][0]
    x = F.softsign(x @ p["embed.0.weight"].T + p["embed.0.bias"])
    x = x @ p["embed.2.weight"].T + p["embed.2.bias"] + p["positions"]
    scheme = "causal" if causal else "neuron"
    prompt = p["prompt_token"][1 if causal else 0]
    lead = torch.stack([p["session_token"][0], prompt]).expand(N_TRIALS, 2, -1)
    x = torch.cat([lead, x], 1)
    length = N_TIME + 2
    allowed = torch.ones(length, length, dtype=torch.bool)
    if causal:
        allowed = allowed.tril()
    for layer in range(2):
        name = f"blocks.{layer}."
        h = F.layer_norm(x, (16,), p[name + "norm_1.weight"], p[name + "norm_1.bias"])
        q, k, v = (h @ p[name + "qkv.weight"].T + p[name + "qkv.bias"]).split(16, dim=2)
        heads = []
        for head in (slice(0, 8), slice(8, 16)):
            scores = q[..., head] @ k[..., head].transpose(1, 2) / math.sqrt(8)
            heads.append(scores.masked_fill(~allowed, -torch.inf).softmax(-1) @ v[..., head])
        x = x + torch.cat(heads, 2) @ p[name + "project.weight"].T + p[name + "project.bias"]
        h = F.layer_norm(x, (16,), p[name + "norm_2.weight"], p[name + "norm_2.bias"])
        h = F.gelu(h @ p[name + "mlp.0.weight"].T + p[name + "mlp.0.bias"])
        x = x + h @ p[name + "mlp.3.weight"].T + p[name + "mlp.3.bias"]
    x = F.layer_norm(x[:, 2:], (16,), p["norm.weight"], p["norm.bias"])
    expected = x @ p["read_out"][:N_UNITS].T + p["read_out_bias"][:N_UNITS]
    assert torch.allclose(
        run(model, counts, hidden, scheme, causal=causal), expected, atol=1e-4, rtol=1e-4
    )


def test_a_new_model_predicts_each_units_mean():
    scope = make_model().scope
    model = MtM(FULL, scope).eval()
    log_mean = torch.randn(N_UNITS)
    model.start_units(rows_of(1), torch.rand(N_UNITS), torch.ones(N_UNITS), log_mean)
    log_rate = run(model, make_counts(), hide(units=[2]), session=1)
    assert torch.allclose(log_rate, log_mean.expand_as(log_rate))


def test_gradients_reach_exactly_the_rows_of_the_batch():
    model, counts = make_model(), make_counts()
    group = Group(counts, hide(units=[1]), rows_of(1), 1, "neuron")
    model([group])[0].exp().sum().backward()
    for table in (model.read_in, model.indicator, model.read_out, model.read_out_bias):
        touched = table.grad.reshape(len(table), -1).abs().sum(1) > 0
        assert not touched[:N_UNITS].any()
    # The read-in of the hidden unit carries nothing; every other row of the session does.
    seen = torch.arange(N_UNITS) != 1
    assert (model.read_in.grad[N_UNITS:].abs().sum(1) > 0).tolist() == seen.tolist()
    assert (model.read_out.grad[N_UNITS:].abs().sum(1) > 0).all()


def test_the_papers_sizes_have_the_papers_parameter_count():
    units, width, stitch, layers, mlp = 668, 512, 668, 5, 1024
    scope = Scope(
        tuple(map(str, range(units))), ("s",), (), TrialFormat(100, 0.02, "stimOn_times", -0.5), ()
    )
    block = 4 * width * width + 4 * width + 2 * width * mlp + mlp + width + 4 * width
    expected = (
        (units * stitch + stitch)  # read-in
        + (stitch * 2 * stitch + 2 * stitch)
        + (2 * stitch * width + width)
        + (100 + 1 + 6) * width  # positions, one session, six prompts
        + layers * block
        + 2 * width
        + (units * width + units)  # read-out
    )
    model = MtM(ModelSettings(), scope)
    assert sum(p.numel() for p in model.parameters()) == expected


def test_the_loss_is_the_poisson_likelihood_of_the_targets():
    torch.manual_seed(0)
    log_rate, counts = torch.randn(3, 5, 4), torch.randint(0, 3, (3, 5, 4)).float()
    target = torch.rand(3, 5, 4) < 0.4
    target[2] = False
    likelihood = torch.distributions.Poisson(log_rate.exp()).log_prob(counts)
    expected = [-(likelihood + torch.lgamma(counts + 1))[i][target[i]] for i in range(3)]
    mean, total = (masked_loss(log_rate, counts, target, r) for r in ("mean", "sum"))
    for trial in range(2):
        assert mean[trial] == pytest.approx(expected[trial].mean().item(), abs=1e-5)
        assert total[trial] == pytest.approx(expected[trial].sum().item(), abs=1e-4)
    assert mean[2] == total[2] == 0


def test_rows_of_other_sessions_can_be_read_out_too():
    model, h, rows = make_model(), torch.randn(3, 5, 16), torch.tensor([17, 2])
    found = model.read_out_of(h, rows)
    for column, row in enumerate(rows):
        expected = (h * model.read_out[row]).sum(2) + model.read_out_bias[row]
        assert torch.allclose(found[:, :, column], expected, atol=1e-5)


def test_the_prompt_names_the_region_of_trials_that_have_one():
    model = make_model()
    group = Group(make_counts(), hide(units=[1]), rows_of(1), 1, "inter_region")
    own, prompt = model.session_token[1], model.prompt_token[3]
    for region in (None, torch.tensor([1, -1, 0, 1])):
        found = model.lead_tokens(replace(group, region=region))
        assert found.shape == (N_TRIALS, 2, 16)
        assert torch.equal(found[:, 0], own.expand(N_TRIALS, -1))
        for trial, of in enumerate([-1] * N_TRIALS if region is None else region.tolist()):
            expected = prompt if of < 0 else prompt + model.region_token[of]
            assert torch.allclose(found[trial, 1], expected)
    plain = make_model(FULL.model_copy(update={"prompt_region": False}))
    found = plain.lead_tokens(replace(group, region=torch.tensor([1, -1, 0, 1])))
    assert torch.equal(found[:, 1], plain.prompt_token[3].expand(N_TRIALS, -1))


def test_heads_must_divide_the_width():
    with pytest.raises(ValueError, match="no multiple of 3 heads"):
        MtM(SMALL.model_copy(update={"heads": 3}), make_model().scope)


def test_rows_follow_the_order_of_the_units_asked_for_and_a_stranger_is_named():
    scope = make_model().scope
    assert scope.rows_of(["u3", "u0", "u17"]).tolist() == [3, 0, 17]
    assert scope.rows_of([]).dtype == torch.int64
    with pytest.raises(ValueError, match="unit v1 is none of the model's 18"):
        scope.rows_of(["u1", "v1"])
