"""Every rule of the validator: one submission that breaks it, and is told so by its code."""

import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from safetensors.numpy import save_file

from ibl_mtm.benchmark.check import check_submission
from ibl_mtm.benchmark.data import BenchmarkData
from ibl_mtm.benchmark.rules import RULES
from ibl_mtm.benchmark.score import score_submissions
from ibl_mtm.benchmark.submission import open_submission
from ibl_mtm.brainsets.layout import EVAL_RECORDING_IDS, file_of
from ibl_mtm.errors import UserError

Tensors, Metadata = dict[str, np.ndarray], dict[str, str]
Break = Callable[[Path], None]


def rewrite(folder: Path, task: str, change: Callable[[Tensors, Metadata], object]) -> None:
    """Change one file of a task: the first recording's, seed 44."""
    file = sorted((folder / "noisy" / task).rglob("seed_44.safetensors"))[0]
    with open_submission(folder) as submissions:
        entry = next(e for e in submissions["noisy"] if (folder / e.name) == file)
        tensors, metadata = entry.tensors(), entry.metadata()
    change(tensors, metadata)
    save_file({k: np.ascontiguousarray(v) for k, v in tensors.items()}, file, metadata)


def edit(task: str, change: Callable[[Tensors, Metadata], object]) -> Break:
    return lambda folder: rewrite(folder, task, change)


def first(folder: Path, task: str = "ts1-choice") -> Path:
    return sorted((folder / "noisy" / task).rglob("seed_44.safetensors"))[0]


def replaced(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[..., None]:
    def apply(tensors: Tensors, metadata: Metadata) -> None:
        tensors[name] = change(tensors[name])

    return apply


def said(**values: str) -> Callable[..., None]:
    return lambda tensors, metadata: metadata.update(values)


def _nan(x: np.ndarray) -> np.ndarray:
    x = x.copy()
    x[-1, 0, 0] = np.inf
    return x


def _twice(x: np.ndarray) -> np.ndarray:
    return np.concatenate([x[:-1], x[:1]])


def _rename(folder: Path, name: str) -> None:
    first(folder).rename(first(folder).with_name(name))


def _move(folder: Path, place: str) -> None:
    target = folder / place
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(first(folder), target)


def _drop(folder: Path, pattern: str) -> None:
    for path in (folder / "noisy").glob(pattern):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


BROKEN: list[tuple[str, str, Break]] = [
    ("E001", "metadata", edit("ts1-choice", lambda t, m: m.pop("unit_filtering"))),
    ("E001", "recording", edit("ts2-forecasting", lambda t, m: m.pop("recording_id"))),
    ("E001", "labels", edit("ts3-unit_cosmos", lambda t, m: m.pop("label_names"))),
    ("E001", "tensor", edit("ts1-choice", lambda t, m: t.pop("trial_id"))),
    ("E001", "units", edit("ts2-forecasting", lambda t, m: t.pop("unit_ids"))),
    ("E002", "filtering", edit("ts1-choice", said(unit_filtering="good_units"))),
    ("E003", "version", edit("ts1-choice", said(dataset_version="0.1"))),
    ("E004", "name", lambda f: _rename(f, "seed_x.safetensors")),
    ("E005", "task", lambda f: _move(f, "noisy/ts1-licking/x/seed_43.safetensors")),
    ("E006", "classes", edit("ts1-choice", replaced("predictions", lambda x: x[..., :1]))),
    ("E006", "dimensions", edit("ts1-choice", replaced("predictions", lambda x: x[:, 0]))),
    ("E006", "steps", edit("ts1-wheel_speed", replaced("predictions", lambda x: x[:, :49]))),
    ("E006", "trials", edit("ts1-wheel_speed", replaced("trial_id", lambda x: x[:-1]))),
    ("E007", "dimensions", edit("ts2-forecasting", replaced("predictions", lambda x: x[0]))),
    ("E007", "steps", edit("ts2-forecasting", replaced("predictions", lambda x: x[:, 1:]))),
    ("E007", "units", edit("ts2-forecasting", replaced("predictions", lambda x: x[..., 1:]))),
    ("E007", "windows", edit("ts2-co_smoothing", replaced("window_timestamps", lambda x: x[1:]))),
    (
        "E007",
        "single precision",
        edit("ts2-co_smoothing", replaced("window_timestamps", lambda x: x.astype(np.float32))),
    ),
    ("E008", "twice", edit("ts2-forecasting", replaced("window_timestamps", _twice))),
    ("E009", "classes", edit("ts3-unit_cosmos", replaced("pred_proba", lambda x: x[:, 1:]))),
    ("E009", "rows", edit("ts3-unit_cosmos", replaced("entity_ids", lambda x: x[1:]))),
    ("E009", "ascii", edit("ts3-unit_cosmos", replaced("entity_ids", lambda x: x | 128))),
    (
        "E010",
        "order",
        edit("ts3-unit_cosmos", said(label_names="TH,CB,CNU,CTXsp,HB,HPF,HY,OLF,MB,Isocortex")),
    ),
    (
        "E011",
        "recording",
        lambda f: _move(f, f"noisy/ts1-choice/{EVAL_RECORDING_IDS[0]}/seed_43.safetensors"),
    ),
    ("E012", "trial", edit("ts1-choice", replaced("trial_id", lambda x: x + 1000))),
    (
        "E012",
        "last bit",
        edit("ts2-forecasting", replaced("window_timestamps", lambda x: np.nextafter(x, np.inf))),
    ),
    ("E012", "order", edit("ts2-forecasting", replaced("unit_ids", lambda x: x[::-1]))),
    ("E012", "unit", edit("ts3-unit_cosmos", replaced("entity_ids", lambda x: np.roll(x, 1, 1)))),
    ("E013", "depth", lambda f: _move(f, "noisy/ts1-choice/seed_43.safetensors")),
    ("E013", "depth of regions", lambda f: _move(f, "noisy/ts3-unit_cosmos/x/seed_43.safetensors")),
    ("E013", "seed", edit("ts1-choice", said(seed="45"))),
    ("E013", "label", edit("ts1-choice", said(label="other"))),
    ("E013", "recording", edit("ts1-choice", said(recording_id=EVAL_RECORDING_IDS[0]))),
    ("E014", "other file", lambda f: (f / "noisy" / "notes.txt").write_text("x") and None),
    ("E101", "two seeds", lambda f: _drop(f, "ts1-choice/*/seed_45.safetensors")),
    (
        "E102",
        "gap",
        lambda f: (
            [
                p.rename(p.with_name("seed_50.safetensors"))
                for p in (f / "noisy/ts1-choice").rglob("seed_45.*")
            ]
            and None
        ),
    ),
    ("E103", "unequal", lambda f: first(f).unlink()),
    ("E104", "recording", lambda f: shutil.rmtree(first(f).parent)),
    ("E105", "leading zero", lambda f: _move(f, str(first(f).with_name("seed_044.safetensors")))),
    ("E107", "infinite", edit("ts1-wheel_speed", replaced("predictions", _nan))),
    ("E108", "version", edit("ts1-choice", said(dataset_version="0.2.0"))),
    ("E109", "all units", edit("ts2-forecasting", said(unit_filtering="all_units"))),
    ("E109", "custom units", edit("ts3-unit_cosmos", said(unit_filtering="custom"))),
    ("E999", "cut off", lambda f: first(f).write_bytes(first(f).read_bytes()[:-8]) and None),
    ("E999", "no file", lambda f: first(f).write_bytes(b"") and None),
]


#: What else is true of a submission that breaks a rule: a file lost is a seed lost.
FOLLOW = {
    "E004": {"E103"},
    "E008": {"E012"},
    "E011": {"E013", "E103"},
    "E102": {"E013"},
    "E105": {"E013"},
}


@pytest.fixture
def folder(submission: Path, tmp_path: Path) -> Path:
    for task in (
        "ts1-choice",
        "ts1-wheel_speed",
        "ts2-co_smoothing",
        "ts2-forecasting",
        "ts3-unit_cosmos",
    ):
        shutil.copytree(submission / "noisy" / task, tmp_path / "broken" / "noisy" / task)
    return tmp_path / "broken"


def test_what_the_benchmark_takes_is_found_well(submission: Path, wide_map: Path) -> None:
    report = check_submission(submission, BenchmarkData(wide_map))
    assert report.findings == []
    assert report.ok
    assert report.unchecked == []
    n_recordings = len(BenchmarkData(wide_map).recordings)
    assert report.n_files == {"noisy": 3 * (10 * n_recordings + 1)}


@pytest.mark.parametrize(
    ("code", "break_it"), [b[::2] for b in BROKEN], ids=[f"{b[0]} {b[1]}" for b in BROKEN]
)
def test_rule(folder: Path, wide_map: Path, code: str, break_it: Break) -> None:
    break_it(folder)
    report = check_submission(folder, BenchmarkData(wide_map))
    found = {finding.code for finding in report.findings}
    assert code in found
    assert found <= {code} | FOLLOW.get(code, set())
    assert not report.ok


def test_every_rule_is_broken_once(folder: Path) -> None:
    # One label for each folder: only a zip can hold two.
    assert set(RULES) == {code for code, _, _ in BROKEN} | {"E106"}


def test_a_zip_of_two_labels(submission: Path, wide_map: Path, tmp_path: Path) -> None:
    path = tmp_path / "two.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted((submission / "noisy").rglob("*.safetensors")):
            archive.write(file, file.relative_to(submission).as_posix())
        file = first(submission)
        archive.write(file, f"other/ts1-choice/{file.parent.name}/seed_44.safetensors")
        archive.writestr("__MACOSX/._x", "litter")
        archive.writestr("noisy/.DS_Store", "litter")
    codes = [f.code for f in check_submission(path, BenchmarkData(wide_map)).findings]
    assert "E106" in codes
    assert "E014" not in codes


def test_a_damaged_member_of_a_zip_is_that_file_s_finding(
    submission: Path, wide_map: Path, tmp_path: Path
) -> None:
    """Wherever the damage lies: in what is deflated, or in the header of safetensors."""
    source = first(submission)
    name = source.relative_to(submission).as_posix()
    for offset, codes in ((2, {"E999"}), (-20, {"E999"})):
        path = tmp_path / f"damaged{offset}.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.write(source, name)
            (info,) = archive.infolist()
        content = bytearray(path.read_bytes())
        start = info.header_offset + 30 + len(name)
        at = start + offset if offset > 0 else start + info.compress_size + offset
        content[at : at + 8] = b"\xff" * 8
        path.write_bytes(content)
        found = {f.code for f in check_submission(path).findings if f.where == name}
        assert codes <= found
        scores = score_submissions(path, BenchmarkData(wide_map))
        assert list(scores.failed) == [name]


def test_files_of_some_recordings_do_not_make_the_others_needless(
    submission: Path, wide_map: Path, tmp_path: Path
) -> None:
    """With one of the 29 in the folder, 29 are due, and what cannot be compared is told."""
    eid, listed = BenchmarkData(wide_map).recordings[0], EVAL_RECORDING_IDS[0]
    shutil.copytree(
        submission / "noisy" / "ts1-choice" / eid, tmp_path / "p/noisy/ts1-choice" / listed
    )
    data = file_of(tmp_path / "bwb", "all_units", "eval", listed)
    data.parent.mkdir(parents=True)
    data.write_bytes(file_of(wide_map, "all_units", "eval", eid).read_bytes())
    with h5py.File(data, "r+") as file:
        file["session"].attrs["id"] = listed
    report = check_submission(tmp_path / "p", BenchmarkData(tmp_path / "bwb"))
    assert {f.code for f in report.findings} == {"E013", "E104"}  # E013: of the copied metadata
    assert "28 of 29" in next(f.what for f in report.findings if f.code == "E104")
    assert report.unchecked == ["E012"]
    # A folder without one file for evaluation tells as little as none at all.
    data.unlink()
    report = check_submission(submission, BenchmarkData(tmp_path / "bwb"))
    assert {f.code for f in report.findings} == {"E011", "E104"}


def test_what_is_declared_to_know_no_seeds(folder: Path, wide_map: Path) -> None:
    _drop(folder, "**/seed_4[34].safetensors")
    data = BenchmarkData(wide_map)
    assert {f.code for f in check_submission(folder, data).findings} == {"E101"}
    assert check_submission(folder, data, deterministic=True).ok


def test_without_the_recordings_their_ids_are_the_public_ones(submission: Path) -> None:
    report = check_submission(submission)
    assert {f.code for f in report.findings} == {"E011", "E104"}  # of a simulation
    assert report.unchecked == ["E012"]
    assert report.to_json()["findings"][0]["rule"] == RULES["E011"]


def test_the_last_bit_is_told(folder: Path, wide_map: Path) -> None:
    {b[1]: b[2] for b in BROKEN}["last bit"](folder)
    (finding,) = check_submission(folder, BenchmarkData(wide_map)).findings
    assert "last bits" in finding.what


def test_no_predictions(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no predictions"):
        check_submission(tmp_path)
    with pytest.raises(UserError, match="no folder or zip"):
        check_submission(tmp_path / "nowhere")
    (tmp_path / "text").write_text("x")
    with pytest.raises(UserError, match="no zip"):
        check_submission(tmp_path / "text")
