"""Commands about the tool itself: configs, doctor; names that a shell completes."""

import json
import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

from ibl_mtm.cli import doctor
from ibl_mtm.cli.app import complete_baseline, complete_configuration, complete_dataset
from ibl_mtm.config.catalog import CatalogFile
from ibl_mtm.config.explain import DEFAULT, explain_settings, explained_yaml, settings_schema
from ibl_mtm.evaluation.baselines.registry import BASELINES
from ibl_mtm.training.settings import RunSettings, read_run_settings, shipped_configurations


@pytest.fixture
def mine(tmp_path):
    (tmp_path / "lab.yaml").write_text("base: temporal_small.yaml\nname: lab\nsteps: 7\n")
    file = tmp_path / "mine.yaml"
    file.write_text("base: lab.yaml\n\nseed: 4\nmasks:\n  schemes: {neuron: 0.5}\n")
    return file


def test_a_setting_is_told_with_where_it_comes_from(mine):
    found = {
        ".".join(key): (value, place)
        for key, value, place in explain_settings(
            mine, RunSettings, ["optimizer.learning_rate=0.5", "masks.ratios={causal: 0.4}"]
        )
    }
    assert found["seed"] == (4, "mine.yaml, line 3")
    assert found["steps"] == (7, "lab.yaml, line 3")
    assert found["masks.schemes.neuron"] == (0.5, "mine.yaml, line 5")
    assert found["masks.schemes.temporal"][1].startswith("temporal_small.yaml, line ")
    assert found["model.dynamics"][0] == 0
    assert found["optimizer.learning_rate"] == (0.5, "'optimizer.learning_rate=0.5'")
    assert found["masks.ratios.causal"] == (0.4, "'masks.ratios={causal: 0.4}'")
    assert found["trainer.devices"] == (1, DEFAULT)
    # The file has a section `masks`, which does not say this.
    assert found["masks.draw_region_per"] == ("trial", DEFAULT)


@pytest.mark.parametrize("name", shipped_configurations())
def test_what_is_shown_reads_as_the_same_settings(name, tmp_path):
    """As YAML without a base: a user may keep it and go on from there."""
    file = shipped_configurations()[name]
    shown = explained_yaml(explain_settings(file, RunSettings, ["seed=11"]))
    assert max(map(len, shown.splitlines())) < 100
    (tmp_path / "shown.yaml").write_text(shown)
    assert read_run_settings(str(tmp_path / "shown.yaml")) == read_run_settings(name, ["seed=11"])


def test_configurations_are_listed_with_what_each_is_for(run):
    code, shown, _ = run("configs", "--json")
    known = json.loads(shown)
    assert code == 0
    assert set(known) == set(shipped_configurations())
    assert known["temporal_small"].startswith("The baseline")
    assert all(known.values())
    code, shown, _ = run("configs")
    assert "mtm_small" in shown


def test_a_configuration_is_shown_as_yaml_and_as_json(run, mine):
    code, shown, _ = run("configs", mine, "steps=9")
    assert code == 0
    assert yaml.safe_load(shown)["steps"] == 9
    code, shown, _ = run("configs", mine, "steps=9", "--json")
    rows = {row["key"]: row for row in json.loads(shown)["settings"]}
    assert rows["steps"] == {"key": "steps", "value": 9, "from": "'steps=9'"}


def test_what_a_training_would_refuse_is_refused(run, mine):
    code, _, error = run("configs", mine, "epochs=3", "steps=4")
    assert code == 2
    assert "steps and epochs" in error
    code, _, error = run("configs", "mtm_smal")
    assert (code, "did you mean 'mtm_small'?" in error) == (2, True)
    code, _, error = run("configs", "--schema", "trial")
    assert (code, "--schema is run or catalog" in error) == (2, True)


@pytest.mark.parametrize(("what", "model"), [("run", RunSettings), ("catalog", CatalogFile)])
def test_the_schema_knows_every_key_and_a_base(run, what, model):
    code, shown, _ = run("configs", "--schema", what)
    schema = json.loads(shown)
    assert code == 0
    assert schema == settings_schema(model, f"ibl-mtm {what}")
    assert set(schema["properties"]) == {*model.model_fields, "base"}
    assert schema["additionalProperties"] is False
    assert "required" not in schema


def test_doctor_tells_versions_devices_memory_and_disk(run):
    code, shown, _ = run("doctor", "--offline", "--json")
    checks = {check["name"]: check for check in json.loads(shown)}
    assert code == 0
    assert {"ibl-mtm", "python", "packages", "processors", "gpu", "memory", "disk"} <= set(checks)
    assert "torch" in checks["packages"]["found"]
    assert "database" not in checks
    code, shown, _ = run("doctor", "--offline")
    assert "available" in shown


@pytest.mark.parametrize(
    ("text", "status", "told"),
    [
        ("numpy>=2.0", "ok", ""),
        ("numpy>=99", "broken", "pip install -U 'numpy>=99'"),
        ("no-such-thing>=1.2", "broken", "pip install 'no-such-thing>=1.2'"),
    ],
)
def test_a_package_is_right_too_old_or_absent(text, status, told):
    check = doctor._package(Requirement(text))
    assert (check.status, check.mend) == (status, told)


def test_a_package_that_is_wrong_ends_with_1(run, monkeypatch):
    monkeypatch.setattr(
        doctor.metadata, "requires", lambda name: ["numpy>=99", 'wandb>=99; extra == "wandb"']
    )
    code, shown, _ = run("doctor", "--offline", "--json")
    checks = json.loads(shown)
    assert code == 1
    assert [check["name"] for check in checks if check["status"] == "broken"] == ["numpy"]


@pytest.mark.parametrize(
    ("answer", "status", "told"), [(200, "ok", "answers"), (503, "note", "503"), (None, "note", "")]
)
def test_the_database_is_asked(monkeypatch, answer, status, told):
    import requests

    def get(url, timeout):
        if answer is None:
            raise requests.ConnectionError
        return type("Answer", (), {"status_code": answer})

    monkeypatch.setattr(requests, "get", get)
    (check,) = doctor._databases()
    assert (check.name, check.status) == ("database", status)
    assert told in check.found
    assert "openalyx" in check.found


def test_little_disk_and_memory_are_told(monkeypatch, tmp_path):
    usage = type("Usage", (), {"free": int(3e9)})
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda folder: usage)
    check = doctor._disk(tmp_path)
    assert (check.status, check.found) == ("note", f"3.0 GB free in {tmp_path}")
    monkeypatch.setattr("ibl_mtm.training.data.memory.available_memory", lambda: int(1e9))
    assert doctor._memory().status == "note"


def test_names_are_completed():
    assert complete_configuration("temporal_s") == ["temporal_short_window_small", "temporal_small"]
    assert "demo" in complete_dataset("de")
    assert complete_baseline("reduced") == ["reduced_rank"]


def test_the_help_of_eval_names_every_baseline(run):
    code, out, _ = run("eval", "--help")
    assert code == 0
    assert not set(BASELINES) - set(re.findall(r"\w+", out))


def test_eval_needs_a_cache_that_somebody_names(run, tmp_path):
    code, _, error = run("eval", "--baseline", "psth")
    assert (code, "give --cache CACHE" in error) == (2, True)
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "training.json").write_text("{}")
    code, _, error = run("eval", tmp_path / "old")
    assert (code, "does not tell which cache" in error) == (2, True)


def test_the_environment_of_conda_asks_for_extras_that_there_are():
    root = Path(__file__).parents[2]
    asked = yaml.safe_load((root / "environment.yml").read_text())["dependencies"][-1]["pip"]
    (local,) = (line for line in asked if line.startswith(".["))
    known = tomllib.loads((root / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(local[2:-1].split(",")) <= set(known)
    assert (root / asked[0].split()[1]).is_file()
