"""Sessions of binned counts, drawn at random, as teaching copies share them."""

from pathlib import Path

import numpy as np

REGIONS = ("CA1", "LP", "root")


def write_binned(
    file: Path,
    subject: str,
    date: str,
    *,
    trials: int = 40,
    units: int = 18,
    seed: int = 0,
    **other: np.ndarray,
) -> dict[str, np.ndarray]:
    """Write a file, with other arrays where they are given; the arrays in it.

    Units of a region share a slow rate, so that there is something to learn; the last is silent.
    """
    rng = np.random.default_rng(seed)
    region = np.array([REGIONS[unit % len(REGIONS)] for unit in range(units)])
    drive = rng.normal(0, 0.7, (trials, len(REGIONS)))[:, np.arange(units) % len(REGIONS)]
    rate = 0.08 * np.exp(drive)[:, None].repeat(40, axis=1)
    spikes = rng.poisson(rate).astype(np.uint8)
    spikes[..., -1] = 0
    contrasts = np.array([0, 0.25, 0.5, 1])
    arrays = {
        "spikes": spikes,
        "time": 0.3 + np.cumsum(rng.uniform(1.5, 3, trials)),
        "bin": np.array(0.01),
        "region": region,
        "contrast_left": rng.choice(contrasts, trials),
        "contrast_right": rng.choice(contrasts, trials),
        "feedback": rng.choice([1.0, -1.0], trials),
        "subject": np.array(subject),
        "date": np.array(date),
        **other,
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    np.savez(file, **arrays)
    return arrays
