"""Commands on runs that are scored: compare, report, results."""

from pathlib import Path
from typing import Annotated

import typer

from ibl_mtm.cli.app import Json, app, print_json

__all__: list[str] = []


@app.command()
def compare(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN RUN...", help="Evaluated runs, or baselines.")
    ],
    as_json: Json = False,
) -> None:
    """Tell whether one run is better than another, and where: paired differences."""
    from ibl_mtm.cli.terminal import show_pairs
    from ibl_mtm.evaluation.compare import compare_runs

    pairs = compare_runs(runs)
    print_json({"pairs": [pair.to_json() for pair in pairs]}) if as_json else show_pairs(pairs)


@app.command()
def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Evaluated runs.")],
    out: Annotated[Path, typer.Option("--out", help="The page to write.")] = Path("report.html"),
    results: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="DIR", help="Show the table and figure of `results table` on top; repeatable."
        ),
    ] = None,
) -> None:
    """Write one self-contained HTML page about evaluated runs."""
    from ibl_mtm.experiments.report_section import read_experiment
    from ibl_mtm.report.page import write_report

    write_report(
        runs, out, [read_experiment(folder, at) for at, folder in enumerate(results or ())]
    )
    typer.echo(f"Report: {out}")


results = typer.Typer(help="Tables, figures and a page from many evaluated runs.")
app.add_typer(results, name="results", no_args_is_help=True)


@results.command("table")
def results_table(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN...", help="Evaluated runs, or baselines.")
    ],
    kind: Annotated[
        str,
        typer.Option(
            help="ablation, generalization, scaling, recording or sessions: what rows are."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where the files go.")],
    command: Annotated[
        str | None, typer.Option(metavar="TEXT", help="How all of it is made, for the page.")
    ] = None,
    credit: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Whose data they are, for the caption.")
    ] = None,
) -> None:
    """Average runs over seeds and sessions: table.md, table.csv, figure, results.json."""
    from ibl_mtm.experiments.result_table import markdown_table
    from ibl_mtm.experiments.results import make_results
    from ibl_mtm.experiments.write import write_results

    made = make_results(kind, runs, command, credit)
    write_results(made, out)
    typer.echo(markdown_table(made))


@results.command("page")
def results_page(
    folders: Annotated[
        list[Path], typer.Argument(metavar="DIR...", help="What `results table` wrote.")
    ],
    out: Annotated[Path, typer.Option("--out", help="The page to write.")],
    keep: Annotated[
        bool, typer.Option("--keep", help="Other sections of the page that is there stay.")
    ] = False,
) -> None:
    """Write a Markdown page of tables, figures, what they show and how they were made."""
    from ibl_mtm.experiments.page import write_page

    write_page(folders, out, keep)
    typer.echo(f"Page: {out}")


@results.command("benchmark")
def results_benchmark(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Where `benchmark score` wrote scores.csv.")
    ],
    out: Annotated[Path, typer.Option("--out", help="The page to write.")] = Path("benchmark.md"),
) -> None:
    """Write a Markdown page of a BrainWideBench folder: scores, errors, ranks, each recording."""
    from ibl_mtm.benchmark.results import write_page

    write_page(folder, out)
    typer.echo(f"Page: {out}")
