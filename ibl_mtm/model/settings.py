"""Sizes and choices of a model: the `model` part of a run's settings."""

from typing import Literal

from pydantic import Field, model_validator

from ibl_mtm.config.yaml_settings import Settings

__all__ = ["ModelSettings"]


class ModelSettings(Settings):
    """Sizes and choices of the model; the defaults are the paper's."""

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
    #: A prompt token per scheme; otherwise one token shared by all.
    prompt: bool = True
    #: The prompt also names the region of an intra- or inter-region mask.
    prompt_region: bool = False
    #: Where log rates start: each unit's mean training count, or 0 (one spike per bin).
    bias: Literal["log_mean", "zero"] = "log_mean"
    #: Components, at most, of a linear dynamical system that is fitted to each session beside the
    #: transformer; their log rates are averaged (see `ibl_mtm.model.dynamics`). 0: none.
    dynamics: int = Field(0, ge=0)

    @model_validator(mode="after")
    def _whole_heads(self) -> "ModelSettings":
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is no multiple of heads {self.heads}")
        return self
