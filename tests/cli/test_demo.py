"""The demo takes a folder of its own, and nobody else's."""

import pytest

from ibl_mtm.cli import demo
from ibl_mtm.errors import UserError


@pytest.fixture
def nothing_is_done(monkeypatch):
    class StopError(Exception):
        pass

    def ingest(dataset, name, cache):
        raise StopError

    monkeypatch.setattr(demo, "ingest", ingest)
    return StopError


@pytest.mark.parametrize("folder", ["cache.zarr", "runs/mine", "notes"])
def test_a_folder_that_no_demo_made_is_refused(tmp_path, nothing_is_done, folder):
    """A lab's own cache and runs look like a demo's."""
    (tmp_path / folder).mkdir(parents=True)
    (tmp_path / folder / "model.safetensors").write_text("weeks of training")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError, match="that no demo made"):
        demo.run_demo(tmp_path)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_demo_begins_again_in_its_own_folder_and_keeps_what_others_put_there(
    tmp_path, nothing_is_done
):
    out = tmp_path / "new" / "demo"
    for _ in range(2):
        with pytest.raises(nothing_is_done):
            demo.run_demo(out)
        mine = out / "runs" / "mine"
        mine.mkdir(parents=True, exist_ok=True)
    assert mine.is_dir()
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write the demo"):
        demo.run_demo(tmp_path / "file")
