"""What figures show, read back from their axes, and how they travel into a page."""

import re

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.text import Text
from synthetic_run import REGIONS, Size, eids, write_run

from ibl_mtm.evaluation.scored_run import read_scored_run, region_table
from ibl_mtm.report.figures.activity import decoded_trace, psth, rate_raster, spike_raster
from ibl_mtm.report.figures.regions import region_scores
from ibl_mtm.report.figures.style import (
    RUN_COLORS,
    css_colors,
    inline_svg,
    robust_range,
    save_figure,
)
from ibl_mtm.report.figures.task_scores import (
    behaviour_scores,
    paired_scores,
    task_scores,
    unit_scores,
)
from ibl_mtm.report.figures.training import training_curves, validation_by_scheme
from ibl_mtm.report.sections import all_units


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    return [
        read_scored_run(write_run(folder / "mtm", 1.0)),
        read_scored_run(write_run(folder / "temporal", 0.6)),
    ]


@pytest.fixture(scope="module")
def session(runs):
    return runs[0].session(eids(1)[0])


def texts(figure):
    """Everything written in a figure."""
    figure.draw_without_rendering()
    return [text.get_text() for text in figure.findobj(Text)]


def test_task_scores_stand_where_they_should():
    table = pd.DataFrame(
        {
            "run": ["a", "a", "b"],
            "task": ["co_smoothing", "inter_region", "co_smoothing"],
            "bits_per_spike": [0.4, 0.2, 0.3],
            "sem": [0.01, np.nan, 0.02],
            "oracle": [0.6, np.nan, 0.6],
        }
    )
    axes = task_scores(table).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        "Co-smoothing",
        "Inter-region",
    ]
    first, second = (container.lines[0].get_xdata() for container in axes.containers)
    assert list(first) == [0.4, 0.2]
    assert second[0] == 0.3
    assert np.isnan(second[1])


def test_behaviour_stands_beside_raw_spikes_and_chance():
    table = pd.DataFrame(
        {
            "run": ["a", "a"],
            "behaviour": ["Choice, accuracy", "Whisker, R²"],
            "score": [0.8, 0.3],
            "raw_spikes": [0.7, 0.4],
            "chance": [0.55, np.nan],
        }
    )
    axes = behaviour_scores(table).axes[0]
    run, raw = (line.get_xdata() for line in axes.lines[:2])
    assert list(run) == [0.8, 0.3]
    assert list(raw) == [0.7, 0.4]
    assert axes.collections[0].get_segments()[0][0][0] == 0.55


def test_unit_scores_show_quantiles_of_every_run_and_of_the_true_rates(runs):
    units = all_units(runs)
    axes = unit_scores(units, "co_smoothing").axes[0]
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels == ["mtm", "temporal", "true rates"]
    own = units[(units["run"] == "mtm") & (units["task"] == "co_smoothing")]
    scores = own["bits_per_spike"].dropna()
    assert axes.lines[0].get_xdata()[0] == pytest.approx(scores.median())
    dots = axes.collections[0].get_offsets()
    assert len(dots) == len(scores)


def test_a_run_of_many_units_is_thinned_without_changing_its_shape():
    rng = np.random.default_rng(0)
    scores = rng.normal(0.3, 0.1, 20_000)
    table = pd.DataFrame({"run": "a", "task": "co_smoothing", "bits_per_spike": scores})
    dots = unit_scores(table, "co_smoothing").axes[0].collections[0].get_offsets()
    assert len(dots) == 300
    assert dots[:, 0].mean() == pytest.approx(0.3, abs=0.005)
    assert dots[:, 0].std() == pytest.approx(0.1, abs=0.005)


def test_a_unit_far_off_does_not_stretch_the_axis():
    scores = np.r_[np.full(990, 0.2), np.full(5, -80.0), np.full(5, 9.0)]
    low, high = robust_range(scores)
    assert -0.1 < low < 0
    assert 0.2 < high < 0.3


def test_pairs_are_the_same_unit_under_both_runs(runs):
    units = all_units(runs)
    figure = paired_scores(units.sample(frac=1, random_state=0), "intra_region", "mtm", "temporal")
    a, b = (
        run.units.query("task == 'intra_region'").set_index("unit")["bits_per_spike"].dropna()
        for run in runs
    )
    share = (a > b.reindex(a.index)).mean()
    assert f"better in {share:.0%} of {len(a)} units" in texts(figure)


def test_regions_come_in_the_order_and_colours_of_the_atlas(runs):
    units, regions = all_units(runs), region_table(runs)
    assert list(regions.index) == sorted(REGIONS, key=lambda name: REGIONS[name][1])
    assert dict(regions["color"]) == {name: facts[2] for name, facts in REGIONS.items()}
    axes = region_scores(units, "co_smoothing", regions).axes[0]
    shown = [label.get_text() for label in axes.get_yticklabels()]
    own = runs[0].units.query("task == 'co_smoothing'").dropna(subset="bits_per_spike")
    sizes = own["region"].value_counts()
    assert shown == [f"{name} ({sizes[name]})" for name in regions.index if sizes[name] >= 5]
    name = shown[0].split()[0]
    medians = axes.lines[0].get_xdata()
    assert medians[0] == pytest.approx(own[own["region"] == name]["bits_per_spike"].median())


def test_a_psth_has_a_predicted_and_an_observed_line_per_condition(session):
    unit = session["unit"].values[2]
    figure = psth(session, unit, "A unit")
    lines = figure.axes[0].lines
    np.testing.assert_allclose(
        lines[1].get_ydata(), session["psth_predicted"].sel(unit=unit).values[0]
    )
    observed = session["psth_observed"].sel(unit=unit).values[1]
    assert lines[2].get_ydata().mean() == pytest.approx(observed.mean(), rel=0.15)
    assert lines[2].get_xdata()[0] == pytest.approx(-0.49)  # the centre of the first bin
    assert "choice left (26)" in texts(figure)


def test_rasters_sort_units_by_region_and_share_their_rows(session):
    units = list(session["unit"].values[::-1])
    spikes, rates = spike_raster(session, 1, "S", units), rate_raster(session, 1, "R", units)
    order = np.lexsort((session["region"].values, session["order"].values))
    for figure, name in ((spikes, "example_spikes"), (rates, "example_rates")):
        shown = figure.axes[0].images[0].get_array()
        expected = session[name].isel(example=1).transpose("unit", "time").values[order]
        regions = session["region"].values[order]
        for region in set(regions):  # within a region the units keep the order asked for
            rows = shown[regions == region]
            np.testing.assert_array_equal(
                np.sort(rows, axis=0), np.sort(expected[regions == region], axis=0)
            )
        assert figure.axes[0].images[0].get_extent()[:2] == pytest.approx([-0.5, 1.5])


def test_a_trace_shows_observed_and_decoded_trials_with_gaps_between(session):
    observed, predicted = (
        session[f"whisker_motion_energy_{what}"] for what in ("observed", "predicted")
    )
    figure = decoded_trace(observed, {"mtm": predicted}, "T", "a.u.")
    first, second = figure.axes[0].lines[:2]
    y = first.get_ydata()
    assert np.isnan(y).sum() == observed.sizes["example"]
    np.testing.assert_array_equal(y[~np.isnan(y)], observed.values.ravel())
    np.testing.assert_array_equal(second.get_ydata()[:100], predicted.values[0])
    assert "trial 7" in texts(figure)


def test_training_curves_hold_what_was_logged(runs):
    curves = pd.concat([run.curves().assign(run=run.name) for run in runs])
    train, validation = training_curves(curves).axes[0].lines[:2]
    assert list(validation.get_xdata()) == list(range(0, 1201, 100))
    assert len(train.get_xdata()) == 61
    assert validation.get_ydata()[-1] == pytest.approx(0.27 * (1 - np.exp(-4)), rel=1e-5)
    schemes = validation_by_scheme(curves, "temporal")
    assert [line.get_ydata()[-1] for line in schemes.axes[0].lines[:4]] == pytest.approx(
        [share * 0.18 * (1 - np.exp(-4)) for share in (1, 0.2, 0.8, 0.6)], rel=1e-5
    )


def test_drawing_leaves_matplotlib_as_it_was(runs, tmp_path):
    with matplotlib.rc_context({"font.size": 31, "axes.spines.top": True}):
        before = dict(matplotlib.rcParams)
        figure = unit_scores(all_units(runs), "co_smoothing")
        save_figure(figure, tmp_path / "units")
        assert dict(matplotlib.rcParams) == before
    assert figure.axes[0].xaxis.label.get_fontsize() == 8


def test_an_inline_figure_takes_colours_and_typeface_from_its_page(session, tmp_path):
    figure = spike_raster(session, 0, "A & B", session["unit"].values)
    svg = inline_svg(save_figure(figure, tmp_path / "raster"), "raster")
    assert svg.startswith("<svg")
    assert "://" not in svg
    assert "font-family" not in svg
    assert "var(--ink)" in svg
    assert "A &amp; B" in svg
    used = set(re.findall(r"var\((--[\w-]+)\)", svg))
    for dark in (False, True):
        assert used <= set(re.findall(r"(--[\w-]+):", css_colors(dark=dark)))
    ids = re.findall(r'\sid="([^"]*)"', svg)
    assert len(ids) == len(set(ids))
    assert all(name.startswith("raster-") for name in ids)
    referred = set(re.findall(r'(?:href="#|url\(#)([^")]*)', svg))
    assert referred
    assert referred <= set(ids)


def test_files_of_a_figure_keep_their_own_colours_and_are_the_same_each_time(session, tmp_path):
    for name in ("first", "second"):
        save_figure(psth(session, session["unit"].values[0], "A unit"), tmp_path / "new" / name)
    files = {path.name: path.read_bytes() for path in (tmp_path / "new").iterdir()}
    assert files["first.svg"] == files["second.svg"]
    assert files["first.png"] == files["second.png"]
    assert files["first.png"].startswith(b"\x89PNG")
    assert b"var(--" not in files["first.svg"]
    assert b"#0e7c86" in files["first.svg"]


def test_every_colour_can_be_read_on_its_ground():
    def luminance(color):
        channels = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)]) / 255
        linear = np.where(
            channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4
        )
        return linear @ [0.2126, 0.7152, 0.0722]

    for dark, ground in ((False, "#ffffff"), (True, "#14181d")):
        colors = dict(re.findall(r"--([\w-]+): (#\w{6});", css_colors(dark=dark)))
        assert len(colors) > len(RUN_COLORS)
        for name, color in colors.items():
            pair = sorted([luminance(color), luminance(ground)])
            contrast = (pair[1] + 0.05) / (pair[0] + 0.05)  # WCAG 2: 4.5 for text, 3 for graphics
            if name in ("ink", "muted"):
                assert contrast >= 4.5, name
            elif name != "rule":
                assert contrast >= 3, name


def test_contiguous_windows_have_one_condition_and_start_at_zero(tmp_path):
    run = read_scored_run(write_run(tmp_path / "run", size=Size(1, contiguous=True)))
    session = run.session(eids(1)[0])
    figure = psth(session, session["unit"].values[0], "A unit")
    assert "all windows (48)" in texts(figure)
