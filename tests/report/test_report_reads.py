"""What a reader of a report must not get wrong: scales, regions, differences, and what is shown."""

import json
import re
import shutil

import pandas as pd
import pytest
from matplotlib.colors import to_rgb
from synthetic_run import REGIONS, Size, write_run, write_scalars

from ibl_mtm.evaluation.scored_run import read_scored_runs
from ibl_mtm.report.figures.style import ON_STRONG, css_colors, inline_svg
from ibl_mtm.report.page import write_report
from ibl_mtm.report.sections import make_sections
from ibl_mtm.report.words import facts, headline, setting_differences


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reads")
    small = Size(units=60, examples=2)
    write_run(folder / "mtm", 1.0, small)
    write_run(folder / "temporal", 0.6, small)
    baseline = write_run(folder / "psth", 0.5, small)
    (baseline / "config.yaml").unlink()
    shutil.rmtree(baseline / "logs")
    return folder


@pytest.fixture(scope="module")
def runs(folder):
    return read_scored_runs([folder / "mtm", folder / "temporal"])


@pytest.fixture(scope="module")
def sections(runs):
    return {section.title: section for section in make_sections(runs)}


def axes_of(plots, name):
    return [plot.figure.axes[0] for plot in plots if plot.name == name]


def test_numbers_on_strong_cells_can_be_read_on_a_dark_page(sections):
    """A dark page inverts images: light numbers vanished in what had become light."""

    def brightness(color):
        return sum(to_rgb(color)) / 3

    plots = sections["Which regions predict which"].plots
    used = {text.get_color() for axes in axes_of(plots, "region_matrix") for text in axes.texts}
    assert ON_STRONG in used
    shown = inline_svg(f'<svg><text style="fill: {ON_STRONG}"/></svg>', "x")
    assert "var(--on-strong)" in shown
    light, dark = (re.search(r"--on-strong: (#\w+)", css_colors(dark=d))[1] for d in (False, True))
    assert brightness(light) > 0.8 > 0.2 > brightness(dark)


def test_runs_share_scales(sections):
    matrices = axes_of(sections["Which regions predict which"].plots, "region_matrix")
    limits = [axes.images[0].get_clim() for axes in matrices]
    assert len(limits) == 2
    assert limits[0] == limits[1]
    under = matrices[0].images[0].cmap.get_under()
    assert under[0] > under[2]  # red, where nothing is transparent and much is blue
    for rank in ("best", "median", "worst"):
        a, b = axes_of(sections["Responses of single units"].plots, f"psth_{rank}")
        assert a.get_ylim() == b.get_ylim()


def test_scores_under_other_masks_share_no_axis(folder, tmp_path, sections):
    assert [p.name for p in sections["Training"].plots][:1] == ["training"]
    other = shutil.copytree(folder / "temporal", tmp_path / "temporal")
    shutil.rmtree(other / "logs")

    scalars = [("val/bits_per_spike", 0.1, 1), ("val/bits_per_spike", 0.2, 2)]
    write_scalars(other / "logs" / "version_0", [*scalars, ("val/temporal", 0.1, 1)])
    drawn = {s.title: s for s in make_sections(read_scored_runs([folder / "mtm", other]))}
    assert {"training", "training_1"} <= {plot.name for plot in drawn["Training"].plots}
    assert any("other masks" in sentence for sentence in drawn["Training"].missing)


def test_beside_a_baseline_settings_are_those_of_the_models(folder, runs):
    alone = [key for key, _ in setting_differences(runs)]
    beside = read_scored_runs([folder / name for name in ("mtm", "psth", "temporal")])
    assert [key for key, _ in setting_differences(beside)] == alone
    assert setting_differences(beside[:2]) == []


def test_ahead_means_by_more_than_chance(folder, tmp_path, runs):
    assert re.search(
        r"mtm is ahead in [34] of 4 activity tasks by more than the 95 % interval", headline(runs)
    )
    same = shutil.copytree(folder / "mtm", tmp_path / "same")
    units = pd.read_parquet(same / "per_unit.parquet")
    sign = 1 - 2 * (units.groupby(["eid", "task"]).cumcount() % 2)
    units["bits_per_spike"] += 0.1 * sign - 1e-4
    units.to_parquet(same / "per_unit.parquet")
    metrics = json.loads((same / "metrics.json").read_text())
    for scores in metrics["tasks"].values():
        if "bits_per_spike" in scores:
            scores["bits_per_spike"] -= 1e-4
    (same / "metrics.json").write_text(json.dumps(metrics))
    assert "is ahead in 0 of 4" in headline(read_scored_runs([folder / "mtm", same]))


def test_regions_and_good_units_are_counted(runs):
    counted = dict(facts(runs[:1]))
    own = runs[0].units
    assert int(counted["regions"]) == len(set(own["region"]) - {"root"}) == len(REGIONS) - 1
    good = own[own["label"] >= 1][["eid", "unit"]].drop_duplicates()
    assert int(counted["good units"].replace(",", "")) == len(good)


def test_a_page_says_what_it_shows(folder, tmp_path, undrawn):
    run = shutil.copytree(folder / "mtm", tmp_path / "mtm")
    metrics = json.loads((run / "metrics.json").read_text())
    metrics["provenance"]["trials"] = "-0.5 to 1.5 s around stimOn_times, 100 bins of 20 ms"
    (run / "metrics.json").write_text(json.dumps(metrics))
    write_report([run], tmp_path / "r.html")
    page = (tmp_path / "r.html").read_text()
    assert "Test trials only (-0.5 to 1.5 s around stimOn_times, 100 bins of 20 ms)" in page
    assert re.search(r"Shown are the units best: \S+ of session", page)
    assert re.search(r"Shown is session [0-9a-f-]{36}", page)
    contents = re.findall(r'<li><a href="#([\w-]+)">', page)
    assert len(contents) >= 8
    assert all(f'id="{target}"' in page for target in contents)
    printed = page[page.index("@media print") :]
    assert "details::details-content" in printed
