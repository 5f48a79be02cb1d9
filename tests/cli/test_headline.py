"""One headline for a score wherever it is shown, with an error that is its own."""

import json

import pandas as pd
import pytest
import yaml
from synthetic import make_session
from synthetic_run import Size, write_run
from training_runs import tiny_settings
from typer.testing import CliRunner

from ibl_mtm.cli import app
from ibl_mtm.cli.terminal import show_scores
from ibl_mtm.evaluation.behaviour.behaviours import BEHAVIOURS
from ibl_mtm.evaluation.document import summarise_tasks
from ibl_mtm.sessions.trial_format import trial_format
from ibl_mtm.sessions.view import describe_session
from ibl_mtm.training.checkpoint.build import build_model
from ibl_mtm.training.checkpoint.model_card import model_card


def document(n_sessions):
    choice = {
        "accuracy": 0.8125,
        "balanced_accuracy": 0.70,
        "sem": 0.0312,
        "raw_spikes": {"accuracy": 0.61, "balanced_accuracy": 0.55},
        "n_sessions": 3,
    }
    co = {"bits_per_spike": 0.25, "sem": 0.0123, "n_sessions": n_sessions}
    return {"run": "runs/mtm", "tasks": {"choice": choice, "co_smoothing": co}, "skipped": {}}


def test_a_class_is_headed_by_its_accuracy(capsys):
    assert {b.score for b in BEHAVIOURS.values() if b.classes} == {"accuracy"}
    show_scores([document(3)])
    row = next(line for line in capsys.readouterr().out.splitlines() if "choice" in line)
    assert row.split()[1] == "0.812"
    assert "balanced 0.700" in row
    assert "from raw spikes 0.610" in row


@pytest.mark.parametrize(("n_sessions", "of"), [(3, ""), (1, " over units")])
def test_a_card_has_no_error_of_another_score(n_sessions, of):
    ds = make_session(n_units=6, n_trials=30, n_bins=20)
    settings = tiny_settings()
    session = describe_session(ds, settings.data)
    card = model_card(build_model(settings, [session], trial_format(ds)), document(n_sessions))
    head = yaml.safe_load(card.split("---\n")[1])  # what the Hub reads
    assert (head["library_name"], head["license"]) == ("ibl-mtm", "mit")
    assert "| choice | 0.812 ± 0.031 | accuracy |" in card
    assert "| choice | 0.700 | balanced accuracy |" in card
    assert f"| co-smoothing | 0.250 ± 0.012{of} | bits/spike |" in card


@pytest.mark.parametrize("n", [2, 6])
def test_p_is_over_sessions_not_over_units(tmp_path, n):
    """Units of a session share noise: 48 of them were as good as 48 animals."""
    for name, quality in (("a", 1.0), ("b", 0.6)):
        write_run(tmp_path / name, quality, Size(sessions=n, units=12, bins=20, examples=1))
    words = ["compare", str(tmp_path / "a"), str(tmp_path / "b")]
    shown = CliRunner().invoke(app, words).stdout
    (pair, *_) = json.loads(CliRunner().invoke(app, [*words, "--json"]).stdout)["pairs"]
    assert "p (sessions)" in shown
    row = next(line for line in shown.splitlines() if "co-smoothing" in line)
    if n == 2:
        assert pair["p_sessions"] is None
        assert "too few" in row
    else:
        assert f"{pair['p_sessions']:.3f}" in row
        assert pair["p"] < pair["p_sessions"]


def test_what_an_error_is_over_is_said():
    scores = [
        {"accuracy": 0.8, "balanced_accuracy": 0.7, "n_test": 10},
        {"accuracy": 0.9, "balanced_accuracy": 0.8, "n_test": 12},
    ]

    found = summarise_tasks(pd.DataFrame(), [{"choice": s} for s in scores], ["choice"])
    assert found["choice"]["sem_over"] == "sessions"
    assert found["choice"]["sem"] == pytest.approx(0.05)
