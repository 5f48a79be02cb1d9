"""The parts of the transformer: attention that knows which trials must not look ahead.

A batch is ordered: its first `n_full` trials attend to everything, the others only to the past.
"""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["Block", "Dropout", "TemporalConvolution"]


class Dropout(nn.Module):
    """Dropout whose random bytes cost little on a CPU.

    PyTorch draws one Bernoulli number at a time there, which took a fifth of a training step;
    here eight bytes come from each draw, so on a CPU the probability is rounded to 1/256.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or not self.p:
            return x
        if x.device.type != "cpu":
            return F.dropout(x, self.p)
        threshold = min(255, round(self.p * 256))
        words = torch.empty(-(-x.numel() // 8), dtype=torch.int64).random_(-(2**63), None)
        keep = words.view(torch.uint8)[: x.numel()].view(x.shape) >= threshold
        return x * keep.to(x.dtype).mul_(256 / (256 - threshold))


class TemporalConvolution(nn.Module):
    """Smooth each channel over time by a learned kernel, added to the input.

    Parameters
    ----------
    width
        Number of channels D.
    reach
        Bins that the kernel looks back, and ahead where that is allowed.
    """

    def __init__(self, width: int, reach: int) -> None:
        super().__init__()
        self.reach = reach
        # Start as smoothing over spans that differ between channels, from one bin to `reach`.
        span = (reach + 1.0) ** torch.linspace(0, 1, width)[:, None, None]
        bins = torch.arange(-reach, reach + 1.0)
        self.both_sides = nn.Parameter(_smoothing(bins, span))
        self.past_only = nn.Parameter(_smoothing(bins[: reach + 1], span))

    def forward(self, x: Tensor, n_full: int) -> Tensor:  # (B, T, D) -> (B, T, D)
        channels = x.transpose(1, 2)
        # Padded beforehand: with conv1d's own padding it takes fifteen times as long on a CPU.
        around = F.pad(channels[:n_full], (self.reach, self.reach))
        full = F.conv1d(around, self.both_sides, groups=len(self.both_sides))
        before = F.pad(channels[n_full:], (self.reach, 0))
        past = F.conv1d(before, self.past_only, groups=len(self.past_only))
        return x + torch.cat([full, past]).transpose(1, 2)


def _smoothing(bins: Tensor, span: Tensor) -> Tensor:
    """Exponential kernels of unit norm, so that every channel keeps the size of white noise."""
    kernel = torch.exp(-bins.abs() / span)
    return kernel / kernel.norm(dim=-1, keepdim=True)


class Block(nn.Module):
    """A pre-norm transformer layer; one that is to start as the identity adds nothing at first.

    Parameters
    ----------
    width, heads, hidden, dropout, attention_dropout, start_as_identity
        As `ModelSettings` has them; `hidden` is the width of the feed-forward part.
    dropout_at
        Where dropout is (see `ModelSettings`).
    n_open
        Leading tokens that see everything under causal attention.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        hidden: int,
        dropout: float,
        attention_dropout: float,
        start_as_identity: bool = False,
        dropout_at: Literal["branches", "paper"] = "branches",
        n_open: int = 0,
    ) -> None:
        super().__init__()
        self.heads, self.n_open = heads, n_open
        before, between = (dropout, 0.0) if dropout_at == "paper" else (0.0, dropout)
        self.attention_dropout = Dropout(attention_dropout)
        self.norm_1 = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.project = nn.Linear(width, width)
        self.norm_2 = nn.LayerNorm(width)
        last = nn.Linear(hidden, width)
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), Dropout(between), last)
        self.before_projection, self.after_projection = Dropout(before), Dropout(between)
        self.dropout = Dropout(dropout)
        if start_as_identity:
            for parameter in (*self.project.parameters(), *last.parameters()):
                nn.init.zeros_(parameter)

    def forward(self, x: Tensor, n_full: int) -> Tensor:  # (B, L, D) -> (B, L, D)
        x = x + self.after_projection(self.attend(self.norm_1(x), n_full))
        return x + self.dropout(self.mlp(self.norm_2(x)))

    def attend(self, x: Tensor, n_full: int) -> Tensor:
        B, L, D = x.shape
        qkv = self.qkv(x).view(B, L, 3, self.heads, D // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each (B, heads, L, D / heads)
        parts = [
            attention(q[rows], k[rows], v[rows], causal, self.attention_dropout, self.n_open)
            for rows, causal in ((slice(0, n_full), False), (slice(n_full, B), True))
            if rows.start < rows.stop
        ]
        y = parts[0] if len(parts) == 1 else torch.cat(parts)
        return self.project(self.before_projection(y.transpose(1, 2).reshape(B, L, D)))

    @torch.no_grad()
    def t_fixup(self, layers: int) -> None:
        """Shrink the start of a layer of so many (Huang et al., ICML 2020, section 3.2).

        Output and feed-forward weights become 0.67 L^(-1/4) of what they are, those of values
        sqrt 2 times as much more.
        """
        share = 0.67 * layers**-0.25
        for weight in (self.project.weight, self.mlp[0].weight, self.mlp[-1].weight):
            weight *= share
        self.qkv.weight[2 * self.project.in_features :] *= share * 2**0.5


def attention(
    q: Tensor, k: Tensor, v: Tensor, causal: bool, dropout: Dropout, n_open: int = 0
) -> Tensor:
    """Scaled dot-product attention over (B, heads, L, D / heads).

    Under causal attention the first `n_open` positions see everything all the same.

    Spelt out where PyTorch's kernel is slow: on a CPU in bfloat16 (forward and backward take 4 to
    6 times as long as these products) and with dropout.
    """
    p = dropout.p if dropout.training else 0.0
    if q.device.type != "cpu" or (q.dtype != torch.bfloat16 and not p):
        seen = ~_later(q.shape[-2], n_open, q.device) if causal and n_open else None
        return F.scaled_dot_product_attention(
            q, k, v, attn_mask=seen, dropout_p=p, is_causal=causal and not n_open
        )
    q, k, v = (x.contiguous() for x in (q * q.shape[-1] ** -0.5, k, v))
    score = q @ k.mT
    if causal:
        score = score.masked_fill(_later(q.shape[-2], n_open, q.device), -torch.inf)
    return dropout(score.softmax(-1)) @ v


def _later(L: int, n_open: int, device: torch.device) -> Tensor:
    """What each of L positions (rows) must not see under causal attention."""
    later = torch.ones(L, L, dtype=torch.bool, device=device).triu(1)
    later[:n_open] = False
    return later
