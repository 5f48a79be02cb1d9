"""The part of a model that has to do with behaviour: modalities beside the spikes.

model.start_behaviour(session, statistics)              # scales of its training trials
answer = model.decode_behaviour(h, group)
"""

from dataclasses import fields

import torch
from torch import Tensor, nn

from ibl_mtm.model.group import Group
from ibl_mtm.model.masking import BEHAVIOUR_SCHEMES
from ibl_mtm.model.modalities import Answer, Modalities, Scales
from ibl_mtm.model.scope import Scope
from ibl_mtm.model.settings import ModelSettings
from ibl_mtm.sessions.modalities import ModalityStatistics, classes_in, traces_in

__all__ = ["WithModalities"]


class WithModalities(nn.Module):
    """A model that may know behaviour too, and read spikes out of it by rows of their own."""

    settings: ModelSettings
    scope: Scope
    read_out: nn.Parameter
    read_out_bias: nn.Parameter

    #: Rows of sessions that no gradient reaches: the scales of their modalities.
    BEHAVIOUR_TABLES = (
        "behaviour_offset",
        "behaviour_scale",
        "behaviour_log_odds",
        "behaviour_null",
    )
    #: Rows of units that are fitted once: of the read-out of spikes from behaviour alone.
    ENCODING_UNIT_TABLES = ("encoding_read_out", "encoding_read_out_bias")

    encoding_read_out: Tensor
    encoding_read_out_bias: Tensor
    encoding_is_fitted: Tensor

    def _make_modalities(self) -> None:
        settings, n_sessions = self.settings, len(self.scope.sessions)
        names, width, std = settings.modalities, settings.width, settings.embedding_std
        self.modalities = Modalities(names, self.scope.trial_format.n_time, width, std)
        if settings.prompt:
            self.modality_prompt = nn.Parameter(std * torch.randn(len(BEHAVIOUR_SCHEMES), width))
        K, V = len(self.modalities.traces), len(self.modalities.classes)
        self.register_buffer("behaviour_offset", torch.zeros(n_sessions, K))
        self.register_buffer("behaviour_scale", torch.ones(n_sessions, K))
        self.register_buffer("behaviour_log_odds", torch.zeros(n_sessions, V))
        self.register_buffer("behaviour_null", torch.zeros(n_sessions, K + V))
        if settings.refit_encoding:
            n_units = len(self.scope.units)
            self.register_buffer("encoding_read_out", torch.zeros(n_units, width))
            self.register_buffer("encoding_read_out_bias", torch.zeros(n_units))
            self.register_buffer("encoding_is_fitted", torch.tensor(False))

    @torch.no_grad()
    def start_encoding(self, units: Tensor, weights: Tensor, bias: Tensor) -> None:
        """Keep the rows (N, D) and (N,) that read these units out under `encoding`.

        Whoever is not given any keeps the rows that it has under other prompts.
        """
        if not self.encoding_is_fitted:
            self.encoding_read_out.copy_(self.read_out)
            self.encoding_read_out_bias.copy_(self.read_out_bias)
            self.encoding_is_fitted.fill_(True)
        self.encoding_read_out[units] = weights
        self.encoding_read_out_bias[units] = bias

    @torch.no_grad()
    def start_behaviour(self, session: int, statistics: ModalityStatistics) -> None:
        """Keep the scales of a session's modalities (those of its training trials)."""
        for field in fields(Scales):
            table = getattr(self, f"behaviour_{field.name}")
            table[session] = torch.from_numpy(getattr(statistics, field.name))

    @property
    def names_of_modalities(self) -> tuple[str, ...]:
        """Traces, then classes: the order of all that has an entry for each."""
        names = self.settings.modalities
        return (*traces_in(names), *classes_in(names))

    def scales_of(self, session: int) -> Scales:
        """The scales of a session's modalities."""
        return Scales(*(getattr(self, f"behaviour_{f.name}")[session] for f in fields(Scales)))

    def embed_behaviour(self, group: Group) -> Tensor:
        """Read-in of one group's behaviour, (B, T, D)."""
        n_trials, n_time = group.counts.shape[:2]
        scales = self.scales_of(group.session)
        return self.modalities.embed(group.behaviour, scales, n_trials).expand(-1, n_time, -1)

    def decode_behaviour(self, h: Tensor, group: Group) -> Answer:
        """Behaviour of one group, from (B, T, D)."""
        return self.modalities.decode(h, self.scales_of(group.session))
