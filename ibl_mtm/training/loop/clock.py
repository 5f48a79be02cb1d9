"""How long a training has taken, with the time before it was resumed."""

import time
from typing import Any

from lightning.pytorch.callbacks import Callback

__all__ = ["Clock"]


class Clock(Callback):
    """Counts seconds from when it was made; a checkpoint carries them on."""

    def __init__(self) -> None:
        self._start, self._before = time.perf_counter(), 0.0

    @property
    def seconds(self) -> float:
        """Of all starts together; of one that was killed, up to its last checkpoint."""
        return self._before + time.perf_counter() - self._start

    def state_dict(self) -> dict[str, Any]:
        return {"seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._before = state_dict["seconds"]
