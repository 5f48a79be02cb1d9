"""Commands that make and query data: demo, simulate, ingest, sessions, check."""

from pathlib import Path
from typing import Annotated

import typer

from ibl_mtm.cli.app import Json, Overwrite, Sessions, app, complete_dataset, print_json
from ibl_mtm.errors import UserError

__all__: list[str] = []


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", help="Folder for everything it makes.")] = Path(
        "demo"
    ),
    quick: Annotated[
        bool, typer.Option("--quick", help="Smaller still, and hardly trained: does it work here?")
    ] = False,
) -> None:
    """Simulate, ingest, train MtM and its baseline, evaluate, report: the whole way, small."""
    from ibl_mtm.cli.demo import run_demo
    from ibl_mtm.cli.terminal import say, show_scores

    result = run_demo(out, say=say, quick=quick)
    show_scores(result.scores)
    typer.echo(f"\nReport: {result.report}")


@app.command()
def simulate(
    folder: Annotated[Path, typer.Argument(help="Folder to write.", metavar="ONE_DIR")],
    layout: Annotated[
        str, typer.Option(help="one: ONE's folders; brainsets: BrainWideBench's files.")
    ] = "one",
    sessions: Annotated[
        int | None,
        typer.Option(help="By default 4, one animal each; 6 (brainsets), a third for evaluation."),
    ] = None,
    units: Annotated[
        int | None,
        typer.Option(help="Units in a session, about; by default 80 (full: 900 a probe; 700)."),
    ] = None,
    trials: Annotated[
        int | None, typer.Option(help="By default 240 (full: 600); 180 (500).")
    ] = None,
    seed: Annotated[int, typer.Option(help="Same seed, same bytes.")] = 0,
    scale: Annotated[
        str, typer.Option(help="small, or full: as large as real sessions.")
    ] = "small",
) -> None:
    """Simulate an experiment with known firing rates: the repeated site, or a brain-wide map."""
    from ibl_mtm.cli.terminal import say
    from ibl_mtm.config.yaml_settings import validate_settings

    values = {"sessions": sessions, "units": units, "trials": trials, "seed": seed, "scale": scale}
    given = {key: value for key, value in values.items() if value is not None}
    if layout == "one":
        from ibl_mtm.simulate.simulation import Simulation
        from ibl_mtm.simulate.simulation import simulate as run

        eids = run(folder, validate_settings(given, Simulation, "simulate"), progress=say)
    elif layout == "brainsets":
        from ibl_mtm.simulate.brainsets.wide_map import WideMap, simulate_map

        eids = simulate_map(folder, validate_settings(given, WideMap, "simulate"), progress=say)
    else:
        raise UserError(f"no layout '{layout}'; there are one and brainsets")
    typer.echo(f"{len(eids)} sessions in {folder}:")
    for eid in eids:
        typer.echo(f"  {eid}")


@app.command()
def ingest(
    dataset: Annotated[
        str,
        typer.Argument(help="A dataset of the catalog.", autocompletion=complete_dataset),
    ],
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
    from ibl_mtm.cli.terminal import ingest_progress, say, show_ingest
    from ibl_mtm.config.catalog import load_catalog
    from ibl_mtm.ingest.run import ingest as run

    folder = local_path(cache)
    chosen = load_catalog(catalog).dataset(dataset, offline=offline)
    try:
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
    except KeyboardInterrupt:
        say("ibl-mtm: stopped; the same command goes on where it stopped")
        raise typer.Exit(130) from None
    print_json(report.to_json()) if as_json else show_ingest(report)
    if report.stopped:
        raise UserError(report.stopped)
    if not report.sessions:
        raise UserError(f"no session in {chosen.source.path} that can be ingested")
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
    from ibl_mtm.cli.terminal import sessions_as_json, show_card, show_sessions

    opened = open_cache(cache)
    chosen = opened.where(where) if where else opened
    if session:
        card = session_card(chosen, session)
        print_json(card) if as_json else show_card(card)
    else:
        print_json(sessions_as_json(chosen)) if as_json else show_sessions(chosen)


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
        print_json({"ok": not damaged, "damaged": damaged})
    elif not damaged:
        typer.echo(f"{cache}: every session is whole")
    for eid, reason in {} if as_json else damaged.items():
        typer.echo(f"{'dropped' if repair else 'damaged'} {eid}: {reason}")
    if damaged and not repair:
        raise typer.Exit(1)
