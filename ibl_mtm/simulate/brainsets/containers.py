"""Objects of torch_brain's files, written with h5py: groups of arrays with a few attributes.

    with h5py.File(path, "w") as file:
        write_data(file, "subject", id="SIM0_001", species="MUS_MUSCULUS")
        write_intervals(file, "ts1_test_domain", [[0.0, 12.5]])

Text is written as UTF-8 of variable length, as pandas' columns become; readers get bytes.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import h5py
import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "put",
    "write_arrays",
    "write_data",
    "write_intervals",
    "write_regular",
    "write_spikes",
]

_NO_TEXT = np.array([], dtype="S")


def put(group: h5py.Group, columns: Mapping[str, ArrayLike]) -> None:
    """Write arrays as datasets of a group, one after the other by name."""
    for name, values in sorted(columns.items()):
        values = np.asarray(values)
        if values.dtype.kind in "UO":
            group.create_dataset(name, data=values.astype(object), dtype=h5py.string_dtype())
        else:
            group.create_dataset(name, data=values)


def write_data(
    parent: h5py.Group, name: str, domain: ArrayLike | None = None, **attributes: Any
) -> h5py.Group:
    """Write a `Data`: attributes, and a domain where one is given; "" is the parent itself."""
    group = parent.create_group(name) if name else parent
    group.attrs.update(attributes | {"object": "Data", "absolute_start": 0.0})
    if domain is not None:
        write_intervals(group, "domain", domain)
    return group


def write_arrays(parent: h5py.Group, name: str, columns: Mapping[str, ArrayLike]) -> None:
    """Write an `ArrayDict`: arrays of equal length."""
    group = parent.create_group(name)
    put(group, columns)
    group.attrs.update({"object": "ArrayDict", "_unicode_keys": _NO_TEXT})


def write_intervals(
    parent: h5py.Group,
    name: str,
    bounds: ArrayLike,
    columns: Mapping[str, ArrayLike] | None = None,
    times: Sequence[str] = (),
) -> None:
    """Write an `Interval`: starts and ends, shape (n, 2), and columns, some of which are times."""
    bounds = np.reshape(np.asarray(bounds, np.float64), (-1, 2))
    group = parent.create_group(name)
    put(group, {"start": bounds[:, 0], "end": bounds[:, 1], **(columns or {})})
    timekeys = np.array(["start", "end", *times], dtype="S")
    group.attrs.update({"object": "Interval", "_unicode_keys": _NO_TEXT, "timekeys": timekeys})


def write_regular(
    parent: h5py.Group, name: str, domain: ArrayLike, rate: float, columns: Mapping[str, ArrayLike]
) -> None:
    """Write a `RegularTimeSeries`, whose first sample is where its domain begins."""
    group = parent.create_group(name)
    put(group, columns)
    write_intervals(group, "domain", domain)
    group.attrs.update({"object": "RegularTimeSeries", "sampling_rate": rate})


def write_spikes(
    parent: h5py.Group, times: NDArray[np.float64], columns: Mapping[str, ArrayLike]
) -> None:
    """Write `spikes`, an `IrregularTimeSeries` from the first spike to the last."""
    group = parent.create_group("spikes")
    every_second = np.searchsorted(times, np.arange(times[0], times[-1] + 1.0, 1.0))
    put(group, {"timestamps": times, "timestamp_indices_1s": every_second, **columns})
    write_intervals(group, "domain", [[times[0], times[-1]]])
    timekeys = np.array(["timestamps"], dtype="S")
    group.attrs.update(
        {"object": "IrregularTimeSeries", "_unicode_keys": _NO_TEXT, "timekeys": timekeys}
    )
