"""Recordings from arrays and tables: signals, labels, rows, digests, by hand."""

import datetime
import hashlib
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from ibl_mtm.errors import SessionError, UserError
from ibl_mtm.ingest.add_session import _about, _digest
from ibl_mtm.ingest.own.recordings import (
    About,
    _channels,
    _insertion,
    _labels,
    _rows,
    _signal,
    make_recording,
)
from ibl_mtm.ingest.recording import Signal
from ibl_mtm.ingest.through_one.insertions import (
    _count_clusters,
    _uuids,
)
from ibl_mtm.ingest.through_one.insertions import (
    _labels as labels_of_metrics,
)

NAN = np.nan
ABOUT = About("e", "m", "2024-01-02")


def probe(*clusters, **more):
    return {"times": np.arange(len(clusters)) + 0.5, "clusters": np.array(clusters), **more}


class TestSignals:
    @pytest.mark.parametrize(
        "given",
        [
            ([1.0, 2.0, 3.0], [4.0, NAN, 6.0]),
            pd.Series([4.0, NAN, 6.0], index=[1.0, 2.0, 3.0]),
            pd.DataFrame({"when": [1.0, 2.0, 3.0], "what": [4, None, 6]}),
            Signal(np.array([1.0, 3.0]), np.array([4.0, 6.0])),
        ],
        ids=["arrays", "series", "table", "signal"],
    )
    def test_have_times_and_values_without_those_that_are_missing(self, given):
        found = _signal("e", "pupil", given)
        assert (found.times.tolist(), found.values.tolist()) == ([1, 3], [4, 6])

    @pytest.mark.parametrize(
        ("given", "told"),
        [
            (pd.DataFrame({"t": [1.0]}), "signal pupil: 1 columns, expected time and value"),
            (pd.DataFrame({"t": [1.0], "v": [1], "w": [1]}), "3 columns"),
            (([1.0], ["a"]), "expected times and values, all of them numbers"),
            (([1.0], [1.0], [1.0]), "expected times and values"),
            (([2.0, 1.0], [1.0, 1.0]), "times are not in ascending order"),
            (([NAN, 1.0], [1.0, 1.0]), "not every time and value"),
            (([[1.0]], [[1.0]]), r"\(1, 1\) times but \(1, 1\) values"),
        ],
    )
    def test_of_another_form_are_refused(self, given, told):
        with pytest.raises(SessionError, match=told):
            _signal("e", "pupil", given)

    def test_licks_are_times_alone_and_none_may_be_missing(self):
        assert _signal("e", "licks", [0.5, 0.5, 2.0]).times.tolist() == [0.5, 2.0]
        with pytest.raises(SessionError, match="not every time"):
            _signal("e", "licks", [0.5, NAN])


class TestARecording:
    def make(self, event="go", **signals):
        trials = pd.DataFrame({"go": [1.0, 2.0]})
        probes = {"b": probe(0, 1), "a": probe(3, 3)}
        return make_recording(ABOUT, probes, trials, signals, event=event)

    def test_has_its_probes_in_order_and_trials_where_they_are_asked_for(self):
        found = self.make()
        assert [one.probe for one in found.insertions] == ["a", "b"]
        assert found.insertions[0].called == "probe a.times"
        assert len(found.trials) == 2
        assert self.make(event=None).trials is None
        assert (found.lab, found.number) == ("lab", 1)
        assert len(found.notes) == 2  # of units without a table
        with pytest.raises(SessionError, match="no probe with spikes"):
            make_recording(ABOUT, {}, None, {})
        with pytest.raises(SessionError, match="trials: missing, and windows are to be aligned to"):
            make_recording(ABOUT, {"a": probe(0)}, None, {}, event="go")

    def test_knows_its_behaviour_by_name(self):
        trace = ([1.0, 2.0], [3.0, 4.0])
        found = self.make(wheel_velocity=trace, licks=[1.0], pupil=trace)
        assert list(found.signals) == ["pupil"]
        assert found.behaviour.licks.tolist() == [1.0]
        assert found.behaviour.wheel_velocity.values.tolist() == [3, 4]
        assert found.behaviour.whisker_motion_energy is None
        assert found.behaviour.of_ibl is False
        assert self.make().behaviour.licks is None

    @pytest.mark.parametrize(
        ("name", "given", "told"),
        [
            ("", probe(0), "a probe without a name"),
            ("a", {"times": np.zeros(1)}, r"probe a\.clusters: missing"),
            ("a", {"clusters": np.zeros(1)}, r"probe a\.times: missing"),
            ("a", probe(0, waveforms=1), "'waveforms' is none of times, clusters, units"),
        ],
    )
    def test_needs_spikes_of_named_probes(self, name, given, told):
        with pytest.raises(SessionError, match=told):
            _insertion("e", name, given, [])


@pytest.mark.parametrize("large", [0, 1 << 24])
def test_clusters_are_rows_of_the_table_of_units(large):
    ids = np.array([large + 7, 2, large + 4, 0])
    clusters = np.array([2, large + 7, 0, large + 4, large + 4])
    assert _rows("e", "p", clusters, ids).tolist() == [1, 0, 3, 2, 2]
    # Units beyond the last cluster that has spikes are there, too.
    assert _rows("e", "p", np.array([2, 0]), ids).tolist() == [1, 3]
    with pytest.raises(SessionError, match="spikes of cluster 3, which is not among the 4 units"):
        _rows("e", "p", np.array([2, 3, 5]), ids)


def test_labels_are_words_or_scores():
    def labels(*values):
        return _labels("e", "p", pd.DataFrame({"label": list(values)})).tolist()

    assert labels("Good", "mua", "unsorted") == pytest.approx([1, 0, NAN], nan_ok=True)
    assert labels("good", None) == pytest.approx([1, NAN], nan_ok=True)
    assert labels(0.0, 1.0, NAN) == pytest.approx([0, 1, NAN], nan_ok=True)
    assert np.isnan(_labels("e", "p", pd.DataFrame({"x": [1, 2]}))).tolist() == [True, True]
    for wrong, told in ((("good", "nice"), "label: 'nice' is none of good"), ((1.5,), "0 to 1")):
        with pytest.raises(SessionError, match=told):
            labels(*wrong)
    found = _channels("e", "p", pd.DataFrame({"channel": [3.0, NAN, 0.0]}))
    assert found.tolist() == [3, -1, 0]


def test_whose_it_is_must_be_told():
    for day in ("2024-01-02", datetime.date(2024, 1, 2), datetime.datetime(2024, 1, 2, 15, 30)):
        about = _about("m", day, "lab", 3)
        assert (about.subject, about.date, about.lab, about.number) == ("m", "2024-01-02", "lab", 3)
    assert about.eid != _about("m", "2024-01-02", "lab", 1).eid
    for subject, lab in (("", "lab"), ("m", "")):
        with pytest.raises(UserError, match="needs a subject and a lab"):
            _about(subject, "2024-01-02", lab, 1)
    with pytest.raises(UserError, match="'2 Jan' is no date"):
        _about("m", "2 Jan", "lab", 1)


def test_a_digest_tells_other_data_apart_and_nothing_else():
    trials = pd.DataFrame({"go": [1.0, 2.0], "word": ["a", "b"]})
    trace = (np.array([1.0, 2.0]), np.array([3.0, 4.0]))

    def digest(probes=None, table=trials, signals=None):
        return _digest(probes or {"a": probe(0, 1)}, table, signals or {"pupil": trace})

    first = digest()
    assert digest(table=trials.copy(), signals={"pupil": [part.copy() for part in trace]}) == first
    swapped = {name: probe(0, 1)[name] for name in ("clusters", "times")}
    assert digest({"a": swapped}) == first
    series = pd.Series(trace[1], index=trace[0])
    words = np.array(["x", "y"], dtype=object)
    others = [
        digest({"b": probe(0, 1)}),
        digest({"a": probe(0, 2)}),
        digest({"a": probe(0, 1) | {"clusters": np.array([0, 1], np.int32)}}),
        digest({"a": probe(0, 1, units=pd.DataFrame({"cluster_id": [0, 1]}))}),
        digest({"a": probe(0, 1, units={"cluster_id": [0, 1], "region": words})}),
        digest({"a": probe(0, 1, units={"cluster_id": [0, 1], "region": words[::-1]})}),
        digest(table=None),
        digest(table=trials.rename(columns={"go": "stop"})),
        digest(table=trials.assign(word=["a", "c"])),
        digest(signals={"wheel": trace}),
        digest(signals={"pupil": (trace[0], trace[1] + 1)}),
        digest(signals={"pupil": (trace[0] + 1, trace[1])}),
        digest(signals={"pupil": series}),
        digest(signals={"pupil": series + 1}),
        digest(signals={"pupil": np.array([1.0, 2.0, 3.0, 4.0])}),
        digest(signals={"pupil": np.array([[1.0, 2.0], [3.0, 4.0]])}),
    ]
    assert len({first, *others}) == 1 + len(others)
    again = np.array(["".join(["x"]), "y"], dtype=object)
    given = {"a": probe(0, 1, units={"cluster_id": [0, 1], "region": again})}
    assert digest(given) == others[4]


def test_a_digest_stays_what_it_is():
    """What was added by an earlier version is known again."""
    clusters, times = np.array([0, 1], "<i8"), np.array([0.5, 1.5], "<f8")
    words = np.array(["x", "y"], dtype=object)
    units = {"cluster_id": [0, 1], "region": words}
    whole = hashlib.sha256(b"|probes:|a:|clusters:int64(2,)" + clusters.tobytes())
    whole.update(b"|times:float64(2,)" + times.tobytes() + b"|units:|cluster_id:")
    for number in clusters:  # a list, part by part
        whole.update(b"|:int64(1,)" + number.tobytes())
    whole.update(b"|region:object(2,)['x', 'y']|trials:|signals:|pupil:")
    for part in (times, times):
        whole.update(b"|:float64(2,)" + part.tobytes())
    given = {"a": {"times": times, "clusters": clusters, "units": units}}
    assert _digest(given, None, {"pupil": (times, times)}) == whole.hexdigest()


class TestTablesOfClusters:
    def labels(self, metrics, n=3, **clusters):
        notes: list[str] = []
        table = None if metrics is None else {"metrics": pd.DataFrame(metrics)}
        found = labels_of_metrics("e", "f", (table or {}) | clusters, n, notes)
        return found.tolist(), notes

    def test_without_labels_they_are_missing(self):
        for metrics in (None, {"drift": [1, 2, 3]}):
            found, notes = self.labels(metrics)
            assert np.isnan(found).all()
            assert len(found) == 3
            assert notes == ["f/clusters.metrics: no labels; label is NaN"]

    def test_rows_that_tell_whose_they_are_must_be_in_order(self):
        label = [0.5, 1.0, 0.0]
        assert self.labels({"label": label, "cluster_id": [0, 1, 2]}) == (label, [])
        assert self.labels({"label": label, "uuids": ["a", "b", "c"]},
                           uuids=np.array(["a", "b", "c"])) == (label, [])  # fmt: skip
        assert self.labels({"label": label, "uuid": ["a", "b", "c"]}) == (label, [])
        with pytest.raises(SessionError, match="cluster_id is not 0 to 2 in order"):
            self.labels({"label": label, "cluster_id": [0, 2, 1]})
        with pytest.raises(SessionError, match=r"uuids is not that of clusters\.uuids"):
            self.labels({"label": label, "uuids": ["a", "c", "b"]}, uuids=np.array(list("abc")))
        with pytest.raises(SessionError, match="the index is not 0 to 2 in order"):
            labels_of_metrics(
                "e", "f", {"metrics": pd.DataFrame({"label": label}, index=[0, 2, 1])}, 3, []
            )
        named = pd.DataFrame({"label": label}, index=pd.Index([1, 2, 3], name="number"))
        with pytest.raises(SessionError, match="number is not 0 to 2"):
            labels_of_metrics("e", "f", {"metrics": named}, 3, [])

    def test_as_many_as_all_files_of_them_have(self):
        three = {"channels": np.zeros(3), "depths": np.zeros(3), "amps": np.zeros(9)}
        assert _count_clusters("e", "f", three) == 3
        assert _count_clusters("e", "f", {"amps": np.zeros(9)}) is None
        assert _count_clusters("e", "f", {"depths": np.zeros(1)}) == 1
        with pytest.raises(SessionError, match="rows do not fit together"):
            _count_clusters("e", "f", three | {"uuids": np.zeros(4)})
        with pytest.raises(SessionError, match="no units"):
            _count_clusters("e", "f", {"channels": np.zeros(0)})

    def test_ids_are_one_for_each(self):
        assert _uuids("e", {}, ["e:p:0"], "f", notes := []) == ["e:p:0"]
        assert notes == ["f/clusters.uuids: missing; units are named EID:PROBE:CLUSTER"]
        assert _uuids("e", {"uuids": pd.DataFrame({"uuids": ["u", "v"]})}, ["", ""], "f", []) == [
            "u",
            "v",
        ]
        two = SimpleNamespace(uuids=np.array([["u", "v"], ["w", "x"]]))
        with pytest.raises(SessionError, match="2 columns, expected one"):
            _uuids("e", {"uuids": two.uuids}, ["", ""], "f", [])
