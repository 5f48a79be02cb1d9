"""The commands: what they print, and how they end."""

import json
from pathlib import Path

import pytest
from submissions import write_submission
from typer.testing import CliRunner

from ibl_mtm.benchmark.data import BenchmarkData
from ibl_mtm.cli import app
from ibl_mtm.errors import UserError


def call(*arguments: object) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["benchmark", *map(str, arguments)], catch_exceptions=True)
    if isinstance(done.exception, UserError):
        return 2, str(done.exception)
    return done.exit_code, done.stdout


def test_check_tells_every_rule_once_and_ends_with_1(submission: Path, wide_map: Path) -> None:
    code, text = call("check", submission, "--data", wide_map)
    assert code == 0
    assert "nothing that the benchmark would refuse" in text
    code, text = call("check", submission)
    assert code == 1
    assert text.count("E104 a recording of a task is missing") == 1
    assert "not checked without --data: E012" in text
    code, text = call("check", submission, "--json")
    assert code == 1
    document = json.loads(text)
    assert document["ok"] is False
    assert {f["code"] for f in document["findings"]} == {"E011", "E104"}


def test_from_a_baseline_to_a_zip(wide_map: Path, tmp_path: Path) -> None:
    eid = BenchmarkData(wide_map).recordings[0]
    run = ("run", "--data", wide_map, "--out", tmp_path, "--label", "linear")
    some = ("--baseline", "linear", "--task", "choice", "--session", eid[:9])
    code, text = call(*run, *some)
    assert (code, text.strip()) == (0, "3 files written, 0 were there")
    code, text = call(*run, *some, "--json")
    assert code == 0
    assert len(json.loads(text)["skipped"]) == 3
    code, text = call("score", tmp_path, "--data", wide_map, "--json")
    assert code == 0
    found = json.loads(text)["labels"]["linear"]["ts1-choice"]["bacc"]
    assert 0 <= found["score"] <= 1
    assert found["n_seeds"] == 3
    assert (tmp_path / "scores.csv").is_file()
    code, text = call("pack", tmp_path)
    assert (code, text.strip()) == (0, str(tmp_path / "linear.zip"))
    code, text = call(*run, "--seeds", "43,45")
    assert code == 2
    assert "consecutive" in text
    code, text = call(*run, "--task", "choice")  # no baseline this time
    assert code == 2
    assert "begun with other baseline" in text
    code, text = call(*run, "--suite", "ts4")
    assert (code, text) == (2, "no suite 'ts4'; known: ts1, ts2, ts3")


def test_a_file_without_scores_ends_with_1(wide_map: Path, tmp_path: Path) -> None:
    write_submission(tmp_path, wide_map, "a", (1,), ("ts1-choice",))
    next(tmp_path.rglob("seed_1.safetensors")).write_bytes(b"x")
    code, text = call("score", tmp_path, "--data", wide_map)
    assert code == 1
    assert "no score of a/ts1-choice/" in text


@pytest.mark.parametrize("name", ["run", "check", "score", "pack"])
def test_help_fits_into_a_line_each(name: str) -> None:
    code, text = call(name, "--help")
    assert code == 0
    assert "Usage" in text
