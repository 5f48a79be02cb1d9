"""How learning rates and momentum go over a training: one cycle."""

import math
from dataclasses import dataclass

from ibl_mtm.training.settings import RunSettings

__all__ = ["Schedule"]


@dataclass(frozen=True)
class Schedule:
    """Of a run's settings, over so many steps in all; rates are shares of the full one."""

    settings: RunSettings
    steps: int

    def rate(self, step: int) -> float:
        """One-cycle cosine: from a tenth up to the full rate, then down to nothing."""
        place = self.place_in_cycle(step)
        return 0.1 + 0.9 * place if step < self.warm_steps else place

    def first_moment(self, step: int) -> float:
        """Decay of AdamW's first moment where it is cycled: lowest where the rate is highest."""
        return 0.95 - 0.1 * self.place_in_cycle(step)

    @property
    def warm_steps(self) -> int:
        """Steps over which the rate rises."""
        return max(1, round(self.settings.optimizer.warmup * self.steps))

    def place_in_cycle(self, step: int) -> float:
        """A cosine from 0 up to 1 where the rate is highest, then down to 0 at the last step."""
        warm = self.warm_steps
        if step < warm:
            return (1 - math.cos(math.pi * step / warm)) / 2
        return (1 + math.cos(math.pi * min(1.0, (step - warm) / max(1, self.steps - warm)))) / 2

    def body_rate(self, step: int) -> float:
        """The same for what sessions share, which may be left alone at first."""
        frozen = step < self.settings.finetune.stitchers_only
        return 0.0 if frozen else self.rate(step)
