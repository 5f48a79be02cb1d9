"""What all commands share: the application, options, and how a result is printed."""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout
from typing import Annotated, Any, TextIO

import typer

__all__ = [
    "CachePath",
    "Json",
    "Overwrite",
    "Sessions",
    "app",
    "complete_baseline",
    "complete_configuration",
    "complete_dataset",
    "print_json",
]

app = typer.Typer(
    name="ibl-mtm",
    help="From the International Brain Laboratory's recordings to a trained, scored model.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    # Frames of a width that nobody has break sentences in pipes and logs.
    rich_markup_mode="rich" if sys.stderr.isatty() else None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_document: TextIO | None = None  # where a document goes; None: to standard output

# Text, since a path would turn the // of a URL into /.
CachePath = Annotated[
    str, typer.Option("--cache", help="The Zarr cache: a folder, or its URL.", show_default=False)
]


@contextmanager
def _only_the_document() -> Iterator[None]:
    """Keep standard output for `print_json` alone.

    Whatever libraries and child processes print there goes to standard error, on the level of
    file descriptors too where there are any.
    """
    global _document
    with ExitStack() as stack:
        document = sys.stdout
        try:
            number, elsewhere = sys.stdout.fileno(), sys.stderr.fileno()
        except (OSError, ValueError):  # streams of a notebook, or of a test
            pass
        else:
            sys.stdout.flush()
            kept = os.dup(number)
            document = stack.enter_context(open(kept, "w", encoding="utf-8"))
            os.dup2(elsewhere, number)
            # Not closed: the number is put back to what it was.
            stack.callback(lambda: os.dup2(kept, number))
        stack.enter_context(redirect_stdout(sys.stderr))
        before, _document = _document, document
        try:
            yield
        finally:
            _document = before


def _alone(context: typer.Context, as_json: bool) -> bool:
    if as_json and not context.resilient_parsing:
        context.with_resource(_only_the_document())
    return as_json


Json = Annotated[
    bool,
    typer.Option("--json", help="Print one JSON document, nothing else.", callback=_alone),
]
Sessions = Annotated[
    list[str] | None,
    typer.Option("--session", metavar="EID", help="This session only; may be repeated."),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")]


def print_json(document: Any) -> None:
    """Print a command's result as one JSON document."""
    typer.echo(json.dumps(document, indent=1), file=_document)


def complete_configuration(incomplete: str) -> list[str]:
    """Names of shipped configurations, for a shell that completes them."""
    from ibl_mtm.training.settings import shipped_configurations

    return [name for name in shipped_configurations() if name.startswith(incomplete)]


def complete_dataset(incomplete: str) -> list[str]:
    """Names of the catalog's datasets."""
    from ibl_mtm.config.catalog import load_catalog

    return [name for name in load_catalog().datasets if name.startswith(incomplete)]


def complete_baseline(incomplete: str) -> list[str]:
    """Names of baselines."""
    from ibl_mtm.evaluation.baselines.registry import BASELINES

    return [name for name in BASELINES if name.startswith(incomplete)]
