"""The ALF of 2019, as Steinmetz et al. 2019 is published: one folder for all probes of a session.

    places = find_alf_2019(Path("/data/steinmetz"))
    recording = read_alf_2019(places.found[eid], dataset)

Files and what is in them: Steinmetz, Zatka-Haas, Carandini and Harris, Distributed coding of
choice, action and engagement across the mouse brain, Nature 576 (2019), data at figshare 9974357.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ibl_mtm.config.dataset import Dataset
from ibl_mtm.errors import SessionError
from ibl_mtm.ingest.own.files import read_array, read_table
from ibl_mtm.ingest.own.places import Place, Places, about_of, gather
from ibl_mtm.ingest.own.quality import without_noise
from ibl_mtm.ingest.own.recordings import LICKS, make_recording
from ibl_mtm.ingest.recording import Recording, Signal, checked_signal

__all__ = ["find_alf_2019", "holds_alf_2019", "read_alf_2019"]

_MARK = "clusters.peakChannel.npy"
"""Of this layout alone: later ones have clusters.channels, in a folder for each probe."""

_ANNOTATIONS = {0: "noise", 1: "mua", 2: "good", 3: "unsorted"}
_TRIALS = {
    "visualStim_times": "stimOn_times",
    "goCue_times": "goCue_times",
    "response_times": "response_times",
    "feedback_times": "feedback_times",
    "response_choice": "choice",
    "feedbackType": "feedbackType",
    "included": "engaged",
    "repNum": "repNum",
    "visualStim_contrastLeft": "visualStim_contrastLeft",
    "visualStim_contrastRight": "visualStim_contrastRight",
}
"""Their trials, and what they are called here: in the IBL's names what means the same."""

_TICKS = 1440  # of the wheel's encoder, in a turn
_RATE = 1000  # Hz, to which the wheel is resampled before it is filtered, as the IBL's is


def holds_alf_2019(root: Path) -> bool:
    """Whether a folder has sessions in this layout, and none in ONE's."""
    mark = next(root.rglob(_MARK), None)
    return mark is not None and (mark.parent / "spikes.times.npy").is_file()


def find_alf_2019(root: Path) -> Places:
    """Every session below a folder."""
    folders = sorted(mark.parent for mark in root.rglob(_MARK))
    return gather(
        {folder: about_of(folder) for folder in folders},
        "nobody tells its subject and date: put it into SUBJECT_YYYY-MM-DD, or SUBJECT/YYYY-MM-DD",
    )


def read_alf_2019(place: Place, dataset: Dataset) -> Recording:
    """Load a session.

    Raises
    ------
    SessionError
        If a file is missing or cannot be trusted; names it.
    """
    eid, folder = place.about.eid, place.path
    notes: list[str] = []
    event = dataset.align.event
    signals: dict[str, Any] = _behaviour(eid, folder, notes)
    for name, where in dataset.signals.items():
        signal = _attempt(eid, folder, where, notes)
        if signal is not None:
            signals[name] = signal
    return make_recording(
        place.about,
        _probes(eid, folder, notes),
        None if event is None else _trials(eid, folder),
        signals,
        f"{folder}/trials",
        event,
        notes,
    )


def _probes(eid: str, folder: Path, notes: list[str]) -> dict[str, dict[str, Any]]:
    times = read_array(eid, folder / "spikes.times.npy")
    clusters = read_array(eid, folder / "spikes.clusters.npy")
    if times.shape != clusters.shape:
        raise SessionError(eid, f"{folder}/spikes: {len(times)} times, {len(clusters)} clusters")
    clusters = clusters.astype(np.int64)
    peak = read_array(eid, folder / _MARK).astype(np.int64) - 1  # MATLAB counts from 1
    if clusters.size and clusters.max() >= len(peak):
        raise SessionError(eid, f"{folder}/spikes.clusters: {clusters.max()} of {len(peak)}")
    units = pd.DataFrame({"cluster_id": np.arange(len(peak)), "channel": peak})
    place = read_table(eid, folder / "channels.brainLocation.tsv")
    if "allen_ontology" not in place:
        raise SessionError(eid, f"{folder}/channels.brainLocation.tsv: no column allen_ontology")
    there = (peak >= 0) & (peak < len(place))
    if not there.all():
        notes.append(f"clusters.peakChannel: {int((~there).sum())} are of no channel; no region")
    units["region"] = None
    units.loc[there, "region"] = place["allen_ontology"].to_numpy()[peak[there]]
    units["depth"] = _of_clusters(eid, folder, "depths", len(peak), np.nan, notes)
    codes = _of_clusters(eid, folder, "_phy_annotation", len(peak), 3, notes)
    units["label"] = [_ANNOTATIONS.get(int(code), "unsorted") for code in codes]
    probe = _of_clusters(eid, folder, "probes", len(peak), 0, notes).astype(np.int64)
    found = {}
    for number in np.unique(probe):
        its = probe[clusters] == number
        name = f"probe{number:02d}"
        if not its.any():
            notes.append(f"{name}: no spikes")
            continue
        own = units[probe == number].reset_index(drop=True)
        found[name] = without_noise(f"probe {name}", times[its], clusters[its], own, notes)
    return found


def _of_clusters(
    eid: str, folder: Path, name: str, n: int, otherwise: float, notes: list[str]
) -> NDArray[np.float64]:
    path = folder / f"clusters.{name}.npy"
    if not path.is_file():
        notes.append(f"clusters.{name}: missing")
        return np.full(n, otherwise)
    values = read_array(eid, path)
    if values.shape != (n,):
        raise SessionError(eid, f"{path}: {values.shape} values for {n} clusters")
    return values.astype(np.float64)


def _trials(eid: str, folder: Path) -> pd.DataFrame:
    columns = {}
    for theirs, ours in _TRIALS.items():
        path = folder / f"trials.{theirs}.npy"
        if path.is_file():
            values = read_array(eid, path)
            columns[ours] = values.astype(bool) if ours == "engaged" else values
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) > 1:
        raise SessionError(eid, f"{folder}/trials: {lengths} rows do not fit together")
    table = pd.DataFrame(columns)
    sides = ("visualStim_contrastLeft", "visualStim_contrastRight")
    if set(sides) <= set(table):
        # The IBL shows one side alone, the other is missing; here both may be shown, or none.
        left, right = (table[name].to_numpy(np.float64) for name in sides)
        table["contrastLeft"] = np.where((left > 0) & (right == 0), left, np.nan)
        table["contrastRight"] = np.where((right > 0) & (left == 0), right, np.nan)
    return table


def _behaviour(eid: str, folder: Path, notes: list[str]) -> dict[str, Any]:
    """Wheel, face and licks, as far as they are there and sound."""
    found: dict[str, Any] = {}
    wheel = _attempt(eid, folder, "wheel.position", notes)
    if wheel is not None:
        # Takes two seconds to import.
        from brainbox.behavior.wheel import interpolate_position, velocity_filtered

        turns = wheel.values * (2 * np.pi / _TICKS)
        position, times = interpolate_position(wheel.times, turns, freq=_RATE)
        velocity, _ = velocity_filtered(position, fs=_RATE)
        found["wheel_velocity"] = Signal(times, velocity)
    if (folder / "licks.times.npy").is_file():
        found[LICKS] = read_array(eid, folder / "licks.times.npy")
    else:
        notes.append("licks.times: missing")
    return found


def _attempt(eid: str, folder: Path, where: str, notes: list[str]) -> Signal | None:
    """A trace such as `face.motionEnergy`; a note where it cannot be had."""
    obj, _, _ = where.partition(".")
    try:
        values = read_array(eid, folder / f"{where}.npy")
        marks = read_array(eid, folder / f"{obj}.timestamps.npy", flat=False)
        if values.ndim != 1 or marks.ndim != 2 or marks.shape[1] != 2:
            raise SessionError(eid, f"{where}: {values.shape} values, {marks.shape} timestamps")
        # Pairs of a sample's number and its time, between which times are even.
        times = np.interp(np.arange(len(values)), marks[:, 0], marks[:, 1])
        return checked_signal(eid, where, times, values, gaps=True)
    except SessionError as error:
        notes.append(error.reason.replace(f"{folder}/", ""))
        return None
