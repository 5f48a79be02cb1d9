"""What models with behaviour inside add to the table of scores."""

from pathlib import Path

import pandas as pd

from ibl_mtm.evaluation.scored_run import ScoredRun
from ibl_mtm.report.tables import score_columns, score_groups, score_table


def scored(name, tasks):
    return ScoredRun(Path(name), name, {}, {"tasks": tasks}, pd.DataFrame())


def test_what_a_model_answers_itself_stands_below_the_runs():
    plain = {
        "co_smoothing": {"bits_per_spike": 0.3},
        "choice": {"accuracy": 0.8, "raw_spikes": {"accuracy": 0.7}},
        "wheel_speed": {"r2": 0.2},
    }
    inside = {
        "co_smoothing": {"bits_per_spike": 0.2},
        "encoding": {"bits_per_spike": 0.1, "n_sessions": 1, "sem": 0.01},
        "choice": {"accuracy": 0.6, "by_model": {"accuracy": 0.9}},
        "wheel_speed": {"r2": 0.1, "by_model": {"r2": 0.4}},
    }
    runs = [scored("plain", plain), scored("both", inside)]
    titles = [title for title, _ in score_columns(runs)]
    assert titles == ["Co-smoothing", "From behaviour", "Choice", "Wheel speed"]
    rows = {row.name: row for row in score_table(runs)}
    assert list(rows) == ["plain", "both", "both, by the model itself", "raw spikes"]
    own = rows["both, by the model itself"]
    assert own.reference
    assert [cell.value for cell in own.cells] == [None, None, 0.9, 0.4]
    assert [cell.best for cell in own.cells] == [False, False, True, True]
    assert [cell.value for cell in rows["both"].cells] == [0.2, 0.1, 0.6, 0.1]
    assert rows["both"].cells[1].notes == ("± 0.010 over units",)
    # It has no part in the table of activity.
    activity, behaviour = score_groups(runs)
    assert [row.name for row in activity[1]] == ["plain", "both"]
    assert "both, by the model itself" in [row.name for row in behaviour[1]]


def test_runs_without_have_the_table_that_they_had():
    rows = score_table([scored("plain", {"co_smoothing": {"bits_per_spike": 0.3}})])
    assert [row.name for row in rows] == ["plain"]
    assert len(rows[0].cells) == 1
