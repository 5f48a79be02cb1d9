"""The part of a report that shows results: made of what a page can show as it is.

experiment = read_experiment(Path("results/ablation"))
experiment.title, experiment.rows, experiment.figure
"""

from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from ibl_mtm.evaluation.figure_style import inline_svg
from ibl_mtm.evaluation.report_tables import Row
from ibl_mtm.results.findings import Finding
from ibl_mtm.results.kinds import kind_of
from ibl_mtm.results.results import read_results
from ibl_mtm.results.tables import caption, score_table
from ibl_mtm.results.write import FIGURE

__all__ = ["Experiment", "read_experiment"]


@dataclass(frozen=True)
class Experiment:
    """A table of scores with its figure and what is to be seen in it."""

    title: str
    question: str
    columns: list[tuple[str, str]]
    rows: list[Row]
    caption: str
    figure: Markup
    findings: list[Finding]


def read_experiment(folder: Path, number: int = 0) -> Experiment:
    """Read a folder of results for a page, on which it is the `number`-th.

    Raises
    ------
    UserError
        If the folder holds no results.
    """
    results = read_results(folder)
    columns, rows = score_table(results)
    svg = (Path(folder) / f"{FIGURE}.svg").read_text(encoding="utf-8")
    return Experiment(
        title=results.title,
        question=kind_of(results.kind).question,
        columns=columns,
        rows=rows,
        caption=caption(results),
        figure=Markup(inline_svg(svg, f"experiment-{number}")),
        findings=results.findings,
    )
