"""Single steps of the layout of 2019: trials, units, traces, by hand."""

from pathlib import Path

import numpy as np
import pytest

from ibl_mtm.errors import SessionError
from ibl_mtm.ingest.own.alf_2019 import _attempt, _behaviour, _of_clusters, _probes, _trials

NAN = np.nan


def save(folder: Path, **arrays) -> None:
    for name, values in arrays.items():
        np.save(folder / f"{name.replace('__', '.')}.npy", np.array(values))


def test_a_contrast_is_of_one_side(tmp_path):
    save(
        tmp_path,
        trials__visualStim_contrastLeft=[0.5, 0, 0.5, 0],
        trials__visualStim_contrastRight=[0, 1, 0.5, 0],
        trials__response_choice=[[1], [-1], [0], [1]],
        trials__included=[1, 0, 1, 1],
        trials__goCue_times=[1.0, 2, 3, 4],
    )
    table = _trials("e", tmp_path)
    np.testing.assert_array_equal(table["contrastLeft"], [0.5, NAN, NAN, NAN])
    np.testing.assert_array_equal(table["contrastRight"], [NAN, 1, NAN, NAN])
    assert table["choice"].tolist() == [1, -1, 0, 1]
    assert table["engaged"].tolist() == [True, False, True, True]
    assert table["goCue_times"].tolist() == [1, 2, 3, 4]
    (tmp_path / "trials.visualStim_contrastLeft.npy").unlink()
    assert "contrastRight" not in _trials("e", tmp_path)
    save(tmp_path, trials__repNum=[1, 2, 3])
    with pytest.raises(SessionError, match="rows do not fit together"):
        _trials("e", tmp_path)


def test_what_is_told_of_clusters_is_one_value_for_each(tmp_path):
    notes: list[str] = []
    assert _of_clusters("e", tmp_path, "probes", 3, 0, notes).tolist() == [0, 0, 0]
    assert notes == ["clusters.probes: missing"]
    save(tmp_path, clusters__probes=[[1], [0], [1]])
    assert _of_clusters("e", tmp_path, "probes", 3, 0, notes).tolist() == [1, 0, 1]
    with pytest.raises(SessionError, match=r"\(3,\) values for 4 clusters"):
        _of_clusters("e", tmp_path, "probes", 4, 0, notes)
    assert len(notes) == 1


@pytest.fixture
def sorted_folder(tmp_path):
    save(
        tmp_path,
        spikes__times=[0.5, 1.5, 2.5, 3.5, 4.5, 5.5],
        spikes__clusters=[0, 1, 3, 2, 1, 0],
        clusters__peakChannel=[1, 2, 9, 2],  # as MATLAB counts
        clusters___phy_annotation=[2, 1, 3, 0],
        clusters__depths=[20, 40, 60, 80],
    )
    (tmp_path / "channels.brainLocation.tsv").write_text("allen_ontology\nCA1\nDG\n")
    return tmp_path


def test_units_by_hand(sorted_folder):
    notes: list[str] = []
    found = _probes("e", sorted_folder, notes)
    assert list(found) == ["probe00"]
    one = found["probe00"]
    assert one["clusters"].tolist() == [0, 1, 2, 1, 0]  # the fourth is noise
    assert one["times"].tolist() == [0.5, 1.5, 3.5, 4.5, 5.5]
    units = one["units"]
    assert units["channel"].tolist() == [0, 1, 8]
    assert units["region"].tolist() == ["CA1", "DG", None]
    assert units["depth"].tolist() == [20, 40, 60]
    assert units["label"].tolist() == ["good", "mua", "unsorted"]
    assert "clusters.peakChannel: 1 are of no channel; no region" in notes
    assert "clusters.probes: missing" in notes


def test_probes_are_told_apart_and_one_without_spikes_is_noted(sorted_folder):
    save(sorted_folder, clusters__probes=[0, 2, 0, 2], clusters__peakChannel=[1, 2, 1, 2])
    notes: list[str] = []
    found = _probes("e", sorted_folder, notes)
    assert {name: one["clusters"].tolist() for name, one in found.items()} == {
        "probe00": [0, 2, 0],
        "probe02": [1, 1],
    }
    assert not any("of no channel" in note for note in notes)
    save(sorted_folder, clusters__probes=[0, 0, 0, 0], spikes__clusters=[1] * 6)
    save(sorted_folder, clusters__probes=[0, 1, 0, 1])
    notes = []
    assert list(_probes("e", sorted_folder, notes)) == ["probe01"]
    assert "probe00: no spikes" in notes


@pytest.mark.parametrize(
    ("arrays", "told"),
    [
        ({"spikes__clusters": [0, 1]}, "6 times, 2 clusters"),
        ({"spikes__clusters": [0, 1, 4, 0, 0, 0]}, r"spikes\.clusters: 4 of 4"),
    ],
)
def test_spikes_that_do_not_fit(sorted_folder, arrays, told):
    save(sorted_folder, **arrays)
    with pytest.raises(SessionError, match=told):
        _probes("e", sorted_folder, [])
    (sorted_folder / "channels.brainLocation.tsv").write_text("ccf\n1\n")
    save(sorted_folder, spikes__clusters=[0] * 6)
    with pytest.raises(SessionError, match="no column allen_ontology"):
        _probes("e", sorted_folder, [])


def test_samples_lie_between_the_marks_of_their_clock(tmp_path):
    save(tmp_path, face__motion=[1.0, 2, NAN, 4, 5], face__timestamps=[[0, 10], [4, 18]])
    notes: list[str] = []
    found = _attempt("e", tmp_path, "face.motion", notes)
    assert (found.times.tolist(), found.values.tolist()) == ([10, 12, 16, 18], [1, 2, 4, 5])
    assert notes == []
    for marks in ([0, 10], [[0, 10, 3]], [[0], [4]]):
        save(tmp_path, face__timestamps=marks)
        assert _attempt("e", tmp_path, "face.motion", notes) is None
    assert len(notes) == 3
    assert notes[0] == "face.motion: (5,) values, (2,) timestamps"
    assert _attempt("e", tmp_path, "eye.area", notes) is None
    assert notes[-1] == "eye.area.npy: missing"


def test_a_wheel_of_1440_ticks_a_turn(tmp_path):
    # A quarter of a turn in two seconds, evenly.
    save(tmp_path, wheel__position=np.linspace(0, 360, 201),
         wheel__timestamps=[[0, 5], [200, 7]], licks__times=[5.5, 6.5])  # fmt: skip
    notes: list[str] = []
    found = _behaviour("e", tmp_path, notes)
    wheel = found["wheel_velocity"]
    middle = (wheel.times > 5.5) & (wheel.times < 6.5)
    np.testing.assert_allclose(wheel.values[middle], np.pi / 4, rtol=1e-3)
    assert found["licks"].tolist() == [5.5, 6.5]
    assert notes == []
    (tmp_path / "licks.times.npy").unlink()
    (tmp_path / "wheel.position.npy").unlink()
    assert _behaviour("e", tmp_path, notes) == {}
    assert notes == ["wheel.position.npy: missing", "licks.times: missing"]
