"""One self-contained page about one or several evaluated runs.

    write_report([Path("runs/mtm"), Path("runs/temporal")], Path("report.html"))

The page needs nothing from outside itself: styles and figures are inside, there is no script.
The figures are also written as PNG and SVG files into the runs' `figures` folders.
"""

import logging
from collections.abc import Sequence
from pathlib import Path

import jinja2
import yaml
from markupsafe import Markup

from ibl_mtm._provenance import __version__
from ibl_mtm.errors import UserError
from ibl_mtm.evaluation.scored_run import ScoredRun, read_scored_runs
from ibl_mtm.report import tables, words
from ibl_mtm.report.experiment import Experiment
from ibl_mtm.report.figures.style import RUN_COLORS, css_colors, inline_svg, save_figure
from ibl_mtm.report.parts import Section
from ibl_mtm.report.sections import make_sections

__all__ = ["write_report"]

_log = logging.getLogger(__name__)


def write_report(runs: Sequence[Path], out: Path, experiments: Sequence[Experiment] = ()) -> None:
    """Write a page that shows evaluated runs side by side, and the runs' figures as files.

    Parameters
    ----------
    runs
        Run folders that `ibl-mtm eval` has scored; the first is the one in question.
    out
        The HTML file to write.
    experiments
        Tables and figures that come first (`ibl_mtm.experiments.report_section.read_experiment`).

    Raises
    ------
    UserError
        If the runs are none, too many for their colours to differ, the same one twice, or one of
        them was not evaluated.
    """
    if not 1 <= len(runs) <= len(RUN_COLORS):
        raise UserError(f"a report shows 1 to {len(RUN_COLORS)} runs, not {len(runs)}")
    if len({Path(run).resolve() for run in runs}) < len(runs):
        raise UserError("a report shows each run once: name no run folder twice")
    scored = read_scored_runs(runs)
    sections = make_sections(scored)
    templates = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    templates.filters["zip"] = zip
    templates.filters["number"] = tables.number
    # What is best among many runs is told by three decimals.
    templates.filters["decimals"] = lambda value: "–" if value is None else tables.digits(value)
    page = templates.get_template("report.html.j2").render(
        title=tables.listed([run.name for run in scored]),
        simulated=any(run.simulated for run in scored),
        experiments=experiments,
        facts=words.facts(scored),
        headline=words.headline(scored),
        columns=tables.score_columns(scored),
        groups=tables.score_groups(scored),
        notes=words.notes(scored),
        responses=tables.response_rows(scored),
        prompts=tables.prompt_rows(scored),
        prompt_columns=tables.score_columns(scored)[-len(tables.behaviour_tasks(scored)) :],
        sections=[(section, _draw(section, scored)) for section in sections],
        sessions=[(run.name, tables.session_rows(run, scored)) for run in scored],
        settings=[(run.name, yaml.safe_dump(run.settings, sort_keys=False)) for run in scored],
        differences=words.setting_differences(scored),
        provenance=[(run.name, words.provenance_facts(run)) for run in scored],
        light=Markup(css_colors(dark=False)),
        dark=Markup(css_colors(dark=True)),
        version=__version__,
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(page, encoding="utf-8")
    _log.info("wrote %s (%.1f MB)", out, len(page) / 1e6)


def _draw(section: Section, runs: Sequence[ScoredRun]) -> list[tuple[str, Markup]]:
    """Write the files of the figures; return their names on the page and their drawings."""
    drawings = []
    for plot in section.plots:
        svg = save_figure(plot.figure, plot.folder / plot.name)
        # Runs have figures of the same name, which on the page needs to be unique.
        at = next(i for i, run in enumerate(runs) if run.path == plot.folder.parent)
        name = plot.name if at == 0 else f"{plot.name}-{at}"
        drawings.append((name, Markup(inline_svg(svg, name))))
    return drawings
