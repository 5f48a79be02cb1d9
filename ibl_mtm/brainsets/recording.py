"""One recording of the brain-wide map, read with h5py: what its file holds, decoded.

    with open_recording(path) as recording:
        recording.units                           # one row per unit, in the file's order
        spikes = recording.spikes()               # times (s) and rows of units
        recording.intervals("movement_window")    # windows of a task, one row per trial
        recording.series("paws")                  # None where the file has no such behaviour
        recording.domain("ts1_test")              # (n, 2): starts and ends (s)

Nothing is read before it is asked for. Times are in s on the session's clock.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ibl_mtm.brainsets.intervals import intersect
from ibl_mtm.brainsets.layout import BRAINSET, BUILDS, REGIMES, SPLITS, Build, Regime, domain_scopes
from ibl_mtm.brainsets.series import RegularSeries
from ibl_mtm.errors import SessionError

__all__ = ["KNOWN_VERSION", "Recording", "Spikes", "open_recording"]

KNOWN_VERSION = "0.1"
"""Files of `derived_version` 0.1.x are read: that is the layout which this reader knows."""

Intervals = NDArray[np.float64]


@dataclass(frozen=True)
class Spikes:
    """Spikes in order of time: when (s), and of which row of `units`."""

    times: NDArray[np.float64]
    units: NDArray[np.int32]


class Recording:
    """An open file of one recording; see the module for how to use it.

    Attributes
    ----------
    path, eid
        The file, and the session that it holds.
    build, regime
        Which units it has, and whether it is for evaluation or for pre-training.
    version
        `derived_version` of the brainset, by which its builds are told apart.
    subject, lab, date
        The date as YYYY-MM-DD.
    """

    path: Path
    eid: str
    build: Build
    regime: Regime
    version: str
    subject: str
    lab: str
    date: str

    def __init__(self, path: Path, file: h5py.File) -> None:
        self.path, self.eid, self._file = path, path.stem, file
        about = self._attributes("brainset")
        if about.get("id") != BRAINSET:
            raise self.wrong(f"brainset '{about.get('id')}' where '{BRAINSET}' was expected")
        self.version = str(about.get("derived_version"))
        if not self.version.startswith(f"{KNOWN_VERSION}."):
            raise self.wrong(
                f"derived_version {self.version}, where {KNOWN_VERSION}.x is known; another "
                "version of this package may read it"
            )
        build = about.get("unit_filtering")
        known = [name for name in BUILDS if name == build]
        if not known:
            raise self.wrong(f"unit_filtering '{build}' is none of {', '.join(BUILDS)}")
        self.build = known[0]
        self.regime = self._regime()
        session = self._attributes("session")
        if session.get("id") != self.eid:
            raise self.wrong(
                f"holds session {session.get('id')}; a file is named by its session, EID.h5"
            )
        self.subject = str(self._attributes("subject").get("id", ""))
        self.lab = str(file.attrs.get("lab", ""))
        self.date = str(session.get("recording_date", ""))[:10]
        for name in ("units", "spikes", "trials"):
            self._group(name)

    def wrong(self, what: str) -> SessionError:
        """The error that something is wrong with this file."""
        return SessionError(self.eid, f"{self.path}: {what}")

    @property
    def about(self) -> Mapping[str, Any]:
        """Attributes of the brainset: versions, unit filters and their thresholds."""
        return self._attributes("brainset")

    @property
    def behavior_qc(self) -> Mapping[str, str]:
        """Quality of each behaviour: PASS, WARNING, FAIL or MISSING."""
        found = self._attributes("behavior_qc") if "behavior_qc" in self._file else {}
        return {name: str(value) for name, value in found.items() if name.startswith("qc_")}

    @cached_property
    def units(self) -> pd.DataFrame:
        """One row per unit in the file's order, without the columns of more than one dimension."""
        return self._table("units")

    @cached_property
    def unit_ids(self) -> NDArray[np.str_]:
        """UUID of every unit, without the session's id before it."""
        if "id" not in self.units:
            raise self.wrong("units: no column id")
        ids = self.units["id"]
        if ids.duplicated().any():
            raise self.wrong(f"units/id: {ids[ids.duplicated()].iloc[0]} stands twice")
        return ids.to_numpy(dtype=str)

    @cached_property
    def probes(self) -> pd.DataFrame:
        """One row per probe: id, name and its qualities."""
        return self._table("probes")

    @cached_property
    def trials(self) -> pd.DataFrame:
        """One row per trial in order of time, invalid ones included; `trial_index` numbers them."""
        return self._table("trials")

    def held_out(self, split: str) -> NDArray[np.bool_] | None:
        """Which units co-smoothing holds out in `val` or `test`; None where no flag is stored."""
        name = f"ts2_co_smoothing_is_held_out_{split}"
        return self.units[name].to_numpy(bool) if name in self.units else None

    def spikes(self) -> Spikes:
        """Every spike of the file, in order of time.

        Raises
        ------
        SessionError
            If times are out of order, or a spike is of no unit.
        """
        group = self._group("spikes")
        times = self._array(group, "timestamps").astype(np.float64, copy=False)
        units = self._array(group, "unit_index").astype(np.int32)
        if times.shape != units.shape or times.ndim != 1:
            raise self.wrong(f"spikes: {times.shape} timestamps but {units.shape} unit_index")
        if not np.isfinite(times).all() or (np.diff(times) < 0).any():
            raise self.wrong("spikes/timestamps: not finite and in ascending order")
        if len(units) and not 0 <= units.min() <= units.max() < len(self.units):
            raise self.wrong(
                f"spikes/unit_index: {units.min()} to {units.max()}, of {len(self.units)} units"
            )
        return Spikes(times, units)

    def intervals(self, name: str) -> pd.DataFrame | None:
        """Windows of a task (`choice`, `movement_window`, …); None where the file has none.

        Columns `start`, `end` and `trial_index`, further ones where a window has labels or counts.
        """
        place = f"task_aligned_intervals/{name}"
        return self._table(place) if place in self._file else None

    @cached_property
    def trial_domains(self) -> Intervals:
        """From the first to the last moment of each valid trial's windows, shape (n, 2)."""
        return self._intervals("task_aligned_intervals/domain")

    def domain(self, name: str = "") -> Intervals:
        """Intervals of a domain, shape (n, 2): `ts1_test`, `ts2_val`, …, or the recording's own.

        Raises
        ------
        SessionError
            If the file has no such domain (those of evaluation and of pre-training differ), or one
            of a split overlaps another split's: what is scored would be learned.
        """
        found = self._intervals(f"{name}_domain" if name else "domain")
        scope, _, split = name.rpartition("_")
        for other in SPLITS if split in SPLITS else ():
            place = f"{scope}_{other}_domain"
            if other != split and place in self._file:
                common = intersect(found, self._intervals(place))
                if len(common):
                    at = f"{common[0, 0]:.2f} to {common[0, 1]:.2f} s"
                    raise self.wrong(f"{name}_domain and {place} overlap ({at}); fetch it anew")
        return found

    def series(self, name: str) -> RegularSeries | None:
        """A behaviour (`whisker`, `paws`, `licks`, `wheel`); None where the file has none."""
        if name not in self._file:
            return None
        group = self._group(name)
        columns = {
            k: self._array(group, k) for k, v in group.items() if isinstance(v, h5py.Dataset)
        }
        rate = float(group.attrs.get("sampling_rate", np.nan))
        lengths = {len(values) for values in columns.values()}
        if len(lengths) != 1 or not rate > 0:
            raise self.wrong(f"{name}: no signals of one length at one sampling_rate")
        series = RegularSeries(self._intervals(f"{name}/domain"), rate, columns)
        if not len(series.domain) or round((series.end - series.start) * rate) != len(series):
            raise self.wrong(f"{name}: {len(series)} samples, another number than in its domain")
        return series

    def normalisation(self, name: str) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
        """Mean and standard deviation stored for a signal, as `whisker/whisker_motion_energy`.

        None where the file has none. Scalars are of shape (), those of paws' velocities (2,).
        """
        place = f"{domain_scopes(self.regime)[0]}_normalize/{name}"
        if place not in self._file:
            return None
        group = self._file[place]
        found = []
        for key in ("mean", "std"):
            value = group.attrs[key] if key in group.attrs else self._array(group, key)
            found.append(np.asarray(value, np.float64))
        return found[0], found[1]

    def _regime(self) -> Regime:
        for regime in REGIMES:
            if f"{domain_scopes(regime)[0]}_{SPLITS[0]}_domain" in self._file:
                return regime
        raise self.wrong("neither ts1_train_domain nor pretrain_train_domain")

    def _group(self, name: str) -> h5py.Group:
        found = self._file.get(name)
        if not isinstance(found, h5py.Group):
            raise self.wrong(f"no group {name}; not whole, or not of this layout: fetch it anew")
        return found

    def _attributes(self, name: str) -> dict[str, Any]:
        return {key: _plain(value) for key, value in self._group(name).attrs.items()}

    def _table(self, name: str) -> pd.DataFrame:
        group = self._group(name)
        flat = [k for k, v in group.items() if isinstance(v, h5py.Dataset) and v.ndim == 1]
        flat.sort(key=lambda key: (key not in ("id", "start", "end"), key == "end"))
        columns = {key: self._array(group, key) for key in flat}
        if len({len(values) for values in columns.values()}) > 1:
            raise self.wrong(f"{name}: columns of unequal length")
        return pd.DataFrame(columns)

    def _intervals(self, name: str) -> Intervals:
        group = self._group(name)
        starts, ends = (self._array(group, key) for key in ("start", "end"))
        if starts.shape != ends.shape or starts.ndim != 1:
            raise self.wrong(f"{name}: {starts.shape} starts but {ends.shape} ends")
        if not (starts <= ends).all():
            raise self.wrong(f"{name}: an interval ends before it begins, or is no number")
        return np.stack([starts, ends], axis=1)

    def _array(self, group: h5py.Group, key: str) -> NDArray[Any]:
        found = group.get(key)
        if not isinstance(found, h5py.Dataset):
            raise self.wrong(f"no {group.name.lstrip('/')}/{key}")
        try:
            is_text = h5py.check_string_dtype(found.dtype) is not None
            return np.asarray(found.asstr()[()] if is_text else found[()])
        except (OSError, ValueError) as error:
            raise self.wrong(f"{found.name.lstrip('/')} cannot be read ({error})") from error


@contextmanager
def open_recording(path: Path) -> Iterator[Recording]:
    """Open a recording's file, and close it afterwards.

    Raises
    ------
    SessionError
        If there is no such file, it is no whole HDF5 file, or not of the layout and version that
        this reader knows; names the file and the mend.
    """
    if not path.is_file():
        raise SessionError(path.stem, f"{path}: missing; fetch it, or mend the path of the source")
    try:
        file = h5py.File(path, "r")
    except PermissionError:
        raise SessionError(path.stem, f"{path}: may not be read; change its permissions") from None
    except OSError as error:
        reason = str(error).splitlines()[0]
        raise SessionError(
            path.stem, f"{path}: no whole HDF5 file ({reason}); delete it and fetch it anew"
        ) from error
    with file:
        yield Recording(path, file)


def _plain(value: Any) -> Any:
    """An attribute as plain Python: bytes as text, NumPy's scalars as numbers."""
    if isinstance(value, bytes):
        return value.decode()
    return value.item() if isinstance(value, np.generic) else value
