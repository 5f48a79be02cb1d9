"""A session into a cache from arrays and tables, for whoever has a way of their own to load them.

eid = add_session("cache.zarr", {"imec0": {"times": times, "clusters": clusters}}, trials,
                  subject="mouse", date="2024-05-06", align={"event": "cue", "window": [0, 1]})
"""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date as Date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ibl_mtm.cache.location import local_path
from ibl_mtm.cache.store import create_cache, list_sessions
from ibl_mtm.config.dataset import Dataset
from ibl_mtm.config.yaml_settings import validate_settings
from ibl_mtm.errors import SessionError, UserError
from ibl_mtm.ingest.job import Job, run_job
from ibl_mtm.ingest.outcome import OnBytes
from ibl_mtm.ingest.own.recordings import About, make_recording
from ibl_mtm.ingest.recording import Recording, session_id
from ibl_mtm.ingest.targets import check_writable

__all__ = ["add_session"]


@dataclass(frozen=True)
class _Arrays:
    """A session in memory: where it is from, and its own access."""

    about: About
    probes: Mapping[str, Mapping[str, Any]]
    trials: pd.DataFrame | None
    signals: Mapping[str, Any]
    address: str = "arrays"
    simulated: bool = False
    notes: tuple[str, ...] = ()
    targets: tuple[Path, ...] = field(default=())

    def bytes_missing(self) -> int:
        """See `Origin`; it is all here."""
        return 0

    @contextmanager
    def open(self, on_bytes: OnBytes = lambda n: None) -> Iterator["_Arrays"]:
        """See `Origin`."""
        yield self

    def load(self, eid: str, dataset: Dataset) -> Recording:
        """See `Opened`."""
        event = dataset.align.event
        return make_recording(self.about, self.probes, self.trials, self.signals, "trials", event)


def add_session(
    cache: str | Path,
    probes: Mapping[str, Mapping[str, Any]],
    trials: pd.DataFrame | None = None,
    signals: Mapping[str, Any] | None = None,
    *,
    subject: str,
    date: str | Date,
    align: Mapping[str, Any],
    lab: str = "lab",
    number: int = 1,
    dataset: str = "own",
    settings: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> str:
    """Put a session into a cache from arrays and tables, checked as ingestion checks any other.

    Parameters
    ----------
    cache
        Where the cache is, or is to be made.
    probes
        By name: ``times`` (s, in order) and ``clusters`` (ids of clusters), of every spike; and,
        as far as it is known, ``units``: a table with a row for each unit and the columns
        cluster_id, region (Allen acronym or id, or a name of your own), depth (um), x, y, z (m,
        relative to bregma), label (0 to 1, or good, mua, unsorted) and channel.
    trials
        One row for each trial, with the column that windows are aligned to (s, on the clock of the
        spikes). Others are kept under their names; those in the IBL's names are the IBL's.
    signals
        Traces by name: two arrays (times in s, values), a table of two columns, or a series whose
        index are times. ``wheel_velocity``, ``whisker_motion_energy`` and ``licks`` (times alone)
        are the cache's own.
    subject, date, lab, number
        Which session it is; the number is that of the day. Its id follows from these.
    align
        As in the catalog: ``{"event": …, "window": [start, stop], "bin": 0.02}``, or
        ``{"contiguous": 2.0}`` for consecutive windows, without trials.
    dataset
        What to call the session's dataset.
    settings
        More of what a catalog says of a dataset: trials, split, conditions, decode.
    overwrite
        Replace the session if the cache has another one of this id.

    Returns
    -------
    The session's id. What was missing stands in its attribute ``notes``.

    Raises
    ------
    UserError
        If a setting is wrong, or there is no cache and none can be made.
    SessionError
        If an array cannot be what it is taken for, or the cache has the session with other data.

    Examples
    --------
    >>> import ibl_mtm, numpy as np, pandas as pd
    >>> rng = np.random.default_rng(0)
    >>> probe = {"times": np.sort(rng.uniform(0, 100, 5000)), "clusters": rng.integers(0, 9, 5000)}
    >>> trials = pd.DataFrame({"cue": np.arange(1.0, 99.0, 2.0), "go": np.arange(49) % 2 == 0})
    >>> align = {"event": "cue", "window": [-0.2, 0.8], "bin": 0.02}
    >>> eid = ibl_mtm.add_session(
    ...     "own.zarr", {"imec0": probe}, trials, subject="m1", date="2024-05-06", align=align
    ... )
    >>> ibl_mtm.open_cache("own.zarr")[eid].go.values[:3].tolist()
    [True, False, True]
    """
    given = {"trials": {"keep": "all"}, **(settings or {})}
    if "contiguous" in align:
        given.pop("trials", None)
    about = _about(subject, date, lab, number)
    source = {"kind": "arrays", "digest": _digest(probes, trials, signals or {})}
    made = validate_settings(
        {**given, "source": source, "align": dict(align)}, Dataset, "add_session"
    )
    root = local_path(cache)
    if not root.exists():
        check_writable(root)
    create_cache(root)
    origin = _Arrays(about, probes, trials, signals or {})
    outcome = run_job(Job(about.eid, made, dataset, root, origin, overwrite))
    if outcome.status == "failed":
        raise SessionError(about.eid, outcome.reason or "failed")
    list_sessions(root)
    return about.eid


def _about(subject: str, date: str | Date, lab: str, number: int) -> About:
    day = date.isoformat()[:10] if isinstance(date, Date) else str(date)
    try:
        Date.fromisoformat(day)
    except ValueError:
        raise UserError(f"'{date}' is no date (YYYY-MM-DD)") from None
    if not subject or not lab:
        raise UserError("a session needs a subject and a lab that have names")
    return About(session_id(lab, subject, day, str(number)), subject, day, lab, number)


def _digest(
    probes: Mapping[str, Mapping[str, Any]],
    trials: pd.DataFrame | None,
    signals: Mapping[str, Any],
) -> str:
    """A digest of all that is given, by which other data of the same session are noticed."""
    whole = hashlib.sha256()

    def add(name: str, value: Any) -> None:
        whole.update(f"|{name}:".encode())
        if isinstance(value, Mapping):
            for key in sorted(value):
                add(str(key), value[key])
        elif isinstance(value, pd.DataFrame):
            whole.update(" ".join(map(str, value.columns)).encode())
            whole.update(pd.util.hash_pandas_object(value.astype(object)).to_numpy().tobytes())
        elif isinstance(value, pd.Series):
            add(name, value.reset_index())
        elif isinstance(value, tuple | list) and name not in ("times", "clusters"):
            for part in value:
                add("", np.asarray(part))
        elif value is not None:
            array = np.ascontiguousarray(value)
            whole.update(f"{array.dtype}{array.shape}".encode())
            whole.update(repr(array.tolist()).encode() if array.dtype.hasobject else array.data)

    for name, value in (("probes", probes), ("trials", trials), ("signals", signals)):
        add(name, value)
    return whole.hexdigest()
