"""The masking schemes of MtM: what a model may not see, and what it must predict.

    mask = draw_mask("neuron", key, n_time=100, regions=regions)
    mask.hidden     # (B, 1, N): these units are zeroed in the input
    mask.target     # (B, T, N): these entries are predicted

Tensors that are constant over time or over units keep a dimension of length 1 there.
Source: Zhang, Wang, et al., arXiv 2407.14668, section 3.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from pydantic import Field
from torch import Tensor

from ibl_mtm.config.yaml_settings import Settings
from ibl_mtm.model.draws import uniform

__all__ = [
    "SCHEMES",
    "Mask",
    "MaskRatios",
    "Scheme",
    "draw_mask",
    "last_bins",
    "mask_last_bins",
    "mask_region",
]

Scheme = Literal["neuron", "causal", "intra_region", "inter_region", "temporal", "random"]
SCHEMES: tuple[Scheme, ...] = get_args(Scheme)


class MaskRatios(Settings):
    """How much each scheme masks; the defaults are the paper's."""

    neuron: float = Field(0.3, ge=0, le=1)
    causal: float = Field(0.6, ge=0, le=1)
    intra_region: float = Field(0.3, ge=0, le=1)
    temporal: float = Field(0.3, ge=0, le=1)
    random: float = Field(0.3, ge=0, le=1)
    #: Share of causal masks that are one run of steps up to the trial's end instead, as forward
    #: prediction asks for; its length is drawn from 1 to `tail_bins`.
    tail_share: float = Field(0.0, ge=0, le=1)
    tail_bins: int = Field(20, gt=0)


@dataclass(frozen=True)
class Mask:
    """What is hidden from the input and what is to be predicted.

    Attributes
    ----------
    hidden, target : Tensor, bool
        Broadcastable to (B, T, N): True where the input is zeroed, and where the loss looks.
    region : Tensor (B,), int64
        The region that was drawn; -1 where the scheme draws none.
    """

    hidden: Tensor
    target: Tensor
    region: Tensor

    def __getitem__(self, index: Tensor) -> "Mask":
        return Mask(self.hidden[index], self.target[index], self.region[index])


def draw_mask(
    scheme: Scheme,
    key: Tensor,
    n_time: int,
    regions: Tensor,
    ratios: MaskRatios = MaskRatios(),  # noqa: B008 - immutable
) -> Mask:
    """Draw one mask per trial.

    Parameters
    ----------
    scheme
        One of `SCHEMES`.
    key : Tensor (B,), int64
        From `ibl_mtm.model.draws.keys`; equal keys give equal masks.
    n_time
        Number of time bins T.
    regions : Tensor (N,), int64
        Region of each unit, -1 for a unit of no eligible region.
    ratios
        How much is masked.

    Raises
    ------
    ValueError
        For a region scheme without any eligible region, or an unknown scheme.
    """
    n_units = len(regions)
    none = torch.full_like(key, -1)
    if scheme == "neuron":
        hidden = (uniform(key, n_units) < ratios.neuron)[:, None, :]
        return Mask(hidden, hidden, none)
    if scheme == "causal":
        hidden = _draw_steps(key, n_time, ratios)[:, :, None]
        return Mask(hidden, hidden, none)
    if scheme == "temporal":
        hidden = (uniform(key, n_time) < ratios.temporal)[:, :, None]
        return Mask(hidden, hidden, none)
    if scheme == "random":
        draws = uniform(key, n_time * n_units).view(-1, n_time, n_units)
        return Mask(draws < ratios.random, draws < ratios.random, none)
    if scheme in ("intra_region", "inter_region"):
        # The first number chooses the region, the others the units within it.
        draws = uniform(key, n_units + 1)
        eligible = regions[regions >= 0].unique()
        if not len(eligible):
            raise ValueError(f"the {scheme} scheme needs units of an eligible region")
        region = eligible[(draws[:, 0] * len(eligible)).long()]
        return mask_region(scheme, region, regions, draws[:, 1:], ratios)
    raise ValueError(f"unknown masking scheme '{scheme}'; known: {', '.join(SCHEMES)}")


def mask_region(
    scheme: Scheme, region: Tensor, regions: Tensor, draws: Tensor, ratios: MaskRatios
) -> Mask:
    """Mask around a given region (see `draw_mask`).

    Of the region's n units the intra-region scheme targets ``round(ratio * n)``, at least one
    and at most n - 1: those with the smallest `draws` (B, N).
    """
    inside = regions[None, :] == region[:, None]  # (B, N)
    if scheme == "inter_region":
        return Mask(inside[:, None, :], inside[:, None, :], region)
    size = inside.sum(1)
    n_target = (ratios.intra_region * size).round().clamp(min=1).minimum(size - 1)
    rank = draws.masked_fill(~inside, 2.0).argsort(1).argsort(1)
    target = inside & (rank < n_target[:, None])
    return Mask((target | ~inside)[:, None, :], target[:, None, :], region)


def last_bins(n_time: int) -> int:
    """Number of bins at the end of a trial that forward prediction asks for: a tenth, 10 of 100."""
    return max(1, n_time // 10)


def mask_last_bins(n_trials: int, n_time: int) -> Mask:
    """Mask of the causal scheme as forward prediction asks: the last tenth of each trial."""
    late = torch.arange(n_time) >= n_time - last_bins(n_time)
    hidden = late[None, :, None].expand(n_trials, -1, -1)
    return Mask(hidden, hidden, torch.full((n_trials,), -1))


def _draw_steps(key: Tensor, n_time: int, ratios: MaskRatios) -> Tensor:
    """Hidden time steps of the causal scheme, (B, T)."""
    draws = uniform(key, n_time + 2)
    scattered = draws[:, 2:] < ratios.causal
    length = 1 + (draws[:, 1] * ratios.tail_bins).long()
    tail = torch.arange(n_time, device=key.device) >= (n_time - length)[:, None]
    return torch.where(draws[:, :1] < ratios.tail_share, tail, scattered)
