"""The commands: what they print, and how they end."""

import json
from pathlib import Path

import pytest
from submissions import write_submission
from typer.main import get_command
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
    assert "files of all recordings (--data)" in text
    assert "E012" in text
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
    code, _ = call("score", tmp_path, "--data", wide_map, "--out", tmp_path / "new" / "scores")
    assert code == 0
    assert (tmp_path / "new" / "scores" / "scores.csv").is_file()
    taken = tmp_path / "linear.zip"
    taken.write_text("x")
    code, text = call("score", tmp_path, "--data", wide_map, "--out", taken)
    assert (code, "is a file" in text) == (2, True)
    taken.unlink()
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


def test_the_folder_of_a_label_stays_what_is_uploaded(wide_map: Path, tmp_path: Path) -> None:
    """Scores lie beside it, not in it, whichever of both folders is named."""
    write_submission(tmp_path, wide_map, "a", (1, 2, 3), ("ts1-choice",))
    code, _ = call("score", tmp_path / "a", "--data", wide_map)
    assert code == 0
    assert (tmp_path / "scores.csv").is_file()
    assert call("check", tmp_path / "a", "--data", wide_map)[0] == 0


@pytest.mark.parametrize("name", ["run", "check", "score", "pack"])
def test_every_option_is_explained(name: str) -> None:
    command = get_command(app).commands["benchmark"].commands[name]  # type: ignore[attr-defined]
    options = [option for option in command.params if option.name != "help"]
    assert len(options) > 3
    for option in options:
        assert len(getattr(option, "help", None) or "") > 10, option.name
