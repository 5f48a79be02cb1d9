"""The workflows at their smallest: they are whole, they run, and a killed one goes on."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
WORKFLOWS = ("masking_ablation", "generalization", "scaling")
RECORDING = """\
datasets:
  made-up:
    source: {kind: simulated, sessions: 1, units: 30, trials: 20, seed: 7}
    align: {contiguous: 2.0, bin: 0.02}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where everything goes: one cache, one set of runs, as a user's workflows share them."""
    pytest.importorskip("snakemake")
    return tmp_path_factory.mktemp("workflows")


def command(folder, workflow, *options, size="tiny"):
    """Snakemake in a folder of its own, with this checkout's files and this Python's programs."""
    for name in ("pipelines", "data_catalog.yaml"):
        if not (folder / name).exists():
            (folder / name).symlink_to(ROOT / name)
    return [
        *(sys.executable, "-m", "snakemake", "-s", f"pipelines/{workflow}.smk"),
        *("--configfile", f"pipelines/workflows/{size}.yaml"),
        *("--profile", "pipelines/profiles/local", "--cores", "2", *options),
    ]


def environment():
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return os.environ | {"PATH": path}


def run(folder, workflow, *options, size="tiny"):
    done = subprocess.run(
        command(folder, workflow, *options, size=size),
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout + done.stderr


def finished(folder, name="training.json"):
    """When each training, or evaluation, ended."""
    return {path: path.stat().st_mtime_ns for path in (folder / "experiments").rglob(name)}


@pytest.mark.parametrize("size", ["tiny", "laptop", "paper"])
@pytest.mark.parametrize("workflow", WORKFLOWS)
def test_a_dry_run_plans_all_jobs_at_every_size(folder, workflow, size):
    planned = run(folder, workflow, "--dry-run", "--quiet", "rules", size=size)
    assert "ingest" in planned
    assert "evaluate" in planned
    assert not (folder / "experiments").exists()


@pytest.mark.parametrize("workflow", WORKFLOWS)
def test_a_folder_with_a_blank_in_its_name_stays_one_word(folder, workflow, tmp_path):
    """Commands fell apart: `--cache my experiments/tiny/cache.zarr`."""
    size = (ROOT / "pipelines" / "workflows" / "tiny.yaml").read_text()
    (tmp_path / "blank.yaml").write_text(
        re.sub(r"^out:.*$", 'out: "my experiments/tiny"', size, flags=re.M)
    )
    options = ["--configfile", str(tmp_path / "blank.yaml"), "--dry-run", "--printshellcmds"]
    planned = run(folder, workflow, *options)
    commands = re.findall(r"^Shell command: (ibl-mtm .*)$", planned, flags=re.M)
    assert len(commands) >= 5
    for line in commands:
        words = shlex.split(line)
        paths = [word for word in words if "my experiments" in word and word[:9] != "snakemake"]
        assert paths
        assert all(path.startswith("my experiments/tiny/") for path in paths)
        assert not any(word.startswith("experiments/tiny") for word in words)


def test_every_rule_is_one_command():
    for file in (ROOT / "pipelines").glob("*.smk"):
        text = file.read_text()
        # What only gathers others' files makes none.
        assert text.count("\n    shell:\n") == text.count("\n    output:\n"), file.name
        gather = [rule for rule in text.split("\nrule ")[1:] if "\n    output:\n" not in rule]
        assert all("default_target: True" in rule for rule in gather), file.name
        for shell in text.split("\n    shell:\n")[1:]:
            words = shell.replace('"', " ").split()
            module = words[:2] == ["python", "-m"] and words[2].startswith("ibl_mtm.")
            assert module or words[0] in ("ibl-mtm", "TRAIN"), file.name
            assert not {";", "&&", "|", ">"} & set(shell.split("\n\n")[0].split()), file.name
        assert "\n    run:" not in text
        assert "script:" not in text


def test_held_out_animals_are_in_no_pretraining(folder):
    for size in ("tiny", "laptop", "paper"):
        planned = run(folder, "scaling", "--dry-run", size=size)
        catalog = yaml.safe_load((ROOT / "data_catalog.yaml").read_text())["datasets"]
        settings = yaml.safe_load((ROOT / f"pipelines/workflows/{size}.yaml").read_text())
        sessions = catalog[settings["dataset"]]["sessions"]
        held_out = [entry["eid"] for entry in sessions if entry["role"] == "finetune"]
        pretrainings = [
            line for line in planned.splitlines() if "--where 'eid in" in line.replace('"', "'")
        ]
        assert len(pretrainings) >= len(settings["pretrain"]["animals"])
        assert not any(eid in line for line in pretrainings for eid in held_out)


def test_a_killed_workflow_goes_on_and_does_nothing_twice(folder):
    started = subprocess.Popen(
        command(folder, "scaling"),
        cwd=folder,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    # A training writes its last file a moment before it has ended; once it was evaluated, it has.
    eid = "d1afd9b7-6bc1-4c88-9178-1341a8e25c0d"
    runs = [f"scratch/{eid}/mtm-0", f"tuned/{eid}/mtm-1-0", f"tuned/{eid}/mtm-3-0"]
    scores = [folder / "experiments/tiny/runs" / run / "metrics.json" for run in runs]
    try:
        while not any(file.exists() for file in scores) and started.poll() is None:
            time.sleep(0.05)
    finally:
        os.killpg(started.pid, signal.SIGKILL)
        started.wait()
    evaluated = {path.parent for path in finished(folder, "metrics.json")}
    before = {path: at for path, at in finished(folder).items() if path.parent in evaluated}
    ingested = (folder / "experiments/tiny/cache.ingested").stat().st_mtime_ns
    results = folder / "experiments/tiny/results/scaling"
    assert before
    assert not (results / "results.json").exists()

    run(folder, "scaling")

    after = finished(folder)
    assert after.items() >= before.items()
    assert len(after) > len(before)
    assert (folder / "experiments/tiny/cache.ingested").stat().st_mtime_ns == ingested
    assert json.loads((results / "results.json").read_text())["made"]["n_trainings"] == len(after)
    assert "Nothing to be done" in run(folder, "scaling")
    assert finished(folder) == after


@pytest.mark.parametrize("workflow", ["generalization", "masking_ablation"])
def test_the_others_run_and_share_what_there_is(folder, workflow):
    before = finished(folder) | finished(folder, "metrics.json")
    run(folder, workflow)
    after = finished(folder) | finished(folder, "metrics.json")
    assert after.items() >= before.items()
    name = workflow.removeprefix("masking_")
    results = folder / "experiments/tiny/results" / name
    page = (results / "report.html").read_text()
    assert page.index('id="experiment-0"') < page.index('id="scores"')
    assert "simulated" in (results / "table.md").read_text()
    tasks = {"co_smoothing", "forward_prediction", "intra_region", "inter_region"}
    table = json.loads((results / "results.json").read_text())
    found = {line["task"] for line in table["summary"]}
    assert tasks <= found
    assert ("choice" in found) == (name == "generalization")
    assert len(table["rows"]) == {"ablation": 7, "generalization": 4}[name]


def test_a_recording_is_scored_beside_a_regression_on_the_same_split(folder):
    (folder / "catalog.yaml").write_text(RECORDING)
    small = ["steps=4", "validate_every=2", "model.width=16", "model.layers=1", "data.min_rate=0"]
    settings = {"catalog": "catalog.yaml", "dataset": "made-up", "splits": [1], "settings": small}
    shipped = yaml.safe_load((ROOT / "pipelines/workflows/recording.yaml").read_text())
    (folder / "recording.yaml").write_text(yaml.safe_dump(shipped | settings))
    run(folder, "recording", "--configfile", "recording.yaml", size="recording")
    results = folder / "experiments/recording/results/recording"
    made = json.loads((results / "results.json").read_text())["made"]
    assert made["splits"] == ["random, 70/10/20 % train/val/test, seed 1"]
    assert "poisson_regression" in (results / "table.md").read_text()
    shutil.rmtree(folder / "experiments/recording")
