"""Single steps of reading a file of NWB: whose it is, units, trials and time series, by hand."""

import sys
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from ibl_mtm.config.sources import NwbSource
from ibl_mtm.errors import SessionError
from ibl_mtm.ingest.own.nwb import (
    _about,
    _electrodes,
    _probes,
    _signals,
    _table_of_units,
    _trials,
)


class Table(dict):
    """A table of NWB: columns by name, and ids from 10 on."""

    @property
    def colnames(self):
        return tuple(self)

    @property
    def id(self):
        first = next(iter(self.values()))
        return np.arange(10, 10 + len(getattr(first, "data", first)))

    def __len__(self):
        return len(self.id)


def ragged(*rows):
    ends, flat = np.cumsum([len(row) for row in rows]), np.concatenate(rows)
    return SimpleNamespace(data=ends, target=SimpleNamespace(data=flat))


def file(electrodes=None, **more):
    return SimpleNamespace(electrodes=electrodes, **more)


def test_of_columns_that_mean_the_same_the_first_counts():
    units = Table(
        ks_label=["mua", "mua"],
        label=["good", "noise"],
        region=["CA1", "DG"],
        brain_area=[b"VISp", "LP"],
        rel_y=[40, 60],
        probe_vertical_position=[1, 2],
    )
    found = _table_of_units(file(), units, notes := [])
    assert found["label"].tolist() == ["good", "noise"]
    assert found["region"].tolist() == ["VISp", "LP"]
    assert found["depth"].tolist() == [40, 60]
    assert notes == []


def test_electrodes_may_be_one_for_each_unit_several_or_told_by_their_ids():
    places = Table(location=["a", "b", "c"])
    single = Table(electrodes=SimpleNamespace(data=np.array([2, 0])))
    assert _electrodes(file(places), single).tolist() == [2, 0]
    several = Table(electrodes=ragged([1, 2], [0, 1]))
    assert _electrodes(file(places), several).tolist() == [1, 0]
    peak = Table(peak_channel_id=[12, 10, 99])
    assert _electrodes(file(places), peak).tolist() == [2, 0, -1]
    assert _electrodes(file(), single) is None
    assert _electrodes(file(places), Table(x=[1])) is None


def test_units_of_no_electrode_have_neither_place_nor_group():
    places = Table(location=["CA1", "DG", "LP"], group_name=["a", "b", "b"])
    units = Table(peak_channel_id=[12, 99, 10], quality=["good"] * 3)
    found = _table_of_units(file(places), units, [])
    assert found["region"].tolist() == ["LP", None, "CA1"]
    assert found["probe"].tolist() == ["b", "probe00", "a"]
    assert found["channel"].tolist() == [2, -1, 0]
    bare = Table(x=[1, 2, 3])
    found = _table_of_units(file(bare), units, notes := [])
    assert "region" not in found
    assert found["probe"].tolist() == ["probe00"] * 3
    assert "no regions" in notes[0]
    # A column of regions counts before those of electrodes; groups of units before theirs.
    units["area"] = ["x", "y", "z"]
    units["electrode_group"] = [SimpleNamespace(name=name) for name in "cde"]
    found = _table_of_units(file(places), units, [])
    assert found["region"].tolist() == ["x", "y", "z"]
    assert found["probe"].tolist() == ["c", "d", "e"]


def test_whose_a_file_is_is_told_by_it_or_by_the_source():
    def about(subject="m1", lab="theirs", source=None):
        who = None if subject is None else SimpleNamespace(subject_id=subject)
        nwb = SimpleNamespace(subject=who, lab=lab, session_start_time=datetime(2024, 5, 6, 23, 59))
        return _about(nwb, NwbSource(kind="nwb", path=Path("x"), **(source or {})))

    found = about()
    assert (found.subject, found.date, found.lab, found.number) == ("m1", "2024-05-06", "theirs", 1)
    assert about(lab=None).lab == "lab"
    assert about(subject=None) is None
    assert about(subject="") is None
    # Of the source, subject and date count first, a lab where the file names none.
    given = {"subject": "m2", "date": "2023-01-01", "lab": "ours"}
    found = about(source=given)
    assert (found.subject, found.date, found.lab) == ("m2", "2023-01-01", "theirs")
    assert about(subject=None, lab=None, source=given).lab == "ours"


def test_without_units_or_their_spikes_there_is_no_session():
    for units in (None, Table(x=[])):
        with pytest.raises(SessionError, match="no table of units"):
            _probes("e", Path("f.nwb"), file(units=units), [])
    with pytest.raises(SessionError, match="no spike_times; they have quality, x"):
        _probes("e", Path("f.nwb"), file(units=Table(quality=["good"], x=[1])), [])


def test_a_table_of_trials_is_looked_for_by_its_name():
    frame = pd.DataFrame({"start_time": [1.0, 2.0]}, index=[5, 9])
    table = SimpleNamespace(to_dataframe=lambda: frame)
    nwb = SimpleNamespace(trials=table, intervals={"laser": table, "epochs": table})
    for name in ("trials", "laser"):
        found = _trials("e", Path("f.nwb"), nwb, name)
        assert found.index.tolist() == [0, 1]
    with pytest.raises(SessionError, match="'cues'; tables of intervals: laser, epochs"):
        _trials("e", Path("f.nwb"), nwb, "cues")
    for empty in (None, {}):
        nwb = SimpleNamespace(trials=None, intervals=empty)
        with pytest.raises(SessionError, match="'trials'; tables of intervals: none"):
            _trials("e", Path("f.nwb"), nwb, "trials")


class Series(SimpleNamespace):
    """A time series of NWB, within what it stands in."""

    def __init__(self, name, data=(1, 2, 4), within=None, **more):
        values = {"conversion": None, "offset": None, "timestamps": None}
        values |= {"starting_time": 0.5, "rate": 10.0}
        parent = None if within is None else SimpleNamespace(name=within, parent=None)
        super().__init__(name=name, data=np.array(data), parent=parent, **values | more)


@pytest.fixture
def read(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynwb", SimpleNamespace(TimeSeries=Series))

    def read(wanted, *series):
        objects = dict(enumerate([*series, SimpleNamespace(name="no series", parent=None)]))
        notes = []
        return _signals(Path("f.nwb"), SimpleNamespace(objects=objects), wanted, notes), notes

    return read


def test_series_have_times_of_their_own_or_a_rate(read):
    found, notes = read(
        {"a": "speed", "b": "/processing/behavior/pupil", "c": "pupil"},
        Series("speed", conversion=0.5, offset=3.0),
        Series("pupil", within="behavior", timestamps=np.array([7, 8, 9])),
    )
    assert notes == []
    np.testing.assert_allclose(found["a"][0], [0.5, 0.6, 0.7])
    np.testing.assert_allclose(found["a"][1], [3.5, 4, 5])
    for name in ("b", "c"):
        assert [part.tolist() for part in found[name]] == [[7, 8, 9], [1, 2, 4]]


def test_series_that_cannot_be_had_are_noted_with_those_that_are_there(read):
    several = [Series("x", within=name) for name in "abcdef"]
    found, notes = read({"p": "x", "q": "y", "r": "b/x", "s": "flat"}, *several,
                        Series("flat", data=[[1, 2], [3, 4]]))  # fmt: skip
    assert list(found) == ["r"]
    assert notes == [
        "signal p: x: several are called that; there are a/x, b/x, c/x, d/x, e/x",
        "signal q: y: no such time series; there are a/x, b/x, c/x, d/x, e/x",
        "signal s: flat: (2, 2) values, expected one per time",
    ]
