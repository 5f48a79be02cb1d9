"""The page of results and the top of a report: made from folders of results alone."""

import re
import sys

import pytest
from scored_runs import write_scored

from ibl_mtm.cli import main
from ibl_mtm.errors import UserError
from ibl_mtm.experiments.page import write_page
from ibl_mtm.experiments.report_section import read_experiment
from ibl_mtm.experiments.results import make_results
from ibl_mtm.experiments.write import write_results


def call(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["ibl-mtm", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        main()
    return stop.value.code or 0


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("results")
    entry = {"bits_per_spike": 0.3, "oracle": 0.6}
    for name, kind, simulated in (("new", "generalization", True), ("real", "recording", False)):
        runs = [
            write_scored(
                root / name / f"runs-{row}",
                row,
                {"s": {"co_smoothing": entry if simulated else 0.2 + 0.1 * at}},
                simulated=simulated,
            )
            for at, row in enumerate(("MtM", "other"))
        ]
        made = make_results(kind, runs, f"snakemake -s pipelines/{name}.smk")
        write_results(made, root / name / "results")
    return [root / name / "results" for name in ("new", "real")]


def test_a_section_has_table_figure_command_commit_seeds_and_time(folders, tmp_path):
    write_page(folders, tmp_path / "results.md")
    page = (tmp_path / "results.md").read_text()
    first, second = page.split("\n## ")[1:]
    assert first.startswith("New animals (simulated data)\n")
    assert "| *true rates* | 0.600 |" in first
    for fact in (
        "Command: `snakemake -s pipelines/new.smk`",
        "Commit: `abc`",
        "Seeds: 0",
        "2 trainings took 2 min in all, each on 1 thread",
    ):
        assert fact in first
    assert second.startswith("A real recording\n")
    assert "simulated" not in second.lower()
    assert "**Not seen**: MtM is better than other (difference: co-smoothing -0.100)" in second
    for figure in re.findall(r"!\[[^]]*\]\(([^)]*)\)", page):
        assert (tmp_path / figure).stat().st_size > 1000
        assert (tmp_path / figure).with_suffix(".svg").is_file()


def test_the_page_is_the_same_when_made_again(folders, tmp_path):
    for name in ("a", "b"):
        write_page(folders, tmp_path / name / "results.md")
    assert (tmp_path / "a/results.md").read_text() == (tmp_path / "b/results.md").read_text()
    for figure in (tmp_path / "a" / "results").iterdir():
        assert figure.read_bytes() == (tmp_path / "b" / "results" / figure.name).read_bytes()


def test_the_same_results_twice_are_refused(folders, tmp_path):
    with pytest.raises(UserError, match="same kind, dataset and split"):
        write_page([folders[0], folders[0]], tmp_path / "results.md")


def test_one_kind_of_results_under_several_splits_has_a_section_and_a_figure_each(tmp_path):
    for share in (5, 15):
        run = write_scored(
            *(tmp_path / f"run-{share}", "MtM", {"s": {"co_smoothing": share / 100}}),
            simulated=False,
            split=f"random, {share}/5/{95 - share} % train/val/test, seed 42",
        )
        write_results(make_results("generalization", [run]), tmp_path / f"table-{share}")
    write_page([tmp_path / "table-5", tmp_path / "table-15"], tmp_path / "results.md")
    page = (tmp_path / "results.md").read_text()
    assert re.findall(r"^## (.*)$", page, re.M) == [
        "New animals: random, 5/5/90 % train/val/test, seed 42",
        "New animals: random, 15/5/80 % train/val/test, seed 42",
    ]
    figures = re.findall(r"!\[[^]]*\]\(([^)]*)\)", page)
    assert len(set(figures)) == 2
    assert all((tmp_path / figure).is_file() for figure in figures)


def test_a_report_gets_a_table_that_needs_no_more_styling(folders):
    experiment = read_experiment(folders[0])
    assert [row.name for row in experiment.rows] == [
        *("MtM, from scratch", "other, from scratch", "true rates")
    ]
    assert [row.reference for row in experiment.rows] == [False, False, True]
    assert str(experiment.figure).startswith("<svg")


def test_the_commands_make_table_and_page(monkeypatch, capsys, folders, tmp_path):
    runs = sorted(folders[1].parent.glob("runs-*"))
    out = tmp_path / "out"
    assert call(monkeypatch, "results", "table", *runs, "--kind", "recording", "--out", out) == 0
    assert "**0.300**" in capsys.readouterr().out
    assert call(monkeypatch, "results", "page", out, "--out", tmp_path / "page.md") == 0
    assert "A real recording" in (tmp_path / "page.md").read_text()
    assert call(monkeypatch, "results", "table", *runs, "--kind", "x", "--out", out) == 2
    assert "unknown kind of results 'x'" in capsys.readouterr().err


def test_a_page_that_is_there_keeps_what_is_not_made_anew(folders, tmp_path):
    """Whole sections, after the new ones; a section of the same title is replaced."""
    page = tmp_path / "results.md"
    write_page(folders, page)
    whole = page.read_text()
    sections = whole.split("\n## ")
    older = whole.replace(sections[1], sections[1] + "\nOLD\n").replace(
        sections[2], sections[2] + "\nSTAYS\n"
    )
    page.write_text(older)
    write_page(folders[:1], page, keep=True)
    kept = page.read_text()
    assert kept.count("\n## ") == whole.count("\n## ")
    assert "STAYS" in kept
    assert "OLD" not in kept
    assert kept.index(sections[1].splitlines()[0]) < kept.index(sections[2].splitlines()[0])
    write_page(folders[:1], page)
    assert "STAYS" not in page.read_text()
