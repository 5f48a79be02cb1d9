"""Whether the devices that a training asks for are there, told before it begins.

check_devices(settings.trainer)
"""

import sys

import torch

from ibl_mtm.errors import UserError
from ibl_mtm.training.settings import TrainerSettings

__all__ = ["check_devices"]


def check_devices(chosen: TrainerSettings) -> None:
    """Refuse a training on devices that this machine has not.

    Raises
    ------
    UserError
        Names the setting and what there is.
    """
    if chosen.accelerator == "gpu" and not _n_gpus():
        raise UserError(
            "trainer.accelerator=gpu, and PyTorch finds no GPU here; set trainer.accelerator=cpu, "
            "or see whether torch.cuda.is_available() and the driver agree"
        )
    on_gpu = chosen.accelerator != "cpu" and _n_gpus() > 0
    if on_gpu and chosen.devices > _n_gpus():
        raise UserError(f"trainer.devices={chosen.devices}, and this machine has {_n_gpus()} GPU")
    if chosen.devices > 1 and chosen.nodes == 1 and hasattr(sys, "ps1"):
        raise UserError(
            f"trainer.devices={chosen.devices} needs the command `ibl-mtm train` (or a script), "
            "not a notebook or an interactive Python: each device gets a process of its own"
        )


def _n_gpus() -> int:
    return torch.cuda.device_count() or int(torch.backends.mps.is_available())
