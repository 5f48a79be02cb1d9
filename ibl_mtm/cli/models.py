"""Commands that make a model and score it: train, import-published, eval."""

from pathlib import Path
from typing import Annotated

import typer

from ibl_mtm.cli.app import (
    CachePath,
    Json,
    Overwrite,
    Sessions,
    app,
    complete_baseline,
    complete_configuration,
    print_json,
)
from ibl_mtm.errors import UserError

__all__: list[str] = []


@app.command()
def train(
    config: Annotated[
        str,
        typer.Argument(
            help="A YAML file, or the name of a shipped one (see `configs`).",
            autocompletion=complete_configuration,
        ),
    ],
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
    from ibl_mtm.cli.terminal import say, show_training
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
        print_json(report.to_json()) if as_json else show_training(report)


@app.command("import-published")
def import_published(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What the published code saved.")],
    run: Annotated[Path, typer.Option("--out", metavar="RUN", help="Folder of the run.")],
    units: Annotated[
        Path | None,
        typer.Option(
            metavar="CSV",
            help="Columns eid and uuid: all units of each session, in the published order.",
        ),
    ] = None,
    body_only: Annotated[
        bool, typer.Option("--body-only", help="Take over no session: for new animals.")
    ] = False,
    cache: Annotated[
        str | None,
        typer.Option(
            "--cache",
            help="Where the sessions are, to score them: a wrong order shows nowhere else.",
        ),
    ] = None,
    scheme: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="A masking scheme that it was trained with, of a model without prompts; "
            "may be repeated.",
        ),
    ] = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Make a run of a checkpoint of the paper's published code; nothing in it is executed."""
    from ibl_mtm.cli.terminal import say
    from ibl_mtm.training.published.import_run import import_published as make_run

    report = make_run(
        file,
        run,
        units=units,
        body_only=body_only,
        cache=cache,
        schemes=scheme or (),
        overwrite=overwrite,
        say=say,
    )
    print_json(report.to_json()) if as_json else typer.echo(f"Run: {report.run}")


@app.command("eval")
def evaluate(
    run: Annotated[
        Path | None,
        typer.Argument(help="Folder of a run or model, or a model of the Hub.", show_default=False),
    ] = None,
    cache: Annotated[
        str | None,
        typer.Option(
            "--cache",
            help="The Zarr cache: a folder, or its URL; by default that of the run.",
            show_default=False,
        ),
    ] = None,
    baseline: Annotated[
        str | None,
        typer.Option(
            autocompletion=complete_baseline,
            metavar="NAME",
            help="Score this instead of a run: unit_mean, psth, pca_poisson, poisson_regression, "
            "reduced_rank, poisson_lds, poisson_lds_drift or autoregressive; for encoding "
            "encoding_regression or encoding_reduced_rank.",
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
            metavar="DIR",
            help="Where the scores go, to `compare` and `report` them; by default a run's own "
            "folder, and for a baseline nowhere.",
        ),
    ] = None,
    device: Annotated[
        str, typer.Option(metavar="DEVICE", help="Where a model runs: cpu, cuda, cuda:1, mps.")
    ] = "cpu",
    memory_gb: Annotated[
        float | None,
        typer.Option(
            metavar="GB",
            min=0.0,
            help="Memory for the sessions that are scored side by side; by default half of what "
            "is available.",
        ),
    ] = None,
    min_distance: Annotated[
        float,
        typer.Option(
            metavar="UM",
            min=0.0,
            help="Predict a unit without its neighbours on the probe, up to so many micrometres.",
        ),
    ] = 0.0,
    r2: Annotated[
        str,
        typer.Option(
            "--r2",
            metavar="RULES",
            help="'published': also R² by the rules of the paper's published code.",
        ),
    ] = "own",
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite",
            help="Replace the scores that are there; else these join them, by session and task.",
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Score a model, or a baseline, on held-out trials."""
    from ibl_mtm.cache.cache import open_cache
    from ibl_mtm.cli.terminal import say, show_scores
    from ibl_mtm.evaluation.evaluate import evaluate as score
    from ibl_mtm.evaluation.evaluate import evaluate_baseline
    from ibl_mtm.evaluation.score_session import TASKS, R2Rules
    from ibl_mtm.training.checkpoint.pretrained import is_of_hub
    from ibl_mtm.training.outcome import cache_of

    if (run is None) == (baseline is None):
        raise UserError("give either the folder of a run or --baseline NAME")
    if run and like:
        raise UserError("a run has units and trials of its own; --like is for a baseline")
    if baseline and min_distance:
        raise UserError("--min-distance is for runs: baselines are fitted to all other units")
    if r2 not in ("own", "published"):
        raise UserError(f"unknown rules '{r2}' for --r2; known: own, published")
    rules: R2Rules = "published" if r2 == "published" else "own"
    tasks = task or TASKS
    opened = open_cache(cache or cache_of(run or like))
    folder = out or (None if run is None or is_of_hub(run) else run)
    if folder is None:
        say("these scores are printed and not kept: --out DIR keeps them")
    if run:
        evaluation = score(
            run,
            opened,
            tasks=tasks,
            sessions=session,
            oracle=oracle,
            min_distance_um=min_distance,
            device=device,
            memory_gb=memory_gb,
            into=folder,
            overwrite=overwrite,
            say=say,
            r2=rules,
        )
    else:
        evaluation = evaluate_baseline(
            str(baseline),
            opened,
            like=like,
            tasks=tasks,
            sessions=session,
            oracle=oracle,
            memory_gb=memory_gb,
            into=folder,
            overwrite=overwrite,
            say=say,
            r2=rules,
        )
    if folder:
        evaluation.write(folder, overwrite=overwrite)
    print_json(evaluation.metrics) if as_json else show_scores([evaluation.metrics])
    if evaluation.metrics["failed"]:
        raise typer.Exit(1)
