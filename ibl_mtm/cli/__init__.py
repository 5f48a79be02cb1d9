"""The command line: each command parses its arguments, calls one function, prints its result.

Results go to standard output (one JSON document with ``--json``); progress, logs and errors go
to standard error. Exit codes: 0 done, 1 some sessions failed, 2 the request itself was wrong.
"""

import logging
import os
import re
import sys
from typing import Annotated

import typer

from ibl_mtm import logs

# In the order in which the help lists commands.
from ibl_mtm._provenance import __version__
from ibl_mtm.cli import data, models, scores  # noqa: F401
from ibl_mtm.cli.app import app
from ibl_mtm.errors import SessionError, UserError

__all__ = ["app", "main"]


_TILDE = re.compile(r"^(--?[\w-]+=|)(~[\w-]*)(?=/|$)")


def main() -> None:
    """Entry point of ``ibl-mtm``."""
    # Shells leave it as it is after an equals sign: --cache=~/cache.zarr.
    sys.argv[1:] = [_TILDE.sub(_expand, argument) for argument in sys.argv[1:]]
    try:
        app()
    except (UserError, SessionError) as error:
        if "--debug" in sys.argv:
            raise
        typer.secho(f"ibl-mtm: {error}", err=True, fg="red")
        sys.exit(2)


def _expand(tilde: re.Match[str]) -> str:
    return tilde[1] + os.path.expanduser(tilde[2])


@app.callback()
def configure(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks and all logs.")] = False,
    version: Annotated[bool, typer.Option("--version", help="Show the version.")] = False,
) -> None:
    """Set up logging; runs before every command."""
    if version:
        typer.echo(__version__)
        raise typer.Exit
    logs.configure(logging.DEBUG if debug else logging.WARNING)
