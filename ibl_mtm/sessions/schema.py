"""The layout of a session in the cache: its variables, its attributes, and the check of both.

    validate(ds)                        # ValueError: "spikes: expected dtype uint8 or uint16, ..."
    VARIABLES["spikes"].dims            # ("trial", "time", "unit")

`docs/cache-format.md` says the same to people.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

__all__ = [
    "ATTRIBUTES",
    "CONDITIONS",
    "CONTIGUOUS",
    "DECODE",
    "FORMAT",
    "FORMAT_VERSION",
    "KEPT",
    "MISSING",
    "SIGNALS",
    "UNKNOWN_COLOR",
    "VARIABLES",
    "Variable",
    "is_own_name",
    "own_variables",
    "to_decode",
    "validate",
]

FORMAT = "ibl-mtm"
FORMAT_VERSION = 1
CONTIGUOUS = "contiguous"
"""The `alignment` of sessions that are cut into consecutive windows, without trials."""

MISSING = -128
UNKNOWN_COLOR = "#b4b4b4"
"""Grey, of a region that no atlas has, or of which nobody tells."""
_STRING = ("string",)
_INTEGER = ("int32", "int64")
_TRIALS, _TASK = "trials", "task"


@dataclass(frozen=True)
class Variable:
    """What a session's variable must be.

    Parameters
    ----------
    dims
        Names of its dimensions.
    dtypes
        The NumPy dtypes it may have; "string" stands for any kind of text.
    about
        What it is, in one line; stored with the data.
    units
        Its physical unit, stored with the data; empty where it has none.
    required
        "always"; "trials": in every session but those cut into contiguous windows; "task": where
        the task has it, in no session of contiguous windows; or "optional".
    values
        The only values it may take; empty where any will do.
    """

    dims: tuple[str, ...]
    dtypes: tuple[str, ...]
    about: str
    units: str = ""
    required: str = "always"
    values: tuple[Any, ...] = ()


def _of_unit(dtypes: tuple[str, ...], about: str, units: str = "") -> Variable:
    return Variable(("unit",), dtypes, about, units)


def _of_trial(dtype: str, about: str, units: str = "", values: tuple[Any, ...] = ()) -> Variable:
    return Variable(("trial",), (dtype,), about, units, _TASK, values)


VARIABLES = {
    "spikes": Variable(
        ("trial", "time", "unit"), ("uint8", "uint16"), "exact spike counts", "spikes per bin"
    ),
    "whisker_motion_energy": Variable(
        ("trial", "time"),
        ("float32",),
        "motion energy of the whisker pad: left camera, else right; NaN where missing",
        "arbitrary",
        "optional",
    ),
    "wheel_velocity": Variable(
        ("trial", "time"), ("float32",), "angular velocity of the wheel", "rad/s", "optional"
    ),
    "lick_count": Variable(
        ("trial", "time"), ("uint8",), "licks in each bin", "licks per bin", "optional"
    ),
    "time": Variable(
        ("time",),
        ("float64",),
        "left edge of each bin, relative to the alignment event or the window's start",
        "s",
    ),
    "window_start": Variable(("trial",), ("float64",), "start of the window, session clock", "s"),
    "unit": _of_unit(_STRING, "the cluster's uuid, or EID:PROBE:CLUSTER where it has none"),
    "region": _of_unit(_STRING, "acronym in the Allen atlas; unknown without histology"),
    "beryl": _of_unit(_STRING, "acronym in the Beryl parcellation; unknown without histology"),
    "cosmos": _of_unit(_STRING, "acronym in the Cosmos parcellation; unknown without histology"),
    "pid": _of_unit(_STRING, "the insertion; empty where it is not registered"),
    "probe": _of_unit(_STRING, "name of the probe in its session"),
    "probe_qc": Variable(
        ("unit",),
        _STRING,
        "quality of the insertion in Alyx: NOT_SET, PASS, WARNING, FAIL or CRITICAL",
        required="optional",
    ),
    "cluster_id": _of_unit(_INTEGER, "number of the cluster in its sorting"),
    "channel": _of_unit(_INTEGER, "row of the unit's channel; -1 where unknown"),
    "depth": _of_unit(("float32",), "distance from the probe's tip", "um"),
    "x": _of_unit(("float32",), "medio-lateral position relative to bregma", "m"),
    "y": _of_unit(("float32",), "antero-posterior position relative to bregma", "m"),
    "z": _of_unit(("float32",), "dorso-ventral position relative to bregma", "m"),
    "label": _of_unit(("float32",), "the IBL's quality score, 0 to 1; 1 is a good unit"),
    "firing_rate": _of_unit(("float32",), "mean rate over the aligned windows", "Hz"),
    "trial": Variable(
        ("trial",), _INTEGER, "row in the session's trials table, or number of the window"
    ),
    "stimOn_times": _of_trial("float64", "stimulus onset, session clock", "s"),
    "firstMovement_times": _of_trial("float64", "first movement, session clock", "s"),
    "response_times": _of_trial("float64", "response, session clock", "s"),
    "feedback_times": _of_trial("float64", "feedback, session clock", "s"),
    "choice": _of_trial(
        "int8", "-1 right, 1 left, 0 no-go, -128 missing", values=(-1, 0, 1, MISSING)
    ),
    "contrast": _of_trial("float32", "signed contrast, 0 to 1: right positive, left negative"),
    "stimulus_side": _of_trial(
        "int8", "-1 left, 1 right, also at zero contrast; -128 missing", values=(-1, 1, MISSING)
    ),
    "probability_left": _of_trial("float32", "prior probability of a stimulus on the left"),
    "feedback": _of_trial("int8", "1 reward, -1 error, -128 missing", values=(-1, 1, MISSING)),
    "included": Variable(
        ("trial",),
        ("bool",),
        "passes the rules on reaction time, length and completeness, as far as they apply",
        required=_TRIALS,
    ),
    "split": Variable(("trial",), _STRING, "train, val or test", values=("train", "val", "test")),
}

ATTRIBUTES: dict[str, type | tuple[type, ...]] = {
    "eid": str,
    "subject": str,
    "lab": str,
    "date": str,
    "number": int,
    "dataset": str,
    "role": str,
    "alignment": str,
    "window": (list, tuple),
    "bin_size": float,
    "definition": str,
    "definition_hash": str,
}
"""Attributes that every session has; others (provenance) may stand beside them."""

KEPT, SIGNALS = "kept", "signals"
"""Attributes that list a session's own variables: columns of its trials, and further traces."""
CONDITIONS, DECODE = "conditions", "decode"
"""Attributes that say what mean responses are conditioned on, and (JSON text) what is decoded."""

_OWN = {
    KEPT: Variable(
        ("trial",),
        ("float64", "int64", "bool", *_STRING),
        "column of the session's own trials table",
        required="always",
    ),
    SIGNALS: Variable(
        ("trial", "time"), ("float32",), "trace of the session's own; NaN where missing"
    ),
}
_NAME = re.compile(r"[A-Za-z]\w*", re.ASCII)

# A session's folder is named by its eid, beside those of the two tables.
_EID = re.compile(r"(?!(?:sessions|regions)$)[A-Za-z0-9][A-Za-z0-9_-]*")
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")


def own_variables(attributes: Mapping[Any, Any]) -> dict[str, Variable]:
    """What the variables of a session must be that only its own task has, by name."""
    return {name: kind for key, kind in _OWN.items() for name in attributes.get(key, ())}


def to_decode(attributes: Mapping[Any, Any]) -> dict[str, str]:
    """What a session declares that is to be decoded: name -> class or trace."""
    declared: dict[str, str] = json.loads(attributes.get(DECODE, "{}"))
    return declared


def is_own_name(name: str) -> bool:
    """Whether it can name a variable that only a session's own task has."""
    return bool(_NAME.fullmatch(name)) and name not in VARIABLES


def validate(ds: xr.Dataset) -> None:
    """Check that a dataset is a session as the cache keeps it.

    Reads the variables of one dimension, and of the others only dtype and shape.

    Raises
    ------
    ValueError
        Names the attribute or variable that does not fit, what it is and what was expected.
    """
    _check_attributes(ds.attrs)
    contiguous = ds.attrs["alignment"] == CONTIGUOUS
    own = own_variables(ds.attrs)
    unknown = sorted(map(str, set(ds.variables) - set(VARIABLES) - set(own)))
    if unknown:
        raise ValueError(f"{unknown[0]}: no variable of the cache format")
    for name, variable in own.items():
        if not is_own_name(name):
            raise ValueError(f"{name}: no name for a variable of one's own")
        _check_variable(ds, name, variable, contiguous)
    for name, variable in VARIABLES.items():
        _check_variable(ds, name, variable, contiguous)
    for name in ("unit", "trial"):
        values = ds[name].values
        if len(np.unique(values)) < len(values):
            raise ValueError(f"{name}: expected every value once")
    if not np.isfinite(ds["window_start"].values).all():
        raise ValueError("window_start: expected finite times")
    for name in ("unit", "region", "beryl", "cosmos", "probe"):
        if (ds[name].values == "").any():
            raise ValueError(f"{name}: expected no empty text")
    start, stop = ds.attrs["window"]
    bin_size = ds.attrs["bin_size"]
    edges = start + bin_size * np.arange(round((stop - start) / bin_size))
    time = ds["time"].values
    if len(time) != len(edges) or not np.allclose(time, edges, rtol=0, atol=1e-9):
        raise ValueError(
            f"time: expected the left edges of bins of {bin_size} s over [{start}, {stop}) s"
        )


def _check_attributes(attributes: dict[Any, Any]) -> None:
    for name, kind in ATTRIBUTES.items():
        if name not in attributes:
            raise ValueError(f"attribute {name}: missing")
        if not isinstance(attributes[name], kind) or isinstance(attributes[name], bool):
            raise ValueError(f"attribute {name}: expected {kind}, got {attributes[name]!r}")
    if not _EID.fullmatch(attributes["eid"]):
        raise ValueError(f"attribute eid: {attributes['eid']!r} cannot name a session's folder")
    if not _DATE.fullmatch(attributes["date"]):
        raise ValueError(f"attribute date: expected YYYY-MM-DD, got {attributes['date']!r}")
    window, bin_size = attributes["window"], attributes["bin_size"]
    if len(window) != 2 or not window[0] < window[1] or not 0 < bin_size <= window[1] - window[0]:
        raise ValueError(
            f"attributes window, bin_size: expected [start, stop] in s and a bin that fits in, "
            f"got {window!r}, {bin_size!r}"
        )
    for name in ("definition", DECODE):
        try:
            json.loads(attributes.get(name, "{}"))
        except (TypeError, ValueError):
            raise ValueError(f"attribute {name}: expected JSON text") from None
    try:
        json.dumps(attributes, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"attributes: expected values that JSON has ({error})") from None


def _check_variable(ds: xr.Dataset, name: str, variable: Variable, contiguous: bool) -> None:
    if name not in ds.variables:
        if variable.required == "always" or (variable.required == _TRIALS and not contiguous):
            raise ValueError(f"{name}: missing")
        return
    if contiguous and variable.required in (_TRIALS, _TASK):
        raise ValueError(f"{name}: expected in no session of contiguous windows")
    array = ds[name]
    if array.dims != variable.dims:
        raise ValueError(f"{name}: expected dims {variable.dims}, got {array.dims}")
    if 0 in array.shape:
        raise ValueError(f"{name}: expected at least one {array.dims[array.shape.index(0)]}")
    if not _has_dtype(array, variable.dtypes):
        expected = " or ".join(variable.dtypes)
        raise ValueError(f"{name}: expected dtype {expected}, got {array.dtype}")
    if variable.values and not np.isin(array.values, np.array(variable.values)).all():
        raise ValueError(f"{name}: expected {', '.join(map(str, variable.values))} only")


def _has_dtype(array: xr.DataArray, dtypes: tuple[str, ...]) -> bool:
    if array.dtype.name in dtypes:
        return True
    if not set(_STRING) <= set(dtypes):
        return False
    if array.dtype.kind == "O":
        return all(isinstance(value, str) for value in array.values)
    return array.dtype.kind in "UT"
