"""The reader of one recording, against h5py and against torch_brain's own."""

import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from judges import ask_judge, judge_python

from ibl_mtm.brainsets.layout import (
    BEHAVIOURS,
    BUILDS,
    EVAL_RECORDING_IDS,
    REGIMES,
    file_of,
    recordings_in,
)
from ibl_mtm.brainsets.recording import Recording, open_recording
from ibl_mtm.brainsets.series import RegularSeries
from ibl_mtm.errors import SessionError


def _first(root: Path, build: str = "selected_units", regime: str = "eval") -> Path:
    return file_of(root, build, regime, recordings_in(root, build, regime)[0])


def test_the_list_of_evaluated_recordings() -> None:
    assert len(set(EVAL_RECORDING_IDS)) == 29
    assert list(EVAL_RECORDING_IDS) == sorted(EVAL_RECORDING_IDS)


@pytest.mark.parametrize("build", BUILDS)
@pytest.mark.parametrize("regime", REGIMES)
def test_what_a_recording_is(wide_map: Path, build: str, regime: str) -> None:
    eids = recordings_in(wide_map, build, regime)
    assert len(eids) == {"eval": 2, "pretrain": 4}[regime]
    for eid in eids:
        with open_recording(file_of(wide_map, build, regime, eid)) as recording:
            assert (recording.build, recording.regime, recording.eid) == (build, regime, eid)
            assert recording.version == "0.1.0"
            assert recording.subject.startswith("WIDE3_E" if regime == "eval" else "WIDE3_P")
            assert recording.lab.startswith("simlab_")
            assert recording.date.startswith("2025-09-0")
            assert len(recording.date) == 10


def test_tables_are_decoded_and_in_the_files_order(wide_map: Path) -> None:
    path = _first(wide_map)
    with h5py.File(path) as file, open_recording(path) as recording:
        ids = [raw.decode() for raw in file["units/id"]]
        assert list(recording.unit_ids) == ids
        assert recording.units["region_cosmos"].map(type).eq(str).all()
        assert "wf_template" not in recording.units
        held_out = recording.held_out("test")
        assert held_out is not None
        assert held_out.sum() == max(1, round(0.1 * len(ids)))
        assert list(recording.trials.columns[:2]) == ["start", "end"]
        spikes = recording.spikes()
        assert np.array_equal(spikes.times, file["spikes/timestamps"])
        assert np.array_equal(spikes.units, file["spikes/unit_index"])


def test_domains_windows_and_normalisation(wide_map: Path) -> None:
    with open_recording(_first(wide_map)) as recording:
        spikes = recording.spikes()
        assert recording.domain().tolist() == [[spikes.times[0], spikes.times[-1]]]
        windows = recording.intervals("movement_window")
        assert windows is not None
        assert np.allclose(windows["end"] - windows["start"], 1.0)
        assert len(recording.trial_domains) == len(windows) == recording.trials["is_valid"].sum()
        mean, std = recording.normalisation("paws/left_paw_v_xy") or (None, None)
        assert mean is not None
        assert mean.shape == (2,)
        assert (std > 0).all()
        assert recording.normalisation("wheel/wheel_speed") is None
        assert recording.intervals("pupil") is None
        with pytest.raises(SessionError, match="no group pretrain_train_domain"):
            recording.domain("pretrain_train")


def test_what_is_missing_is_none(wide_map: Path) -> None:
    found = {}
    for eid in recordings_in(wide_map, "all_units", "pretrain"):
        with open_recording(file_of(wide_map, "all_units", "pretrain", eid)) as recording:
            absent = [name for name in BEHAVIOURS if recording.series(name) is None]
            quality = [recording.behavior_qc[f"qc_behavior_{name}"] for name in absent]
            assert quality == ["FAIL"] * len(absent)
            found[recording.date] = absent
            assert recording.held_out("test") is None
    assert [found[date] for date in sorted(found)] == [[], ["licks"], [], ["whisker"]]


def test_a_gap_in_a_signal_is_no_recording(wide_map: Path) -> None:
    gaps = 0
    for eid in recordings_in(wide_map, "all_units", "pretrain"):
        with open_recording(file_of(wide_map, "all_units", "pretrain", eid)) as recording:
            whisker = recording.series("whisker")
        if whisker is not None and len(whisker.domain) == 2:
            gaps += 1
            assert (~whisker.recorded).sum() == 12 * 50
            energy = whisker.values["whisker_motion_energy"]
            assert np.array_equal(np.isfinite(energy), whisker.recorded)
    assert gaps == 1


def test_rows_of_a_regular_series_are_snapped_upwards() -> None:
    start = 3.0071
    series = RegularSeries(np.array([[start, start + 2.0]]), 50.0, {"x": np.arange(100)})
    assert series.times[7] == start + 7 / 50
    assert series.first([start, start + 0.02, start + 0.0201, start + 0.03]).tolist() == [
        0,
        1,
        2,
        2,
    ]
    # Every sample's own time is its own row, however it was rounded.
    assert series.first(series.times).tolist() == list(range(100))
    assert series.first(start - 0.05) == -2
    assert series.first(start + 3.0) == 150


def _cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _change(change: Callable[[h5py.File], object]) -> Callable[[Path], None]:
    def spoil(path: Path) -> None:
        with h5py.File(path, "r+") as file:
            change(file)

    return spoil


def _set(place: str, name: str, value: object) -> Callable[[Path], None]:
    return _change(lambda file: file[place].attrs.__setitem__(name, value))


def _without(place: str) -> Callable[[Path], None]:
    return _change(lambda file: file.__delitem__(place))


def _unordered(file: h5py.File) -> None:
    file["spikes/timestamps"][3] = 1e6


def _of_no_unit(file: h5py.File) -> None:
    file["spikes/unit_index"][3] = 9999


def _twice(file: h5py.File) -> None:
    file["units/id"][2] = file["units/id"][0]


def _learned(file: h5py.File) -> None:
    """The last moment of the train domain is the first one of what is scored."""
    begins = file["ts2_test_domain/start"][0]
    at = np.searchsorted(file["ts2_train_domain/start"][:], begins) - 1
    file["ts2_train_domain/end"][at] = begins + 0.02


def _replaced(place: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Path], None]:
    def replace(file: h5py.File) -> None:
        values = change(file[place][:])
        del file[place]
        file[place] = values

    return _change(replace)


def _put(row: int, value: float) -> Callable[[np.ndarray], np.ndarray]:
    def put(values: np.ndarray) -> np.ndarray:
        values = values.astype(np.float64 if values.dtype.kind == "f" else np.int64)
        values[row] = value
        return values

    return put


def _read(path: Path) -> None:
    with open_recording(path) as recording:
        assert recording.unit_ids.size
        recording.spikes()
        recording.series("wheel")
        for split in ("train", "val", "test"):
            recording.domain(f"ts2_{split}")


def test_spikes_at_one_time_and_of_the_last_unit_are_read(wide_map: Path, tmp_path: Path) -> None:
    path = tmp_path / _first(wide_map).name
    shutil.copy(_first(wide_map), path)
    with h5py.File(path) as file:
        last, time = len(file["units/id"]) - 1, float(file["spikes/timestamps"][4])
    _replaced("spikes/unit_index", _put(3, last))(path)
    _replaced("spikes/timestamps", _put(3, time))(path)
    with open_recording(path) as recording:
        spikes = recording.spikes()
    assert spikes.units[3] == last
    assert spikes.times[3] == spikes.times[4] == time


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (Path.unlink, "missing; fetch it, or mend the path"),
        (_cut_off, "no whole HDF5 file .*; delete it and fetch it anew"),
        (lambda path: path.write_text("<html>"), "no whole HDF5 file"),
        (_set("brainset", "id", "perich_2018"), "brainset 'perich_2018' where 'ibl_brain"),
        (_set("brainset", "derived_version", "0.2.0"), "derived_version 0.2.0, where 0.1.x is"),
        (_set("brainset", "unit_filtering", "custom"), "unit_filtering 'custom' is none of all_u"),
        (_set("session", "id", "x"), "holds session x; a file is named by its session"),
        (_without("trials"), "no group trials; not whole"),
        (_without("ts1_train_domain"), "neither ts1_train_domain nor pretrain_train_domain"),
        (_without("units/id"), "units: no column id"),
        (_without("spikes/unit_index"), "no spikes/unit_index"),
        (_change(_unordered), "spikes/timestamps: not finite and in ascending order"),
        (_change(_of_no_unit), "spikes/unit_index: 0 to 9999, of "),
        (_replaced("spikes/unit_index", _put(3, -1)), "spikes/unit_index: -1 to "),
        (_replaced("spikes/timestamps", _put(0, np.nan)), "not finite and in ascending order"),
        (_replaced("spikes/unit_index", lambda a: a[1:]), r"timestamps but \(.*\) unit_index"),
        (
            _replaced("spikes/timestamps", lambda a: np.stack([a, a], axis=1)),
            r", 2\) timestamps but",
        ),
        (_replaced("units/id", lambda a: a[1:]), "units: columns of unequal length"),
        (_set("wheel", "sampling_rate", 0.0), "wheel: no signals of one length at one sampling"),
        (_set("wheel", "sampling_rate", -50.0), "wheel: no signals of one length at one sampling"),
        (_replaced("wheel/wheel_speed", lambda a: a[1:]), "wheel: no signals of one length"),
        (_replaced("wheel/domain/end", lambda a: a + 1), "wheel: .* another number than in its"),
        (_change(_twice), r"units/id: [-0-9a-f]{36} stands twice"),
        (
            _replaced("ts2_val_domain/end", lambda a: a - 1e4),
            "ts2_val_domain: an interval ends bef",
        ),
        (
            _replaced("ts2_val_domain/end", lambda a: a * np.nan),
            "ts2_val_domain: an interval .* no n",
        ),
        (_replaced("ts2_train_domain/end", _put(-1, -1.0)), "ts2_train_domain: an interval ends"),
        (
            _replaced("ts2_val_domain/end", lambda a: a[:0]),
            r"ts2_val_domain: \(.*\) starts but \(0,",
        ),
        (_change(_learned), r"ts2_train_domain and ts2_test_domain overlap \(\d+\.\d\d to .* s\)"),
    ],
)
def test_a_file_that_cannot_be_trusted(
    wide_map: Path, tmp_path: Path, spoil: Callable[[Path], None], said: str
) -> None:
    path = tmp_path / _first(wide_map).name
    shutil.copy(_first(wide_map), path)
    spoil(path)
    with pytest.raises(SessionError, match=said) as caught:
        _read(path)
    assert caught.value.eid == path.stem
    assert str(path) in caught.value.reason


def test_domains_may_touch(wide_map: Path, tmp_path: Path) -> None:
    path = tmp_path / _first(wide_map).name
    shutil.copy(_first(wide_map), path)
    with h5py.File(path, "r+") as file:
        _learned(file)
        begins = file["ts2_test_domain/start"][0]
        ends = file["ts2_train_domain/end"][:]
        file["ts2_train_domain/end"][:] = np.where(ends == begins + 0.02, begins, ends)
    with open_recording(path) as recording:
        assert begins in recording.domain("ts2_train")[:, 1]
        assert begins in recording.domain("ts2_test")[:, 0]


def test_a_file_that_may_not_be_read(wide_map: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def deny(*given: object) -> None:
        raise PermissionError(13, "no")

    monkeypatch.setattr(h5py, "File", deny)
    with (
        pytest.raises(SessionError, match="may not be read; change its permissions"),
        open_recording(_first(wide_map)),
    ):
        pass


def _ours(recording: Recording, place: str) -> np.ndarray:
    """An array of torch_brain's by its place there, as our reader gives it."""
    group, _, key = place.rpartition("/")
    if key == "timestamps" and group != "spikes":
        series = recording.series(group)
        assert series is not None
        return series.times
    if group == "units" and key in recording.units:
        return recording.units[key].to_numpy()
    if group == "trials":
        return recording.trials[key].to_numpy()
    if group.endswith(("domain", "_domain")) and group.count("/") == 0 and group != "domain":
        return recording.domain(group.removesuffix("_domain"))[:, int(key == "end")]
    return recording._array(recording._group(group or "/"), key)


@pytest.mark.slow
@pytest.mark.parametrize("build", BUILDS)
@pytest.mark.parametrize("regime", REGIMES)
def test_torch_brain_and_temporaldata_read_the_same(
    wide_map: Path, tmp_path: Path, build: str, regime: str
) -> None:
    judge_python()
    for eid in recordings_in(wide_map, build, regime):
        path = file_of(wide_map, build, regime, eid)
        ask_judge("open_brainset.py", path, tmp_path)
        with open_recording(path) as recording:
            wheel = recording.series("wheel")
            assert wheel is not None
            spikes = recording.spikes()
            for library in ("torch_brain", "temporaldata"):
                theirs = np.load(tmp_path / f"{library}.npz")
                compared = 0
                for place in theirs.files:
                    if theirs[place].ndim == 0 or place.startswith("slice/"):
                        continue
                    ours = _ours(recording, place)
                    theirs_here = theirs[place]
                    if theirs_here.dtype.kind == "U":
                        ours = ours.astype(str)
                    np.testing.assert_array_equal(ours, theirs_here, err_msg=place)
                    compared += 1
                assert compared > 70
                for k, start in enumerate((100.0, 200.0071, 301.25)):
                    first = int(wheel.first(start))
                    speed = wheel.values["wheel_speed"][first : first + 50]
                    np.testing.assert_array_equal(theirs[f"slice/{k}/wheel"], speed)
                    inside = (spikes.times >= start) & (spikes.times < start + 1.0)
                    np.testing.assert_allclose(
                        theirs[f"slice/{k}/spikes"], spikes.times[inside] - start, atol=1e-12
                    )
