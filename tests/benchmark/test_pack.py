"""The zip that is uploaded."""

import zipfile
from pathlib import Path

import pytest
from submissions import write_submission

from ibl_mtm.benchmark.check import check_submission
from ibl_mtm.benchmark.data import BenchmarkData
from ibl_mtm.benchmark.pack import pack
from ibl_mtm.errors import UserError


def test_the_label_is_at_its_root_and_it_checks_well(
    submission: Path, wide_map: Path, tmp_path: Path
) -> None:
    made = pack(submission, tmp_path / "x.zip")
    with zipfile.ZipFile(made) as archive:
        names = archive.namelist()
        assert archive.testzip() is None
    assert {name.partition("/")[0] for name in names} == {"noisy"}
    assert len(names) == 3 * (10 * len(BenchmarkData(wide_map).recordings) + 1)
    assert check_submission(made, BenchmarkData(wide_map)).ok


def test_the_folder_of_the_label_alone_and_what_exists(wide_map: Path, tmp_path: Path) -> None:
    write_submission(tmp_path, wide_map, "a", (1, 2, 3), ("ts1-choice",))
    made = pack(tmp_path / "a")
    assert made == tmp_path / "a.zip"
    with pytest.raises(UserError, match="exists"):
        pack(tmp_path / "a")
    file = next(tmp_path.rglob("seed_1.safetensors"))
    file.write_bytes(file.read_bytes() + b" ")
    pack(tmp_path, label="a", overwrite=True)
    with zipfile.ZipFile(made) as archive:  # anew, not what was there
        name = file.relative_to(tmp_path).as_posix()
        assert archive.read(name) == file.read_bytes()
    made.write_text("not ours")
    with pytest.raises(UserError, match="no zip"):
        pack(tmp_path, label="a", overwrite=True)
    assert made.read_text() == "not ours"


def test_several_labels(wide_map: Path, tmp_path: Path) -> None:
    for label in ("a", "b"):
        write_submission(tmp_path, wide_map, label, (1,), ("ts3-unit_cosmos",))
    with pytest.raises(UserError, match="several submissions"):
        pack(tmp_path)
    with pytest.raises(UserError, match="no predictions of label 'c'"):
        pack(tmp_path, label="c")
    with zipfile.ZipFile(pack(tmp_path, label="b")) as archive:
        assert archive.namelist() == ["b/ts3-unit_cosmos/seed_1.safetensors"]
