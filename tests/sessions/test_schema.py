"""What a session must be, and how a fault is named."""

import numpy as np
import pytest
import xarray as xr
from synthetic import make_session

from ibl_mtm.sessions.schema import ATTRIBUTES, VARIABLES, validate


@pytest.mark.parametrize("contiguous", [False, True], ids=["trials", "contiguous"])
def test_a_session_fits(contiguous: bool) -> None:
    validate(make_session(contiguous=contiguous))


def test_behaviour_is_optional() -> None:
    validate(make_session().drop_vars(["whisker_motion_energy", "wheel_velocity", "lick_count"]))


def test_a_label_may_be_missing() -> None:
    ds = make_session()
    ds["label"][:] = np.nan
    validate(ds)


REQUIRED = [name for name, variable in VARIABLES.items() if variable.required != "optional"]


@pytest.mark.parametrize("name", REQUIRED)
def test_a_missing_variable_is_named(name: str) -> None:
    with pytest.raises(ValueError, match=f"^{name}: missing"):
        validate(make_session().drop_vars(name))


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_a_missing_attribute_is_named(name: str) -> None:
    ds = make_session()
    del ds.attrs[name]
    with pytest.raises(ValueError, match=f"^attribute {name}: missing"):
        validate(ds)


@pytest.mark.parametrize(
    "name", [name for name, variable in VARIABLES.items() if "string" not in variable.dtypes]
)
def test_a_wrong_dtype_is_named(name: str) -> None:
    ds = make_session()
    with pytest.raises(ValueError, match=rf"^{name}: expected dtype .*got complex64"):
        validate(ds.assign({name: ds[name].astype(np.complex64)}))


def _set(name: str, index: object, value: object) -> object:
    def change(ds: xr.Dataset) -> xr.Dataset:
        values = ds[name].values.copy()
        values[index] = value
        return ds.assign_coords({name: (ds[name].dims, values)})

    return change


FAULTS = {
    "counts in a signed dtype": (lambda d: d.assign(spikes=d.spikes.astype("int64")), "spikes: .*"),
    "dims in another order": (
        lambda d: d.assign(spikes=d.spikes.transpose("unit", "trial", "time")),
        "spikes: expected dims",
    ),
    "a variable too many": (lambda d: d.assign(mood=d.choice), "mood: no variable"),
    "no unit": (lambda d: d.isel(unit=slice(0)), "spikes: expected at least one unit"),
    "no trial": (lambda d: d.isel(trial=slice(0)), "spikes: expected at least one trial"),
    "a unit twice": (lambda d: d.isel(unit=[0, 1, 1]), "unit: expected every value once"),
    "a trial twice": (lambda d: d.isel(trial=[0, 1, 1]), "trial: expected every value once"),
    "an empty region": (_set("beryl", 0, ""), "beryl: expected no empty"),
    "an unknown choice": (_set("choice", 3, 2), "choice: expected -1, 0, 1, -128 only"),
    "an unknown split": (_set("split", 3, "tes"), "split: expected train, val, test only"),
    "a window nowhere": (_set("window_start", 3, np.nan), "window_start: expected finite"),
    "another grid": (lambda d: d.assign_coords(time=d.time + 0.01), "time: expected the left"),
    "another bin": (lambda d: d.assign_attrs(bin_size=0.01), "time: expected the left"),
    "a window backwards": (lambda d: d.assign_attrs(window=[1.5, -0.5]), "attributes window"),
    "a number as text": (lambda d: d.assign_attrs(number="1"), "attribute number: expected"),
    "a path as eid": (lambda d: d.assign_attrs(eid="../x"), "attribute eid: "),
    "a table's name as eid": (lambda d: d.assign_attrs(eid="sessions"), "attribute eid: "),
    "another date": (lambda d: d.assign_attrs(date="7 March"), "attribute date: expected YYYY"),
    "no JSON": (lambda d: d.assign_attrs(definition="{"), "attribute definition: expected JSON"),
    "NaN in provenance": (lambda d: d.assign_attrs(drift=np.nan), "attributes: expected"),
    "trials in contiguous windows": (
        lambda d: d.assign_attrs(alignment="contiguous"),
        "stimOn_times: expected in no session of contiguous",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_named(fault: str) -> None:
    change, message = FAULTS[fault]
    with pytest.raises(ValueError, match=f"^{message}"):
        validate(change(make_session()))
