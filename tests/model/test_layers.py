"""The parts of the transformer."""

import pytest
import torch
from torch.nn import functional as F

from ibl_mtm.model.layers import Block, Dropout, TemporalConvolution, attention


@pytest.mark.parametrize("p", [0.1, 0.4, 0.9])
def test_dropout_keeps_the_mean_and_drops_its_share(p):
    torch.manual_seed(0)
    y = Dropout(p)(torch.ones(1000, 1001))
    assert (y == 0).float().mean().item() == pytest.approx(p, abs=0.004)
    assert y.mean().item() == pytest.approx(1, abs=0.01)
    assert len(y.unique()) == 2


def test_dropout_depends_on_the_seed_alone_and_rests_in_evaluation():
    layer, x = Dropout(0.5), torch.randn(7, 3)
    torch.manual_seed(1)
    first = layer(x)
    torch.manual_seed(1)
    assert torch.equal(first, layer(x))
    assert not torch.equal(first, layer(x))
    assert torch.equal(layer.eval()(x), x)


def test_the_convolution_is_a_weighted_sum_of_neighbouring_bins():
    torch.manual_seed(0)
    layer, x = TemporalConvolution(width=3, reach=2), torch.randn(2, 6, 3)
    y = layer(x, n_full=1)
    padded = F.pad(x, (0, 0, 2, 2))
    for t in range(6):
        around = (padded[0, t : t + 5] * layer.both_sides[:, 0].T).sum(0)
        before = (padded[1, t : t + 3] * layer.past_only[:, 0].T).sum(0)
        assert torch.allclose(y[0, t], x[0, t] + around, atol=1e-5)
        assert torch.allclose(y[1, t], x[1, t] + before, atol=1e-5)


def test_the_convolution_starts_as_smoothing_over_one_bin_to_its_reach():
    """Of three channels spans are 1, 2 and 4 bins; no channel is louder than another."""
    layer = TemporalConvolution(width=3, reach=3)
    for kernel, bins in ((layer.both_sides, range(-3, 4)), (layer.past_only, range(-3, 1))):
        for channel, span in enumerate((1, 2, 4)):
            expected = torch.tensor([2.718281828 ** (-abs(b) / span) for b in bins])
            expected /= expected.square().sum().sqrt()
            torch.testing.assert_close(kernel[channel, 0], expected)


def test_a_layer_starts_as_the_identity_only_where_that_is_asked_for():
    torch.manual_seed(0)
    block, x = Block(8, 2, 16, dropout=0.0, attention_dropout=0.0), torch.randn(3, 5, 8)
    assert not torch.allclose(block(x, 3), x, atol=0.01)


def test_a_layer_that_starts_as_the_identity_learns_to_differ():
    block = Block(8, 2, 16, dropout=0.0, attention_dropout=0.0, start_as_identity=True)
    x = torch.randn(3, 5, 8)
    y = block(x, 3)
    assert torch.equal(y, x)
    y.square().sum().backward()
    assert block.project.weight.grad.abs().sum() > 0
    assert block.mlp[-1].weight.grad.abs().sum() > 0


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_attention_is_the_plain_definition(kind, causal):
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, 3, 7, 4, dtype=kind, requires_grad=True) for _ in range(3))
    y = attention(q, k, v, causal, Dropout(0.0))
    score = torch.einsum("bhid,bhjd->bhij", q.double(), k.double()) / 2
    if causal:
        score = score.masked_fill(torch.arange(7) > torch.arange(7)[:, None], -torch.inf)
    expected = torch.einsum("bhij,bhjd->bhid", score.softmax(-1), v.double())
    close = {"atol": 1e-6} if kind == torch.float32 else {"atol": 0.03}
    assert y.dtype == kind
    assert torch.allclose(y.double(), expected, **close)
    got, wanted = (
        torch.autograd.grad(z.sum(), (q, k, v), retain_graph=True) for z in (y, expected)
    )
    for ours, plain in zip(got, wanted, strict=True):
        assert torch.allclose(ours.double(), plain.double(), **close)


@pytest.mark.parametrize("causal", [False, True])
def test_attention_drops_weights_in_training_only(causal):
    torch.manual_seed(0)
    q, k, v = torch.zeros(1, 1, 400, 2), torch.zeros(1, 1, 400, 2), torch.ones(1, 1, 400, 2)
    dropout = Dropout(0.25)
    last = torch.stack([attention(q, k, v, causal, dropout)[0, 0, -1] for _ in range(50)])
    assert last.std() > 0.01
    assert last.mean().item() == pytest.approx(1, abs=0.02)
    if causal:  # the first step sees itself alone
        first = torch.stack([attention(q, k, v, causal, dropout)[0, 0, 0] for _ in range(50)])
        assert first.unique().tolist() == pytest.approx([0, 4 / 3])
    assert torch.allclose(attention(q, k, v, causal, dropout.eval()), v)


@pytest.mark.parametrize("spelt", [False, True], ids=["kernel", "spelt out"])
def test_open_positions_see_everything_under_causal_attention(spelt):
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 2, 3, 7, 4)
    dropout = Dropout(1e-9 if spelt else 0.0)  # in training it takes the other path
    y = attention(q, k, v, True, dropout, n_open=2)
    full = attention(q, k, v, False, Dropout(0.0))
    causal = attention(q, k, v, True, Dropout(0.0))
    torch.testing.assert_close(y[:, :, :2], full[:, :, :2], rtol=0, atol=1e-6)
    torch.testing.assert_close(y[:, :, 2:], causal[:, :, 2:], rtol=0, atol=1e-6)
    assert (y[:, :, :2] - causal[:, :, :2]).abs().max() > 0.1


def test_t_fixup_shrinks_these_weights_and_no_other():
    torch.manual_seed(0)
    block = Block(8, 2, 12, dropout=0.0, attention_dropout=0.0)
    before = {name: p.clone() for name, p in block.named_parameters()}
    block.t_fixup(5)
    share = {"project.weight": 0.448058, "mlp.0.weight": 0.448058, "mlp.3.weight": 0.448058}
    for name, p in block.named_parameters():
        if name == "qkv.weight":
            torch.testing.assert_close(p[16:], 0.633650 * before[name][16:])
            assert torch.equal(p[:16], before[name][:16])
        else:
            torch.testing.assert_close(p, share.get(name, 1.0) * before[name])


@pytest.mark.parametrize(
    ("device", "kind", "training", "dropped"),
    [
        ("cpu", torch.float32, False, 0.0),
        ("cpu", torch.float32, True, None),  # spelt out, as it is quicker
        ("cpu", torch.bfloat16, False, None),
        ("meta", torch.float32, True, 0.25),  # any other device
        ("meta", torch.bfloat16, True, 0.25),
        ("meta", torch.bfloat16, False, 0.0),
    ],
)
@pytest.mark.parametrize(("causal", "n_open"), [(False, 0), (False, 2), (True, 0), (True, 2)])
def test_the_kernel_is_used_where_it_is_quick(
    monkeypatch, device, kind, training, dropped, causal, n_open
):
    asked, kernel = [], F.scaled_dot_product_attention
    monkeypatch.setattr(
        F, "scaled_dot_product_attention", lambda *a, **k: asked.append(k) or kernel(*a, **k)
    )
    q = torch.zeros(1, 2, 5, 4, dtype=kind, device=device)
    found = attention(q, q, q, causal, Dropout(0.25).train(training), n_open)
    assert found.shape == q.shape
    if dropped is None:
        assert asked == []
        return
    (options,) = asked
    assert options["dropout_p"] == dropped
    assert options["is_causal"] == (causal and not n_open)
    assert (options["attn_mask"] is not None) == bool(causal and n_open)
