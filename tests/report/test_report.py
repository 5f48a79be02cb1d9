"""The page about runs: what it says, what it leaves out and why, and that a browser shows it."""

import json
import re
import shutil
import subprocess
import time

import pytest
from synthetic_run import GAIN, Size, eids, write_run, write_scalars

from ibl_mtm.errors import UserError
from ibl_mtm.evaluation.scored_run import read_scored_run, read_scored_runs
from ibl_mtm.report.figures.style import RUN_COLORS
from ibl_mtm.report.figures.task_scores import unit_scores
from ibl_mtm.report.page import write_report
from ibl_mtm.report.representative import median_session, representative_units
from ibl_mtm.report.sections import all_units
from ibl_mtm.report.tables import response_rows, score_table
from ibl_mtm.report.words import notes


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two runs and a report on them."""
    folder = tmp_path_factory.mktemp("report")
    write_run(folder / "mtm", 1.0)
    write_run(folder / "temporal", 0.6)
    write_report([folder / "mtm", folder / "temporal"], folder / "out" / "report.html")
    return folder


@pytest.fixture(scope="module")
def page(folder):
    return (folder / "out" / "report.html").read_text()


def figures(page):
    return re.findall(r'<figure id="figure-([^"]*)"', page)


def test_the_page_needs_nothing_from_outside(page):
    assert "<script" not in page
    assert "://" not in page
    assert set(re.findall(r'(?:src|href)="([^#"][^"]{0,4})', page)) <= {"data:"}
    assert "default-src 'none'" in page
    assert len(page) < 3e6


def test_it_says_first_what_was_scored_and_how_the_runs_compare(page):
    summary = page[page.index("<header>") : page.index("</header>")]
    assert "simulated data" in summary
    assert re.search(r"<b>2</b> sessions", summary)
    assert re.search(r"<b>1</b> animal\b", summary)
    assert re.search(r"<b>48</b> units", summary)
    assert re.search(r"<b>96</b> test trials", summary)
    assert "mtm predicts the spikes of a unit that it is not shown" in summary
    assert "temporal reaches" in summary


def test_every_part_has_its_figures(page):
    shown = figures(page)
    assert len(shown) == len(set(shown))
    expected = {"activity", "behaviour", "trial_spikes", "training"}
    expected |= {f"{kind}_{task}" for kind in ("units", "pairs", "regions") for task in GAIN}
    expected |= {"trace_whisker_motion_energy"}
    per_run = {
        "region_matrix",
        "psth_best",
        "psth_median",
        "psth_worst",
        "trial_rates",
        "validation_by_scheme",
    }
    assert set(shown) == expected | per_run | {f"{name}-1" for name in per_run}


def test_figures_are_files_of_the_runs_too(folder):
    for run, name in (("mtm", "activity"), ("mtm", "psth_best"), ("temporal", "psth_best")):
        for suffix in ("svg", "png"):
            assert (folder / run / "figures" / f"{name}.{suffix}").stat().st_size > 1000
    assert not (folder / "temporal" / "figures" / "activity.svg").exists()


def test_the_table_holds_the_scores_and_marks_the_best_of_runs_and_baselines(folder):
    runs = read_scored_runs([folder / "mtm", folder / "temporal"])
    rows = {row.name: row for row in score_table(runs)}
    assert list(rows) == ["mtm", "temporal", "raw spikes", "most common class",
                          "chance", "true rates"]  # fmt: skip
    for run in runs:
        values = [cell.value for cell in rows[run.name].cells]
        tasks = run.scores["tasks"]
        assert values[:4] == [tasks[task]["bits_per_spike"] for task in GAIN]
        assert values[4:] == [tasks["choice"]["accuracy"], tasks["whisker_motion_energy"]["r2"]]
    assert [cell.value for cell in rows["raw spikes"].cells] == [None] * 4 + [0.71, 0.42]
    assert rows["true rates"].cells[0].value == runs[0].task("co_smoothing")["oracle"]
    best = {name: [cell.best for cell in row.cells] for name, row in rows.items()}
    assert best["mtm"][0]
    assert best["mtm"][4]  # 0.80 against 0.72 and raw spikes' 0.71
    assert best["raw spikes"][5]  # 0.42 against 0.40 and 0.24
    assert not any(best["true rates"] + best["most common class"])


def test_medians_and_r2_of_responses_stand_beside_the_means(folder, page):
    runs = read_scored_runs([folder / "mtm", folder / "temporal"])
    cell = {row.name: row for row in score_table(runs)}["mtm"].cells[0]
    median = runs[0].units.query("task == 'co_smoothing'")["bits_per_spike"].median()
    assert f"median {median:.2f}" in cell.notes
    rows = {(run, part): values for run, part, values in response_rows(runs)}
    assert set(rows) == {(r, p) for r in ("mtm", "temporal") for p in
                         ("mean response", "single trials")}  # fmt: skip
    assert rows["mtm", "mean response"] == [runs[0].task(task)["psth_r2"] for task in GAIN]
    assert rows["temporal", "single trials"][1] == runs[1].task("forward_prediction")["residual_r2"]
    shown = page[page.index("Mean responses and single trials") :]
    assert f"<td>{rows['mtm', 'mean response'][0]:.2f}</td>" in shown[: shown.index("</details>")]


def test_representative_units_are_ranked_among_those_with_enough_spikes(folder):
    units = read_scored_run(folder / "mtm").units
    own = units[(units["task"] == "co_smoothing") & units["bits_per_spike"].notna()]
    enough = own[own["n_spikes"] >= 100].sort_values("bits_per_spike")
    assert 3 <= len(enough) < len(own)
    picked = representative_units(units)
    assert picked["best"][1] == enough["unit"].iloc[-1]
    assert picked["worst"][1] == enough["unit"].iloc[0]
    rank = (enough["bits_per_spike"] < picked["median"][2]).mean()
    assert 0.4 < rank < 0.6
    few = units.assign(n_spikes=5)
    assert representative_units(few)["best"][2] == own["bits_per_spike"].max()


def test_the_median_session_is_the_one_with_the_median_score(folder):
    run = read_scored_run(folder / "mtm")
    scores = {e: s["whisker_motion_energy"]["r2"] for e, s in run.scores["sessions"].items()}
    assert median_session(run, "whisker_motion_energy", "r2") == max(scores, key=scores.get)
    assert median_session(run, "forward_prediction", "no such score") is None


def test_a_run_keeps_its_colour_where_another_has_nothing_to_show(folder):
    runs = read_scored_runs([folder / "mtm", folder / "temporal"])
    units = all_units(runs)
    without = units[(units["run"] == "temporal") | (units["task"] != "co_smoothing")]
    axes = unit_scores(without, "co_smoothing").axes[0]
    assert axes.lines[0].get_color() == RUN_COLORS[1]


def test_settings_that_differ_stand_out_and_all_are_there(page):
    differing = page[page.index("The runs differ") : page.index("Provenance of mtm")]
    assert re.search(r"masking\.schemes.*neuron.*temporal", differing, re.DOTALL)
    assert "learning_rate" not in differing
    assert "learning_rate: 0.001" in page
    for fact in ("2.13.0", "random, 70/10/20, seed 42", "demo/cache.zarr"):
        assert fact in page


def test_what_cannot_be_shown_is_said_in_a_sentence(tmp_path):
    size = Size(sessions=1, whisker=False, regions=("CA1",), contiguous=True)
    run = write_run(tmp_path / "b<a>re&", size=size)
    shutil.rmtree(run / "logs")
    scores = json.loads((run / "metrics.json").read_text())
    (run / "metrics.json").write_text(json.dumps(scores | {"simulated": False}))
    write_report([run], tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert "Inter-region skipped in 1 session: has one region only" in page
    assert "Whisker motion energy skipped in 1 session: has no camera" in page
    assert "R² of mean responses skipped in 1 session: has no trials" in page
    assert "Mean responses and single trials" not in page
    assert "No behaviour was decoded." in page
    assert "No training curves: the run folder has no logs." in page
    assert "Run against run" not in page
    assert "simulated" not in page
    assert "<h1>b&lt;a&gt;re&amp;</h1>" in page  # a name, never markup
    assert "<a>" not in page
    shown = figures(page)
    assert {"activity", "psth_best", "trial_spikes", "units_co_smoothing"} <= set(shown)
    assert not {"behaviour", "trace_whisker_motion_energy", "training", "units_inter_region"} & set(
        shown
    )


def test_runs_on_other_data_are_not_passed_off_as_comparable(folder, tmp_path):
    write_run(tmp_path / "one", size=Size(sessions=1, units=12))
    runs = read_scored_runs([folder / "mtm", tmp_path / "one"])
    assert any("not scored on the same sessions" in note for note in notes(runs))
    runs = read_scored_runs([folder / "mtm", folder / "temporal"])
    assert notes(runs) == []
    runs[1].scores["provenance"]["split"] = "blocks"
    assert any("split trials differently" in note for note in notes(runs))


def test_runs_of_one_name_are_told_apart_by_their_paths(folder, tmp_path):
    write_run(tmp_path / "mtm", size=Size(sessions=1, units=12))
    names = [run.name for run in read_scored_runs([folder / "mtm", tmp_path / "mtm"])]
    assert names == [str(folder / "mtm"), str(tmp_path / "mtm")]


def test_curves_of_a_resumed_training_hold_each_step_once(tmp_path):
    path = write_run(tmp_path / "run", size=Size(sessions=1, units=12))
    write_scalars(path / "logs" / "version_1", [("val/bits_per_spike", 0.77, 1200)])
    curves = read_scored_run(path).curves().query("tag == 'val/bits_per_spike'")
    assert list(curves["step"]) == list(range(0, 1201, 100))
    assert curves["value"].iloc[-1] == pytest.approx(0.77)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda run: (run / "metrics.json").unlink(), "ibl-mtm eval .*run --cache CACHE"),
        (lambda run: (run / "per_unit.parquet").unlink(), "has no per_unit.parquet"),
        (lambda run: (run / "metrics.json").write_text("{"), "damaged file"),
        (lambda run: (run / "per_unit.parquet").write_bytes(b"PAR1"), "damaged file"),
        (shutil.rmtree, "no run folder"),
    ],
)
def test_a_run_without_scores_is_refused_with_the_mend(tmp_path, spoil, message):
    run = write_run(tmp_path / "run", size=Size(sessions=1, units=12))
    spoil(run)
    with pytest.raises(UserError, match=message) as error:
        write_report([run], tmp_path / "report.html")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "report.html").exists()


@pytest.mark.parametrize(("count", "message"), [(0, "1 to 6 runs"), (7, "1 to 6"), (2, "twice")])
def test_a_report_is_on_one_to_six_different_runs(folder, tmp_path, count, message):
    with pytest.raises(UserError, match=message):
        write_report([folder / "mtm"] * count, tmp_path / "report.html")


def browse(page, profile):
    """What a browser makes of a page: its elements, its complaints, and the seconds it took."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no Chromium on this machine")
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
               "--disable-background-networking", f"--user-data-dir={profile}",
               "--enable-logging=stderr", "--dump-dom",
               page.as_uri()]  # fmt: skip
    start = time.perf_counter()
    shown = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return shown.stdout, shown.stderr, time.perf_counter() - start


@pytest.mark.slow
@pytest.mark.parametrize("sessions", [2, 100])
def test_a_browser_shows_every_figure_without_a_complaint(tmp_path, sessions, record_property):
    size = Size(sessions=sessions, units=60)
    for name, quality in (("mtm", 1.0), ("temporal", 0.6)):
        write_run(tmp_path / name, quality, size)
    file = tmp_path / "report.html"
    write_report([tmp_path / "mtm", tmp_path / "temporal"], file)
    page = file.read_text()
    assert file.stat().st_size < 5e6
    assert all(eid in page for eid in eids(sessions))
    (tmp_path / "profile").mkdir()
    shown, complaints, seconds = browse(file, tmp_path / "profile")
    record_property("seconds from the browser's start to the page's end", round(seconds, 1))
    assert "<title>mtm and temporal – ibl-mtm report</title>" in shown
    assert figures(shown) == figures(page)
    drawings = re.findall(r"<figure.*?</figure>", shown, re.DOTALL)
    assert len(drawings) >= 20
    assert all("<path" in drawing and "</svg>" in drawing for drawing in drawings)
    # The policy of the page allows no request: one that was tried would be complained of.
    assert "CONSOLE" not in complaints
