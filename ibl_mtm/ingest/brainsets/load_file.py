"""A recording's file as the session that ingestion knows: insertions, trials, behaviour, domains.

recording = load_file(path, eid, dataset)
recording.trials                            # in the IBL's names and codes
"""

from pathlib import Path

import numpy as np
import pandas as pd

from ibl_mtm.brainsets.layout import SPLITS, domain_scopes
from ibl_mtm.brainsets.recording import Recording as File
from ibl_mtm.brainsets.recording import open_recording
from ibl_mtm.config.dataset import Dataset
from ibl_mtm.config.sources import BrainsetsSource
from ibl_mtm.errors import SessionError
from ibl_mtm.ingest.recording import Behaviour, Insertion, Recording, Signal, check_pids
from ibl_mtm.ingest.trials import check_trials
from ibl_mtm.one_files.regions import UNKNOWN

__all__ = ["load_file"]

_EVENTS = {
    "intervals_0": "start",
    "intervals_1": "end",
    "stimOn_times": "stim_on_time",
    "firstMovement_times": "movement_onset_time",
    "response_times": "response_time",
    "feedback_times": "feedback_time",
    "goCue_times": "go_cue_time",
    "goCueTrigger_times": "go_cue_trigger_time",
    "stimOff_times": "stim_off_time",
}
_VALUES = {
    "feedbackType": "feedback_type",
    "contrastLeft": "contrast_left",
    "contrastRight": "contrast_right",
    "probabilityLeft": "probability_left",
}
_CHOICE = {0: -1, 1: 1, 2: 0}
_COLUMNS = ("id", "probe_id", "cluster_id", "channels", "depths", "label", "region_allen")
_PLACE = ("x", "y", "z")


def load_file(path: Path, eid: str, dataset: Dataset) -> Recording:
    """Load a session as far as a dataset needs it.

    Raises
    ------
    SessionError
        If the file cannot be read or trusted, or is of another build, regime or version than the
        dataset's source; names the file and the mend.
    """
    source = dataset.source
    assert isinstance(source, BrainsetsSource)
    with open_recording(path) as file:
        if file.eid != eid:
            raise SessionError(eid, f"{path}: holds session {file.eid}")
        found = (file.build, file.regime, file.version)
        asked = (source.build, source.regime, source.version)
        if found != asked:
            raise file.wrong(
                f"of {' '.join(found)}, where the source asks for {' '.join(asked)} (build, "
                "regime, version); fetch it anew, or mend the source"
            )
        event = dataset.align.event
        behaviour = _behaviour(file)
        return Recording(
            eid=eid,
            subject=file.subject,
            lab=file.lab,
            date=file.date,
            number=1,  # which session of the day it was is not told
            insertions=_insertions(file, dataset.entry(eid).pids),
            trials=None if event is None else _trials(file, event),
            behaviour=behaviour,
            notes=list(behaviour.notes),
            domains=_domains(file, dataset),
            from_start=True,
            attributes={
                "brainset": {
                    "derived_version": file.version,
                    "build": file.build,
                    "regime": file.regime,
                    "unit_filters": str(file.about.get("unit_filters", "")),
                }
            },
        )


def _insertions(file: File, wanted: tuple[str, ...] | None) -> list[Insertion]:
    """One for each probe, in the order of the file's units."""
    table = file.units
    missing = [name for name in (*_COLUMNS, *_PLACE) if name not in table]
    if missing:
        raise file.wrong(f"units: no column {', '.join(missing)}")
    names = dict(zip(file.probes["id"], file.probes["name"], strict=True))
    quality = dict(zip(file.probes["id"], file.probes["qc_neural"], strict=True))
    spikes = file.spikes()
    units = pd.DataFrame(
        {
            "unit": table["id"].astype(str),
            "cluster_id": table["cluster_id"],
            "channel": table["channels"],
            "depth": table["depths"],
            **{name: table[name] for name in _PLACE},
            "label": table["label"],
            "region": _regions(table["region_allen"]),
        }
    )
    for name in ("beryl", "cosmos"):
        if f"region_{name}" in table:
            units[name] = _regions(table[f"region_{name}"])
    found = []
    spiking = table["probe_id"].iloc[np.unique(spikes.units)].unique()
    check_pids(file.eid, wanted, list(map(str, spiking)))
    for pid in table["probe_id"].unique():
        if wanted is not None and pid not in wanted:
            continue
        of_probe = (table["probe_id"] == pid).to_numpy()
        kept = of_probe[spikes.units]
        if not kept.any():
            continue
        row = np.cumsum(of_probe, dtype=np.int32) - 1
        found.append(
            Insertion(
                pid=str(pid),
                probe=str(names.get(pid, pid)),
                sorter="",
                revision="",
                times=spikes.times[kept],
                clusters=row[spikes.units[kept]],
                units=units[of_probe].reset_index(drop=True),
                qc=str(quality.get(pid, "NOT_SET")),
            )
        )
    if not found:
        raise file.wrong("no spikes of the insertions that are asked for")
    return found


def _regions(acronyms: pd.Series) -> pd.Series:
    return acronyms.astype(str).replace({"": UNKNOWN, "nan": UNKNOWN})


def _trials(file: File, event: str) -> pd.DataFrame:
    """The trials table in the IBL's names and codes, invalid trials included."""
    table = file.trials
    names = _EVENTS | _VALUES
    present = {ours: theirs for ours, theirs in names.items() if theirs in table}
    trials = table.drop(columns="choice", errors="ignore").rename(
        columns={theirs: ours for ours, theirs in present.items()}
    )
    if "choice" in table:
        choice = table["choice"].map(_CHOICE)
        if choice.isna().any():
            raise file.wrong(
                f"trials/choice: {table['choice'][choice.isna()].iloc[0]}, expected 0 to 2"
            )
        trials["choice"] = choice
    return check_trials(file.eid, f"{file.path}: trials", trials, event)


def _behaviour(file: File) -> Behaviour:
    """Behaviour on the file's own samples; what is not there is None, with a note."""
    signals: dict[str, Signal | None] = {}
    notes = []
    for group, name in (
        ("wheel", "wheel_vel"),
        ("whisker", "whisker_motion_energy"),
        ("licks", "licking_rate"),
    ):
        series = file.series(group)
        if series is None or name not in series.values:
            quality = file.behavior_qc.get(f"qc_behavior_{group}", "not told")
            notes.append(f"{group}: not in the file (quality {quality})")
            signals[group] = None
            continue
        values = series.values[name].astype(np.float64)
        if group == "licks":
            values = np.round(values / series.rate)
        values[~series.recorded] = np.nan
        signals[group] = Signal(series.times, values, rate=series.rate)
    return Behaviour(
        wheel_velocity=signals["wheel"],
        whisker_motion_energy=signals["whisker"],
        licks=signals["licks"],
        notes=notes,
    )


def _domains(file: File, dataset: Dataset) -> dict[str, np.ndarray] | None:
    """Where train, val and test are in the file, if they are to be taken from there."""
    if dataset.split.kind != "file":
        return None
    known = domain_scopes(file.regime)
    scope = dataset.split.domains or known[0]
    if scope not in known:
        raise file.wrong(
            f"no domains of {scope}; a file for {file.regime} has those of {' and '.join(known)} "
            "(split.domains)"
        )
    splits = SPLITS if file.regime == "eval" else SPLITS[:2]
    return {split: file.domain(f"{scope}_{split}") for split in splits}
