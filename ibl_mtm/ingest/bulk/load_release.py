"""A session of the bulk release as ingestion knows it, and what the release lost of it.

recording = load_release(root, eid, dataset)
"""

import io
import zipfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ibl_mtm.config.dataset import Dataset
from ibl_mtm.config.sources import BwmSource
from ibl_mtm.errors import SessionError
from ibl_mtm.ingest.bulk.archive import Archive, open_archive
from ibl_mtm.ingest.bulk.shards import BehaviourShard, open_behaviour, read_spikes
from ibl_mtm.ingest.recording import Behaviour, Insertion, Recording, Signal, check_pids
from ibl_mtm.ingest.trials import check_trials

__all__ = ["LIMITS", "load_release", "read_table"]

LIMITS = (
    "spike times to 0.1 ms",
    "good units in grey matter only",
    "camera times rebuilt at 60 Hz, without their jitter and gaps",
    "no licks",
)
"""What a session of the release lacks; in the attributes of each."""

_UNITS = {"depths": "depth", "channels": "channel", "acronym": "region"}
_DAMAGE = (ValueError, KeyError, OSError, RuntimeError, zipfile.BadZipFile)


def load_release(root: Path, eid: str, dataset: Dataset) -> Recording:
    """Load a session from the archives in a folder.

    Raises
    ------
    SessionError
        If a file is damaged or of another format; names it.
    """
    source = dataset.source
    assert isinstance(source, BwmSource)
    with ExitStack() as stack:
        ephys = stack.enter_context(open_archive(root, "bwm_ephys"))
        behavior = None
        if source.behaviour:
            behavior = stack.enter_context(open_archive(root, "bwm_behavior"))
        try:
            return _load(ephys, behavior, eid, dataset)
        except _DAMAGE as error:
            raise SessionError(eid, f"{type(error).__name__}: {error}") from error


def read_table(archive: Archive, name: str, eid: str | None = None) -> pd.DataFrame:
    """A table of the release: all of it, or the rows of one session."""
    tables = archive.contents.tables
    if name not in tables:
        data = io.BytesIO(archive.read(f"metadata/{name}.parquet"))
        tables[name] = pq.read_table(data).to_pandas()
    table = tables[name]
    return table if eid is None else table[table["eid"] == eid].reset_index(drop=True)


def _load(ephys: Archive, behavior: Archive | None, eid: str, dataset: Dataset) -> Recording:
    sessions = read_table(ephys, "sessions", eid)
    if len(sessions) != 1:
        raise SessionError(eid, f"{ephys.path}: no such session")
    session = sessions.iloc[0]
    event = dataset.align.event
    shard = None if behavior is None else open_behaviour(behavior, eid)
    behaviour = _behaviour(shard)
    versions = {"bwm_ephys": ephys.version}
    if behavior is not None:
        versions["bwm_behavior"] = behavior.version
    return Recording(
        eid=eid,
        subject=str(session["subject"]),
        lab=str(session["lab"]),
        date=str(session["date"])[:10],
        number=int(session["session_number"]),
        insertions=_insertions(ephys, eid, dataset.entry(eid).pids),
        trials=None if event is None else _trials(ephys, eid, event),
        behaviour=behaviour,
        notes=list(behaviour.notes),
        attributes={"bulk_release": versions, "limits": list(LIMITS)},
    )


def _insertions(ephys: Archive, eid: str, wanted: Sequence[str] | None) -> list[Insertion]:
    probes = read_table(ephys, "insertions", eid).sort_values("probe_name")
    units = read_table(ephys, "units", eid).rename(columns=_UNITS)
    pids = probes["pid"].astype(str)
    check_pids(eid, wanted, list(pids[pids.isin(units["pid"].astype(str))]))
    found = []
    for pid, probe in zip(pids, probes["probe_name"].astype(str), strict=True):
        own = units[units["pid"].astype(str) == pid].sort_values("cluster_id", ignore_index=True)
        if (wanted is not None and pid not in wanted) or own.empty:
            continue
        times, row, ids = read_spikes(ephys, pid)
        place = pd.Index(own["cluster_id"]).get_indexer(pd.Index(ids))
        if (place < 0).any():
            raise ValueError(f"spikes/{pid}: cluster {ids[place < 0][0]} is not among the units")
        if not len(times):
            continue
        own["unit"] = [f"{eid}:{probe}:{cluster}" for cluster in own["cluster_id"]]
        found.append(Insertion(pid, probe, "", "", times, place[row], own))
    if not found:
        raise ValueError("no good unit of the insertions that are asked for")
    return found


def _trials(ephys: Archive, eid: str, event: str) -> pd.DataFrame:
    trials = read_table(ephys, "trials", eid).sort_values("trial_id", ignore_index=True)
    return check_trials(eid, "metadata/trials.parquet", trials, event)


def _behaviour(shard: BehaviourShard | None) -> Behaviour:
    """Wheel and whisker motion energy; what is missing or damaged is left out, with a note."""
    if shard is None:
        return Behaviour(None, None, None, ["behaviour: not in the release"])
    notes: list[str] = []

    wheel = _attempt("wheel", partial(_wheel, shard), notes)
    whisker = None
    for camera in ("leftCamera", "rightCamera"):
        whisker = whisker or _attempt(camera, partial(_whisker, shard, camera), notes)
    for name, signal in (("wheel", wheel), ("whisker", whisker)):
        if signal is None:
            notes.append(f"{name}: not in the release")
    return Behaviour(wheel, whisker, None, notes)


Pair = tuple[NDArray[np.float64] | None, NDArray[np.float64] | None]


def _wheel(shard: BehaviourShard) -> Pair:
    return shard.array("wheel.timestamps"), shard.array("wheel.velocity")


def _whisker(shard: BehaviourShard, camera: str) -> Pair:
    return shard.array(f"{camera}.timestamps"), shard.feature(camera, "whiskerMotionEnergy")


def _attempt(name: str, load: Callable[[], Pair], notes: list[str]) -> Signal | None:
    """Load a signal; whatever is wrong with it becomes a note."""
    try:
        times, values = load()
        if times is None or values is None or not len(times):
            return None
        if times.shape != values.shape or (np.diff(times) < 0).any():
            raise ValueError(f"{times.shape} times in order expected for {values.shape} values")
    except _DAMAGE as error:
        notes.append(f"{name}: {error}")
        return None
    known = np.isfinite(times) & np.isfinite(values)
    return Signal(times[known], values[known])
