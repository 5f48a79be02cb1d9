"""Rules that no file of a submission is needed for: paths, and windows that are nearly right."""

import numpy as np
import pytest

from ibl_mtm.benchmark import rules
from ibl_mtm.benchmark.rules import check_path
from ibl_mtm.benchmark.submission import Place


@pytest.mark.parametrize(
    ("path", "code", "said"),
    [
        ("l/ts1-choice/x/seed_43.safetensors", None, ""),
        ("l/ts3-unit_cosmos/seed_0.safetensors", None, ""),
        ("l/ts1-choice/x/seed_43.txt", "E014", "only seed_N.safetensors belong there"),
        ("notes.safetensors", "E014", "only seed_N.safetensors belong there"),
        ("seed_43.safetensors", "E014", "only seed_N.safetensors belong there"),
        ("l/ts1-choice/x/model.safetensors", "E014", "only seed_N.safetensors belong there"),
        ("l/ts1-choice/x/seed_4b.safetensors", "E004", "with N a number"),
        ("l/seed_.safetensors", "E004", "with N a number"),
        ("l/seed_43.safetensors", "E013", "expected LABEL/TASK/[RECORDING/]seed_N"),
        ("l/ts1-choice/x/y/seed_43.safetensors", "E013", "expected LABEL/TASK/[RECORDING/]seed_N"),
        ("l/ts9/x/seed_43.safetensors", "E005", "'ts9' is none of ts1-choice"),
        ("l/ts9/seed_43.safetensors", "E005", "'ts9' is none of ts1-choice"),
        ("l/ts1-choice/seed_43.safetensors", "E013", "ts1-choice needs the folder of a recording"),
        ("l/ts3-unit_cosmos/x/seed_43.safetensors", "E013", "one file for all recordings"),
    ],
)
def test_paths(path: str, code: str | None, said: str) -> None:
    found = check_path(path)
    assert (found is None) == (code is None)
    place = Place.of(path)
    assert (place is None) == (code is not None)
    if place is not None:
        assert place.path == path
    if found is not None:
        assert (found.code, found.where) == (code, path)
        assert said in found.what
        assert str(found) == f"{code} {path}: {found.what}"


ASKED = 100.0 + 0.02 * np.arange(6)


@pytest.mark.parametrize(
    ("found", "told", "near"),
    [
        (ASKED, None, False),
        (ASKED[::-1], None, False),  # in any order
        (np.r_[ASKED[:4], ASKED[4:] + 1e-9], "2 of 6 are missing, 2 are none of them", True),
        (np.r_[ASKED[:5], 103.0, ASKED[5] + 1e-9], "1 of 6 are missing, 2 are none", True),
        (ASKED + 0.01, "6 of 6 are missing, 6 are none of them", False),
        (ASKED[1:], "1 of 6 are missing, 0 are none of them", False),
        (np.r_[ASKED, 200.0], "0 of 6 are missing, 1 are none of them", False),
    ],
)
def test_windows_that_differ_by_rounding_are_told_so(
    found: np.ndarray, told: str | None, near: bool
) -> None:
    findings = list(rules._same(found, ASKED, "window_timestamps", "file"))
    assert len(findings) == (told is not None)
    for finding in findings:
        assert (finding.code, finding.where) == ("E012", "file")
        assert told is not None
        assert told in finding.what
        assert ("some differ in their last bits only" in finding.what) == near
    for finding in rules._same(found, ASKED, "trial_id", "file"):
        assert "last bits" not in finding.what
