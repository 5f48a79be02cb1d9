"""What each masking scheme hides of behaviour, and asks for.

    mask = draw_behaviour_mask("behaviour", key, n_time=100, there=there, sources=sources)
    mask.traces, mask.classes       # hidden: (B, T or 1, K), (B, V)

Schemes of activity hide all behaviour: what they ask of a model is what they ask of one without.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ibl_mtm.model.draws import uniform
from ibl_mtm.model.masking import MaskRatios, Scheme
from ibl_mtm.sessions.behaviours import BEHAVIOURS

__all__ = ["ASKS_BEHAVIOUR", "BehaviourMask", "draw_behaviour_mask", "sources_of"]

#: Schemes that ask for what they hide of behaviour.
ASKS_BEHAVIOUR: tuple[Scheme, ...] = ("decoding", "behaviour", "mixed")
#: Behaviour is hidden by other numbers than spikes are.
_APART = 0x5DEECE66D


@dataclass(frozen=True)
class BehaviourMask:
    """What is hidden of behaviour.

    Attributes
    ----------
    traces : Tensor, bool, broadcastable to (B, T, K)
    classes : Tensor (B, V), bool
    """

    traces: Tensor
    classes: Tensor


def sources_of(names: Sequence[str]) -> Tensor:
    """A number for the variable that each modality comes from, int64.

    Those of one variable are hidden together: the velocity of the wheel tells its speed.
    """
    variables = [BEHAVIOURS[name].variable for name in names]
    return torch.tensor([variables.index(variable) for variable in variables], dtype=torch.long)


def draw_behaviour_mask(
    scheme: Scheme,
    key: Tensor,
    n_time: int,
    there: tuple[Tensor, Tensor],
    sources: Tensor,
    ratios: MaskRatios = MaskRatios(),  # noqa: B008 - immutable
) -> BehaviourMask:
    """Draw one mask per trial.

    Parameters
    ----------
    scheme
        Any.
    key : Tensor (B,), int64
        As for `ibl_mtm.model.masking.draw_mask`.
    n_time
        Number of time bins T.
    there : Tensor (B, K), Tensor (B, V), bool
        Which traces and classes each trial has.
    sources : Tensor (K + V,), int64
        From `sources_of`.
    ratios
        How much is masked.
    """
    n_traces, n_trials = there[0].shape[1], len(key)
    everything = torch.cat(there, 1)  # (B, M)
    if scheme == "encoding":
        # Any part of them may be what is given: the share that is hidden is drawn too.
        draws = uniform(key ^ _APART, len(sources) + 2)
        share = torch.where(draws[:, 0] < ratios.encoding, draws[:, 1], 0.0)
        whole = draws[:, 2:][:, sources] < share[:, None]
    elif scheme == "behaviour":
        # One of those that the trial has; of one that is missing nothing could be asked.
        draws = uniform(key ^ _APART, len(sources)).masked_fill(~everything, 2.0)
        whole = sources == sources[draws.argmin(1)][:, None]
    elif scheme == "mixed":
        draws = uniform(key ^ _APART, len(sources) + n_time) < ratios.mixed
        whole = draws[:, sources]
        bins = draws[:, len(sources) :, None]
        return BehaviourMask(whole[:, None, :n_traces] | bins, whole[:, n_traces:])
    else:
        whole = torch.ones_like(everything)
    assert whole.shape == (n_trials, len(sources))
    return BehaviourMask(whole[:, None, :n_traces], whole[:, n_traces:])
