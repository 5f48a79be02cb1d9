"""The workflow on real sessions, on made-up ones: what it plans, that it runs and goes on."""

import json
import os
import re
import shlex
import signal
import subprocess
import time

import numpy as np
import pytest
import yaml
from binned_sessions import write_binned
from test_workflows import ROOT, command, environment, finished, run

from ibl_mtm.config.catalog import load_catalog
from ibl_mtm.experiments.page import write_page
from ibl_mtm.ingest.recording import session_id

pytestmark = pytest.mark.slow

MICE = {"Ann": "2017-01-02", "Bob": "2017-01-03"}
WORKFLOWS = ROOT / "pipelines" / "workflows"


def shipped():
    return yaml.safe_load((WORKFLOWS / "real.yaml").read_text())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two mice with a session each, as small as can be, and their catalog and settings."""
    pytest.importorskip("snakemake")
    folder = tmp_path_factory.mktemp("real")
    eids = {}
    for number, (mouse, date) in enumerate(MICE.items(), start=1):
        write_binned(folder / "npz" / f"{number}.npz", mouse, date, seed=number)
        eids[mouse] = session_id("steinmetzlab", mouse, date, f"{number:03d}")
    catalog = yaml.safe_load((WORKFLOWS / "real_catalog.yaml").read_text())
    dataset = catalog["datasets"].pop("steinmetz")
    dataset["source"]["path"] = "experiments/real.one"
    dataset["sessions"] = [{"eid": eid, "role": "pretrain"} for eid in eids.values()]
    (folder / "catalog.yaml").write_text(yaml.safe_dump({"datasets": {"made-up": dataset}}))
    short = ["steps=4", "validate_every=2"]
    small = ["model.width=16", "model.layers=1", "model.dynamics=3", "data.min_rate=0"]
    settings = {
        "catalog": "catalog.yaml",
        "dataset": "made-up",
        "source": "nowhere",
        "baselines": ["poisson_lds"],
        "settings": [*small, "data.min_units_per_region=3", "batch_size=8"],
        "single": {"sessions": 1, "seeds": [0], "settings": short},
        "animals": shipped()["animals"]
        | {"sessions": 1, "shares": [15], "pretrain": short, "settings": short}
        | {"tuned": ["finetune.stitchers_only=2"]},
        "mice": {mouse: [eid] for mouse, eid in eids.items()},
    }
    # A size of its own among the others: a file given later would add to their `mice`.
    pipelines = folder / "pipelines"
    (pipelines / "workflows").mkdir(parents=True)
    for path in (ROOT / "pipelines").iterdir():
        if path != WORKFLOWS:
            (pipelines / path.name).symlink_to(path)
    for path in WORKFLOWS.iterdir():
        (pipelines / "workflows" / path.name).symlink_to(path)
    (pipelines / "workflows" / "small.yaml").write_text(yaml.safe_dump(shipped() | settings))
    return folder


def small(folder, function):
    """The workflow on the made-up sessions, which lie where the command says."""
    return function(folder, "real", "--config", "source=npz", size="small")


def commands(planned):
    return [shlex.split(line) for line in re.findall(r"^Shell command: (\S.*)$", planned, re.M)]


def test_a_dry_run_plans_all_jobs(folder):
    planned = run(folder, "real", "--dry-run", size="real")
    chosen, jobs = shipped(), commands(planned)
    methods, baselines = ("mtm", "temporal"), chosen["baselines"]
    single = sum(min(chosen["single"]["sessions"], len(eids)) for eids in chosen["mice"].values())
    new = sum(min(chosen["animals"]["sessions"], len(eids)) for eids in chosen["mice"].values())
    new *= len(chosen["animals"]["shares"])
    assert single >= 8
    trainings = single * len(methods) + 2 * new
    counts = dict(re.findall(r"^(\w+) +(\d+)$", planned, re.M))
    assert counts | {"real": "1", "layout": "1", "ingest": "1"} == counts
    assert int(counts["new_pretraining"]) == len(chosen["mice"])
    assert int(counts["evaluate"]) == trainings
    assert int(counts["single_baseline"]) == single * len(baselines)
    assert int(counts["new_baseline"]) == new
    assert int(counts["new_table"]) == int(counts["new_report"]) == len(chosen["animals"]["shares"])
    tables = [words for words in jobs if words[:3] == ["ibl-mtm", "results", "table"]]
    assert len(tables) == 1 + len(chosen["animals"]["shares"])
    for words in tables:
        assert "Steinmetz et al. 2019, Nature 576" in words[words.index("--credit") + 1]
    layout = next(words for words in jobs if words[0] == "python")
    assert layout[2:4] == ["ibl_mtm.one_files.binned", "../shared/data/steinmetz"]
    assert not (folder / "experiments").exists()


def test_a_new_mouse_is_in_no_pretraining_that_its_sessions_start_from(folder):
    jobs = commands(run(folder, "real", "--dry-run", size="real"))
    mice = shipped()["mice"]

    def value(words, option):
        return words[words.index(option) + 1] if option in words else ""

    trained_on = {
        value(words, "--run"): set(re.findall(r"[0-9a-f-]{36}", value(words, "--where")))
        for words in jobs
        if words[:2] == ["ibl-mtm", "train"]
    }
    tuned = [words for words in jobs if "--init" in words]
    assert tuned
    for words in tuned:
        (eid,) = trained_on[value(words, "--run")]
        own = next(set(eids) for eids in mice.values() if eid in eids)
        others = {eid for eids in mice.values() for eid in eids} - own
        assert trained_on[value(words, "--init")] == others
        assert any(word.startswith("data.split={fractions: [0.") for word in words)


def test_the_mice_are_those_of_the_catalog():
    dataset = load_catalog(WORKFLOWS / "real_catalog.yaml").dataset("steinmetz")
    listed = [eid for eids in shipped()["mice"].values() for eid in eids]
    assert listed == [entry.eid for entry in dataset.sessions]
    assert dataset.sessions[10].eid == session_id("steinmetzlab", "Lederberg", "2017-12-07", "011")
    assert dataset.sessions[10].eid == "d05e97fd-d4ed-3459-9ed5-40b1cbb36608"


def test_the_catalog_lists_the_files_there_are(shared_data):
    files = sorted((shared_data / "steinmetz").glob("*.npz"))
    if not files:
        pytest.skip(f"the sessions are not at {shared_data / 'steinmetz'}")
    mice = {}
    for number, file in enumerate(files, start=1):
        with np.load(file) as arrays:
            subject, date = str(arrays["subject"]), str(arrays["date"])
        eid = session_id("steinmetzlab", subject, date, f"{number:03d}")
        mice.setdefault(subject, []).append(eid)
    assert shipped()["mice"] == mice


def test_killed_it_goes_on_and_ends_in_tables(folder):
    started = subprocess.Popen(
        small(folder, command),
        cwd=folder,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    out = folder / "experiments" / "real"
    try:
        while not list(out.glob("runs/*/*/*/metrics.json")) and started.poll() is None:
            time.sleep(0.05)
    finally:
        os.killpg(started.pid, signal.SIGKILL)
        started.wait()
    evaluated = {path.parent for path in finished(folder, "metrics.json")}
    before = {path: at for path, at in finished(folder).items() if path.parent in evaluated}
    written = {
        path: path.stat().st_mtime_ns
        for path in [*(folder / "experiments/real.one").rglob("*"), out / "cache.ingested"]
    }
    assert before
    assert not (out / "results").exists()

    small(folder, run)

    assert finished(folder).items() >= before.items()
    for path, at in written.items():
        assert path.stat().st_mtime_ns == at
    assert "Nothing to be done" in small(folder, run)

    single = json.loads((out / "results" / "sessions" / "results.json").read_text())
    assert list(single["rows"]) == ["MtM", "temporal masking", "poisson_lds"]
    assert single["made"]["n_sessions"] == 2
    assert {line["task"] for line in single["summary"]} == set(shipped()["tasks"])
    new = json.loads((out / "results" / "animals-15" / "results.json").read_text())
    assert list(new["rows"]) == [
        "MtM, pre-trained on 1 animal",
        "MtM, from scratch",
        "poisson_lds",
    ]
    assert new["made"]["splits"] == ["random, 15/5/80 % train/val/test, seed 42"]
    against = {(entry["row"], entry["against"]) for entry in new["differences"]}
    first = "MtM, pre-trained on 1 animal"
    assert against == {(first, "MtM, from scratch"), (first, "poisson_lds")}
    tables = [out / "results" / name for name in ("sessions", "animals-15")]
    for table in tables:
        assert "Steinmetz et al. 2019, Nature 576" in (table / "table.md").read_text()
        assert "Steinmetz et al. 2019, Nature 576" in (table / "report.html").read_text()
    write_page(tables, folder / "results.md")
    assert "## Real sessions\n" in (folder / "results.md").read_text()
