"""MtM: one transformer for many animals, told by a prompt what it has to predict.

    model = MtM(ModelSettings(), Scope(units, sessions, regions, trial_format, schemes))
    (log_rates,) = model([Group(counts, mask.hidden, rows, session=0, scheme="neuron")])

The code follows the data: counts -> read-in -> tokens -> transformer -> read-out -> log rates.
Source: Zhang, Wang, et al., arXiv 2407.14668; sizes of NDT-1: Ye & Pandarinath, 2021.
"""

from collections.abc import Sequence
from typing import Literal, overload

import numpy as np
import torch
from torch import Tensor, nn

from ibl_mtm.model.group import Group
from ibl_mtm.model.layers import Block, Dropout, TemporalConvolution
from ibl_mtm.model.masking import BEHAVIOUR_SCHEMES, SCHEMES, Scheme
from ibl_mtm.model.modalities import Answer
from ibl_mtm.model.scope import Scope
from ibl_mtm.model.settings import ModelSettings
from ibl_mtm.model.with_dynamics import WithDynamics
from ibl_mtm.model.with_modalities import WithModalities
from ibl_mtm.sessions.text import counted

__all__ = ["MtM"]


class MtM(WithDynamics, WithModalities):
    """Multi-task-masking model.

    Parameters
    ----------
    settings
        Sizes and choices.
    scope
        What it knows.
    """

    #: Tensors with one row per unit, and with one per session. `forward` reads them nowhere but
    #: at the rows that its groups name, so any other tensors of such rows may stand in for them.
    UNIT_TABLES = (
        "read_in",
        "indicator",
        "read_out",
        "read_out_bias",
        "input_mean",
        "input_scale",
        "null_log_rate",
    )
    SESSION_TABLES = ("read_in_bias", "session_token")

    input_mean: Tensor
    input_scale: Tensor
    null_log_rate: Tensor

    def __init__(self, settings: ModelSettings, scope: Scope) -> None:
        super().__init__()
        if settings.width % settings.heads:
            raise ValueError(f"width {settings.width} is no multiple of {settings.heads} heads")
        self.settings, self.scope = settings, scope
        width, n_units, n_sessions = settings.width, len(scope.units), len(scope.sessions)
        read_in = settings.stitch_width or width

        # Stitchers: one row per unit, known by its uuid, so that a session is a list of rows.
        self.read_in = nn.Parameter(torch.zeros(n_units, read_in))
        self.read_in_bias = nn.Parameter(torch.zeros(n_sessions, read_in))
        if settings.mask_indicator:
            self.indicator = nn.Parameter(torch.zeros(n_units, read_in))
        self.read_out = nn.Parameter(torch.zeros(n_units, width))
        self.read_out_bias = nn.Parameter(torch.zeros(n_units))
        self.register_buffer("input_mean", torch.zeros(n_units))
        self.register_buffer("input_scale", torch.ones(n_units))
        self.register_buffer("null_log_rate", torch.zeros(n_units))

        if settings.dynamics:
            self._make_dynamics(settings.dynamics)

        self.embed = (
            nn.Sequential(
                nn.Linear(read_in, 2 * read_in), nn.Softsign(), nn.Linear(2 * read_in, width)
            )
            if settings.stitch_width
            else nn.Identity()
        )
        if settings.convolution:
            self.convolution = TemporalConvolution(width, settings.convolution)
        std = settings.embedding_std
        self.positions = nn.Parameter(std * torch.randn(scope.trial_format.n_time, width))
        self.session_token = nn.Parameter(std * torch.randn(n_sessions, width))
        if settings.n_prompts:
            self.prompt_token = nn.Parameter(std * torch.randn(settings.n_prompts, width))
        if settings.prompt_region:
            self.region_token = nn.Parameter(std * torch.randn(len(scope.regions), width))
        self.n_lead = 2 if settings.n_prompts else 1
        self.input_dropout = Dropout(settings.input_dropout)
        self.blocks = nn.ModuleList(
            Block(
                width,
                settings.heads,
                settings.mlp,
                settings.dropout,
                settings.attention_dropout,
                settings.start_as_identity,
                settings.dropout_at,
                self.n_lead if settings.leading_tokens_see_all else 0,
            )
            for _ in range(settings.layers)
        )
        if settings.t_fixup:
            for block in self.blocks:
                assert isinstance(block, Block)
                block.t_fixup(settings.layers)
        self.norm = nn.LayerNorm(width)
        if settings.modalities:
            self._make_modalities()

    def __repr__(self) -> str:
        """What it knows, and its size; modules stand in ``named_modules()``."""
        scope, settings = self.scope, self.settings
        form = scope.trial_format
        known = {"session": scope.sessions, "unit": scope.units, "region": scope.regions}
        sizes = ", ".join(counted(len(names), what) for what, names in known.items())
        n_weights = sum(parameter.numel() for parameter in self.parameters())
        lines = (
            f"MtM of {sizes} ({scope.region_map})",
            f"trials of {form.n_time} bins of {1000 * form.bin_size:g} ms, from {form.start:g} s "
            f"({form.alignment})",
            f"schemes: {', '.join(scope.schemes)}",
            *([f"modalities: {', '.join(settings.modalities)}"] if settings.modalities else ()),
            f"width {settings.width}, {settings.layers} layers, {n_weights:,} weights"
            + (f"; linear dynamics of {settings.dynamics}" if settings.dynamics else "")
            + (", units drift" if settings.dynamics and settings.drift else ""),
        )
        return "\n  ".join(lines)

    @torch.no_grad()
    def start_units(
        self,
        units: Tensor,
        mean: Tensor,
        scale: Tensor,
        log_mean: Tensor,
        session: int | None = None,
    ) -> None:
        """Initialise the rows of one session's units from their training trials.

        Parameters
        ----------
        units : Tensor (N,), int64
            Rows.
        mean, scale : Tensor (N,)
            Mean and standard deviation of the transformed counts (see `transform`).
        log_mean : Tensor (N,)
            Log of the mean count per bin: the null model.
        session
            Its row, which the start of the read-in's bias needs.
        """
        bound = len(units) ** -0.5  # as a linear layer of this many inputs
        if self.settings.stitcher_bias == "uniform" and session is not None:
            self.read_in_bias[session].uniform_(-bound, bound)
        tables = [self.read_in, *([self.indicator] if self.settings.mask_indicator else [])]
        for table in tables:
            table[units] = torch.empty(len(units), table.shape[1]).uniform_(-bound, bound)
        self.input_mean[units] = mean
        self.input_scale[units] = scale
        self.null_log_rate[units] = log_mean
        if self.settings.bias == "log_mean":
            # The read-out starts at 0: before training the model predicts each unit's mean.
            self.read_out_bias[units] = log_mean
        else:
            bound = self.settings.width**-0.5
            self.read_out[units] = torch.empty_like(self.read_out[units]).uniform_(-bound, bound)
        if self.settings.stitcher_bias == "uniform":
            bound = self.settings.width**-0.5
            self.read_out_bias[units] += torch.empty(len(units)).uniform_(-bound, bound)

    def is_causal(self, scheme: Scheme) -> bool:
        """Whether a bin sees the past alone under a scheme's prompt: only if that was trained."""
        return scheme == "causal" and "causal" in self.scope.schemes

    @overload
    def forward(self, groups: Sequence[Group]) -> list[Tensor]: ...

    @overload
    def forward(
        self, groups: Sequence[Group], behaviour: Literal[True]
    ) -> tuple[list[Tensor], list[Answer]]: ...

    def forward(
        self, groups: Sequence[Group], behaviour: bool = False
    ) -> list[Tensor] | tuple[list[Tensor], list[Answer]]:
        """Log expected counts per bin of each group, by the transformer alone (see `blend`).

        Parameters
        ----------
        groups
            Groups that attend to everything first, causal ones after them.
        behaviour
            Also what the model says of each group's behaviour; it must have modalities.

        Returns
        -------
        list of Tensor (B, T, N), or (B, T, M) where a group asks for M outputs
        list of Answer
            With `behaviour`.
        """
        hidden = self.encode(groups)
        sizes = [len(group.counts) for group in groups]
        parts = list(zip(hidden.split(sizes), groups, strict=True))
        log_rates = [self.decode(h, group) for h, group in parts]
        if not behaviour:
            return log_rates
        return log_rates, [self.decode_behaviour(h, group) for h, group in parts]

    def encode(self, groups: Sequence[Group], embedded: Tensor | None = None) -> Tensor:
        """The transformer's output for each trial and time bin, (sum of B, T, D).

        Parameters
        ----------
        groups
            As for `forward`.
        embedded : Tensor (sum of B, T, D), optional
            What `embed_counts` makes of them, where that is known: windows that overlap share it.
        """
        causal = [group.causal for group in groups]
        if causal != sorted(causal):
            raise ValueError("groups with causal attention must follow the others")
        n_full = sum(len(group.counts) for group in groups if not group.causal)

        x = embedded
        if x is None:
            x = torch.cat([self.embed_counts(group) for group in groups])  # (B, T, D)
        if self.settings.modalities:
            x = x + torch.cat([self.embed_behaviour(group) for group in groups])
        if self.settings.convolution:
            x = self.convolution(x, n_full)
        # The leading tokens come first, so causal attention lets them see only each other: a
        # later step cannot leak through them.
        lead = torch.cat([self.lead_tokens(group) for group in groups])  # (B, 2, D)
        if self.settings.dropout_at == "paper":
            h = self.input_dropout(torch.cat([lead, x + self.positions], dim=1))
        else:
            h = torch.cat([lead, self.input_dropout(x + self.positions)], dim=1)
        for block in self.blocks:
            h = block(h, n_full)
        return self.norm(h[:, self.n_lead :])

    def embed_counts(self, group: Group) -> Tensor:
        """Read-in of one group, (B, T, D)."""
        table = self.read_in[group.units]  # (N, S)
        x = transform(group.counts.to(table.dtype), self.settings.transform)
        if self.settings.standardise:
            x = (x - self.input_mean[group.units]) / self.input_scale[group.units]
        hidden = group.hidden
        x = torch.where(hidden, 0, x)
        # A hidden entry must look like a silent one, or bins with another unit hidden differ.
        alike = not (self.settings.mask_indicator or self.settings.standardise)
        if group.recurring and alike and self.settings.stitch_width:
            x, which = distinct_rows(x.flatten(0, 1))
            x = self.embed(x @ table + self.read_in_bias[group.session])
            return x[which].unflatten(0, (len(group.counts), -1))
        x = x @ table + self.read_in_bias[group.session]
        if self.settings.mask_indicator:
            indicator = self.indicator[group.units]
            if hidden.shape[2] == 1:  # whole time steps: every unit of them
                indicator = indicator.sum(0, keepdim=True)
            x = x + hidden.to(x.dtype) @ indicator
        return self.embed(x)

    def lead_tokens(self, group: Group) -> Tensor:
        """Session and prompt token, (B, 2, D); the session's alone if there is no prompt."""
        size = len(group.counts)
        session = self.session_token[group.session].expand(size, -1)
        if not self.settings.n_prompts:
            return session[:, None]
        prompt = self.prompt_of(group.scheme)
        prompt = prompt.expand(size, -1)
        if self.settings.prompt_region and group.region is not None and self.scope.regions:
            named = self.region_token[group.region.clamp(min=0)]
            prompt = prompt + torch.where((group.region >= 0)[:, None], named, 0)
        return torch.stack([session, prompt], dim=1)

    def prompt_of(self, scheme: Scheme) -> Tensor:
        """The token of a scheme, (D,); one and the same where prompts were not trained."""
        if not self.settings.prompt:
            return self.prompt_token[0]
        if not self.settings.modalities:
            return self.prompt_token[SCHEMES.index(scheme)]
        table = torch.cat([self.prompt_token, self.modality_prompt])
        return table[(*SCHEMES, *BEHAVIOUR_SCHEMES).index(scheme)]

    def decode(self, h: Tensor, group: Group) -> Tensor:
        """Read-out of one group, as it is trained: (B, T, D) -> (B, T, N or M)."""
        return _read(h, group, self.read_out, self.read_out_bias)

    def predict(self, h: Tensor, group: Group) -> Tensor:
        """The same once training is done: under `encoding` by the rows that were fitted for it."""
        fitted = self.settings.modalities and self.settings.refit_encoding
        if group.scheme != "encoding" or not fitted or not self.encoding_is_fitted:
            return self.decode(h, group)
        return _read(h, group, self.encoding_read_out, self.encoding_read_out_bias)

    def read_out_of(self, h: Tensor, rows: Tensor) -> Tensor:
        """Log rates of any rows of units, also of other sessions': (B, T, D) -> (B, T, M)."""
        return h @ self.read_out[rows].T + self.read_out_bias[rows]


def _read(h: Tensor, group: Group, weights: Tensor, bias: Tensor) -> Tensor:
    """Log rates of the units that a group asks for, by these rows."""
    rows = group.units if group.outputs is None else group.units[group.outputs]
    if rows.ndim == 1:
        return h @ weights[rows].T + bias[rows]
    return h @ weights[rows].mT + bias[rows][:, None, :]  # each trial asks for its own


def transform(x: Tensor, name: str) -> Tensor:
    """What the read-in sees of counts: themselves, or their square roots."""
    return x.sqrt() if name == "sqrt" else x


def distinct_rows(x: Tensor) -> tuple[Tensor, Tensor]:
    """The distinct rows of (M, N), and which of them each row is, (M,)."""
    numbers: dict[bytes, int] = {}  # on a CPU, Tensor.unique takes ten times as long
    which = [numbers.setdefault(row.tobytes(), len(numbers)) for row in x.cpu().numpy()]
    first = np.unique(which, return_index=True)[1]
    return x[torch.from_numpy(first)], torch.tensor(which)
