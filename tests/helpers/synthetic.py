"""Sessions as the cache keeps them, made of random numbers: quick input for tests of any room.

ds = make_session(n_units=12, n_trials=40, seed=1)
write_session(root, ds, make_regions())
"""

import json
from uuid import UUID

import numpy as np
import pandas as pd
import xarray as xr

__all__ = ["make_regions", "make_session"]

# Allen and Cosmos acronym, name, place in the Allen order, colour, by Beryl acronym.
_REGIONS = {
    "VISa": ("VISa5", "Isocortex", "Anterior area", 297, "#009fac"),
    "CA1": ("CA1", "HPF", "Field CA1", 455, "#7ed04b"),
    "DG": ("DG-mo", "HPF", "Dentate gyrus", 465, "#7ed04b"),
    "LP": ("LP", "TH", "Lateral posterior nucleus of the thalamus", 650, "#ff909f"),
    "PO": ("PO", "TH", "Posterior complex of the thalamus", 653, "#ff909f"),
}
_ABOVE = {
    "VISa5": ("Anterior area, layer 5", 301, "#009fac"),
    "DG-mo": ("Dentate gyrus, molecular layer", 466, "#7ed04b"),
    "Isocortex": ("Isocortex", 5, "#70ff71"),
    "HPF": ("Hippocampal formation", 453, "#7ed04b"),
    "TH": ("Thalamus", 640, "#ff7080"),
}


def make_regions() -> pd.DataFrame:
    """The table of all regions in which `make_session` puts units."""
    rows = [(beryl, *rest[2:]) for beryl, rest in _REGIONS.items()]
    rows += [(acronym, *rest) for acronym, rest in _ABOVE.items()]
    return pd.DataFrame(rows, columns=["acronym", "name", "order", "color"])


def make_session(
    n_units: int = 12,
    n_trials: int = 40,
    n_bins: int = 100,
    *,
    seed: int = 0,
    contiguous: bool = False,
    **attributes: object,
) -> xr.Dataset:
    """A session with `n_units` in five regions, with trials or (`contiguous`) without.

    Numbers of trials are no positions: every seventh is missing.

    Parameters
    ----------
    n_units, n_trials, n_bins
        Sizes; bins are 20 ms wide.
    seed
        Everything follows from it, the eid too.
    contiguous
        Windows without trials: no trial table, no behaviour, no histology.
    **attributes
        Replace or add attributes of the session.
    """
    rng = np.random.default_rng(seed)
    eid = str(UUID(bytes=rng.bytes(16), version=4))
    start = 0.0 if contiguous else -0.5
    rates = rng.lognormal(np.log(4.0), 1.0, n_units)
    spikes = rng.poisson(rates * 0.02, (n_trials, n_bins, n_units)).clip(0, 255).astype(np.uint8)
    beryl = np.array(sorted(_REGIONS))[np.arange(n_units) % len(_REGIONS)]
    beryl = np.full(n_units, "unknown") if contiguous else beryl
    duration = n_bins * 0.02
    # Some trials have no event: those that are kept are numbered as in the session's own table.
    trial = np.arange(2 * n_trials)
    trial = trial[:n_trials] if contiguous else trial[trial % 7 != 3][:n_trials]
    window_start = 10.0 + trial * (duration if contiguous else 5.0)
    ds = xr.Dataset(
        {"spikes": (("trial", "time", "unit"), spikes)},
        coords={
            "time": start + 0.02 * np.arange(n_bins),
            "trial": trial,
            "window_start": ("trial", window_start),
            "split": ("trial", rng.choice(["train", "val", "test"], n_trials, p=[0.7, 0.1, 0.2])),
            "unit": [str(UUID(bytes=rng.bytes(16), version=4)) for _ in range(n_units)],
            "beryl": ("unit", beryl),
            "region": ("unit", [_REGIONS.get(b, (b, b))[0] for b in beryl]),
            "cosmos": ("unit", [_REGIONS.get(b, (b, b))[1] for b in beryl]),
            "pid": ("unit", [str(UUID(bytes=rng.bytes(16), version=4))] * n_units),
            "probe": ("unit", ["probe00"] * n_units),
            "cluster_id": ("unit", np.arange(n_units)),
            "channel": ("unit", np.arange(n_units) * 2),
            "depth": ("unit", np.linspace(20, 3800, n_units).astype(np.float32)),
            "label": ("unit", rng.choice([0, 1 / 3, 2 / 3, 1], n_units).astype(np.float32)),
            "firing_rate": ("unit", (spikes.mean((0, 1)) / 0.02).astype(np.float32)),
            **{axis: ("unit", rng.normal(0, 2e-3, n_units).astype(np.float32)) for axis in "xyz"},
        },
        attrs={
            "eid": eid,
            "subject": f"SYN_{seed % 100:03d}",
            "lab": "syntheticlab",
            "date": "2021-03-07",
            "number": 1,
            "dataset": "synthetic",
            "role": "pretrain",
            "alignment": "contiguous" if contiguous else "stimOn_times",
            "window": [start, start + duration],
            "bin_size": 0.02,
            "definition": json.dumps({"seed": seed}),
            "definition_hash": f"{seed:064x}",
            **attributes,
        },
    )
    return (
        ds
        if contiguous
        else ds.assign(_make_behaviour(rng, ds)).assign_coords(_make_trial_table(rng, window_start))
    )


def _make_behaviour(rng: np.random.Generator, ds: xr.Dataset) -> dict[str, object]:
    shape = ds.sizes["trial"], ds.sizes["time"]
    dims = ("trial", "time")
    return {
        "whisker_motion_energy": (dims, rng.gamma(2.0, 1.0, shape).astype(np.float32)),
        "wheel_velocity": (dims, rng.normal(0, 1, shape).astype(np.float32)),
        "lick_count": (dims, rng.poisson(0.1, shape).astype(np.uint8)),
    }


def _make_trial_table(rng: np.random.Generator, window_start: np.ndarray) -> dict[str, object]:
    n_trials = len(window_start)
    stimulus = window_start + 0.5
    movement = stimulus + rng.uniform(0.1, 0.6, n_trials)
    response = movement + rng.uniform(0.1, 0.4, n_trials)
    side = rng.choice([-1, 1], n_trials)
    correct = rng.random(n_trials) < 0.8
    contrast = side * rng.choice([0, 0.0625, 0.125, 0.25, 1], n_trials)
    columns = {
        "stimOn_times": stimulus,
        "firstMovement_times": movement,
        "response_times": response,
        "feedback_times": response + 1e-3,
        # A stimulus on the left is answered with +1.
        "choice": np.where(correct, -side, side).astype(np.int8),
        "contrast": contrast.astype(np.float32),
        "stimulus_side": side.astype(np.int8),
        "probability_left": rng.choice([0.2, 0.5, 0.8], n_trials).astype(np.float32),
        "feedback": np.where(correct, 1, -1).astype(np.int8),
        "included": rng.random(n_trials) < 0.7,
    }
    return {name: ("trial", values) for name, values in columns.items()}
