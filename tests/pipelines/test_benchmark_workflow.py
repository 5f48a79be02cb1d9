"""The benchmark's workflow on a simulated map: it runs to the page, and has nothing left to do."""

import re
import zipfile
from collections import Counter
from pathlib import Path

import pytest
import yaml
from test_workflows import ROOT, run
from wide_maps import make_wide_map

from ibl_mtm.benchmark.data import BenchmarkData

pytestmark = pytest.mark.slow

QUICK = "steps=3 validate_every=3 model.dynamics=3 model.width=16 model.mlp=16 model.heads=2"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("snakemake")
    folder = tmp_path_factory.mktemp("benchmark")
    make_wide_map(folder / "bwb")
    pipelines = folder / "pipelines"
    pipelines.mkdir()
    for path in (ROOT / "pipelines").iterdir():
        if path.name != "workflows":
            (pipelines / path.name).symlink_to(path)
    (pipelines / "workflows").mkdir()
    settings = yaml.safe_load((ROOT / "pipelines/workflows/benchmark.yaml").read_text())
    assert set(settings) == {"out", "data", "seeds", "labels"}
    settings |= {"seeds": "1-3", "labels": {"quick": QUICK}}
    for name in ("linear", "trailing_mean", "isi_histogram"):
        settings["labels"][name] = f"--baseline {name}"
    (pipelines / "workflows" / "quick.yaml").write_text(yaml.safe_dump(settings))
    return folder


def test_from_files_to_a_page(folder: Path) -> None:
    run(folder, "benchmark", size="quick")
    page = (folder / "experiments/benchmark/benchmark.md").read_text()
    for expected in ("## TS1", "## TS2", "## TS3", "| co-smoothing | poisson_d2 |", "quick_multi"):
        assert expected in page
    with zipfile.ZipFile(folder / "experiments/benchmark/quick_multi.zip") as archive:
        assert {name.partition("/")[0] for name in archive.namelist()} == {"quick_multi"}
    names = {path.name for path in (folder / "experiments/benchmark").glob("*.zip")}
    assert names == {
        f"{label}{more}.zip"
        for label in ("quick", "linear", "isi_histogram")
        for more in ("", "_multi")
    } | {"trailing_mean.zip"}
    again = run(folder, "benchmark", "-n", size="quick")
    assert "Nothing to be done" in again
    # Of some recordings alone there is nothing to upload.
    eid = BenchmarkData(folder / "bwb").recordings[0]
    file = folder / "pipelines" / "workflows" / "quick.yaml"
    settings = yaml.safe_load(file.read_text()) | {"recordings": [eid], "out": "part"}
    (file.parent / "part.yaml").write_text(yaml.safe_dump(settings))
    plan = run(folder, "benchmark", "-n", size="part")
    assert "rule page" in plan
    assert "rule check" not in plan
    assert "rule pack" not in plan


def test_a_cluster_gets_a_job_for_each_recording_with_a_gpu(folder: Path) -> None:
    """As SLURM's profile says; its executor, which needs a cluster, is left out."""
    profile = yaml.safe_load((ROOT / "pipelines/profiles/slurm/config.yaml").read_text())
    assert profile.pop("executor") == "slurm"
    (folder / "cluster").mkdir()
    (folder / "cluster" / "config.yaml").write_text(yaml.safe_dump(profile))
    settings = yaml.safe_load((folder / "pipelines/workflows/quick.yaml").read_text())
    labels = {"quick": QUICK, "trailing_mean": "--baseline trailing_mean"}
    (folder / "pipelines/workflows/cluster.yaml").write_text(
        yaml.safe_dump(settings | {"out": "on_cluster", "labels": labels})
    )
    options = ("-n", "--profile", "cluster")
    planned = run(folder, "benchmark", *options, size="cluster")
    jobs = re.findall(r"^(?:local)?rule (\w+):((?:\n    .*)*)", planned, flags=re.MULTILINE)
    n = len(BenchmarkData(folder / "bwb").recordings)
    count = Counter(name for name, _ in jobs)
    # A model's two suites and a baseline's one, of each recording; regions of all together.
    assert (count["recording"], count["regions"], count["score"]) == (3 * n, 1, 1)
    for name, text in jobs:
        assert ("gpu=1" in text) == (name in ("recording", "regions")), (name, text)
