"""The files of results: tables, figure and the JSON that pages and reports are made from.

results = make_results("ablation", runs)
write_results(results, Path("results/ablation"))
"""

from pathlib import Path

from ibl_mtm.disk.replace import replace_file
from ibl_mtm.disk.targets import check_folder
from ibl_mtm.experiments.result_figures import draw
from ibl_mtm.experiments.result_table import (
    caption,
    csv_table,
    difference_table,
    markdown_table,
    other_table,
)
from ibl_mtm.experiments.results import RESULTS, Results, to_json
from ibl_mtm.report.figures.style import save_figure

__all__ = ["FIGURE", "write_results"]

FIGURE = "figure"
"""The figure's name in a folder of results, without its ending."""


def write_results(results: Results, folder: Path) -> None:
    """Write table.md, table.csv, figure.svg, figure.png and, last, results.json."""
    check_folder(folder)
    folder.mkdir(parents=True, exist_ok=True)
    parts = [f"# {results.title}", markdown_table(results).strip(), caption(results)]
    if differences := difference_table(results):
        parts += ["Paired differences:", differences]
    if others := other_table(results):
        parts += ["Other scores of activity:", others]
    (folder / "table.md").write_text("\n\n".join(parts).strip() + "\n", encoding="utf-8")
    (folder / "table.csv").write_text(csv_table(results), encoding="utf-8")
    save_figure(draw(results), folder / FIGURE)
    replace_file(folder / RESULTS, lambda path: path.write_text(to_json(results), encoding="utf-8"))
