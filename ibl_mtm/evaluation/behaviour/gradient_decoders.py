"""Behaviour from raw spikes by decoders that are fitted by gradients: low rank, and recurrent.

    score = decode_by_gradients("reduced_rank", counts, choice, split, trials, is_class=True)

- reduced rank: ``y(t') = sum over r, n, t of U[n, r] V[r, t, t'] x(t, n)``: units share a few time
  courses, after Posani, Zhang et al. (2024). A class has a single t'.
- recurrent: a small bidirectional GRU over the bins; a class is read from its mean state.

Three classes or more have a log odds each, fitted together by their cross-entropy.

Both are fitted to the train trials with AdamW and keep the step that is best on the val trials.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from ibl_mtm.evaluation.behaviour.decodable_trials import Undecodable, class_trials, trace_trials
from ibl_mtm.evaluation.behaviour.decoding_scores import (
    ClassScore,
    TraceScore,
    score_class,
    score_trace,
)
from ibl_mtm.evaluation.behaviour.level_scores import LevelScore, level_trials, score_levels

__all__ = ["GRADIENT_DECODERS", "decode_by_gradients"]

_WIDTH = 32  # of the recurrent network
_RANKS = (2, 6)
_DROPPED = 0.3  # share of the inputs that a step does not see
_STEPS, _EVERY, _PATIENCE, _BATCH = 400, 10, 8, 32


class _ReducedRank(nn.Module):
    def __init__(self, n_time: int, n_units: int, n_out: int, rank: int) -> None:
        super().__init__()
        self.units = nn.Linear(n_units, rank, bias=False)
        self.times = nn.Linear(rank * n_time, n_out)

    def forward(self, x: Tensor) -> Tensor:  # (B, T, N) -> (B, n_out)
        out: Tensor = self.times(self.units(x).flatten(1))
        return out


class _Recurrent(nn.Module):
    def __init__(self, n_units: int, n_classes: int) -> None:
        super().__init__()
        self.n_classes = n_classes  # 0: one value for each bin
        self.read = nn.Linear(n_units, _WIDTH)
        self.recurrent = nn.GRU(_WIDTH, _WIDTH, batch_first=True, bidirectional=True)
        self.write = nn.Linear(2 * _WIDTH, max(n_classes, 1))

    def forward(self, x: Tensor) -> Tensor:  # (B, T, N) -> (B, n_out)
        h, _ = self.recurrent(self.read(x))
        out: Tensor = self.write(h.mean(1, keepdim=True) if self.n_classes else h)
        return out.flatten(1)


GRADIENT_DECODERS = ("reduced_rank", "recurrent")

Loss = Callable[[Tensor, NDArray[np.int64]], Tensor]


def decode_by_gradients(
    name: str,
    counts: NDArray[np.generic],
    target: NDArray[np.generic],
    split: NDArray[np.str_],
    included: NDArray[np.bool_],
    *,
    is_class: bool,
    levels: Sequence[str] = (),
    seed: int = 0,
) -> ClassScore | LevelScore | TraceScore:
    """Decode a behaviour.

    Parameters
    ----------
    name
        One of `GRADIENT_DECODERS`.
    counts
        (trial, time, unit), spikes per bin.
    target
        (trial,) classes, or (trial, time) a trace, as for `class_trials`, `level_trials` and
        `trace_trials`.
    split : (trial,)
        train, val or test.
    included
        (trial,) whether a trial takes part at all.
    is_class
        Whether the target is a class.
    levels
        Names of its classes, if they are three or more.
    seed
        Of the first weights, the batches and the resampling that gives intervals.

    Raises
    ------
    Undecodable
        If these trials cannot decode it, or no validation trial can choose when to stop.
    """
    fit, test = included & (split != "test"), included & (split == "test")
    of_levels = level_trials(target, levels, fit, test) if levels else None
    y: NDArray[np.generic]
    if of_levels is not None:
        y, fit_at, test_at = of_levels.y, of_levels.fit_at, of_levels.test_at
    else:
        y, fit_at, test_at = (
            class_trials(target, fit, test) if is_class else trace_trials(target, fit, test)
        )
    train_at, val_at = fit_at[split[fit_at] == "train"], fit_at[split[fit_at] == "val"]
    if not len(val_at) or not len(train_at):
        raise Undecodable("needs train and val trials")
    x = torch.sqrt(torch.from_numpy(counts.astype(np.float32)))
    mean, spread = x[train_at].mean((0, 1)), x[train_at].std((0, 1))
    x = (x - mean) / torch.where(spread > 0, spread, 1.0)
    wanted = torch.from_numpy(y.astype(np.float32)).view(len(y), -1)
    centre, scale = torch.zeros(1), torch.ones(1)
    if not is_class:
        centre, scale = wanted[train_at].mean(0), wanted[train_at].std()
        wanted = (wanted - centre) / scale

    def loss(out: Tensor, at: NDArray[np.int64]) -> Tensor:
        if of_levels is not None:
            return F.cross_entropy(out, wanted[at, 0].long())
        if is_class:
            return F.softplus(-out * wanted[at]).mean()
        return F.mse_loss(out, wanted[at])

    n_classes = len(of_levels.levels) if of_levels is not None else int(is_class)
    n_time, n_units = x.shape[1:]
    networks: Sequence[nn.Module]
    if name == "reduced_rank":
        n_out = n_classes or wanted.shape[1]
        networks = [_ReducedRank(n_time, n_units, n_out, rank) for rank in _RANKS]
    else:
        networks = [_Recurrent(n_units, n_classes)]
    results = [_fit(network, x, loss, train_at, val_at, test_at, seed) for network in networks]
    best = int(np.argmin([val for val, _, _ in results]))
    _, step, out = results[best]
    chosen = {"steps": float(step)}
    if name == "reduced_rank":
        chosen["rank"] = float(_RANKS[best])
    decoded = (out * scale + centre).double().numpy()
    if of_levels is not None:
        return score_levels(of_levels, decoded, chosen, seed=seed)
    if is_class:
        return score_class(y.astype(np.int64), fit_at, test_at, decoded[:, 0], chosen, seed=seed)
    return score_trace(y.astype(np.float64), fit_at, test_at, decoded, chosen, seed=seed)


def _fit(
    network: nn.Module,
    x: Tensor,
    loss: Loss,
    train_at: NDArray[np.int64],
    val_at: NDArray[np.int64],
    test_at: NDArray[np.int64],
    seed: int,
) -> tuple[float, int, Tensor]:
    """The best validation loss, the step of it, and what the network then says of the test."""
    # Generators of its own: sessions are decoded side by side.
    draw, rng = torch.Generator().manual_seed(seed), np.random.default_rng(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            scale = parameter.shape[1] ** -0.5 if parameter.ndim == 2 else 0.0
            parameter.normal_(generator=draw).mul_(scale)
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3, weight_decay=0.1)
    best, best_step, out, waited = np.inf, 0, torch.empty(0), 0
    with torch.enable_grad():
        for step in range(1, _STEPS + 1):
            at = rng.choice(train_at, min(_BATCH, len(train_at)), replace=False)
            seen = torch.rand(len(at), 1, x.shape[2], generator=draw) >= _DROPPED
            optimizer.zero_grad()
            loss(network(x[at] * seen / (1 - _DROPPED)), at).backward()
            optimizer.step()
            if step % _EVERY:
                continue
            with torch.no_grad():
                val = float(loss(network(x[val_at]), val_at))
                waited += 1
                if val < best:
                    best, best_step, out, waited = val, step, network(x[test_at]), 0
            if waited == _PATIENCE:
                break
    return best, best_step, out
