"""What models with behaviour inside add to a report: rows of its table, and sections."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ibl_mtm.evaluation.scored_run import ScoredRun
from ibl_mtm.report.behaviour_sections import decoded_by_models, encoded, modality_title
from ibl_mtm.report.tables import score_columns, score_groups, score_table


def scored(name, tasks, units=None):
    no_units = pd.DataFrame(columns=["eid", "region", "task", "bits_per_spike"])
    units = no_units if units is None else units
    return ScoredRun(Path(name), name, {}, {"tasks": tasks}, units)


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


def test_what_simulated_latents_tell_stands_below():
    tasks = {
        "co_smoothing": {"bits_per_spike": 0.3, "oracle": 0.6},
        "encoding": {"bits_per_spike": 0.1, "oracle": 0.2, "fraction_of_oracle": 0.5},
        "choice": {"accuracy": 0.8, "oracle": {"accuracy": 1.0}},
        "wheel_speed": {"r2": 0.2},
    }
    rows = {row.name: row for row in score_table([scored("run", tasks)])}
    assert list(rows) == ["run", "true rates", "true latents"]
    assert [cell.value for cell in rows["true rates"].cells] == [0.6, None, None, None]
    assert [cell.value for cell in rows["true latents"].cells] == [None, 0.2, 1.0, None]
    assert rows["run"].cells[1].notes == ("50% of true latents",)
    assert rows["true latents"].reference


def test_runs_without_have_the_table_that_they_had():
    rows = score_table([scored("plain", {"co_smoothing": {"bits_per_spike": 0.3}})])
    assert [row.name for row in rows] == ["plain"]
    assert len(rows[0].cells) == 1


def text_of(figure):
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def rows_of(figure):
    return [label.get_text() for label in figure.axes[0].get_yticklabels()]


UNITS = pd.DataFrame(
    {
        "eid": "a",
        "region": ["CA1"] * 6 + ["DG"] * 5 + ["LP"] * 2,
        "task": "encoding",
        "bits_per_spike": np.linspace(0.1, 0.2, 13),
    }
)


def adds(**of_regions):
    """Gains of the regions CA1, DG and LP."""
    return {
        name: {
            "bits_per_spike": values[0],
            "sem": 0.01,
            "regions": {
                region: {"bits_per_spike": value, "n_units": n}
                for region, value, n in zip(("CA1", "DG", "LP"), values, (6, 5, 2), strict=True)
            },
        }
        for name, values in of_regions.items()
    }


def test_what_each_modality_adds_is_shown_by_region():
    gains = adds(choice=(0.03, -0.02, 0.9), block=(0.01, -0.0001, 0.8))
    tasks = {"encoding": {"bits_per_spike": 0.1, "adds": gains}}
    section = encoded([scored("plain", {}), scored("both", tasks, UNITS)])
    assert [plot.name for plot in section.plots] == [
        "regions_encoding", "modality_gains", "region_gains",
    ]  # fmt: skip
    _, total, by_region = (plot.figure for plot in section.plots)
    assert rows_of(total) == ["Choice", "Block"]
    assert rows_of(by_region) == ["CA1 (6)", "DG (5)"]  # LP has too few, and sets no scale
    assert text_of(by_region) == ["0.030", "0.010", "−0.020", "0.000"]
    image = by_region.axes[0].images[0]
    assert image.norm.vmax == pytest.approx(0.03)
    assert image.get_array()[1, 1] >= 0  # nothing is not below zero


def test_decoding_by_models_stands_beside_readouts_and_raw_spikes():
    tasks = {
        "choice": {
            "accuracy": 0.6,
            "raw_spikes": {"accuracy": 0.7},
            "by_model": {"accuracy": 0.9, "intervals": {"accuracy": [0.8, 1.0]}},
        },
        "wheel_speed": {"r2": 0.1, "by_model": {"r2": 0.4}},
    }
    (plot,) = decoded_by_models([scored("plain", {}), scored("both", tasks)]).plots
    assert rows_of(plot.figure) == ["Choice, accuracy", "Wheel speed, R²"]
    lines = [line.get_xdata() for line in plot.figure.axes[0].lines]
    assert [list(x) for x in lines[:2]] == [[0.9, 0.4], [0.6, 0.1]]
    assert lines[2][0] == 0.7


def test_runs_without_behaviour_inside_have_no_such_sections():
    run = scored("plain", {"choice": {"accuracy": 0.6}})
    for section in (decoded_by_models([run]), encoded([run])):
        assert not section.plots
        assert not section.missing


def test_modalities_of_one_variable_share_a_title():
    assert modality_title("wheel_velocity+wheel_speed") == "Wheel velocity and speed"
    assert modality_title("choice") == "Choice"
