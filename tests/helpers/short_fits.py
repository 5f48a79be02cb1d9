"""Baselines and decoders that are hardly fitted: for tests of what they see, not of how well.

shorten(monkeypatch)
"""

import pytest

from ibl_mtm.evaluation.baselines import encoding, poisson_lds, regression
from ibl_mtm.evaluation.baselines.poisson import LowRank
from ibl_mtm.evaluation.behaviour import gradient_decoders
from ibl_mtm.model.dynamics import fit

__all__ = ["shorten"]


def shorten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two of each hyper-parameter that is chosen, and few passes."""
    monkeypatch.setattr(gradient_decoders, "_STEPS", 20)
    monkeypatch.setattr(regression, "WIDTHS", (1.5, 5.0))
    monkeypatch.setattr(LowRank.fit, "__defaults__", (6,))  # its steps
    for module in (regression, encoding):
        monkeypatch.setattr(module, "RANKS", (2, 4))
    monkeypatch.setattr(poisson_lds, "COMPONENTS", 4)
    monkeypatch.setattr(fit, "ITERATIONS", 4)
