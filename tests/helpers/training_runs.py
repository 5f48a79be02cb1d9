"""A small cache and quick settings, for tests that train."""

from pathlib import Path
from typing import Any

import pandas as pd
from synthetic import make_regions, make_session
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from ibl_mtm.cache.store import create_cache, write_session
from ibl_mtm.config.yaml_settings import validate_settings
from ibl_mtm.training.settings import RunSettings

__all__ = ["TINY", "make_cache", "read_logs", "tiny_settings"]

TINY: dict[str, Any] = {
    "model": {
        "width": 16,
        "layers": 1,
        "heads": 2,
        "mlp": 16,
        "stitch_width": None,
        "convolution": 2,
        "mask_indicator": True,
        "standardise": True,
    },
    "masks": {"draw_per": "trial", "ratios": {"tail_share": 0.5}},
    "data": {"min_units_per_region": 2},
    "batch_size": 8,
    "steps": 12,
    "validate_every": 4,
    "average": 0.9,
}


def tiny_settings(**changes: Any) -> RunSettings:
    """Settings of a training that takes a second."""
    return validate_settings(TINY | changes, RunSettings, "test")


def make_cache(root: Path) -> Path:
    """Two sessions of 15 and 20 units."""
    create_cache(root)
    for seed, n_units in ((1, 15), (2, 20)):
        ds = make_session(n_units=n_units, n_trials=40, n_bins=20, seed=seed)
        # Half of a unit's spikes copy another's, so that there is something to learn.
        ds.spikes[{"unit": slice(0, 5)}] = ds.spikes[{"unit": slice(5, 10)}].values
        write_session(root, ds, make_regions())
    return root


def read_logs(run: Path, tag: str) -> "pd.Series[float]":
    """Logged values by step."""
    events = EventAccumulator(str(run / "logs")).Reload().Scalars(tag)
    return pd.Series({event.step: event.value for event in events})
