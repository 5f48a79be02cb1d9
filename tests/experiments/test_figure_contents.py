"""What a figure of results shows: where its dots, errors, curves and bands are, and how."""

import numpy as np
import pytest
from scored_runs import write_scored

from ibl_mtm.experiments.result_figures import draw
from ibl_mtm.experiments.results import make_results
from ibl_mtm.report.figures.style import MUTED, RULE, RUN_COLORS

#: Scores of a row, by session.
DOTS = {"MtM": {"x": 0.2, "y": 0.4}, "a model of a name that takes two lines": {"x": 0.1, "y": 0.1}}


def tick_labels(axis):
    return [label.get_text() for label in axis.get_ticklabels()]


@pytest.fixture(scope="module")
def dots(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dots")
    runs = [
        write_scored(
            folder / str(n), name, {eid: {"co_smoothing": score} for eid, score in own.items()}
        )
        for n, (name, own) in enumerate(DOTS.items())
    ]
    alone = {"x": {"co_smoothing": {"bits_per_spike": 0.3, "oracle": 0.6}, "choice": 0.75}}
    runs.append(write_scored(folder / "alone", "alone", alone))
    return draw(make_results("recording", runs))


def test_rows_are_from_the_top_down_each_with_its_scores(dots):
    axes = dots.axes[0]
    assert axes.get_ylim() == (2.5, -0.5)
    assert axes.get_yticks().tolist() == [0, 1, 2]
    assert tick_labels(axes.yaxis) == ["MtM", "a model of a name that\ntakes two lines", "alone"]
    behind = [line for line in axes.lines if line.get_color() == RULE]
    found = [(line.get_xdata().tolist(), line.get_ydata().tolist()) for line in behind]
    assert found == [([0.2, 0.4], [0, 0]), ([0.1, 0.1], [1, 1]), ([0.3], [2])]


def test_means_have_errors_and_the_best_a_color(dots):
    axes = dots.axes[0]
    means = [bar.lines[0] for bar in axes.containers]
    assert [(bar.get_xdata()[0], bar.get_ydata()[0]) for bar in means] == [
        (pytest.approx(0.3), 0),
        (pytest.approx(0.1), 1),
        (pytest.approx(0.3), 2),
    ]
    assert [bar.get_color() for bar in means] == [RUN_COLORS[0], MUTED, RUN_COLORS[0]]
    # The standard error of 0.2 and 0.4 is 0.1.
    (segment,) = axes.containers[0].lines[2][0].get_segments()
    np.testing.assert_allclose(segment, [[0.2, 0], [0.4, 0]])
    assert not axes.containers[2].has_xerr
    # Means are larger than single scores, and lie over them.
    assert means[0].get_markersize() > axes.lines[0].get_markersize()
    assert means[0].get_zorder() > axes.lines[0].get_zorder()
    # In the other task there is one row alone, which is the best of nothing.
    (only,) = dots.axes[1].containers
    assert (only.lines[0].get_xdata()[0], only.lines[0].get_ydata()[0]) == (0.75, 2)
    assert only.lines[0].get_color() == MUTED


def test_a_grid_of_scores_lies_behind_and_rows_have_no_ticks(dots):
    for axes in dots.axes:
        assert axes.get_axisbelow() is True
        assert len(axes.get_xticks()) <= 6
        assert all(tick.tick1line.get_markersize() == 0 for tick in axes.yaxis.get_major_ticks())
        assert all(line.get_visible() for line in axes.get_xgridlines())
        assert not any(line.get_visible() for line in axes.get_ygridlines())


@pytest.fixture(scope="module")
def curves(tmp_path_factory):
    """Two series; of one, sessions differ, and a training is without a score of one task."""
    folder = tmp_path_factory.mktemp("curves")
    scores = {
        ("MtM", 10): {"x": 0.5, "y": 0.7},
        ("MtM", 1): {"x": 0.2, "y": 0.6},
        ("NDT", 34): {"x": 0.3, "y": 0.3},
        ("NDT", 1): {"x": 0.1, "y": 0.3},
    }
    runs = []
    for n, ((name, animals), own) in enumerate(scores.items()):
        found = {eid: {"co_smoothing": score} for eid, score in own.items()}
        if animals != 10:
            found["x"]["inter_region"] = 0.25
        runs.append(write_scored(folder / str(n), name, found, animals=animals))
    return draw(make_results("scaling", runs))


def test_curves_rise_over_the_numbers_of_animals_in_order(curves):
    axes = curves.axes[0]
    assert axes.get_xticks().tolist() == [0, 1, 2]
    assert tick_labels(axes.xaxis) == ["1", "10", "34"]
    means = [line for line in axes.lines if line.get_marker() == "o"]
    found = [(line.get_xdata().tolist(), line.get_ydata()) for line in means]
    assert [x for x, _ in found] == [[0, 1], [0, 2]]
    np.testing.assert_allclose([y for _, y in found], [[0.4, 0.6], [0.2, 0.3]])
    assert [line.get_color() for line in means] == list(RUN_COLORS[:2])
    own = [line for line in axes.lines if line.get_marker() != "o"]
    np.testing.assert_allclose(
        [line.get_ydata() for line in own], [[0.2, 0.5], [0.6, 0.7], [0.1, 0.3], [0.3, 0.3]]
    )
    assert all(line.get_linewidth() < means[0].get_linewidth() for line in own)
    assert all(line.get_alpha() < 1 for line in own)


def test_bands_are_standard_errors_over_sessions(curves):
    first, second = curves.axes[0].collections
    corners = first.get_paths()[0].vertices
    # Of 0.2 and 0.6 it is 0.2, of 0.5 and 0.7 it is 0.1.
    assert set(np.round(corners[corners[:, 0] == 0, 1], 6)) == {0.2, 0.6}
    assert set(np.round(corners[corners[:, 0] == 1, 1], 6)) == {0.5, 0.7}
    corners = second.get_paths()[0].vertices
    assert set(np.round(corners[corners[:, 0] == 2, 1], 6)) == {0.3}
    assert first.get_alpha() < 0.4


def test_what_has_no_score_has_no_point(curves):
    axes = curves.axes[1]
    means = [line for line in axes.lines if line.get_marker() == "o"]
    assert [line.get_xdata().tolist() for line in means] == [[0], [0, 2]]
    assert all(np.ptp(band.get_paths()[0].vertices[:, 1]) < 1e-9 for band in axes.collections)
    assert not any(line.get_visible() for line in axes.get_xgridlines())


@pytest.mark.parametrize(("n_tasks", "columns", "lines"), [(1, 1, 1), (4, 4, 1)])
def test_at_most_four_panels_stand_side_by_side(tmp_path, n_tasks, columns, lines):
    tasks = ["co_smoothing", "intra_region", "inter_region", "forward_prediction", "choice"]
    run = write_scored(tmp_path / "r", "MtM", {"s": dict.fromkeys(tasks[:n_tasks], 0.2)})
    figure = draw(make_results("recording", [run]))
    grid = figure.axes[0].get_gridspec()
    assert (grid.nrows, grid.ncols) == (lines, columns)
    assert sum(axes.axison for axes in figure.axes) == n_tasks
    named = [any(tick_labels(axes.yaxis)) for axes in figure.axes[:n_tasks]]
    assert named == [n % columns == 0 for n in range(n_tasks)]
    # A row's panels are as wide as they are many, beside what names the rows.
    width = figure.get_figwidth()
    assert 1.9 < (width - 1.6) / columns < 2.8
    assert figure.get_figheight() == pytest.approx(0.5 + lines * 1.18)
