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


REQUIRED = [
    name for name, variable in VARIABLES.items() if variable.required in ("always", "trials")
]
TASK = [name for name, variable in VARIABLES.items() if variable.required == "task"]


@pytest.mark.parametrize("name", REQUIRED)
def test_a_missing_variable_is_named(name: str) -> None:
    with pytest.raises(ValueError, match=f"^{name}: missing"):
        validate(make_session().drop_vars(name))


def test_a_task_need_not_be_the_ibls() -> None:
    assert len(TASK) == 9
    validate(make_session().drop_vars(TASK))
    ds = make_session(contiguous=True)
    ds = ds.assign_coords(choice=("trial", np.ones(ds.sizes["trial"], np.int8)))
    with pytest.raises(ValueError, match="choice: expected in no session of contiguous windows"):
        validate(ds)


def _own() -> xr.Dataset:
    ds = make_session()
    n = ds.sizes["trial"]
    ds = ds.assign(
        tone=("trial", np.linspace(0, 1, n)),
        n_pulses=("trial", np.arange(n)),
        go=("trial", np.arange(n) % 2 == 0),
        outcome=("trial", np.array(["hit", ""] * n, dtype=object)[:n]),
        pupil=(("trial", "time"), np.zeros((n, ds.sizes["time"]), np.float32)),
    )
    return ds.assign_attrs(kept=["tone", "n_pulses", "go", "outcome"], signals=["pupil"])


def test_variables_of_ones_own_stand_in_the_attributes() -> None:
    validate(_own())
    for change, said in (
        (lambda ds: ds.assign_attrs(kept=["tone", "n_pulses", "go"]), "^outcome: no variable of"),
        (lambda ds: ds.assign_attrs(signals=[]), "^pupil: no variable of"),
        (lambda ds: ds.drop_vars("go"), "^go: missing"),
        (lambda ds: ds.assign_attrs(kept=[*ds.kept, "choice"]), "choice: no name for a"),
        (lambda ds: ds.assign(go=ds.go.astype(np.int8)), "^go: expected dtype .*got int8"),
        (lambda ds: ds.assign(pupil=ds.pupil.astype(float)), "^pupil: expected dtype float32"),
        (lambda ds: ds.assign(go=ds.pupil), "^go: expected dims"),
        (
            lambda ds: ds.rename(go="3go").assign_attrs(
                kept=["tone", "n_pulses", "3go", "outcome"]
            ),
            "^3go: no name for a",
        ),
    ):
        with pytest.raises(ValueError, match=said):
            validate(change(_own()))


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
