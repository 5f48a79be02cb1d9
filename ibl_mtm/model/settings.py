"""Sizes and choices of a model: the `model` part of a run's settings."""

from typing import Literal

from pydantic import Field, field_validator, model_validator

from ibl_mtm.config.yaml_settings import Settings
from ibl_mtm.model.masking import SCHEMES
from ibl_mtm.sessions.behaviours import BEHAVIOURS

__all__ = ["ModelSettings"]


class ModelSettings(Settings):
    """Sizes and choices of the model.

    Sizes are the paper's by default; ``pipelines/configs/paper.yaml`` has its choices too.
    """

    width: int = Field(512, gt=0)
    layers: int = Field(5, ge=0)
    heads: int = Field(8, gt=0)
    mlp: int = Field(1024, gt=0)
    #: Width of the per-session read-in, before two shared layers (softsign between them);
    #: null: the read-in maps units to `width` directly.
    stitch_width: int | None = Field(668, gt=0)
    input_dropout: float = Field(0.2, ge=0, lt=1)
    dropout: float = Field(0.4, ge=0, lt=1)
    attention_dropout: float = Field(0.4, ge=0, lt=1)
    #: Where dropout is: on what each branch adds and within the feed-forward part, the input's on
    #: time bins alone (`branches`); or before the projection of what was attended and at the end of
    #: the feed-forward part, the input's on leading tokens too (`paper`).
    dropout_at: Literal["branches", "paper"] = "branches"
    #: What the read-in sees of a count.
    transform: Literal["none", "sqrt"] = "none"
    #: Centre and scale each unit's input by its training trials; a hidden entry is then the mean.
    standardise: bool = False
    #: Tell the model which entries are hidden, by a learned vector per unit.
    mask_indicator: bool = False
    #: Bins that a depthwise convolution over time reaches after the read-in; 0: none.
    convolution: int = Field(0, ge=0)
    #: Transformer layers start as the identity: what they write is zero at first.
    start_as_identity: bool = False
    #: Feed-forward and output weights start at 0.67 L^(-1/4) of PyTorch's, those of values at
    #: sqrt 2 times that (T-Fixup: Huang et al., ICML 2020), as in the paper's code.
    t_fixup: bool = False
    #: Standard deviation that embeddings of positions, sessions, prompts and regions start with
    #: (the paper's code: 1). Embedded counts have about 0.05.
    embedding_std: float = Field(0.02, ge=0)
    #: What is added to biases of the read-in and the read-out at the start: nothing, or uniform
    #: numbers as to a linear layer of PyTorch (the paper's code).
    stitcher_bias: Literal["zero", "uniform"] = "zero"
    #: A prompt token per scheme; otherwise one token shared by all.
    prompt: bool = True
    #: Without prompts, put that shared token there; the paper's code has the session's token alone.
    shared_token: bool = True
    #: The prompt also names the region of an intra- or inter-region mask.
    prompt_region: bool = False
    #: Under causal attention the leading tokens see all bins, and all bins see them: a leak of the
    #: paper's code, for exact comparison with it.
    leading_tokens_see_all: bool = False
    #: Where log rates start: each unit's mean training count, or 0 (one spike per bin).
    bias: Literal["log_mean", "zero"] = "log_mean"
    #: Components, at most, of a linear dynamical system that is fitted to each session beside the
    #: transformer; their log rates are averaged (see `ibl_mtm.model.dynamics.system`). 0: none.
    dynamics: int = Field(0, ge=0)
    #: Units of the dynamical system, if there is one, also have gains that drift over the session:
    #: in each trial what training trials near it in time tell (see `ibl_mtm.model.dynamics.drift`).
    drift: bool = False
    #: Behaviours that the model reads and answers beside spikes, by their names as tasks; none: a
    #: model of activity alone.
    modalities: tuple[str, ...] = ()
    #: Under the prompt of `encoding` units are read out by rows that are fitted once the
    #: transformer is trained (see `ibl_mtm.training.encoding`).
    refit_encoding: bool = False

    @field_validator("modalities")
    @classmethod
    def _known_modalities(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if name not in BEHAVIOURS:
                raise ValueError(f"unknown modality '{name}'; known: {', '.join(BEHAVIOURS)}")
        if len(set(names)) < len(names):
            raise ValueError("names a modality twice")
        return names

    @model_validator(mode="after")
    def _whole_heads(self) -> "ModelSettings":
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is no multiple of heads {self.heads}")
        return self

    @model_validator(mode="after")
    def _region_beside_a_prompt(self) -> "ModelSettings":
        if self.prompt_region and not self.n_prompts:
            raise ValueError("prompt_region needs a token to add to: set shared_token or prompt")
        return self

    @property
    def n_prompts(self) -> int:
        """Prompt tokens that the model has."""
        return len(SCHEMES) if self.prompt else int(self.shared_token)
