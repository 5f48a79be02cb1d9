"""Commands for the IBL's BrainWideBench: benchmark run, check, score, pack."""

from pathlib import Path
from typing import Annotated

import typer

from ibl_mtm.cli.app import Json, Overwrite, Sessions, app, print_json

__all__: list[str] = []

benchmark = typer.Typer(help="Take part in the IBL's BrainWideBench: predict, check, score, pack.")
app.add_typer(benchmark, name="benchmark", no_args_is_help=True)

Predictions = Annotated[
    Path, typer.Argument(metavar="DIR", help="Predictions, as `benchmark run --out` wrote them.")
]
Data = Annotated[
    Path,
    typer.Option(
        "--data",
        metavar="DIR",
        help="The benchmark's files: BUILD/ibl_brain_wide_bench_2026/eval/EID.h5.",
        show_default=False,
    ),
]
Label = Annotated[
    str | None, typer.Option(metavar="NAME", help="This submission only, of those in the folder.")
]
Suites = Annotated[
    str | None, typer.Option(metavar="ts1,ts2,ts3", help="These suites; by default all.")
]
Tasks = Annotated[
    list[str] | None,
    typer.Option("--task", help="This task only, as ts1-choice or choice; may be repeated."),
]


@benchmark.command("run")
def run(
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Where the folder of the label goes.")
    ],
    data: Data,
    label: Annotated[str, typer.Option(metavar="NAME", help="Of the submission.")],
    settings: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]...", help="Override settings of the adaptations."),
    ] = None,
    init: Annotated[
        Path | None,
        typer.Option(
            "--init", metavar="RUN", help="A pre-trained run to adapt; else from scratch."
        ),
    ] = None,
    baseline: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Predict by this baseline instead: linear, or of some tasks reduced_rank, "
            "poisson_lds, poisson_lds_drift, trailing_mean, population_coupling, isi_histogram.",
        ),
    ] = None,
    config: Annotated[
        str, typer.Option(help="Settings of the adaptations: a YAML file, or a shipped one.")
    ] = "benchmark",
    seeds: Annotated[str, typer.Option(help="Consecutive ones, as 43-45.")] = "43-45",
    suite: Suites = None,
    task: Tasks = None,
    session: Sessions = None,
    end_to_end: Annotated[
        bool,
        typer.Option(
            "--end-to-end",
            help="Also train the model for each task of TS1; taken where it is best on val.",
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Adapt a model to each recording, and predict what the benchmark asks for."""
    from ibl_mtm.benchmark.data import BenchmarkData
    from ibl_mtm.benchmark.predict.requests import Request, read_seeds, run_benchmark
    from ibl_mtm.benchmark.tasks import choose_tasks
    from ibl_mtm.cli.benchmark_terminal import show_run
    from ibl_mtm.cli.terminal import say

    request = Request(
        BenchmarkData(data),
        out,
        label,
        read_seeds(seeds),
        choose_tasks(_split(suite), task or ()),
        session,
        init,
        config,
        tuple(settings or ()),
        baseline,
        end_to_end,
    )
    report = run_benchmark(request, say)
    print_json(report.to_json()) if as_json else show_run(report)
    if report.failed:
        raise typer.Exit(1)


@benchmark.command("check")
def check(
    path: Annotated[Path, typer.Argument(metavar="DIR|ZIP", help="Predictions.")],
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            metavar="DIR",
            help="The benchmark's files, to compare trials, windows and units with.",
        ),
    ] = None,
    label: Label = None,
    deterministic: Annotated[
        bool,
        typer.Option("--deterministic", help="The model knows no seeds: one file will do."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Tell whether the benchmark would take predictions: every rule of its validator."""
    from ibl_mtm.benchmark.check import check_submission
    from ibl_mtm.benchmark.data import BenchmarkData
    from ibl_mtm.cli.benchmark_terminal import show_check

    opened = BenchmarkData(data) if data else None
    report = check_submission(path, opened, label=label, deterministic=deterministic)
    print_json(report.to_json()) if as_json else show_check(report)
    if not report.ok:
        raise typer.Exit(1)


@benchmark.command("score")
def score(
    path: Annotated[Path, typer.Argument(metavar="DIR|ZIP", help="Predictions.")],
    data: Data,
    label: Label = None,
    suite: Suites = None,
    task: Tasks = None,
    session: Sessions = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Where scores.csv goes: by default beside the labels' folders; of a ZIP nowhere.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Score predictions, with the ground truth that follows from the benchmark's files."""
    from ibl_mtm.benchmark.data import BenchmarkData
    from ibl_mtm.benchmark.score import score_submissions, scores_as_json, write_scores
    from ibl_mtm.benchmark.submission import root_of
    from ibl_mtm.benchmark.tasks import choose_tasks
    from ibl_mtm.cli.benchmark_terminal import show_benchmark
    from ibl_mtm.cli.terminal import say
    from ibl_mtm.disk.targets import check_folder

    opened = BenchmarkData(data)
    if out:
        check_folder(out)
    scores = score_submissions(
        path,
        opened,
        label=label,
        tasks=choose_tasks(_split(suite), task or ()),
        recordings=opened.choose(session) if session else None,
        say=say,
    )
    folder = out or (root_of(path) if path.is_dir() else None)
    if folder:
        say(f"scores in {write_scores(scores, folder)}")
    print_json(scores_as_json(scores)) if as_json else show_benchmark(scores)
    if scores.failed:
        raise typer.Exit(1)


@benchmark.command("pack")
def pack_predictions(
    path: Predictions,
    out: Annotated[
        Path | None,
        typer.Option(metavar="ZIP", help="The zip; by default LABEL.zip in DIR."),
    ] = None,
    label: Label = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Make the zip that is uploaded: the folder of one label at its root."""
    from ibl_mtm.benchmark.pack import pack

    made = pack(path, out, label=label, overwrite=overwrite)
    print_json({"zip": str(made), "bytes": made.stat().st_size}) if as_json else typer.echo(made)


def _split(suites: str | None) -> list[str]:
    return [name.strip() for name in (suites or "").split(",") if name.strip()]
