"""The part of a report that shows results.

experiment = read_experiment(Path("results/ablation"))
experiment.title, experiment.rows, experiment.figure
"""

from pathlib import Path

from markupsafe import Markup

from ibl_mtm.experiments.kinds import kind_of
from ibl_mtm.experiments.result_table import caption, score_table
from ibl_mtm.experiments.results import read_results
from ibl_mtm.experiments.write import FIGURE
from ibl_mtm.report.experiment import Experiment, Observation
from ibl_mtm.report.figures.style import inline_svg

__all__ = ["read_experiment"]


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
        observations=[
            Observation(f"{finding.claim} ({finding.numbers})", finding.verdict, finding.seen)
            for finding in results.findings
        ],
    )
