"""Random numbers that depend on nothing but their key.

    uniform(keys(seed=0, step=7, trial=torch.tensor([3, 4])), n=100)     # (2, 100) in [0, 1)

A mask is drawn from (seed, step, trial), never from a generator's state: so a trial is masked
alike on whichever process, device or batch it falls, and a resumed run goes on as it would have.
The mixing function is SplitMix64 (Steele, Lea & Flood, OOPSLA 2014).
"""

import torch
from torch import Tensor

__all__ = ["keys", "uniform"]


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value


_GAMMA = _signed(0x9E3779B97F4A7C15)
_MIX_1 = _signed(0xBF58476D1CE4E5B9)
_MIX_2 = _signed(0x94D049BB133111EB)


def _shift_right(x: Tensor, bits: int) -> Tensor:
    # int64 shifts copy the sign bit; the algorithm is defined on unsigned numbers.
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def _mix(x: Tensor) -> Tensor:
    x = (x ^ _shift_right(x, 30)) * _MIX_1
    x = (x ^ _shift_right(x, 27)) * _MIX_2
    return x ^ _shift_right(x, 31)


def keys(seed: int, step: int, trial: Tensor) -> Tensor:
    """Hash (seed, step, trial) to one key per trial.

    Parameters
    ----------
    seed, step
        Any integers.
    trial : Tensor (B,), int64
        A number for each trial that is unique in the data set.

    Returns
    -------
    Tensor (B,), int64
    """
    key = torch.zeros_like(trial)
    for part in (seed, step, trial):
        key = _mix((key ^ part) + _GAMMA)
    return key


def uniform(key: Tensor, n: int) -> Tensor:
    """`n` uniform numbers in [0, 1) for each key.

    Parameters
    ----------
    key : Tensor (B,), int64

    Returns
    -------
    Tensor (B, n), float32
    """
    counter = torch.arange(1, n + 1, device=key.device)
    bits = _mix(key[:, None] + counter * _GAMMA)
    return _shift_right(bits, 40).to(torch.float32) * 2.0**-24
