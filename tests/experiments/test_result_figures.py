"""The figure of a table: a panel for each task, whose rows are named once."""

from scored_runs import write_scored

from ibl_mtm.experiments.read import TASK_TITLES
from ibl_mtm.experiments.result_figures import draw
from ibl_mtm.experiments.results import make_results


def scored(folder, name, score, **options):
    scores = {"s": {"co_smoothing": score, "inter_region": score / 2}}
    return write_scored(folder, name, scores, **options)


def test_rows_are_named_at_the_left_alone(tmp_path):
    runs = [scored(tmp_path / name, name, 0.2 + n / 10) for n, name in enumerate("abc")]
    results = make_results("recording", runs)
    figure = draw(results)
    left, right = figure.axes
    assert figure.get_suptitle() == results.title
    for axes, task in ((left, "co_smoothing"), (right, "inter_region")):
        title, unit = TASK_TITLES[task]
        assert axes.get_title("left") == title
        assert (axes.get_xlabel(), axes.get_ylabel()) == (unit, "")
    # Rows have room, each as much as the others.
    more = [scored(tmp_path / name, name, 0.1) for name in "defg"]
    higher = draw(make_results("recording", [*runs, *more]))
    assert 0.8 < higher.get_figheight() - figure.get_figheight() < 1.6
    assert {label.get_text() for label in left.get_yticklabels()} == {"a", "b", "c"}
    assert not any(label.get_text() for label in right.get_yticklabels())


def test_curves_have_their_scores_at_every_panel(tmp_path):
    runs = [
        scored(tmp_path / f"n{n}", "MtM", score, animals=n)
        for n, score in {1: 0.2, 10: 0.4, 34: 0.45}.items()
    ]
    results = make_results("scaling", runs)
    assert list(results.rows) == [
        "MtM, pre-trained on 1 animal",
        "MtM, pre-trained on 10 animals",
        "MtM, pre-trained on 34 animals",
    ]
    for axes in draw(results).axes:
        assert axes.get_xlabel() == "animals pre-trained on"
        assert axes.get_ylabel() == "bits/spike"
        assert axes.get_axisbelow()  # lines hide the grid, not the grid lines
        assert any(label.get_text() for label in axes.get_yticklabels())


def test_panels_that_no_task_fills_are_left_blank_and_series_are_named_once(tmp_path):
    tasks = ("co_smoothing", "intra_region", "inter_region", "forward_prediction", "choice")
    runs = [
        write_scored(tmp_path / f"{name}{n}", name, {"s": dict.fromkeys(tasks, n / 40)}, animals=n)
        for name in ("MtM", "NDT")
        for n in (1, 10)
    ]
    figure = draw(make_results("scaling", runs))
    assert [axes.axison for axes in figure.axes] == [True] * 5 + [False]
    assert len({axes.get_subplotspec().colspan.start for axes in figure.axes}) == 3
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["MtM", "NDT"]
    alone = draw(make_results("scaling", [run for run in runs if "MtM" in str(run)]))
    assert alone.legends == []
    # Panels keep their size however many there are.
    few = write_scored(tmp_path / "few", "MtM", {"s": dict.fromkeys(tasks[:3], 0.2)}, animals=1)
    more = write_scored(tmp_path / "m", "MtM", {"s": dict.fromkeys(tasks[:3], 0.3)}, animals=10)
    one_line = draw(make_results("scaling", [few, more]))
    wide, high = figure.get_size_inches() - one_line.get_size_inches()
    assert wide == 0
    assert 2 < high < 2.5
