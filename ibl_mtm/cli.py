"""The command line: each command parses its arguments, calls one function, prints its result.

Results go to standard output (one JSON document with ``--json``); progress, logs and errors go
to standard error. Exit codes: 0 done, 1 some sessions failed, 2 the request itself was wrong.
"""

import json
import logging
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from ibl_mtm.errors import SessionError, UserError

__all__ = ["app", "main"]

app = typer.Typer(
    name="ibl-mtm",
    help="From the International Brain Laboratory's recordings to a trained, scored model.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

# Text, since a path would turn the // of a URL into /.
CachePath = Annotated[
    str, typer.Option("--cache", help="The Zarr cache: a folder, or its URL.", show_default=False)
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document, nothing else.")]
Sessions = Annotated[
    list[str] | None,
    typer.Option("--session", metavar="EID", help="This session only; may be repeated."),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")]


def main() -> None:
    """Entry point of ``ibl-mtm``."""
    try:
        app()
    except (UserError, SessionError) as error:
        if "--debug" in sys.argv:
            raise
        typer.secho(f"ibl-mtm: {error}", err=True, fg="red")
        sys.exit(2)


@app.callback()
def configure(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks and all logs.")] = False,
    version: Annotated[bool, typer.Option("--version", help="Show the version.")] = False,
) -> None:
    """Set up logging; runs before every command."""
    if version:
        import ibl_mtm

        typer.echo(ibl_mtm.__version__)
        raise typer.Exit
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.DEBUG if debug else logging.WARNING,
        format="%(levelname)s %(name)s: %(message)s",
    )


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", help="Folder for everything it makes.")] = Path(
        "demo"
    ),
) -> None:
    """Simulate, ingest, train MtM and its baseline, evaluate, report: the whole way, small."""
    from ibl_mtm.demo import run_demo
    from ibl_mtm.terminal import say, show_scores

    result = run_demo(out, say=say)
    show_scores(result.scores)
    typer.echo(f"\nReport: {result.report}")


@app.command()
def simulate(
    one_dir: Annotated[Path, typer.Argument(help="Folder to write, in ONE's layout.")],
    sessions: Annotated[int, typer.Option(help="Number of sessions, one animal each.")] = 4,
    units: Annotated[
        int | None,
        typer.Option(help="Units in a session, about; by default 80 (full: 900 a probe)."),
    ] = None,
    trials: Annotated[int | None, typer.Option(help="By default 240 (full: 600).")] = None,
    seed: Annotated[int, typer.Option(help="Same seed, same bytes.")] = 0,
    scale: Annotated[
        str, typer.Option(help="small, or full: as large as real sessions.")
    ] = "small",
) -> None:
    """Simulate a repeated-site experiment with known firing rates."""
    from ibl_mtm.settings import validate_settings
    from ibl_mtm.simulate.simulation import Simulation
    from ibl_mtm.simulate.simulation import simulate as run
    from ibl_mtm.terminal import say

    values = {"sessions": sessions, "units": units, "trials": trials, "seed": seed, "scale": scale}
    given = {key: value for key, value in values.items() if value is not None}
    eids = run(one_dir, validate_settings(given, Simulation, "simulate"), progress=say)
    typer.echo(f"{len(eids)} sessions in {one_dir}:")
    for eid in eids:
        typer.echo(f"  {eid}")


@app.command()
def ingest(
    dataset: Annotated[str, typer.Argument(help="A dataset of the catalog.")],
    cache: Annotated[
        str, typer.Option("--cache", help="The Zarr cache: a folder here.", show_default=False)
    ],
    catalog: Annotated[
        Path | None, typer.Option("--catalog", help="By default the nearest data_catalog.yaml.")
    ] = None,
    session: Sessions = None,
    limit: Annotated[int | None, typer.Option(help="Ingest at most so many.", min=1)] = None,
    workers: Annotated[
        int | None,
        typer.Option(help="Sessions side by side; by default what the machine can take.", min=1),
    ] = None,
    scheduler: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="A running Dask cluster to use instead."),
    ] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Use only what is on disk.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be done.")
    ] = False,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Find a dataset's sessions, align and bin them, and write them into a cache."""
    from ibl_mtm.cache.location import local_path
    from ibl_mtm.catalog import load_catalog
    from ibl_mtm.ingest.run import ingest as run
    from ibl_mtm.terminal import ingest_progress, show_ingest

    folder = local_path(cache)
    chosen = load_catalog(catalog).dataset(dataset)
    with ingest_progress() as progress:
        report = run(
            chosen,
            dataset,
            folder,
            sessions=session,
            limit=limit,
            dry_run=dry_run,
            overwrite=overwrite,
            offline=offline,
            workers=workers,
            scheduler=scheduler,
            on_session=progress.session,
            on_bytes=progress.bytes,
        )
    _print_json(report.to_json()) if as_json else show_ingest(report)
    if report.failed:
        raise typer.Exit(1)


@app.command()
def sessions(
    cache: Annotated[str, typer.Argument(help="The Zarr cache: a folder, or its URL.")],
    where: Annotated[
        str | None, typer.Option(help="For example 'n_units > 60 and lab == \"cortexlab\"'.")
    ] = None,
    session: Annotated[
        str | None, typer.Option("--session", metavar="EID", help="A card of one session.")
    ] = None,
    as_json: Json = False,
) -> None:
    """List the sessions of a cache."""
    from ibl_mtm.cache.cache import open_cache
    from ibl_mtm.cache.card import session_card
    from ibl_mtm.terminal import sessions_as_json, show_card, show_sessions

    opened = open_cache(cache)
    chosen = opened.where(where) if where else opened
    if session:
        card = session_card(chosen, session)
        _print_json(card) if as_json else show_card(card)
    else:
        _print_json(sessions_as_json(chosen)) if as_json else show_sessions(chosen)


@app.command()
def check(
    cache: Annotated[str, typer.Argument(help="The Zarr cache: a folder, or its URL.")],
    repair: Annotated[
        bool, typer.Option("--repair", help="Drop damaged sessions; the next ingest redoes them.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Verify every session of a cache."""
    from ibl_mtm.cache.check import check as verify
    from ibl_mtm.cache.check import repair as mend

    damaged = mend(cache) if repair else verify(cache)
    if as_json:
        _print_json({"ok": not damaged, "damaged": damaged})
    elif not damaged:
        typer.echo(f"{cache}: every session is whole")
    for eid, reason in {} if as_json else damaged.items():
        typer.echo(f"{'dropped' if repair else 'damaged'} {eid}: {reason}")
    if damaged and not repair:
        raise typer.Exit(1)


@app.command()
def train(
    config: Annotated[str, typer.Argument(help="A YAML file, or the name of a shipped one.")],
    cache: CachePath,
    run: Annotated[Path, typer.Option("--run", help="Folder of the run.", show_default=False)],
    settings: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Override settings.")
    ] = None,
    where: Annotated[
        str | None, typer.Option(help="Train on these sessions only (see `sessions`).")
    ] = None,
    init: Annotated[
        Path | None,
        typer.Option("--init", metavar="RUN", help="Start from this trained run: fine-tune it."),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Go on where it stopped; with --overwrite, begin where nothing was begun.",
        ),
    ] = False,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Train a model on a cache."""
    from ibl_mtm.cache.cache import open_cache
    from ibl_mtm.terminal import say, show_training
    from ibl_mtm.training.folder import on_first_process
    from ibl_mtm.training.run import train as fit
    from ibl_mtm.training.settings import read_run_settings

    chosen = read_run_settings(config, settings or ())
    opened = open_cache(cache)
    report = fit(
        chosen,
        opened.where(where) if where else opened,
        run,
        init=init,
        resume=resume,
        overwrite=overwrite,
        say=say,
    )
    if on_first_process():
        _print_json(report.to_json()) if as_json else show_training(report)


@app.command("eval")
def evaluate(
    cache: CachePath,
    run: Annotated[Path | None, typer.Argument(help="Folder of a run.", show_default=False)] = None,
    baseline: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Score this instead of a run: unit_mean, psth, pca_poisson, poisson_regression, "
            "reduced_rank or autoregressive.",
        ),
    ] = None,
    like: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN", help="Fit a baseline to the units and the split of trials of this run."
        ),
    ] = None,
    task: Annotated[
        list[str] | None,
        typer.Option("--task", help="This task only, or 'all' of them; may be repeated."),
    ] = None,
    session: Sessions = None,
    oracle: Annotated[
        Path | None,
        typer.Option("--oracle", metavar="ONE_DIR", help="Simulated experiment with true rates."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Where a baseline's scores go, to `compare` and `report` them."
        ),
    ] = None,
    export: Annotated[
        Path | None,
        typer.Option(
            metavar="ZIP",
            help="Also write the decoded behaviour for the IBL's brain-wide benchmark; a zip that "
            "exists is added to. Decodes all behaviours.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Score a model, or a baseline, on held-out trials."""
    from ibl_mtm.cache.cache import open_cache
    from ibl_mtm.evaluation.evaluate import evaluate as score
    from ibl_mtm.evaluation.evaluate import evaluate_baseline
    from ibl_mtm.evaluation.session import TASKS
    from ibl_mtm.terminal import say, show_scores
    from ibl_mtm.training.settings import DataSettings, read_data_settings

    if (run is None) == (baseline is None):
        raise UserError("give either the folder of a run or --baseline NAME")
    if run and like:
        raise UserError("a run has units and trials of its own; --like is for a baseline")
    if run and out:
        raise UserError("a run's scores go into its own folder; --out is for a baseline")
    tasks = task or (["all"] if export else TASKS)
    opened = open_cache(cache)
    if run:
        evaluation = score(run, opened, tasks=tasks, sessions=session, oracle=oracle, say=say)
    else:
        evaluation = evaluate_baseline(
            str(baseline),
            opened,
            settings=read_data_settings(like) if like else DataSettings(),
            tasks=tasks,
            sessions=session,
            oracle=oracle,
            say=say,
        )
    folder = run or out
    if folder:
        evaluation.write(folder)
    if export:
        say(f"{len(evaluation.export(export))} files in {export}")
    _print_json(evaluation.metrics) if as_json else show_scores([evaluation.metrics])


@app.command()
def compare(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN RUN...", help="Evaluated runs, or baselines.")
    ],
    as_json: Json = False,
) -> None:
    """Tell whether one run is better than another, and where: paired differences."""
    from ibl_mtm.evaluation.compare import compare_runs
    from ibl_mtm.terminal import show_pairs

    pairs = compare_runs(runs)
    _print_json({"pairs": [pair.to_json() for pair in pairs]}) if as_json else show_pairs(pairs)


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
    from ibl_mtm.evaluation.report import write_report

    write_report(runs, out, results or ())
    typer.echo(f"Report: {out}")


results = typer.Typer(help="Tables, figures and a page from many evaluated runs.")
app.add_typer(results, name="results", no_args_is_help=True)


@results.command("table")
def results_table(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN...", help="Evaluated runs, or baselines.")
    ],
    kind: Annotated[
        str, typer.Option(help="ablation, generalization, scaling or recording: what rows are.")
    ],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where the files go.")],
    command: Annotated[
        str | None, typer.Option(metavar="TEXT", help="How all of it is made, for the page.")
    ] = None,
) -> None:
    """Average runs over seeds and sessions: table.md, table.csv, figure, results.json."""
    from ibl_mtm.results.results import make_results
    from ibl_mtm.results.tables import markdown_table
    from ibl_mtm.results.write import write_results

    made = make_results(kind, runs, command)
    write_results(made, out)
    typer.echo(markdown_table(made))


@results.command("page")
def results_page(
    folders: Annotated[
        list[Path], typer.Argument(metavar="DIR...", help="What `results table` wrote.")
    ],
    out: Annotated[Path, typer.Option("--out", help="The page to write.")],
) -> None:
    """Write a Markdown page of tables, figures, what they show and how they were made."""
    from ibl_mtm.results.page import write_page

    write_page(folders, out)
    typer.echo(f"Page: {out}")


def _print_json(document: Any) -> None:
    typer.echo(json.dumps(document, indent=1))


if __name__ == "__main__":
    main()
