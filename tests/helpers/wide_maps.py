"""A small simulated brain-wide map, made once for a run of tests.

root = wide_map(tmp_path_factory)                 # six sessions, two of them for evaluation
"""

from pathlib import Path

from ibl_mtm.simulate.brainsets.wide_map import WideMap, simulate_map

__all__ = ["SETTINGS", "make_wide_map"]

SETTINGS = WideMap(sessions=6, units=30, trials=160, seed=3)


def make_wide_map(root: Path) -> Path:
    """Simulate it into a folder."""
    simulate_map(root, SETTINGS)
    return root
