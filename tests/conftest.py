"""Fixtures shared by all rooms."""

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# Tests run several at a time: each takes one thread.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# The same examples every time: a failure is a defect of the change at hand.
settings.register_profile("same", derandomize=True, deadline=None)
settings.load_profile("same")

SHARED_DATA = Path(__file__).parents[1].parent / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real recordings and recorded answers, kept beside the checkout."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"the development data are not at {SHARED_DATA}")
    return SHARED_DATA


def _threads() -> int | None:
    torch = sys.modules.get("torch")
    return None if torch is None else int(torch.get_num_threads())


@pytest.fixture(autouse=True)
def _threads_stay() -> Iterator[None]:
    """PyTorch's threads are the process's: a test that leaves it more slows all that follow."""
    before = _threads()
    yield
    assert before in (None, _threads()), "a test leaves PyTorch with another number of threads"


@pytest.fixture
def run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """The command line as a user types it: exit code, standard output, standard error."""
    from ibl_mtm.cli import main

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["ibl-mtm", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            main()
        shown = capsys.readouterr()
        return int(stop.value.code or 0), shown.out, shown.err

    return run


@pytest.fixture(scope="session")
def wide_map(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A simulated brain-wide map: two sessions for evaluation, four to pre-train on."""
    from wide_maps import make_wide_map

    return make_wide_map(tmp_path_factory.mktemp("wide") / "bwb")
