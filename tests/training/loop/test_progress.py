"""How a training goes is told while it goes: lines in a log file, a bar that fits a terminal."""

import io
import re
from types import SimpleNamespace

import pytest
import torch
from rich.console import Console
from short_fits import shorten
from training_runs import make_cache, tiny_settings

from ibl_mtm.cache.cache import open_cache
from ibl_mtm.evaluation.evaluate import evaluate, evaluate_baseline
from ibl_mtm.training.loop import progress
from ibl_mtm.training.loop.progress import ProgressBar, ProgressLines
from ibl_mtm.training.run import train


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("progress")
    make_cache(folder / "cache.zarr")
    return folder


def test_a_log_file_has_a_line_for_every_validation(folder, capsys):
    """Hours of silence: all was written when a training had ended."""
    train(tiny_settings(name="a[lr]"), open_cache(folder / "cache.zarr"), folder / "run")
    lines = capsys.readouterr().err.splitlines()
    assert "training of a[lr] begins: 12 steps" in lines[0]
    told = [line for line in lines if "step " in line]
    assert [re.search(r"step (\d+) of 12", line)[1] for line in told] == ["4", "8", "12"]
    for line in told:
        assert re.search(r"val -?\d\.\d{3} \(.*neuron -?\d\.\d{3}", line)
        assert re.search(r"\d+ trials/s, \d+ min \d+ s left$", line)
    assert "0 min 0 s left" in told[-1]


def test_lines_come_between_validations_that_are_far_apart(monkeypatch):
    stream = io.StringIO()
    lines = ProgressLines("mtm", stream)
    trainer = SimpleNamespace(global_step=3, max_steps=9, callback_metrics={})
    lines.on_train_batch_end(trainer, None, None, [0] * 8, 0)
    assert stream.getvalue() == ""
    monkeypatch.setattr(progress, "SILENCE", -1.0)
    lines.on_train_batch_end(trainer, None, None, [0] * 8, 1)
    assert "step 3 of 9" in stream.getvalue()


@pytest.mark.parametrize("width", [60, 80, 160])
def test_a_bar_shows_what_matters_however_narrow(width):
    stream = io.StringIO()
    console = Console(file=stream, width=width, force_terminal=True, color_system=None)
    bar = ProgressBar("mtm[lr]", console)
    scores = {"train/loss": 1234.5, "train/bits_per_spike": 0.123, "val/bits_per_spike": 0.234}
    metrics = {key: torch.tensor(score) for key, score in scores.items()}
    trainer = SimpleNamespace(global_step=0, max_steps=15000, callback_metrics=metrics)
    bar.on_train_start(trainer, None)
    bar.since -= 0.016
    trainer.global_step = 400
    bar.on_train_batch_end(trainer, None, None, [0] * 16, 0)
    bar.on_train_end(trainer, None)
    shown = stream.getvalue()
    for part in ("400/15000", "trials/s", "bits/spike 0.123", "val 0.234"):
        assert part in shown, shown
    assert "…" not in shown
    # In a wide one also what is trained, as it was named.
    for part in ("loss 1234.500", "mtm[lr]"):
        assert (part in shown) == (width == 160)


@pytest.mark.parametrize("kind", [ProgressBar, ProgressLines])
def test_a_terminal_has_a_bar_and_a_file_lines_on_standard_error(monkeypatch, kind):
    monkeypatch.setattr(progress.sys.stderr, "isatty", lambda: kind is ProgressBar, raising=False)
    made = progress.show_progress("mtm")
    assert type(made) is kind
    if kind is ProgressBar:
        assert made.progress.console.stderr


def test_speed_is_that_of_the_trials_since(monkeypatch):
    """Three trials in a tenth of a second; before its start nothing was trained."""
    clock, stream = SimpleNamespace(at=50.0), io.StringIO()
    flushed = []
    stream.flush = lambda: flushed.append(stream.getvalue().count("\n"))
    monkeypatch.setattr(progress.time, "perf_counter", lambda: clock.at)
    trainer = SimpleNamespace(global_step=0, max_steps=5, callback_metrics={})
    for starts in (True, False):
        bar, shown = ProgressBar("mtm", Console(file=io.StringIO(), width=100)), []
        bar.progress.update = lambda task, shown=shown, **fields: shown.append(fields)
        lines = ProgressLines("mtm", stream)
        if starts:
            bar.trials = 7
            clock.at += 3
            for one in (bar, lines):
                one.on_train_start(trainer, None)
            bar.on_train_end(trainer, None)
        clock.at += 0.1
        trainer.global_step = 1
        lines.on_train_batch_end(trainer, None, None, [0] * 3, 0)
        lines.on_validation_end(trainer, None)
        told = "step 1 of 5: ; 30 trials/s, 0 min 0 s left"
        assert stream.getvalue().splitlines()[-1].endswith(told)
        trainer.global_step = 10
        bar.on_train_batch_end(trainer, None, None, [0] * 3, 0)
        assert shown[-1]["speed"] == "30 trials/s"
        trainer.global_step = 0
    assert flushed == [1, 2, 3]  # each line, as it comes


def test_before_the_first_step_all_time_is_left(monkeypatch):
    clock, stream = SimpleNamespace(at=50.0), io.StringIO()
    monkeypatch.setattr(progress.time, "perf_counter", lambda: clock.at)
    lines = ProgressLines("mtm", stream)
    clock.at += 3
    lines.on_validation_end(SimpleNamespace(global_step=0, max_steps=5, callback_metrics={}), None)
    assert stream.getvalue().endswith("step 0 of 5: ; 0 trials/s, 0 min 15 s left\n")


def test_evaluation_tells_of_every_task_and_of_the_time_left(folder, monkeypatch):
    shorten(monkeypatch)
    cache = open_cache(folder / "cache.zarr")
    if not (folder / "run" / "model.safetensors").is_file():
        train(tiny_settings(), cache, folder / "run", progress=False)
    tasks = ["co_smoothing", "choice"]
    for score in (
        lambda say: evaluate(folder / "run", cache, tasks=tasks, say=say),
        lambda say: evaluate_baseline("unit_mean", cache, tasks=tasks, say=say),
    ):
        lines: list[str] = []
        score(lines.append)
        for eid in cache:
            assert any(eid in line and "co_smoothing:" in line for line in lines)
        assert any("1 of 2 sessions scored" in line and "s left" in line for line in lines)
