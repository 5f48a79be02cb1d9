"""The paper's published step, written out plainly; nothing of the package is used.

    model = PlainModel({"eid": 12}, width=16, layers=2, heads=2, mlp=24, stitch=10, n_time=20)
    hidden, target = draw_plain_mask("intra-region", 16, 20, regions, 0.3, generator)
    log_rate = model(counts, hidden, "eid", "intra-region")
    loss = plain_loss(log_rate, counts, target)
    save_plain(model, file)                         # as its training saves a model

Its parts have the names that they have in a published checkpoint, and pretend to be of its
modules, so that a file of them is one.
"""

import math
import sys
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from torch import Tensor, nn

__all__ = ["PROMPTS", "PlainModel", "draw_plain_mask", "plain_loss", "save_plain"]

PROMPTS = ["neuron", "causal", "inter-region", "intra-region"]


class GELUActivation(nn.Module):
    def __init__(self):
        super().__init__()
        self.act = nn.functional.gelu

    def forward(self, x):
        return self.act(x)


class NeuralStitcher(nn.Module):
    def __init__(self, sizes, stitch):
        super().__init__()
        self.stitcher_dict = nn.ModuleDict({str(n): nn.Linear(n, stitch) for n in sizes})


class StitchDecoder(nn.Module):
    def __init__(self, sizes, width):
        super().__init__()
        self.stitch_decoder_dict = nn.ModuleDict({str(n): nn.Linear(width, n) for n in sizes})


class NeuralEmbeddingLayer(nn.Module):
    def __init__(self, eids, width, stitch, n_time, prompts, dropout):
        super().__init__()
        self.adapt, self.bias, self.n_channels, self.input_dim = False, True, stitch, 2 * stitch
        self.tokenize_binary_mask = self.stack = False
        self.scale, self.pos, self.use_prompt, self.use_session = 1, True, prompts, True
        self.embed_spikes = nn.Linear(stitch, 2 * stitch)
        self.projection = nn.Linear(2 * stitch, width)
        self.act = nn.Softsign()
        self.embed_pos = nn.Embedding(n_time, width)
        if prompts:
            self.mask_types = list(PROMPTS)
            self.mask_to_indx = {name: row for row, name in enumerate(PROMPTS)}
            self.embed_prompt = nn.Embedding(len(PROMPTS), width)
        self.eid_lookup = list(eids)
        self.eid_to_indx = {eid: row for row, eid in enumerate(eids)}
        self.embed_session = nn.Embedding(len(eids), width)
        self.dropout = nn.Dropout(dropout)


class NeuralAttention(nn.Module):
    def __init__(self, idx, width, heads, dropout):
        super().__init__()
        self.idx, self.hidden_size, self.n_heads, self.head_size = idx, width, heads, width // heads
        self.use_rope, self.attn_dropout = False, dropout
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.dropout = nn.Dropout(dropout)
        self.out_proj = nn.Linear(width, width)

    def forward(self, x, seen, drop):
        heads = []
        q, k, v = self.query(x), self.key(x), self.value(x)
        for head in torch.arange(self.hidden_size).chunk(self.n_heads):
            score = q[..., head] @ k[..., head].mT / math.sqrt(self.head_size)
            weight = score.masked_fill(~seen, -torch.inf).softmax(-1)
            heads.append(drop(weight, self.attn_dropout) @ v[..., head])
        return self.out_proj(drop(torch.cat(heads, -1), self.dropout.p))


class NeuralMLP(nn.Module):
    def __init__(self, width, mlp, dropout):
        super().__init__()
        self.up_proj, self.down_proj = nn.Linear(width, mlp), nn.Linear(mlp, width)
        self.act, self.dropout = GELUActivation(), nn.Dropout(dropout)

    def forward(self, x, drop):
        return drop(self.down_proj(self.act(self.up_proj(x))), self.dropout.p)


class NeuralEncoderLayer(nn.Module):
    def __init__(self, idx, width, heads, mlp, layers, dropout, attention_dropout):
        super().__init__()
        self.idx, self.use_rope = idx, False
        self.ln1, self.ln2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = NeuralAttention(idx, width, heads, attention_dropout)
        self.attn.dropout.p = dropout
        self.mlp = NeuralMLP(width, mlp, dropout)
        with torch.no_grad():
            shrink = 0.67 / layers**0.25
            for part in (self.attn.out_proj, self.mlp.up_proj, self.mlp.down_proj):
                part.weight.mul_(shrink)
            self.attn.value.weight.mul_(shrink * math.sqrt(2))

    def forward(self, x, seen, drop):
        x = x + self.attn(self.ln1(x), seen, drop)
        return x + self.mlp(self.ln2(x), drop)


class Masker(nn.Module):
    def __init__(self, mode):
        super().__init__()
        self.mode, self.ratio, self.force_active = mode, 0.3, True
        self.zero_ratio = self.random_ratio = 1.0
        self.channels, self.mask_regions, self.target_regions = None, ["all"], ["all"]


class NeuralFactorsProjection(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.out_size = width
        self.dropout, self.proj = nn.Dropout(0.0), nn.Identity()


class NeuralEncoder(nn.Module):
    def __init__(self, sizes, eids, width, layers, heads, mlp, stitch, n_time, prompts, rates):
        super().__init__()
        self.int_spikes, self.hidden_size, self.n_layers, self.max_F = False, width, layers, n_time
        self.mask = True
        self.masker = Masker("all" if prompts else "temporal")
        self.context_forward = self.context_backward = -1
        self.stitcher = NeuralStitcher(sizes, stitch)
        self.use_prompt, self.use_session = prompts, True
        self.embedder = NeuralEmbeddingLayer(eids, width, stitch, n_time, prompts, rates[0])
        self.layers = nn.ModuleList(
            NeuralEncoderLayer(i, width, heads, mlp, layers, *rates[1:]) for i in range(layers)
        )
        self.out_norm = nn.LayerNorm(width)
        self.out_proj = NeuralFactorsProjection(width)
        self.context_mask = torch.ones(n_time, n_time, dtype=torch.int64)


class NDT1(nn.Module):
    """The whole model; `sizes` gives the number of units of each session, by eid.

    `drop` stands for dropout: called with a tensor and a rate wherever there is one.
    """

    drop = staticmethod(lambda x, p: x)

    def __init__(self, sizes, *, width, layers, heads, mlp, stitch, n_time, prompts=True,
                 others=(), dropout=(0.2, 0.4, 0.4)):  # fmt: skip
        super().__init__()
        self.method = "ssl"
        numbers, eids = sorted(set(sizes.values())), [*others, *sizes]
        self.encoder = NeuralEncoder(
            numbers, eids, width, layers, heads, mlp, stitch, n_time, prompts, dropout
        )
        self.use_prompt, self.use_session, self.stitching = prompts, True, True
        self.n_channels, self.hidden_size = stitch, width
        self.stitch_decoder = StitchDecoder(numbers, width)
        self.decoder = nn.Sequential(nn.Linear(width, stitch))  # used by nothing
        self.loss_fn = nn.PoissonNLLLoss(reduction="none", log_input=True)

    def forward(self, counts, hidden, eid, scheme, leak=True):
        """Log rates (B, T, N) of counts of which `hidden` entries are zeroed."""
        parts, number = self.encoder.embedder, str(counts.shape[2])
        x = self.encoder.stitcher.stitcher_dict[number](counts.float() * ~hidden)
        x = parts.projection(parts.act(parts.embed_spikes(x)))
        x = x + parts.embed_pos.weight
        lead = [parts.embed_session.weight[parts.eid_to_indx[eid]]]
        if parts.use_prompt:
            lead.append(parts.embed_prompt.weight[parts.mask_to_indx[scheme]])
        lead = torch.stack(lead).expand(len(x), -1, -1)
        n = lead.shape[1]
        x = self.drop(torch.cat([lead, x], 1), parts.dropout.p)
        seen = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool)
        if scheme == "causal":
            seen = seen.tril()
            seen[:n] |= leak  # its leading tokens see every bin
        for layer in self.encoder.layers:
            x = layer(x, seen, self.drop)
        return self.stitch_decoder.stitch_decoder_dict[number](self.encoder.out_norm(x)[:, n:])


PlainModel = NDT1


def plain_loss(log_rate: Tensor, counts: Tensor, target: Tensor) -> Tensor:
    """Its loss of a step: the Poisson likelihood of every target entry, added up."""
    y = counts.float()
    return ((log_rate.exp() - y * log_rate) * target).sum()


def draw_plain_mask(scheme, n_trials, n_time, regions, ratio, rng):
    """(hidden, target) of one step, (B, T, N) each: one region for all trials, a coin per unit."""
    shape = (n_trials, n_time, len(regions))
    coins = rng.random((n_trials, len(regions))) < ratio
    inside = regions == rng.choice(np.unique(regions))
    if scheme in ("causal", "temporal"):
        steps = rng.random((n_trials, n_time)) < ratio
        hidden = target = np.broadcast_to(steps[:, :, None], shape)
    elif scheme == "neuron":
        hidden = target = np.broadcast_to(coins[:, None], shape)
    elif scheme == "inter-region":
        hidden = target = np.broadcast_to(inside, shape)
    else:
        target = np.broadcast_to((coins & inside)[:, None], shape)
        hidden = np.broadcast_to(((coins & inside) | ~inside)[:, None], shape)
    return torch.from_numpy(hidden.copy()), torch.from_numpy(target.copy())


#: Where the published code has its classes.
_AT = {
    "models.ndt1": (NDT1, NeuralAttention, NeuralEmbeddingLayer, NeuralEncoder, NeuralEncoderLayer,
                    NeuralFactorsProjection, NeuralMLP, NeuralStitcher, StitchDecoder),
    "models.masker": (Masker,),
    "transformers.activations": (GELUActivation,),
}  # fmt: skip


@contextmanager
def _in_its_modules():
    before = {name: sys.modules.get(name) for name in (*_AT, "models", "transformers")}
    for package in ("models", "transformers"):
        sys.modules[package] = ModuleType(package)
    for name, classes in _AT.items():
        sys.modules[name] = ModuleType(name)
        for one in classes:
            one.__module__ = name
            setattr(sys.modules[name], one.__name__, one)
    try:
        yield
    finally:
        for name, module in before.items():
            sys.modules.pop(name, None)
            if module is not None:
                sys.modules[name] = module


def save_plain(model: nn.Module, file: Path, *, bare: bool = False, **more: object) -> Path:
    """Save a model as the published training does: the whole module, pickled; or that alone."""
    with _in_its_modules():
        torch.save(model if bare else {"model": model, "epoch": 3, **more}, file)
    return file
