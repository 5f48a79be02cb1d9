"""A session's trials and behaviour, through ONE and brainbox.

Trials that cannot be trusted are an error. Wheel, camera and licks are not: what is missing or
broken there is left out, with a note.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TypeVar

import numpy as np
import pandas as pd
from brainbox.behavior.wheel import interpolate_position, velocity_filtered
from brainbox.io.one import SessionLoader
from numpy.typing import NDArray
from one.alf.exceptions import ALFObjectNotFound
from one.alf.path import ALFPath
from one.api import One

from ibl_mtm.errors import SessionError
from ibl_mtm.ingest.outcome import one_line
from ibl_mtm.ingest.recording import Behaviour, Signal, checked_signal
from ibl_mtm.ingest.through_one.files import find, load, place
from ibl_mtm.ingest.trials import TRIAL_COLUMNS, check_trials

__all__ = ["load_behaviour", "load_signals", "load_trials"]

_TABLE = "alf/_ibl_trials.table.pqt"
_RATE = 1000  # Hz; what brainbox resamples the wheel to before it filters

# The wheel's encoder reports only movement. Between samples further apart than this it stood still
# up to the second one; to interpolate would be to invent a slow drift.
_STILL = 0.1  # s


def load_trials(one: One, eid: str, event: str) -> pd.DataFrame:
    """Load a session's trials table, checked (see `check_trials`).

    Raises
    ------
    SessionError
        If there is no such table, or it cannot be trusted.
    """
    files = find(one, eid, "trials")
    loader = SessionLoader(one=one, eid=eid)
    try:
        loader.load_trials()
    except ALFObjectNotFound:
        raise SessionError(eid, f"{_TABLE}: missing") from None
    except Exception as error:
        raise SessionError(eid, f"{_TABLE}: cannot be read ({one_line(error)})") from error
    finally:
        # Brainbox leaves the search of this ONE switched to regular expressions when it fails.
        one.wildcards = True
    table = _with_newer_columns(eid, loader.trials, files, (event, *TRIAL_COLUMNS))
    return check_trials(eid, _TABLE, table, event)


def _with_newer_columns(
    eid: str, table: pd.DataFrame, files: list[ALFPath], columns: Sequence[str]
) -> pd.DataFrame:
    """The table with those columns that were revised after it, which have files of their own."""
    made = max((path.revision or "" for path in files if path.attribute == "table"), default=None)
    if made is None:
        return table
    newer = [p for p in files if p.attribute in columns and (p.revision or "") > made]
    for path in newer:
        column = load(eid, [path])[path.attribute]
        if np.shape(column) != (len(table),):
            raise SessionError(
                eid, f"{place(path)}: {np.shape(column)} values for {len(table)} trials"
            )
        table = table.assign(**{path.attribute: column})
    return table


def load_behaviour(one: One, eid: str) -> Behaviour:
    """Load wheel, whisker motion energy and licks, as far as they are there and sound."""
    notes: list[str] = []
    whisker = None
    for view in ("left", "right"):
        whisker = whisker or _attempt(partial(_load_whisker, notes=notes), one, eid, view, notes)
    return Behaviour(
        wheel_velocity=_attempt(_load_wheel, one, eid, "wheel", notes),
        whisker_motion_energy=whisker,
        licks=_attempt(_load_licks, one, eid, "licks", notes),
        notes=notes,
    )


def load_signals(
    one: One, eid: str, places: Mapping[str, str]
) -> tuple[dict[str, Signal], list[str]]:
    """Load traces of one's own, and notes on those that are missing or not sound.

    Parameters
    ----------
    places
        Name of the signal -> where it is: `pupil.diameter`, whose times are `pupil.times`.
    """
    notes: list[str] = []
    found = {}
    for name, where in places.items():
        signal = _attempt(partial(_load_own, where=where), one, eid, f"signals.{name}", notes)
        if signal is not None:
            found[name] = signal
    return found, notes


T = TypeVar("T")


def _attempt(
    load_one: Callable[[One, str, str], T], one: One, eid: str, name: str, notes: list[str]
) -> T | None:
    """Load one thing; whatever is wrong with it becomes a note that names it."""
    try:
        return load_one(one, eid, name)
    except SessionError as error:
        notes.append(error.reason)
    except Exception as error:
        notes.append(f"{name}: {one_line(error)}")
    return None


def _load_whisker(one: One, eid: str, view: str, notes: list[str]) -> Signal:
    camera = f"{view}Camera"
    files = find(one, eid, camera, ("ROIMotionEnergy", "times"))
    found = {path.stem.split(".")[1]: path for path in files}
    for name in ("ROIMotionEnergy", "times"):
        if name not in found:
            raise SessionError(eid, f"{camera}.{name}: missing")
    n_times, n_frames = (len(np.load(found[n], "r")) for n in ("times", "ROIMotionEnergy"))
    if n_times > n_frames:  # brainbox takes the last ones, without a word
        notes.append(f"{camera}: of {n_times} times the first {n_times - n_frames} have no frame")
    loader = SessionLoader(one=one, eid=eid)
    loader.load_motion_energy(views=[view])
    table = loader.motion_energy[camera].dropna()
    return checked_signal(eid, camera, table["times"], table["whiskerMotionEnergy"])


def _load_wheel(one: One, eid: str, name: str) -> Signal:
    wheel = load(eid, find(one, eid, name, ("position", "timestamps")))
    for attribute in ("position", "timestamps"):
        if attribute not in wheel:
            raise SessionError(eid, f"{name}.{attribute}: missing")
    moves = checked_signal(eid, name, wheel["timestamps"], wheel["position"])
    held = np.flatnonzero(np.diff(moves.times) > _STILL)
    times = np.insert(moves.times, held + 1, moves.times[held + 1] - 1 / _RATE)
    position = np.insert(moves.values, held + 1, moves.values[held])
    # In float64 from end to end: SessionLoader.load_wheel keeps times as float32, to 0.5 ms.
    position, times = interpolate_position(times, position, freq=_RATE)
    velocity, _ = velocity_filtered(position, fs=_RATE)
    return Signal(times, velocity)


def _load_licks(one: One, eid: str, name: str) -> NDArray[np.float64]:
    licks = load(eid, find(one, eid, name, ("times",)))
    if "times" not in licks:
        raise SessionError(eid, f"{name}.times: missing")
    return checked_signal(eid, name, licks["times"], licks["times"]).times


def _load_own(one: One, eid: str, name: str, where: str) -> Signal:
    obj, _, attribute = where.rpartition(".")
    if not obj:
        raise SessionError(eid, f"{name}: '{where}' is no OBJECT.ATTRIBUTE, such as pupil.diameter")
    content = load(eid, find(one, eid, obj, (attribute, "times")))
    for part in (attribute, "times"):
        if part not in content:
            raise SessionError(eid, f"{name}: {obj}.{part}: missing")
    return checked_signal(eid, f"{obj}.{attribute}", content["times"], content[attribute])
