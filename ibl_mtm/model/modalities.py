"""Behaviour inside of the model: read in beside the counts, read out of what they become.

    modalities = Modalities(["choice", "wheel_speed"], n_time=100, width=64)
    modalities.embed(given, scales, n_trials)   # (B, T, D), added to the tokens of the bins
    answer = modalities.decode(h, scales)       # from the transformer's output (B, T, D)
    answer.nll(values)                          # (B, T, K), (B, V)

Every parameter is shared by all sessions; a session has a scale of its own (`Scales`). What is
hidden or missing is replaced before anything is computed from it. The idea: Zhang, Wang, et al.,
arXiv 2504.08201.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from ibl_mtm.model.loss import class_nll, gaussian_nll, poisson_nll
from ibl_mtm.sessions.behaviours import BEHAVIOURS
from ibl_mtm.sessions.modalities import classes_in, traces_in

__all__ = ["Answer", "Behaviour", "Modalities", "Scales"]


@dataclass(frozen=True)
class Behaviour:
    """Behaviour of some trials, and what of it the model must not see.

    Attributes
    ----------
    traces : Tensor (B, T, K)
        As measured, events per bin; NaN where missing.
    classes : Tensor (B, V)
        -1, +1, or 0 where missing.
    hidden_traces : Tensor, bool, broadcastable to (B, T, K)
    hidden_classes : Tensor, bool, broadcastable to (B, V)
    """

    traces: Tensor
    classes: Tensor
    hidden_traces: Tensor
    hidden_classes: Tensor

    def __getitem__(self, trials: Tensor) -> "Behaviour":
        """Those of some trials, by position; what is hidden must be the same in all of them."""
        return replace(self, traces=self.traces[trials], classes=self.classes[trials])


@dataclass(frozen=True)
class Scales:
    """What a session's training trials tell (see `ibl_mtm.sessions.modalities`).

    Attributes
    ----------
    offset, scale : Tensor (K,)
    log_odds : Tensor (V,)
    null : Tensor (K + V,)
        0 for a modality that the session does not have.
    """

    offset: Tensor
    scale: Tensor
    log_odds: Tensor
    null: Tensor

    @property
    def has_trace(self) -> Tensor:
        """Which traces the session has, (K,)."""
        return self.null[: len(self.offset)] > 0

    @property
    def has_class(self) -> Tensor:
        """Which classes the session has, (V,)."""
        return self.null[len(self.offset) :] > 0


@dataclass(frozen=True)
class Answer:
    """What a model says of behaviour.

    Attributes
    ----------
    mean : Tensor (B, T, K)
        Of each trace, in standard deviations from the session's mean; of counts, their log rate.
    log_variance : Tensor (K,)
        Of what the mean leaves of a trace, in the same units; without meaning for counts.
    logit : Tensor (B, V)
        Log odds of the class +1.
    is_count : Tensor (K,), bool
    scales
        The session's.
    """

    mean: Tensor
    log_variance: Tensor
    logit: Tensor
    is_count: Tensor
    scales: Scales

    def expected(self) -> Tensor:
        """Expected traces as measured, events per bin, (B, T, K)."""
        counts = torch.where(self.is_count, self.mean, 0).exp()
        return torch.where(
            self.is_count, counts, self.scales.offset + self.scales.scale * self.mean
        )

    def null(self) -> "Answer":
        """What the session's training trials have on average says of the same trials."""
        mean = torch.where(self.is_count, self.scales.offset.clamp(min=1e-4).log(), 0)
        return replace(
            self,
            mean=mean.expand_as(self.mean),
            log_variance=torch.zeros_like(self.log_variance),
            logit=self.scales.log_odds.expand_as(self.logit),
        )

    def observed(self, behaviour: Behaviour) -> tuple[Tensor, Tensor]:
        """Which entries are there to compare with: (B, T, K), (B, V)."""
        traces = ~behaviour.traces.isnan() & self.scales.has_trace
        return traces, (behaviour.classes != 0) & self.scales.has_class

    def nll(self, behaviour: Behaviour) -> tuple[Tensor, Tensor]:
        """Negative log likelihood of each entry (nats): (B, T, K), (B, V); 0 where missing."""
        there, known = self.observed(behaviour)
        x = torch.where(there, behaviour.traces, self.scales.offset)
        z = (x - self.scales.offset) / self.scales.scale
        # A branch that is not taken must stay finite, or its gradient is no number.
        log_rate, count = torch.where(self.is_count, self.mean, 0), torch.where(self.is_count, x, 0)
        counts = poisson_nll(log_rate, count) + torch.lgamma(count + 1)
        traces = torch.where(self.is_count, counts, gaussian_nll(self.mean, self.log_variance, z))
        classes = class_nll(self.logit, behaviour.classes.to(self.logit.dtype))
        return torch.where(there, traces, 0), torch.where(known, classes, 0)


class Modalities(nn.Module):
    """Read-in and read-out of behaviour.

    Parameters
    ----------
    names
        Of the modalities.
    n_time
        Bins of a trial.
    width
        Of a token, D.
    std
        Standard deviation that read-ins start with; everything else starts at 0, so that a new
        model answers with what its training trials have on average.
    """

    is_count: Tensor

    def __init__(self, names: Sequence[str], n_time: int, width: int, std: float = 0.02) -> None:
        super().__init__()
        self.traces, self.classes = traces_in(names), classes_in(names)
        K, V = len(self.traces), len(self.classes)
        self.read_in = nn.Parameter(std * torch.randn(K, width))
        self.not_shown = nn.Parameter(torch.zeros(K, width))
        self.class_read_in = nn.Parameter(std * torch.randn(V, 2, width))  # of -1 and of +1
        self.class_not_shown = nn.Parameter(torch.zeros(V, width))
        self.read_out = nn.Parameter(torch.zeros(K, width))
        self.read_out_bias = nn.Parameter(torch.zeros(K))
        self.log_variance = nn.Parameter(torch.zeros(K))
        # A class is read from every bin, each by a weight that it and its content decide.
        self.class_read_out = nn.Parameter(torch.zeros(V, width))
        self.class_bias = nn.Parameter(torch.zeros(V))
        self.query = nn.Parameter(torch.zeros(V, width))
        self.when = nn.Parameter(torch.zeros(n_time, V))
        counts = [BEHAVIOURS[name].counts for name in self.traces]
        self.register_buffer("is_count", torch.tensor(counts, dtype=torch.bool), persistent=False)

    def embed(self, behaviour: Behaviour | None, scales: Scales, n_trials: int) -> Tensor:
        """What behaviour adds to the token of each bin, (B, T or 1, D).

        Parameters
        ----------
        behaviour
            Of B trials; None: nothing of it is shown.
        """
        if behaviour is None:
            nothing = self.not_shown.sum(0) + self.class_not_shown.sum(0)
            return nothing.expand(n_trials, 1, -1)
        shown = ~behaviour.hidden_traces & ~behaviour.traces.isnan() & scales.has_trace
        z = torch.where(shown, (behaviour.traces - scales.offset) / scales.scale, 0)
        x = z @ self.read_in + (~shown).to(z.dtype) @ self.not_shown  # (B, T, D)
        known = ~behaviour.hidden_classes & (behaviour.classes != 0) & scales.has_class
        plus = known & (behaviour.classes > 0)
        states = torch.stack([known & ~plus, plus, ~known], 2).to(z.dtype)  # (B, V, 3)
        table = torch.cat([self.class_read_in, self.class_not_shown[:, None]], 1)  # (V, 3, D)
        return x + (states.flatten(1) @ table.flatten(0, 1))[:, None]

    def decode(self, h: Tensor, scales: Scales) -> Answer:
        """Read behaviour out of the transformer's output (B, T, D)."""
        mean = (h @ self.read_out.T + self.read_out_bias).float()
        mean = mean + torch.where(self.is_count, scales.offset.clamp(min=1e-4).log(), 0)
        weight = (h @ self.query.T + self.when).float().softmax(1)  # (B, T, V)
        logit = (weight * (h @ self.class_read_out.T).float()).sum(1)
        logit = logit + self.class_bias + scales.log_odds
        return Answer(mean, self.log_variance, logit, self.is_count, scales)
