"""Python on the pages is run as it stands, in the working directory of a reader who came so far.

There are ``cache.zarr`` and ``bwb.zarr`` (two sessions), ``runs/mtm`` and ``runs/both`` (trained
and scored; the second with behaviour inside), and the names that pages take for granted. Pages with
tests of their own: your own recordings, the recipes, querying (a notebook).
"""

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from synthetic import make_regions
from training_runs import TINY, make_cache, tiny_settings

import ibl_mtm
from ibl_mtm.cache.store import create_cache, write_session

ROOT = Path(__file__).parents[1]
OWN_TESTS = {"your-own-recordings", "spikeinterface", "pynapple", "own-loader", "querying"}
#: What a snippet says, and what it is here: sizes, ids of public sessions, places in the world.
HERE = {
    '"mtm_small"': '"tiny.yaml"',
    "4b7fbad4-f6de-43b4-9b15-c7c7ef44db4b": "EID",
    "4b7fbad4-…": "EID",
}
#: Pages that go on with a model and other sessions of the cache.
IMPUTING = {"decoding-and-encoding"}
#: Lines that need what no test has: an account, a bucket.
ELSEWHERE = ("push_to_hub", '"some-lab/mtm"', "s3://", "https://")


def pages() -> dict[str, list[str]]:
    found = {}
    for page in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md")):
        text = page.read_text(encoding="utf-8")
        blocks = re.findall(r"^```python\n(.*?)^```", text, flags=re.M | re.S)
        if blocks and page.stem not in OWN_TESTS:
            found[page.stem] = blocks
    return found


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reader")
    cache = make_cache(folder / "cache.zarr")
    create_cache(folder / "bwb.zarr")
    for ds in ibl_mtm.open_cache(cache).values():  # as of the brain-wide map
        qc = ("unit", np.array(["PASS"] * ds.sizes["unit"], dtype=object))
        write_session(folder / "bwb.zarr", ds.load().assign_coords(probe_qc=qc), make_regions())
    (folder / "tiny.yaml").write_text(
        "base: mtm_small\nsteps: 2\nvalidate_every: 2\nbatch_size: 8\n"
        "model: {width: 16, layers: 1, heads: 2, mlp: 16, dynamics: 0}\n"
    )
    tasks = ["co_smoothing"]
    both = tiny_settings(
        model=TINY["model"] | {"modalities": ["wheel_speed", "choice"]},
        masks=TINY["masks"] | {"schemes": {"neuron": 1.0, "mixed": 1.0, "encoding": 1.0}},
        steps=4,
    )
    for name, settings in {"mtm": tiny_settings(steps=4), "both": both}.items():
        run = folder / "runs" / name
        ibl_mtm.train(settings, cache, run, progress=False)
        ibl_mtm.evaluate(run, cache, tasks=tasks).write(run)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("page", pages())
def test_the_python_of_a_page_runs(page: str, world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import tensorstore

    monkeypatch.chdir(world)
    shutil.rmtree("rates.zarr", ignore_errors=True)  # of another page
    cache = ibl_mtm.open_cache("cache.zarr")
    eid = next(iter(cache))
    names: dict[str, Any] = {
        "ibl_mtm": ibl_mtm,
        "tensorstore": tensorstore,
        "cache": cache,
        "eid": eid,
    }
    if page in IMPUTING:
        others = list(cache)[1:]
        names |= {"model": ibl_mtm.load_model("runs/both"), "other": others[0], "others": others}
    for number, block in enumerate(pages()[page]):
        lines = [line for line in block.splitlines() if not any(e in line for e in ELSEWHERE)]
        code = "\n".join(lines)
        for said, here in HERE.items():
            code = code.replace(said, here.replace("EID", eid))
        code = code.replace('Path("runs/mtm"))', f'Path("runs/of-{page}"))')
        try:
            exec(code, names)
        except Exception as error:
            raise AssertionError(f"{page}, snippet {number + 1}:\n{code}") from error


@pytest.mark.slow
def test_a_session_of_predictions_is_what_the_page_says(world: Path) -> None:
    """Of the page on scores: the variable's name, and what a plain reader sees."""
    model = ibl_mtm.load_model(world / "runs" / "mtm")
    found = ibl_mtm.predict(model, world / "cache.zarr", into=world / "plain.zarr")
    tree = xr.open_datatree(world / "plain.zarr", engine="zarr", consolidated=False)
    for eid in found:
        assert tree[eid]["rate"].dims == ("trial", "time", "unit")
