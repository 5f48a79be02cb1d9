"""Small files of NWB, written by pynwb, in the layouts that DANDI's files have.

spikes, cues = write(tmp_path / "a.nwb", regions="electrodes")
"""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from pynwb import NWBHDF5IO, NWBFile, TimeSeries
from pynwb.file import Subject

__all__ = ["IDS", "write"]

IDS = (4, 9, 2, 30)


def write(
    path: Path,
    *,
    regions: str = "electrodes",
    quality: str = "quality",
    trials: bool = True,
    subject: str | None = "m1",
    units: bool = True,
    day: int = 6,
) -> tuple[dict[int, np.ndarray], np.ndarray]:
    """A file with four units on two probes; the spikes of each, and the cues."""
    rng = np.random.default_rng(day)
    nwb = NWBFile("a test", f"id-{path.stem}", datetime(2024, 5, day, 13, tzinfo=UTC), lab="here")
    if subject is not None:
        nwb.subject = Subject(subject_id=subject, species="Mus musculus")
    groups = []
    device = nwb.create_device("neuropixels")
    for probe, places in (("imec0", ["CA1", "LP"]), ("imec1", ["VISp", "my spot"])):
        group = nwb.create_electrode_group(probe, "a probe", "somewhere", device)
        groups.append(group)
        for place in places:
            nwb.add_electrode(group=group, location=place, rel_y=10.0)
    spikes = {}
    if units:
        if regions == "column":
            nwb.add_unit_column("brain_area", "where")
        if regions == "peak":
            nwb.add_unit_column("peak_channel_id", "the channel")
        if quality:
            nwb.add_unit_column(quality, "how good")
        for row, cluster in enumerate(IDS):
            times = np.sort(rng.uniform(0.5, 200, 900 + 100 * row))
            spikes[cluster] = times
            more: dict[str, Any] = {}
            if regions == "groups":
                more["electrode_group"] = groups[row // 2]
            if regions == "electrodes":
                more["electrodes"] = [row]
            if regions == "column":
                more["brain_area"] = ["CA1", "LP", "VISp", "my spot"][row]
            if regions == "peak":
                more["peak_channel_id"] = row
            if quality:
                more[quality] = ["good", "noise", "mua", "good"][row]
            nwb.add_unit(id=cluster, spike_times=times, **more)
    cues = np.cumsum(rng.uniform(3, 5, 40))
    if trials:
        nwb.add_trial_column("cue_time", "when it was")
        nwb.add_trial_column("outcome", "of it")
        nwb.add_trial_column("go", "whether")
        for k, cue in enumerate(cues):
            nwb.add_trial(
                start_time=cue - 1,
                stop_time=cue + 1,
                cue_time=cue,
                outcome=["hit", "miss"][k % 2],
                go=bool(k % 3 == 0),
            )
    behavior = nwb.create_processing_module("behavior", "of the animal")
    behavior.add(
        TimeSeries(
            "running", data=np.arange(21000) * 2.0, unit="cm/s", starting_time=0.0, rate=100.0,
            conversion=0.5,
        )
    )  # fmt: skip
    own_clock = np.arange(0, 205, 0.01)
    nwb.add_acquisition(
        TimeSeries("pupil", data=np.sin(own_clock), unit="mm", timestamps=own_clock)
    )
    nwb.add_acquisition(
        TimeSeries("video", data=np.zeros((5, 2)), unit="px", timestamps=np.arange(5.0))
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    with NWBHDF5IO(str(path), "w") as io:
        io.write(nwb)
    return spikes, cues
