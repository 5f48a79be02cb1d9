"""Predictions for the small simulated map, made once."""

from pathlib import Path

import pytest
from submissions import write_submission


@pytest.fixture(scope="session")
def submission(wide_map: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three seeds of every task and recording; tests copy it before they break it."""
    folder = tmp_path_factory.mktemp("benchmark") / "predictions"
    write_submission(folder, wide_map)
    return folder
