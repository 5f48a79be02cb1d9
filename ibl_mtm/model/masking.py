"""The masking schemes of MtM: what a model may not see, and what it must predict.

    mask = draw_mask("neuron", key, n_time=100, regions=regions)
    mask.hidden     # (B, 1, N): these units are zeroed in the input
    mask.target     # (B, T, N): these entries are predicted

Tensors that are constant over time or over units keep a dimension of length 1 there.
Source: Zhang, Wang, et al., arXiv 2407.14668, section 3.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from pydantic import Field
from torch import Tensor

from ibl_mtm.config.yaml_settings import Settings
from ibl_mtm.model.draws import uniform

__all__ = [
    "BEHAVIOUR_SCHEMES",
    "DRAWS",
    "SCHEMES",
    "Draw",
    "Mask",
    "MaskRatios",
    "Scheme",
    "draw_mask",
    "last_bins",
    "mask_last_bins",
    "mask_region",
]

Scheme = Literal[
    "neuron",
    "causal",
    "intra_region",
    "inter_region",
    "temporal",
    "random",
    "encoding",
    "decoding",
    "behaviour",
    "mixed",
]
#: Schemes of models with modalities: a prompt of each has its row in a table of its own.
BEHAVIOUR_SCHEMES: tuple[Scheme, ...] = ("encoding", "decoding", "behaviour", "mixed")
SCHEMES: tuple[Scheme, ...] = tuple(s for s in get_args(Scheme) if s not in BEHAVIOUR_SCHEMES)
"""Those of activity alone."""


class MaskRatios(Settings):
    """How much each scheme masks; the defaults are the paper's."""

    neuron: float = Field(0.3, ge=0, le=1)
    causal: float = Field(0.6, ge=0, le=1)
    intra_region: float = Field(0.3, ge=0, le=1)
    #: Targets within a region: so many of its units, or each by a coin (the paper). By a coin a
    #: mask of a region of n units has no target with probability 0.7^n.
    intra_region_by: Literal["count", "coin"] = "count"
    temporal: float = Field(0.3, ge=0, le=1)
    random: float = Field(0.3, ge=0, le=1)
    #: Of units, of bins, and of modalities, each drawn by itself.
    mixed: float = Field(0.3, ge=0, le=1)
    #: Share of trials under `encoding` that show some of behaviour alone: of each, a share of the
    #: variables that it comes from is hidden, itself drawn from 0 to 1.
    encoding: float = Field(0.5, ge=0, le=1)
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
        One of `DRAWS`.
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
    if scheme not in DRAWS:
        raise ValueError(f"unknown masking scheme '{scheme}'; known: {', '.join(DRAWS)}")
    if DRAWS[scheme].n_regions and not (regions >= 0).any():
        raise ValueError(f"the {scheme} scheme needs units of an eligible region")
    return DRAWS[scheme].draw(key, n_time, regions, ratios)


def _draw_units(key: Tensor, n_time: int, regions: Tensor, ratios: MaskRatios) -> Mask:
    hidden = (uniform(key, len(regions)) < ratios.neuron)[:, None, :]
    return Mask(hidden, hidden, torch.full_like(key, -1))


def _draw_causal(key: Tensor, n_time: int, regions: Tensor, ratios: MaskRatios) -> Mask:
    hidden = _draw_steps(key, n_time, ratios)[:, :, None]
    return Mask(hidden, hidden, torch.full_like(key, -1))


def _draw_bins(key: Tensor, n_time: int, regions: Tensor, ratios: MaskRatios) -> Mask:
    hidden = (uniform(key, n_time) < ratios.temporal)[:, :, None]
    return Mask(hidden, hidden, torch.full_like(key, -1))


def _draw_entries(key: Tensor, n_time: int, regions: Tensor, ratios: MaskRatios) -> Mask:
    draws = uniform(key, n_time * len(regions)).view(-1, n_time, len(regions))
    return Mask(draws < ratios.random, draws < ratios.random, torch.full_like(key, -1))


def _draw_all(key: Tensor, n_time: int, regions: Tensor, ratios: MaskRatios) -> Mask:
    everything = torch.ones(len(key), 1, 1, dtype=torch.bool, device=key.device)
    return Mask(everything, everything, torch.full_like(key, -1))


def _draw_none(key: Tensor, n_time: int, regions: Tensor, ratios: MaskRatios) -> Mask:
    nothing = torch.zeros(len(key), 1, 1, dtype=torch.bool, device=key.device)
    return Mask(nothing, nothing, torch.full_like(key, -1))


def _draw_mixed(key: Tensor, n_time: int, regions: Tensor, ratios: MaskRatios) -> Mask:
    draws = uniform(key, n_time + len(regions)) < ratios.mixed
    hidden = draws[:, :n_time, None] | draws[:, None, n_time:]
    return Mask(hidden, hidden, torch.full_like(key, -1))


def _draw_within_region(key: Tensor, n_time: int, regions: Tensor, ratios: MaskRatios) -> Mask:
    region, draws = _draw_region(key, regions)
    return mask_region("intra_region", region, regions, draws, ratios)


def _draw_whole_region(key: Tensor, n_time: int, regions: Tensor, ratios: MaskRatios) -> Mask:
    region, draws = _draw_region(key, regions)
    return mask_region("inter_region", region, regions, draws, ratios)


def _draw_region(key: Tensor, regions: Tensor) -> tuple[Tensor, Tensor]:
    """An eligible region for each trial (B,), and numbers for the units in it (B, N)."""
    # The first number chooses the region, the others the units within it.
    draws = uniform(key, len(regions) + 1)
    eligible = regions[regions >= 0].unique()
    return eligible[(draws[:, 0] * len(eligible)).long()], draws[:, 1:]


@dataclass(frozen=True)
class Draw:
    """How the masks of a scheme are drawn.

    Attributes
    ----------
    draw
        As `draw_mask`, without the scheme.
    n_regions
        How many regions a session must have: 1, one that is eligible; 2, and units outside of it.
    behaviour
        Whether a session must have some behaviour.
    """

    draw: Callable[[Tensor, int, Tensor, MaskRatios], Mask]
    n_regions: int = 0
    behaviour: bool = False


DRAWS: dict[Scheme, Draw] = {
    "neuron": Draw(_draw_units),
    "causal": Draw(_draw_causal),
    "intra_region": Draw(_draw_within_region, n_regions=1),
    "inter_region": Draw(_draw_whole_region, n_regions=2),
    "temporal": Draw(_draw_bins),
    "random": Draw(_draw_entries),
    # Of spikes; what they hide of behaviour is drawn by `behaviour_masks`.
    "encoding": Draw(_draw_all, behaviour=True),
    "decoding": Draw(_draw_none, behaviour=True),
    "behaviour": Draw(_draw_none, behaviour=True),
    "mixed": Draw(_draw_mixed, behaviour=True),
}
"""By scheme."""


def mask_region(
    scheme: Scheme, region: Tensor, regions: Tensor, draws: Tensor, ratios: MaskRatios
) -> Mask:
    """Mask around a given region (see `draw_mask`).

    Of the region's n units the intra-region scheme targets ``round(ratio * n)``, at least one
    and at most n - 1: those with the smallest `draws` (B, N). By a coin it targets those whose
    draws are below the ratio.
    """
    inside = regions[None, :] == region[:, None]  # (B, N)
    if scheme == "inter_region":
        return Mask(inside[:, None, :], inside[:, None, :], region)
    if ratios.intra_region_by == "coin":
        target = inside & (draws < ratios.intra_region)
    else:
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
