"""What a model is asked: trials of one session, and what of them it must not see.

group = Group(counts, mask.hidden, rows, session=0, scheme="neuron")
(log_rates,) = model([group])
"""

from dataclasses import dataclass

from torch import Tensor

from ibl_mtm.model.masking import Scheme
from ibl_mtm.model.modalities import Behaviour

__all__ = ["Group"]


@dataclass(frozen=True)
class Group:
    """Trials of one session under one scheme.

    Attributes
    ----------
    counts : Tensor (B, T, N)
        Spike counts per bin, any dtype.
    hidden : Tensor, bool, broadcastable to (B, T, N)
        Entries that the model must not see.
    units : Tensor (N,), int64
        The units' rows in the model.
    session
        The session's row in the model.
    scheme
        Chooses the prompt, and whether a step may see later steps.
    region : Tensor (B,), int64, optional
        The region that the prompt names, -1 for none.
    causal
        A step sees itself and the past only.
    outputs : Tensor, int64, optional
        Columns (of N) to predict: (M,) for all trials, or (B, M) for each trial its own;
        by default all.
    """

    counts: Tensor
    hidden: Tensor
    units: Tensor
    session: int
    scheme: Scheme
    causal: bool = False
    region: Tensor | None = None
    outputs: Tensor | None = None
    #: Many of the time bins recur: embed only the distinct ones (equal to rounding; for scores).
    recurring: bool = False
    #: Of a model with modalities; None: nothing of them is shown.
    behaviour: Behaviour | None = None
    #: When the trials were (B,), float64, s on the session's clock: what a drift of units is known
    #: from. None: at any time.
    times: Tensor | None = None
