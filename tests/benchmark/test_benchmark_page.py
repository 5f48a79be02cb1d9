"""The page of a benchmark folder."""

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from ibl_mtm.benchmark.results import benchmark_page, write_page
from ibl_mtm.benchmark.score import Scores, write_scores
from ibl_mtm.benchmark.score_table import COLUMNS
from ibl_mtm.errors import UserError

ROWS = [
    ("mtm", "ts1-wheel_speed", "x", 1, "r2", 0.5),
    ("mtm", "ts1-wheel_speed", "x", 2, "r2", 0.7),
    ("mtm", "ts1-wheel_speed", "y", 1, "r2", -1.0),
    ("mtm", "ts1-wheel_speed", "y", 2, "r2", 0.2),
    ("mtm", "ts1-wheel_speed", "y", 2, "mae", 9.0),
    ("linear", "ts1-wheel_speed", "x", 1, "r2", 0.1),
    ("linear", "ts1-wheel_speed", "y", 1, "r2", 0.3),
    ("linear", "ts3-unit_cosmos", "", 1, "macro/f1-score", 0.25),
]


def test_scores_errors_ranks_and_each_recording() -> None:
    page = benchmark_page(pd.DataFrame(ROWS, columns=COLUMNS))
    # Seeds: (0.5 + 0) / 2 and (0.7 + 0.2) / 2; recordings: 0.6 and 0.1.
    assert "| wheel speed | r2 | 0.200 (0.100) | **0.350 ± 0.100 (0.250)** |" in page
    assert "| region of units | macro/f1-score | 0.250 | – |" in page
    assert "9.0" not in page
    assert "2 submissions, 2 recordings, seeds 1, 2. Scores are" in page
    assert "| task | metric | linear | mtm |\n| --- | --- | --- | --- |\n" in page
    assert [line for line in page.splitlines() if line.startswith("#")] == [
        "# BrainWideBench", "## TS1: behaviour decoding", "## TS3: brain region of units",
        "## Ranks", "## Each recording",
    ]  # fmt: skip
    assert "| task | recording | linear | mtm |" in page
    assert "| wheel speed | x | 0.100 | 0.600 |" in page
    assert "| region of units | all | 0.250 | – |" in page
    assert "| submission | wheel speed | region of units | all |" in page
    assert "| wheel speed | y | 0.300 | -0.400 |" in page
    assert "| linear | 1.50 | 1.00 | 1.25 |" in page
    assert "| mtm | 1.50 |  |  |" in page


def test_a_page_replaces_pages_only(tmp_path: Path) -> None:
    write_scores(Scores(pd.DataFrame(ROWS, columns=COLUMNS)), tmp_path)
    out = tmp_path / "page.md"
    write_page(tmp_path, out)
    write_page(tmp_path, out)
    out.write_text("my notes")
    with pytest.raises(UserError, match="not replaced"):
        write_page(tmp_path, out)
    assert out.read_text() == "my notes"
    with pytest.raises(UserError, match="is a folder"):
        write_page(tmp_path, tmp_path)


def test_a_table_is_read_without_torch_and_scikit_learn() -> None:
    code = (
        "import sys, ibl_mtm.benchmark.results\n"
        "print(*sorted({'torch', 'sklearn', 'h5py'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
