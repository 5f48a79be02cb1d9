"""A Neuropixels probe through the repeated site: its channels, and its clusters upon them.

    channels = place_channels(rng, side=-1)
    on = choose_channels(rng, channels, population)      # row of `channels` of each unit

From the tip up: VPM, PO, LP, the dentate gyrus, CA1, VISa, and a last stretch outside the brain.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ibl_mtm.simulate.brain import ELSEWHERE, POPULATIONS
from ibl_mtm.simulate.spikes import Activity

__all__ = [
    "ALLEN_IDS",
    "Channels",
    "choose_channels",
    "draw_amplitudes",
    "make_metrics",
    "place_channels",
]

# Allen's structure ids (CCF 2017); 0 is the IBL's id for what lies outside the brain.
ALLEN_IDS = {
    "void": 0,
    "root": 997,
    "VISa1": 312782550,
    "VISa2/3": 312782554,
    "VISa4": 312782558,
    "VISa5": 312782562,
    "VISa6a": 312782566,
    "VISa6b": 312782570,
    "alv": 466,
    "CA1": 382,
    "DG-mo": 10703,
    "DG-po": 10704,
    "DG-sg": 632,
    "LP": 218,
    "PO": 1020,
    "VPM": 733,
}
# From the tip upwards: acronym of each stretch of the track, the region that it belongs to, and the
# height, um, at which it ends.
TRACK = (
    ("VPM", "VPM", 200),
    ("PO", "PO", 900),
    ("LP", "LP", 1560),
    ("root", "root", 1680),
    ("DG-mo", "DG", 1860),
    ("DG-sg", "DG", 1960),
    ("DG-po", "DG", 2140),
    ("DG-sg", "DG", 2220),
    ("DG-mo", "DG", 2360),
    ("CA1", "CA1", 2800),
    ("alv", "alv", 2900),
    ("VISa6b", "VISa", 2960),
    ("VISa6a", "VISa", 3140),
    ("VISa5", "VISa", 3340),
    ("VISa4", "VISa", 3440),
    ("VISa2/3", "VISa", 3620),
    ("VISa1", "VISa", 3720),
    ("void", "void", 3840),
)
SURFACE = 3720  # um above the tip
ENTRY = (2243.0, -2000.0, -300.0)  # um: lateral, anterior, dorsal of bregma
TILT = np.deg2rad(15)
N_CHANNELS = 384
LATERAL = np.array([43.0, 11.0, 59.0, 27.0])
ELSEWHERE_IN = ("VPM", "root", "void", "alv")


@dataclass(frozen=True)
class Channels:
    """Channels of a probe, as in the IBL's ``channels`` object.

    Attributes
    ----------
    local
        (channel, 2) um: lateral and axial, from the tip.
    mlapdv
        (channel, 3) int32 um, relative to bregma.
    acronym
        (channel,) Allen acronym.
    """

    local: NDArray[np.float64]
    mlapdv: NDArray[np.int32]
    acronym: NDArray[np.str_]

    @property
    def allen_ids(self) -> NDArray[np.int64]:
        """(channel,) not lateralised: positive in both hemispheres."""
        return np.array([ALLEN_IDS[acronym] for acronym in self.acronym], np.int64)

    @property
    def labels(self) -> NDArray[np.int64]:
        """(channel,) 0 within the brain, 3 outside."""
        return np.where(self.acronym == "void", 3, 0)


def place_channels(rng: np.random.Generator, side: int) -> Channels:
    """Put a probe into the left (-1) or right (+1) hemisphere; borders vary by tens of um."""
    number = np.arange(N_CHANNELS)
    axial = 20.0 * (1 + number // 2)
    names = np.array([name for name, _, _ in TRACK])
    tops = np.array([top for _, _, top in TRACK], np.float64)
    tops[:-1] += rng.uniform(-20, 20, len(tops) - 1)
    acronym = names[np.searchsorted(tops, axial)]
    below = SURFACE - axial
    mlapdv = np.stack(
        [
            side * (ENTRY[0] + np.sin(TILT) * below),
            np.full(N_CHANNELS, ENTRY[1]),
            ENTRY[2] - np.cos(TILT) * below,
        ],
        axis=1,
    )
    local = np.stack([LATERAL[number % 4], axial], axis=1)
    return Channels(local, np.rint(mlapdv).astype(np.int32), acronym)


def choose_channels(
    rng: np.random.Generator, channels: Channels, population: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Draw for each unit a channel within its region; elsewhere is a little of everything else."""
    region_of = {acronym: region for acronym, region, _ in TRACK}
    region = np.array([region_of[acronym] for acronym in channels.acronym])
    wanted = np.array(POPULATIONS, dtype=object)[population]
    others = wanted == ELSEWHERE
    wanted[others] = np.resize(ELSEWHERE_IN, others.sum())
    return np.array([rng.choice(np.flatnonzero(region == name)) for name in wanted], np.int64)


def draw_amplitudes(rng: np.random.Generator, passes: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Median spike amplitude of each unit, V: above 50 uV where it passes that criterion."""
    above = 55e-6 * np.exp(np.abs(0.6 * rng.standard_normal(len(passes))))
    below = rng.uniform(25e-6, 48e-6, len(passes))
    return np.where(passes[:, 2], above, below)


def make_metrics(
    rng: np.random.Generator,
    passes: NDArray[np.bool_],
    amplitude: NDArray[np.float64],
    activity: Activity,
    duration: float,
) -> pd.DataFrame:
    """The table ``clusters.metrics``: one row a cluster, of NaN where it has no spikes.

    Parameters
    ----------
    rng
        Source of what the simulation has no truth for (drift, contamination).
    passes
        (unit, 3) as in `Population`; the label is their mean.
    amplitude
        (unit,) V, median.
    activity
        What was counted while the spikes were drawn.
    duration
        Length of the recording, s.
    """
    n = len(passes)
    refractory, cutoff, _ = passes.T
    contamination = np.where(refractory, rng.uniform(0, 0.1, n), rng.uniform(0.15, 0.9, n))
    metrics = pd.DataFrame(
        {
            "amp_max": activity.largest,
            "amp_min": activity.smallest,
            "amp_median": amplitude,
            "amp_std_dB": rng.uniform(1.5, 4.0, n),
            "contamination": contamination,
            "contamination_alt": contamination * rng.uniform(0.8, 1.2, n),
            "drift": rng.uniform(200, 4000, n),
            "missed_spikes_est": np.where(
                cutoff, rng.uniform(0, 0.05, n), rng.uniform(0.1, 0.5, n)
            ),
            "noise_cutoff": np.where(cutoff, rng.uniform(-3, 4.9, n), rng.uniform(5.5, 60, n)),
            "presence_ratio": activity.presence,
            "presence_ratio_std": rng.uniform(5, 80, n),
            "slidingRP_viol": refractory * 1.0,
            "spike_count": activity.count.astype(np.float64),
            "firing_rate": activity.count / duration,
            "label": passes.mean(1),
        }
    )
    silent = activity.count == 0
    metrics.loc[silent] = np.nan
    metrics.loc[silent, ["spike_count", "firing_rate", "label"]] = 0.0
    metrics.insert(0, "cluster_id", np.arange(n))
    return metrics
