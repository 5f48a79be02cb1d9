"""What all commands share: the application, options, and how a result is printed."""

import json
import sys
from typing import Annotated, Any

import typer

__all__ = ["CachePath", "Json", "Overwrite", "Sessions", "app", "print_json"]

app = typer.Typer(
    name="ibl-mtm",
    help="From the International Brain Laboratory's recordings to a trained, scored model.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    # Frames of a width that nobody has break sentences in pipes and logs.
    rich_markup_mode="rich" if sys.stderr.isatty() else None,
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


def print_json(document: Any) -> None:
    """Print a command's result as one JSON document."""
    typer.echo(json.dumps(document, indent=1))
